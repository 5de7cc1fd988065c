"""What the ledger knows of images and videos: which posts have them, and what was found in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, tuple_
from sqlalchemy.engine import Connection

from moderation.media import MediaKind
from moderation.storage.dialect import insert_into
from moderation.storage.ledger import Ledger
from moderation.storage.media_tables import media, media_scores, post_media
from moderation.storage.media_uses import pages

ScoreKey = tuple[str, MediaKind, str, int]
"""SHA-256, kind, variant and its version."""


@dataclass(frozen=True, slots=True)
class MediaScore:
    """What a version of a variant found in a medium.

    Attributes:
        key: in which, by which.
        found: JSON, opaque to the ledger.
        scored_at: when.
    """

    key: ScoreKey
    found: str
    scored_at: datetime


def posts_with(ledger: Ledger, sha256: str) -> list[tuple[str, int]]:
    """Posts that have a medium, and in which content version; in the order of their ids and versions."""
    query = select(post_media.c.post_id, post_media.c.content_version).where(post_media.c.sha256 == sha256).distinct()
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(post_media.c.post_id, post_media.c.content_version))
        return [(row.post_id, row.content_version) for row in rows]


def is_recorded(ledger: Ledger, sha256: str) -> bool:
    """Whether a post was ever recorded with a medium."""
    with ledger.read() as connection:
        return connection.execute(select(media.c.sha256).where(media.c.sha256 == sha256)).first() is not None


def recorded_pixels(ledger: Ledger, sha256: str) -> int | None:
    """Width times height of a medium that a post was recorded with, 0 where that is not known; None: none was."""
    query = select(media.c.width, media.c.height).where(media.c.sha256 == sha256)
    with ledger.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else (row.width or 0) * (row.height or 0)


def known_scores(ledger: Ledger, wanted: Sequence[ScoreKey]) -> dict[ScoreKey, str]:
    """What was found before, as JSON, by what is wanted; what nobody looked for is left out."""
    columns = [media_scores.c.sha256, media_scores.c.kind, media_scores.c.variant, media_scores.c.version]
    result: dict[ScoreKey, str] = {}
    if not wanted:
        return result
    with ledger.read() as connection:
        for page in pages(sorted(set(wanted))):
            query = select(*columns, media_scores.c.found).where(tuple_(*columns).in_(page))
            result.update(((row[0], row[1], row[2], row[3]), row[4]) for row in connection.execute(query))
    return result


def keep_scores(ledger: Ledger, rows: Iterable[MediaScore]) -> None:
    """Keep what was found, in place of what was found there before."""
    values = [
        {
            "sha256": row.key[0],
            "kind": row.key[1],
            "variant": row.key[2],
            "version": row.key[3],
            "found": row.found,
            "scored_at": row.scored_at,
        }
        for _, row in sorted({row.key: row for row in rows}.items())
    ]
    if values:
        with ledger.write() as connection:
            statement = insert_into(connection, media_scores)
            anew = {"found": statement.excluded.found, "scored_at": statement.excluded.scored_at}
            key = ["sha256", "kind", "variant", "version"]
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=anew), values)


def drop_scores(connection: Connection, sha256s: Sequence[str]) -> None:
    """Forget what was found in media."""
    connection.execute(delete(media_scores).where(media_scores.c.sha256.in_(sha256s)))
