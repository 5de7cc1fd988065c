"""The tables as they were before there were migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them all."""
    _moderation()
    _experiments()
    _drift()
    _retraining()


def _moderation() -> None:
    op.create_table(
        "posts",
        sa.Column("post_id", sa.String(128), primary_key=True),
        sa.Column("content_version", sa.Integer, primary_key=True),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("author_id", sa.String(128), nullable=False),
        sa.Column("community", sa.String(128), nullable=False),
        sa.Column("region", sa.String(2), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("author", sa.JSON, nullable=False),
        sa.Column("received_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("post_id", sa.String(128), nullable=False),
        sa.Column("content_version", sa.Integer, nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("variant", sa.String(64)),
        sa.Column("model_version", sa.Integer),
        sa.Column("experiment", sa.String(64)),
        sa.Column("arm", sa.String(16)),
        sa.Column("decided_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("post_id", "content_version"),
        sqlite_autoincrement=True,
    )
    op.create_index("decisions_experiment", "decisions", ["experiment"])
    op.create_table(
        "labels",
        sa.Column("label_seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(128), nullable=False, unique=True),
        sa.Column("post_id", sa.String(128), nullable=False),
        sa.Column("content_version", sa.Integer, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("labelled_at", sa.DateTime, nullable=False),
        sa.Column("sampling_probability", sa.Float),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("received_at", sa.DateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("labels_post", "labels", ["post_id", "content_version"])
    op.create_table(
        "locks",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=False),
    )


def _experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("champion_version", sa.Integer, nullable=False),
        sa.Column("challenger_version", sa.Integer, nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("buckets", sa.Integer, nullable=False),
        sa.Column("history", sa.JSON, nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("stopped_at", sa.DateTime),
    )
    _one_a_variant("experiments_one_running", "experiments", "status = 'running'")
    op.create_table(
        "promotions",
        sa.Column("promotion_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("from_version", sa.Integer),
        sa.Column("to_version", sa.Integer, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )


def _drift() -> None:
    op.create_table(
        "drift_windows",
        sa.Column("window_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("window_from", sa.DateTime, nullable=False),
        sa.Column("window_to", sa.DateTime, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("drifted", sa.Boolean, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("checked_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("variant", "model_version", "window_from", "window_to"),
    )
    op.create_table(
        "drift_references",
        sa.Column("variant", sa.String(64), primary_key=True),
        sa.Column("model_version", sa.Integer, primary_key=True),
        sa.Column("window_from", sa.DateTime, nullable=False),
        sa.Column("window_to", sa.DateTime, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
    )


def _retraining() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("window_to", sa.DateTime, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "retrain_requests",
        sa.Column("request_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("alert_id", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("outcome", sa.JSON),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
    )
    _one_a_variant("retrain_requests_one_active", "retrain_requests", "status IN ('open', 'running')")


def _one_a_variant(name: str, table: str, where: str) -> None:
    op.create_index(name, table, ["variant"], unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
