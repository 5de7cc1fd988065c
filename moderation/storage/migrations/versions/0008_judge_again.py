"""Which decisions were made while a model was away."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; of what is there, those are found whose reply says so."""
    op.add_column("decisions", sa.Column("judge_again", sa.Boolean()))
    found = sa.text(
        "UPDATE decisions SET judge_again = true"
        " WHERE body LIKE :degraded AND body NOT LIKE :exempt AND post_id NOT LIKE 'perspective-%'"
    )
    op.execute(found.bindparams(degraded='%"degraded":true%', exempt='%"exempt":true%'))
    where = sa.text("judge_again")
    op.create_index("decisions_judge_again", "decisions", ["decision_id"], sqlite_where=where, postgresql_where=where)
