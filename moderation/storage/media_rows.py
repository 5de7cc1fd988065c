"""What the ledger knows of images and videos: which posts have them, since when, and what was found in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, delete, func, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from moderation.media import MediaKind
from moderation.posts import Decision, PostIn
from moderation.storage.media_tables import media, media_scores, post_media

if TYPE_CHECKING:
    from moderation.storage.ledger import Ledger

ScoreKey = tuple[str, MediaKind, str, int]
"""SHA-256, kind, variant and its version."""

USED_AGAIN = timedelta(hours=1)
"""By so much `last_used_at` may lag: posts that all have the same meme would wait for each other's commit otherwise."""
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Found:
    """What a version of a variant found in a medium.

    Attributes:
        key: in which, by which.
        found: JSON, opaque to the ledger.
        scored_at: when.
    """

    key: ScoreKey
    found: str
    scored_at: datetime


@dataclass(frozen=True, slots=True)
class Use:
    """A post that is being recorded, with its media.

    Attributes:
        post: each of whose media has its `sha256`.
        decision: on it, with its content version; its media, where it names them, are those of the post, in order.
        sizes: bytes of each medium, in order, as far as they are known.
    """

    post: PostIn
    decision: Decision
    sizes: Sequence[int] = ()


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
        "bytes": use.sizes[position] if position < len(use.sizes) else None,
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
    for page in _pages(sorted(wanted)):
        for row in connection.execute(select(media).where(media.c.sha256.in_(page))):
            new = wanted[row.sha256]
            told = all(new[name] is None or getattr(row, name) is not None for name in _TOLD)
            recent = row.removed_at is None and new["last_used_at"] - row.last_used_at <= USED_AGAIN
            if told and recent and row.first_used_at <= new["first_used_at"]:
                found.append(row.sha256)
    return found


def _upsert(connection: Connection) -> Any:
    statement = _insert(connection, media)
    old, new = media.c, statement.excluded
    values: dict[str, Any] = {name: func.coalesce(old[name], new[name]) for name in _TOLD}
    values["first_used_at"] = case((new.first_used_at < old.first_used_at, new.first_used_at), else_=old.first_used_at)
    values["last_used_at"] = case((new.last_used_at > old.last_used_at, new.last_used_at), else_=old.last_used_at)
    return statement.on_conflict_do_update(index_elements=["sha256"], set_={**values, "removed_at": None})


def _insert(connection: Connection, table: Any) -> Any:
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)


def _pages(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[begin : begin + _PAGE] for begin in range(0, len(values), _PAGE))


def posts_with(ledger: Ledger, sha256: str) -> list[tuple[str, int]]:
    """Posts that have a medium, and in which content version; in the order of their ids and versions."""
    query = select(post_media.c.post_id, post_media.c.content_version).where(post_media.c.sha256 == sha256).distinct()
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(post_media.c.post_id, post_media.c.content_version))
        return [(row.post_id, row.content_version) for row in rows]


def known_scores(ledger: Ledger, wanted: Sequence[ScoreKey]) -> dict[ScoreKey, str]:
    """What was found before, as JSON, by what is wanted; what nobody looked for is left out."""
    columns = [media_scores.c.sha256, media_scores.c.kind, media_scores.c.variant, media_scores.c.version]
    result: dict[ScoreKey, str] = {}
    if not wanted:
        return result
    with ledger.read() as connection:
        for page in _pages(sorted(set(wanted))):
            query = select(*columns, media_scores.c.found).where(tuple_(*columns).in_(page))
            result.update(((row[0], row[1], row[2], row[3]), row[4]) for row in connection.execute(query))
    return result


def keep_scores(ledger: Ledger, rows: Iterable[Found]) -> None:
    """Keep what was found. What is known already stays as it is: the same version finds the same."""
    values = [
        {
            "sha256": row.key[0],
            "kind": row.key[1],
            "variant": row.key[2],
            "version": row.key[3],
            "found": row.found,
            "scored_at": row.scored_at,
        }
        for row in sorted(rows, key=lambda row: row.key)
    ]
    if values:
        with ledger.write() as connection:
            connection.execute(_insert(connection, media_scores).on_conflict_do_nothing(), values)


def drop_scores(connection: Connection, sha256s: Sequence[str]) -> None:
    """Forget what was found in media."""
    connection.execute(delete(media_scores).where(media_scores.c.sha256.in_(sha256s)))
