"""What people do: reports, reviews, appeals, what is done with posts because of it, events, the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

    def text(length: int | None = None) -> TypeEngine[str]:
        return sa.Text() if length is None or op.get_bind().dialect.name == "postgresql" else sa.String(length)

    op.create_index("decisions_decided_at", "decisions", ["decided_at"])
    op.create_table(
        "actions",
        sa.Column("action_id", number, primary_key=True, autoincrement=True),
        sa.Column("post_id", text(128), nullable=False),
        sa.Column("content_version", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("actor", sa.String(8), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("review_id", number),
        sa.Column("acted_at", sa.DateTime(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("actions_acted_at", "actions", ["acted_at"])
    op.create_index("actions_post", "actions", ["post_id", "action_id"])
    op.create_table(
        "reviews",
        sa.Column("review_id", number, primary_key=True, autoincrement=True),
        sa.Column("post_id", text(128), nullable=False),
        sa.Column("content_version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("of_review", number),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("language", sa.String(16), nullable=False),
        sa.Column("region", sa.String(2), nullable=False),
        sa.Column("community", text(128), nullable=False),
        sa.Column("p_harm", sa.Float(), nullable=False),
        sa.Column("severity", sa.Float(), nullable=False),
        sa.Column("impressions", sa.Float(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("sampling_probability", sa.Float()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("deadline", sa.DateTime(), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("leased_by", text(128)),
        sa.Column("leased_until", sa.DateTime()),
        sa.Column("decided_by", text(128)),
        sa.Column("decided_at", sa.DateTime()),
        sa.Column("verdict", sa.String(8)),
        sa.Column("verdict_labels", sa.JSON()),
        sa.Column("note", text()),
        sqlite_autoincrement=True,
    )
    op.create_index("reviews_deadline", "reviews", ["status", "deadline"])
    op.create_index("reviews_decided_at", "reviews", ["decided_at"])
    op.create_index("reviews_post", "reviews", ["post_id", "content_version"])
    op.create_index("reviews_queue", "reviews", ["status", "priority"])
    where = sa.text("status = 'open' AND kind <> 'golden'")
    op.create_index(
        "reviews_one_open",
        "reviews",
        ["post_id", "content_version"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_table(
        "golden",
        sa.Column("post_id", text(128), primary_key=True),
        sa.Column("content_version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("report_id", number, primary_key=True, autoincrement=True),
        sa.Column("post_id", text(128), nullable=False),
        sa.Column("content_version", sa.Integer(), nullable=False),
        sa.Column("reporter_id", text(128), nullable=False),
        sa.Column("reason", text(), nullable=False),
        sa.Column("label", sa.String(32)),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("outcome", sa.String(9)),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("post_id", "reporter_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("reports_created_at", "reports", ["created_at"])
    op.create_table(
        "reporters",
        sa.Column("reporter_id", text(128), primary_key=True),
        sa.Column("upheld", sa.Integer(), nullable=False),
        sa.Column("dismissed", sa.Integer(), nullable=False),
        sa.Column("muted", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "appeals",
        sa.Column("appeal_id", number, primary_key=True, autoincrement=True),
        sa.Column("post_id", text(128), nullable=False),
        sa.Column("content_version", sa.Integer(), nullable=False),
        sa.Column("reason", text(), nullable=False),
        sa.Column("review_id", number, nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("decided_at", sa.DateTime()),
        sa.UniqueConstraint("post_id", "content_version"),
        sqlite_autoincrement=True,
    )
    op.create_index("appeals_created_at", "appeals", ["created_at"])
    op.create_table(
        "strikes",
        sa.Column("post_id", text(128), primary_key=True),
        sa.Column("content_version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("author_id", text(128), nullable=False),
        sa.Column("given_at", sa.DateTime(), nullable=False),
        sa.Column("taken_back_at", sa.DateTime()),
    )
    op.create_index("strikes_author", "strikes", ["author_id"])
    op.create_table(
        "exemptions",
        sa.Column("content_hash", sa.String(64), primary_key=True),
        sa.Column("appeal_id", number, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("event_seq", number, primary_key=True, autoincrement=True),
        sa.Column("id", text(128), nullable=False),
        sa.Column("post_id", text(128), nullable=False),
        sa.Column("content_version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("count", number, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("happened_at", sa.DateTime(), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_happened_at", "events", ["happened_at"])
    op.create_index("events_post", "events", ["post_id"])
    op.create_table(
        "fuses",
        sa.Column("fuse_id", number, primary_key=True, autoincrement=True),
        sa.Column("label", sa.String(32), nullable=False),
        sa.Column("region", sa.String(2), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("tripped_at", sa.DateTime(), nullable=False),
        sa.Column("reset_at", sa.DateTime()),
        sa.Column("reset_by", text(128)),
        sqlite_autoincrement=True,
    )
    where = sa.text("reset_at IS NULL")
    op.create_index(
        "fuses_one_tripped", "fuses", ["label", "region"], unique=True, sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "removal_counts",
        sa.Column("begin", sa.DateTime(), primary_key=True),
        sa.Column("writer", sa.String(32), primary_key=True),
        sa.Column("region", sa.String(2), primary_key=True),
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.String(36), primary_key=True),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("action_id", number, nullable=False),
        sa.Column("post_id", text(128), nullable=False),
        sa.Column("status", sa.String(9), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("delivered_at", sa.DateTime()),
        sa.UniqueConstraint("endpoint", "action_id"),
    )
    op.create_index("deliveries_due", "deliveries", ["endpoint", "status", "next_at"])
    op.create_index("deliveries_post", "deliveries", ["endpoint", "post_id", "action_id"])
