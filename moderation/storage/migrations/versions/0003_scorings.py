"""A row for each variant that judged a post, where a decision had room for one.

The scores of earlier decisions stay among their features, where readers find them too.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_MOVED = ("variant", "model_version", "experiment", "arm")


def upgrade() -> None:
    """Make the table, move what decisions held, drop it there."""
    text = sa.Text() if op.get_bind().dialect.name == "postgresql" else sa.String(128)
    op.create_table(
        "scorings",
        sa.Column("post_id", text, primary_key=True),
        sa.Column("content_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("service", sa.String(16), primary_key=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("model_version", sa.Integer),
        sa.Column("experiment", sa.String(64)),
        sa.Column("arm", sa.String(16)),
        sa.Column("features", sa.JSON, nullable=False),
    )
    op.create_index("scorings_experiment", "scorings", ["experiment"])
    op.execute(
        "INSERT INTO scorings (post_id, content_version, service, variant, model_version, experiment, arm, features)"
        " SELECT post_id, content_version, 'text', variant, model_version, experiment, arm, '{}' FROM decisions"
        " WHERE variant IS NOT NULL"
    )
    op.drop_index("decisions_experiment", "decisions")
    for column in _MOVED:
        op.drop_column("decisions", column)
