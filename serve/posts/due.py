"""Decisions that were made while a model was away: which of them are to be made again, now that it may be back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, exists, select
from sqlalchemy.engine import Connection

from moderation.posts import Decision, MediaIn, PostIn
from moderation.storage import post_status
from moderation.storage.dialect import chunks
from moderation.storage.ledger import Ledger
from moderation.storage.media_tables import post_media
from moderation.storage.tables import decisions, posts, same_version

logger = logging.getLogger(__name__)

_PAGE = 200
_newer = posts.alias("newer")


@dataclass(frozen=True, slots=True)
class Due:
    """A post whose newest decision is to be made again.

    Attributes:
        decision_id: of that decision.
        post_id: of the post.
        post: its content.
        content_hash: as recorded.
    """

    decision_id: int
    post_id: str
    post: PostIn
    content_hash: str


def due(ledger: Ledger, *, since: datetime, after: int, limit: int) -> list[Due]:
    """Newest decisions that were made while a model was away and that are still left to models, the first first.

    Args:
        ledger: where they are recorded.
        since: when they were made, at the earliest.
        after: a decision's number; those up to it are left out.
        limit: how many at most.
    """
    found: list[Due] = []
    while len(found) < limit:
        with ledger.read() as connection:
            rows = _page(connection, since, after)
            if not rows:
                break
            left = post_status.left_to_models(connection, {row.post_id: row.content_version for row in rows})
            wanted = [row for row in rows if row.post_id in left][: limit - len(found)]
            media = _media(connection, wanted)
        found += filter(None, (_due(row, media.get(row.post_id, [])) for row in wanted))
        after = rows[-1].decision_id
    return found


def _page(connection: Connection, since: datetime, after: int) -> Sequence[Row[Any]]:
    newer = exists().where(_newer.c.post_id == posts.c.post_id, _newer.c.content_version > posts.c.content_version)
    query = (
        select(posts, decisions.c.decision_id, decisions.c.body)
        .join(decisions, same_version(posts, decisions))
        .where(decisions.c.judge_again, decisions.c.decision_id > after, decisions.c.decided_at >= since, ~newer)
        .order_by(decisions.c.decision_id)
        .limit(_PAGE)
    )
    return connection.execute(query).all()


def _media(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, list[MediaIn]]:
    versions = {row.post_id: row.content_version for row in rows}
    found: dict[str, list[MediaIn]] = {}
    for chunk in chunks(sorted(versions)):
        query = select(post_media).where(post_media.c.post_id.in_(chunk)).order_by(post_media.c.position)
        for row in connection.execute(query):
            if row.content_version == versions[row.post_id]:
                found.setdefault(row.post_id, []).append(MediaIn(kind=row.kind, sha256=row.sha256))
    return found


def _due(row: Row[Any], media: list[MediaIn]) -> Due | None:
    language = Decision.model_validate_json(row.body, extra="ignore").language
    try:
        post = PostIn(
            author_id=row.author_id,
            community=row.community,
            region=row.region,
            # What was told is as sure as can be, and the ledger keeps no more of it than that.
            language=language.code if language.confidence == 1 else None,
            created_at=row.created_at,
            text=row.text,
            media=media,
            author=row.author,
        )
    except ValidationError:
        logger.exception("post %r is not as posts are today, and is not judged again", row.post_id)
        return None
    return Due(row.decision_id, row.post_id, post, row.content_hash)
