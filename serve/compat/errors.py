"""Errors in the shape that a client of another service raises its own exceptions from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serve.errors import NoAnswerError, QueueFullError
from serve.http.problems import Problem, problem_of, unexpected, with_any

logger = logging.getLogger("ray.serve")
_DOCUMENTED = {400: "Invalid", 404: "Unknown", 413: "Over the bound", 415: "Not the media type"}


def route_class(shape: Callable[[Exception], Response]) -> type[APIRoute]:
    """A class of routes whose errors, foreseen or not, are answered as `shape` says."""

    class Shaped(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def shaped(request: Request) -> Response:
                try:
                    return await handle(request)
                except ClientDisconnect:  # nobody is there to read any shape
                    raise
                except Exception as error:
                    return shape(error)

            return shaped

    return Shaped


def documented(whose: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route whose errors are in another service's shape."""
    return with_any({status: f"{_DOCUMENTED[status]}, in {whose} shape" for status in statuses}, "application/json")


def compat_problem_of(error: Exception) -> Problem:
    """What an error means to a client of another service, which knows fewer of them; what nobody foresaw is logged."""
    if isinstance(error, (Problem, NoAnswerError)):
        return problem_of(error)
    if isinstance(error, QueueFullError):
        return Problem(503, str(error), retry_after=1)
    if isinstance(error, SQLAlchemyError):
        logger.error("the ledger failed", exc_info=error)
        return Problem(503, f"the ledger failed: {type(error).__name__}; ask again", retry_after=1)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail))
    return unexpected(error)


def retry_headers(problem: Problem) -> dict[str, str]:
    """`Retry-After`, where asking again may help."""
    return {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
