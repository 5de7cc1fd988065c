"""Who has an interest in how a post is judged, and so must not judge it: who wrote it, and who reported it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.engine import Connection

from moderation.errors import ConflictError
from moderation.storage.people_tables import reports
from moderation.storage.tables import posts


def interested(reviewer_id: str, post_id: ColumnElement[str] | str) -> ColumnElement[bool]:
    """Whether somebody wrote any content of a post, or reported any.

    Args:
        reviewer_id: who would judge it; one namespace with authors and reporters.
        post_id: a column, or a value.
    """
    return or_(
        exists().where(posts.c.post_id == post_id, posts.c.author_id == reviewer_id),
        exists().where(reports.c.post_id == post_id, reports.c.reporter_id == reviewer_id),
    )


def check_disinterested(connection: Connection, reviewer_id: str, post_id: str) -> None:
    """See that somebody may judge a post.

    Raises:
        ConflictError: they wrote or reported it.
    """
    if connection.execute(select(interested(reviewer_id, post_id))).scalar_one():
        raise ConflictError(f"{reviewer_id!r} wrote or reported post {post_id!r}, and does not judge it")
