"""Which media posts have, written in the transaction that records the posts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import case, func, insert, select
from sqlalchemy.engine import Connection

from moderation.posts import Decision, PostIn
from moderation.storage.dialect import insert_into
from moderation.storage.media_tables import media, post_media

USED_AGAIN = timedelta(hours=1)
"""By so much `last_used_at` may lag: posts that all have the same meme would wait for each other's commit otherwise."""
PAGE = 200
"""Rows that one statement names."""


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
    links: list[dict[str, Any]] = []
    known: dict[str, dict[str, Any]] = {}
    for use in uses:
        for position in range(len(use.post.media)):
            row = _row(use, position)
            which = {"post_id": use.decision.post_id, "content_version": use.decision.content_version}
            links.append(which | {"position": position, "sha256": row["sha256"], "kind": row["kind"]})
            _merge(known.setdefault(row["sha256"], row), row)
    if not links:
        return
    connection.execute(insert(post_media), links)
    for sha256 in _settled(connection, known):
        del known[sha256]
    if known:
        # In one order, so that no two transactions wait for each other.
        connection.execute(_upsert(connection), [known[sha256] for sha256 in sorted(known)])


def _row(use: Use, position: int) -> dict[str, Any]:
    medium = use.post.media[position]
    if medium.sha256 is None:
        raise ValueError(f"medium {position} of post {use.decision.post_id!r} has no sha256; it must be kept first")
    told = use.decision.media[position] if position < len(use.decision.media) else None
    return {
        "sha256": medium.sha256,
        "kind": medium.kind,
        "format": told and told.format,
        "bytes": told and told.bytes,
        "width": told and told.width,
        "height": told and told.height,
        "seconds": told and told.seconds,
        "perceptual_hash": told and told.perceptual_hash,
        "first_used_at": use.decision.decided_at,
        "last_used_at": use.decision.decided_at,
    }


_TOLD = ("format", "bytes", "width", "height", "seconds", "perceptual_hash")


def _merge(first: dict[str, Any], row: dict[str, Any]) -> None:
    first["first_used_at"] = min(first["first_used_at"], row["first_used_at"])
    first["last_used_at"] = max(first["last_used_at"], row["last_used_at"])
    first.update({name: row[name] for name in _TOLD if first[name] is None})


def _settled(connection: Connection, wanted: Mapping[str, dict[str, Any]]) -> list[str]:
    """The media whose rows say already all that the new ones would, but for a last use shortly before.

    None of them can be about to be removed: the collector takes only what was last used longer ago.
    """
    found: list[str] = []
    for page in pages(sorted(wanted)):
        for row in connection.execute(select(media).where(media.c.sha256.in_(page))):
            new = wanted[row.sha256]
            told = all(new[name] is None or getattr(row, name) is not None for name in _TOLD)
            recent = row.removed_at is None and new["last_used_at"] - row.last_used_at <= USED_AGAIN
            if told and recent and row.first_used_at <= new["first_used_at"]:
                found.append(row.sha256)
    return found


def _upsert(connection: Connection) -> Any:
    statement = insert_into(connection, media)
    old, new = media.c, statement.excluded
    values: dict[str, Any] = {name: func.coalesce(old[name], new[name]) for name in _TOLD}
    values["first_used_at"] = case((new.first_used_at < old.first_used_at, new.first_used_at), else_=old.first_used_at)
    values["last_used_at"] = case((new.last_used_at > old.last_used_at, new.last_used_at), else_=old.last_used_at)
    return statement.on_conflict_do_update(index_elements=["sha256"], set_={**values, "removed_at": None})


def pages(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Slices that one statement has room for."""
    return (values[begin : begin + PAGE] for begin in range(0, len(values), PAGE))
