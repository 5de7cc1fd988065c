"""A report is one a reporter and content version, an appeal one a removal."""

from __future__ import annotations

from typing import Any  # Any: Alembic's arguments are of many types

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}
"""Names of what was made without one, as PostgreSQL gives them."""


def upgrade() -> None:
    """Other keys of both tables; an appeal of before belongs to the last removal before it."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    sqlite = op.get_bind().dialect.name == "sqlite"
    kept: dict[str, Any] = (
        {"naming_convention": _NAMES, "table_kwargs": {"sqlite_autoincrement": True}} if sqlite else {}
    )
    with op.batch_alter_table("reports", **kept) as table:
        table.drop_constraint("reports_post_id_reporter_id_key", type_="unique")
        table.create_unique_constraint(
            "reports_post_id_reporter_id_content_version_key", ["post_id", "reporter_id", "content_version"]
        )
    with op.batch_alter_table("appeals", **kept) as table:
        table.add_column(sa.Column("action_id", number))
        table.drop_constraint("appeals_post_id_content_version_key", type_="unique")
        table.create_unique_constraint("appeals_action_id_key", ["action_id"])
    op.create_index("appeals_post", "appeals", ["post_id"])
    op.execute(
        "UPDATE appeals SET action_id = (SELECT max(actions.action_id) FROM actions"
        " WHERE actions.post_id = appeals.post_id AND actions.content_version = appeals.content_version"
        " AND actions.action = 'remove' AND actions.acted_at <= appeals.created_at)"
    )
