"""Errors as Google's APIs tell them, and Perspective's own among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from starlette.responses import JSONResponse, Response

from moderation.errors import QuotingError
from serve.compat.errors import compat_problem_of, retry_headers
from serve.http.problems import Problem

ErrorType = Literal[
    "COMMENT_TOO_LONG",
    "COMMENT_EMPTY",
    "NO_REQUESTED_ATTRIBUTES",
    "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
    "LANGUAGE_DETECTION_FAILED",
    "INVALID_REQUEST",
]
"""Perspective's kinds of error."""

_TYPE = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
_STATUSES = {404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


class PerspectiveError(QuotingError):
    """A request that Perspective would refuse too: 400, INVALID_ARGUMENT.

    Args:
        message: what is wrong.
        kind: which of Perspective's kinds of error it is.
        members: further members of its details, one set a detail.
    """

    def __init__(
        self, message: str, kind: ErrorType = "INVALID_REQUEST", members: Sequence[dict[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = [{"@type": _TYPE, "errorType": kind, **member} for member in members or ({},)]


def error_of(error: Exception) -> Response:
    """The reply to a request that failed."""
    if isinstance(error, PerspectiveError):
        return _reply(400, error.message, error.details)
    problem = compat_problem_of(error)
    # Google tells invalid content as 400, and which field it is in the details.
    status = 400 if problem.status == 422 else problem.status
    return _reply(status, problem.detail, _details(problem), retry_headers(problem))


def _details(problem: Problem) -> list[dict[str, Any]]:
    """Where the fields are not told, Perspective's own detail: clients read the first without asking."""
    if not problem.errors:
        return [{"@type": _TYPE, "errorType": "INVALID_REQUEST"}] if problem.status < 500 else []
    fields = [
        {"field": found["pointer"].removeprefix("/").replace("/", "."), "description": found["detail"]}
        for found in problem.errors
    ]
    return [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields}]


def _reply(code: int, message: str, details: list[dict[str, Any]], headers: dict[str, str] | None = None) -> Response:
    error = {"code": code, "message": message, "status": _STATUSES.get(code, "INVALID_ARGUMENT")}
    return JSONResponse({"error": error | ({"details": details} if details else {})}, code, headers)
