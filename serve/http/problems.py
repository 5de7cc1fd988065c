"""Errors on the wire: RFC 9457 problems with the value, the bound and, for a body, the JSON pointer (RFC 6901)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse

from moderation.errors import (
    ConflictError,
    MediaUnavailableError,
    NotFoundError,
    QuotingError,
    TooManyGroupsError,
)
from moderation.media import Refused
from serve.errors import ClientShareError, NoAnswerError, QueueFullError, RefusedMediumError

logger = logging.getLogger("ray.serve")


TITLES = {
    400: "Malformed request",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Content too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Invalid content",
    429: "Too many requests",
    500: "Internal error",
    503: "Service unavailable",
}
MEDIA_TYPE = "application/problem+json"
_REFUSED_RETRY_S = 5
OF_A_BODY = (400, 413, 415, 422)
"""What each route answers that takes a JSON body."""
_DOCUMENTED = {
    400: "Malformed, as what is no JSON",
    404: "Not recorded",
    409: "Something else is recorded",
    413: "Over the bound",
    415: "Not the media type",
    422: "Invalid content; for a body, with JSON pointers",
    429: "Too many posts of this client are waiting; see Retry-After",
}


class Problem(QuotingError):
    """A request that is answered with a problem.

    Args:
        status: HTTP status.
        detail: what is wrong, with the value and the bound.
        errors: for invalid content, a list of `{"pointer", "detail"}`; of a path or query, `parameter` for `pointer`.
        retry_after: seconds, for 429 and 503.
        members: further members of the problem.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        retry_after: int | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
        self.members = members or {}

    def body(self) -> dict[str, Any]:
        """The problem's members."""
        errors = {"errors": self.errors} if self.errors else {}
        title = TITLES.get(self.status, "Error")
        return {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            **self.members,
            **errors,
        }

    def response(self) -> JSONResponse:
        """The reply."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return JSONResponse(self.body(), status_code=self.status, headers=headers, media_type=MEDIA_TYPE)


def over_bound(where: str, found: str, bound: int | str) -> Problem:
    """A 422 for what is beyond a bound.

    Args:
        where: a JSON pointer.
        found: how much there is, with its unit.
        bound: what may be.
    """
    detail = f"{found}, the bound is {bound}"
    return Problem(422, f"{where}: {detail}", errors=[{"pointer": where, "detail": detail}], members={"bound": bound})


def refusal(index: int, refused: Refused, source: str | None = None) -> Problem:
    """What a post is answered whose medium is refused, with `code` and `bound`.

    413 beyond a bound of bytes; 503 where it may be taken a moment later; else 422.

    Args:
        index: of the medium in the post.
        refused: why.
        source: its member that says where its bytes are; None: they were uploaded, or what they hold is refused.
    """
    where = f"/media/{index}" + (f"/{source}" if source else "")
    members: dict[str, Any] = {"code": refused.code}
    if refused.bound is not None:
        members["bound"] = int(refused.bound) if float(refused.bound).is_integer() else refused.bound
    status = 503 if refused.passing else 413 if refused.code == "too_many_bytes" else 422
    errors = [{"pointer": where, "detail": refused.detail}]
    retry_after = _REFUSED_RETRY_S if refused.passing else None
    return Problem(status, f"{where}: {refused.detail}", errors=errors, members=members, retry_after=retry_after)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route that answers these problems."""
    return with_any({status: _DOCUMENTED[status] for status in statuses}, MEDIA_TYPE)


def with_any(said: Mapping[int, str], media_type: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses`: errors of a route by their status, and those that any route may answer."""
    content: dict[str, Any] = {media_type: {}}
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": content} for status, text in said.items()
    }
    # The proxy's own 503 is a problem on every route: it knows of no other shape.
    unavailable = "Too many wait, or a gateway, model or database cannot be had; see Retry-After"
    found[503] = {"description": unavailable, "content": content | {MEDIA_TYPE: {}}}
    found["default"] = {"description": "Another error", "content": content}
    return found


def invalid(error: ValidationError) -> Problem:
    """A validation error as a problem: 400 where the body is no JSON, else 422 with a pointer for each error."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return Problem(400, f"the body is not JSON: {errors[0]['msg']}")
    shown = [{"pointer": pointer(item["loc"]), "detail": item["msg"]} for item in errors[:20]]
    return Problem(422, f"{shown[0]['pointer'] or 'the body'}: {shown[0]['detail']}", errors=shown)


def pointer(location: tuple[int | str, ...]) -> str:
    """A pydantic location as a JSON pointer.

    Example:
        >>> pointer(("features", 0, "a/b"))
        '/features/0/a~1b'
    """
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def unexpected(error: Exception) -> Problem:
    """What nobody foresaw."""
    logger.error("unexpected error", exc_info=error)
    return Problem(500, f"{type(error).__name__}; the log of the service says more")


@singledispatch
def problem_of(error: Exception) -> Problem:
    """The problem that an error is to whoever asked. What we, and not they, have to mend is logged."""
    return unexpected(error)


@problem_of.register
def _itself(error: Problem) -> Problem:
    return error


@problem_of.register
def _parameters(error: RequestValidationError) -> Problem:
    """What FastAPI found wrong with the parameters of a path or query, with the name of each."""
    shown = [{"parameter": str(item["loc"][-1]), "detail": str(item["msg"])} for item in error.errors()]
    return Problem(422, "; ".join(f"{item['parameter']}: {item['detail']}" for item in shown), errors=shown)


@problem_of.register
def _not_found(error: NotFoundError) -> Problem:
    return Problem(404, str(error))


@problem_of.register
def _conflict(error: ConflictError) -> Problem:
    return Problem(409, str(error))


@problem_of.register
def _too_many_groups(error: TooManyGroupsError) -> Problem:
    return Problem(422, str(error), members={"bound": error.bound})


@problem_of.register
def _refused_medium(error: RefusedMediumError) -> Problem:
    return refusal(error.index, error.refused)


@problem_of.register
def _overloaded(error: QueueFullError) -> Problem:
    """429 where it is this client alone that sends too much, else 503; either way it may come again."""
    status = 429 if isinstance(error, ClientShareError) else 503
    return Problem(status, str(error), retry_after=error.retry_after, members={"bound": error.bound})


@problem_of.register
def _no_answer(error: NoAnswerError) -> Problem:
    return Problem(503, str(error), retry_after=1)


@problem_of.register
def _media_failed(error: MediaUnavailableError) -> Problem:
    return Problem(503, f"{error}; nothing was recorded", retry_after=1)


@problem_of.register
def _ledger_failed(error: SQLAlchemyError) -> Problem:
    """Nothing was recorded, so nothing may be said of the post: try again."""
    logger.error("the ledger failed", exc_info=error)
    return Problem(503, f"the ledger failed, nothing was recorded: {type(error).__name__}", retry_after=1)
