"""Times that clients tell, all within one bound.

What is newest counts: the last edit of a post, the last word of a reviewer. So nobody may tell a time that lies further
ahead of the clock here than clocks differ, nor one from before there were such platforms.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError

from moderation.posts import LabelLineError
from moderation.sections import Gateway
from moderation.storage.ledger import now
from serve.http.problems import Problem, over_bound

Line = TypeVar("Line", bound=BaseModel)

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Before that nothing was posted; and there is room before it for every window that ends there."""

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def check_told(where: str, told: datetime, bounds: Gateway) -> None:
    """See that a time that is to be recorded is within the bounds.

    Args:
        where: a JSON pointer.
        told: aware.
        bounds: says how far ahead of the clock it may be.

    Raises:
        Problem: 422, with the value and the bound.
    """
    if told < EARLIEST:
        raise over_bound(where, f"{told.isoformat()} is too early", EARLIEST.isoformat())
    ahead = (told - now()).total_seconds()
    if ahead > bounds.max_ahead_s:
        found = f"{told.isoformat()} is {ahead:.0f} s ahead of the clock here"
        raise over_bound(where, found, bounds.max_ahead_s)


def lines_within(
    field: str, lines: Iterable[tuple[int, Line | Problem]], bounds: Gateway
) -> tuple[dict[int, Line], list[LabelLineError]]:
    """Lines by their numbers, and what is wrong with the others.

    Args:
        field: of each line, that tells its time.
        lines: each by its number, or the problem with it.
        bounds: of that time.
    """
    good: dict[int, Line] = {}
    errors: list[LabelLineError] = []
    for number, line in lines:
        try:
            if isinstance(line, Problem):
                raise line
            check_told(f"/{field}", getattr(line, field), bounds)
            good[number] = line
        except Problem as problem:
            errors.append(LabelLineError(line=number, detail=problem.detail))
    return good, errors


def asked(name: str, told: str | None) -> datetime | None:
    """A time that is asked about, in UTC, from a parameter of a query; None where it is absent.

    Raises:
        Problem: 422, it is no time, has no offset or is too early.
    """
    if told is None:
        return None
    try:
        time = _TIME.validate_python(told).astimezone(UTC)
    except (ValidationError, OverflowError) as error:
        hint = "; + is written %2B in a query" if " " in told else ""
        raise Problem(422, f"{name} is {told!r}; it must be a time with its offset from UTC{hint}") from error
    if time < EARLIEST:
        raise Problem(422, f"{name} is {told!r}; the earliest is {EARLIEST.isoformat()}")
    return time
