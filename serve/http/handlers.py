"""What becomes of an error that a route raises: the problem that it is, whichever route it is."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from serve.http.problems import Problem, problem_of

_CLIENT_GONE = 499
"""As proxies count such a request."""
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def add_handlers(app: FastAPI) -> None:
    """Let errors of an application's routes be answered as `serve.http.problems.problem_of` says."""
    for kind in problem_of.registry:
        if kind is not object:
            app.add_exception_handler(kind, _answer)
    app.add_exception_handler(HTTPException, _of_starlette)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _answer)


async def _answer(_request: Request, error: Exception) -> Response:
    return problem_of(error).response()


async def _of_starlette(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = Problem(error.status_code, str(error.detail)).response()
    response.headers.update(error.headers or {})
    if error.status_code == 405:  # Starlette names the methods of one route; a path may have several
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    def fits(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if fits(method)]


async def _gone(_request: Request, _error: Exception) -> Response:
    """Whoever asked has gone, before the whole request was there: nobody reads this, and it is no error of ours."""
    return Response(status_code=_CLIENT_GONE)
