"""Which media posts have, written in the transaction that records the posts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import ColumnElement, Insert, case, func, insert, select
from sqlalchemy.engine import Connection

from moderation.media import MediaKind
from moderation.posts import Decision, PostIn
from moderation.storage.dialect import insert_into
from moderation.storage.media_tables import media, post_media

USED_AGAIN = timedelta(hours=1)
"""By so much `last_used_at` may lag: posts that all have the same meme would wait for each other's commit otherwise."""
PAGE = 200
"""Rows that one statement names."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Use:
    """A post that is being recorded, with its media.

    Attributes:
        post: each of whose media has its `sha256`.
        decision: on it, with its content version; its media, where it names them, are those of the post, in order.
    """

    post: PostIn
    decision: Decision


def add(connection: Connection, uses: Iterable[Use]) -> None:
    """Record which media posts have. Within the transaction that records the posts, after it claimed them.

    Raises:
        ValueError: a medium has no `sha256`.
    """
    links: list[dict[str, object]] = []
    known: dict[str, _Medium] = {}
    for use in uses:
        for position in range(len(use.post.media)):
            medium = _medium(use, position)
            which = {"post_id": use.decision.post_id, "content_version": use.decision.content_version}
            links.append(which | {"position": position, "sha256": medium.sha256, "kind": medium.kind})
            before = known.get(medium.sha256)
            known[medium.sha256] = medium if before is None else _merged(before, medium)
    if not links:
        return
    connection.execute(insert(post_media), links)
    for sha256 in _settled(connection, known):
        del known[sha256]
    if known:
        # In one order, so that no two transactions wait for each other.
        connection.execute(_upsert(connection), [asdict(known[sha256]) for sha256 in sorted(known)])


@dataclass(frozen=True, slots=True)
class _Medium:
    """A row of `media`, as a use of the medium makes it."""

    sha256: str
    kind: MediaKind
    format: str | None
    bytes: int | None
    width: int | None
    height: int | None
    seconds: float | None
    perceptual_hash: str | None
    first_used_at: datetime
    last_used_at: datetime


_TOLD = ("format", "bytes", "width", "height", "seconds", "perceptual_hash")
"""Fields that a decision may leave open."""


def _medium(use: Use, position: int) -> _Medium:
    medium = use.post.media[position]
    if medium.sha256 is None:
        raise ValueError(f"medium {position} of post {use.decision.post_id!r} has no sha256; it must be kept first")
    told = use.decision.media[position] if position < len(use.decision.media) else None
    return _Medium(
        sha256=medium.sha256,
        kind=medium.kind,
        first_used_at=use.decision.decided_at,
        last_used_at=use.decision.decided_at,
        **{name: getattr(told, name, None) for name in _TOLD},
    )


def _merged(first: _Medium, second: _Medium) -> _Medium:
    return replace(
        first,
        first_used_at=min(first.first_used_at, second.first_used_at),
        last_used_at=max(first.last_used_at, second.last_used_at),
        **{name: getattr(second, name) for name in _TOLD if getattr(first, name) is None},
    )


def _settled(connection: Connection, wanted: Mapping[str, _Medium]) -> list[str]:
    """The media whose rows say already all that the new ones would, but for a last use shortly before.

    None of them can be about to be removed: the collector takes only what was last used longer ago.
    """
    found: list[str] = []
    for page in pages(sorted(wanted)):
        for row in connection.execute(select(media).where(media.c.sha256.in_(page))):
            new = wanted[row.sha256]
            told = all(getattr(new, name) is None or getattr(row, name) is not None for name in _TOLD)
            recent = row.removed_at is None and new.last_used_at - row.last_used_at <= USED_AGAIN
            if told and recent and row.first_used_at <= new.first_used_at:
                found.append(row.sha256)
    return found


def _upsert(connection: Connection) -> Insert:
    statement = insert_into(connection, media)
    old, new = media.c, statement.excluded
    values: dict[str, ColumnElement[object]] = {name: func.coalesce(old[name], new[name]) for name in _TOLD}
    values["first_used_at"] = case((new.first_used_at < old.first_used_at, new.first_used_at), else_=old.first_used_at)
    values["last_used_at"] = case((new.last_used_at > old.last_used_at, new.last_used_at), else_=old.last_used_at)
    return statement.on_conflict_do_update(index_elements=["sha256"], set_={**values, "removed_at": None})


def pages(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """Slices that one statement has room for."""
    return (values[begin : begin + PAGE] for begin in range(0, len(values), PAGE))
