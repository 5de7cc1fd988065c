"""Images and videos: which there are, which posts have them, what was found in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

    def text(length: int) -> TypeEngine[str]:
        return sa.Text() if op.get_bind().dialect.name == "postgresql" else sa.String(length)

    op.create_table(
        "media",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("format", sa.String(16)),
        sa.Column("bytes", number),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("seconds", sa.Float()),
        sa.Column("perceptual_hash", sa.String(64)),
        sa.Column("first_used_at", sa.DateTime(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(), nullable=False),
        sa.Column("removed_at", sa.DateTime()),
    )
    op.create_table(
        "post_media",
        sa.Column("post_id", text(128), primary_key=True),
        sa.Column("content_version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
    )
    op.create_index("post_media_sha256", "post_media", ["sha256"])
    op.create_table(
        "media_scores",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("variant", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("scored_at", sa.DateTime(), nullable=False),
    )
