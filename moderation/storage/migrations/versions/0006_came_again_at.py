"""When a content came again: what is older than that must not follow it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; no row is rewritten."""
    op.add_column("posts", sa.Column("came_again_at", sa.DateTime()))
