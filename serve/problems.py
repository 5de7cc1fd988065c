"""Errors on the wire: RFC 9457 problems with the value, the bound and, for a body, the JSON pointer (RFC 6901)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

TITLES = {
    400: "Malformed request",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Content too large",
    415: "Unsupported media type",
    422: "Invalid content",
    429: "Too many requests",
    500: "Internal error",
    503: "Service unavailable",
}


class Problem(Exception):
    """A request that is answered with a problem.

    Args:
        status: HTTP status.
        detail: what is wrong, with the value and the bound.
        errors: for invalid content, a list of `{"pointer", "detail"}`.
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
        return JSONResponse(
            self.body(), status_code=self.status, headers=headers, media_type="application/problem+json"
        )


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
