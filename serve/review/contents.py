"""The contents of posts, as people judge them: what was posted, with the decision on it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from moderation.errors import NotFoundError
from moderation.posts import Decision
from moderation.review import ReviewItem
from moderation.storage import post_status
from moderation.storage.ledger import now
from moderation.storage.tables import decisions, of_version, posts, same_version


@dataclass(frozen=True, slots=True)
class Content:
    """One content version of a post.

    Attributes:
        post_id: of the post.
        content_version: 1 for its first content.
        content_hash: the same for the same content.
        author_id: who wrote it.
        community: where.
        region: of that.
        text: as posted.
        body: of the decision, as JSON.
    """

    post_id: str
    content_version: int
    content_hash: str
    author_id: str
    community: str
    region: str
    text: str
    body: str

    def decision(self) -> Decision:
        """As it was made; what people made of it since is not in it."""
        return Decision.model_validate_json(self.body, extra="ignore")


COLUMNS = [(decisions if field.name == "body" else posts).c[field.name] for field in fields(Content)]
"""To select for a `Content`, in its order, of posts joined with decisions."""


def newest_content(connection: Connection, post_id: str) -> Content:
    """A post's newest content.

    Raises:
        NotFoundError: the post is unknown.
    """
    query = _contents().where(posts.c.post_id == post_id).order_by(posts.c.content_version.desc()).limit(1)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"post {post_id!r} is not recorded")
    return Content(*row)


def content_of(connection: Connection, post_id: str, content_version: int) -> Content:
    """One content version of a post; it must be recorded."""
    return Content(*connection.execute(_contents().where(of_version(posts, post_id, content_version))).one())


def same_content(connection: Connection, post_id: str, content_hash: str) -> list[int]:
    """The versions of a post with this content: it may have come back, or have been judged again."""
    same = (posts.c.post_id == post_id) & (posts.c.content_hash == content_hash)
    return list(connection.execute(select(posts.c.content_version).where(same)).scalars())


def queue_content(
    connection: Connection,
    content: Content,
    item: ReviewItem,
    *,
    language: str,
    leased_by: str | None = None,
    leased_until: datetime | None = None,
) -> int:
    """Ask people about a content, from now on.

    Args:
        connection: in a transaction that writes, and holds the claim on the post.
        content: in question.
        item: what is asked, and how soon.
        language: of the content.
        leased_by: who has it already.
        leased_until: set with `leased_by`.

    Returns:
        The number of the review.
    """
    return post_status.queue(
        connection,
        content.post_id,
        content.content_version,
        item,
        language=language,
        region=content.region,
        community=content.community,
        created_at=now(),
        leased_by=leased_by,
        leased_until=leased_until,
    )


def _contents() -> Select[Any]:
    return select(*COLUMNS).join_from(posts, decisions, same_version(posts, decisions))
