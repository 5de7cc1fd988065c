"""PostgreSQL: row numbers of 64 bits, and no bound on texts that are escaped; see `tables.AnyText`.

SQLite's integers are as wide and its texts without a bound already, so nothing changes there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBERS = (("decisions", "decision_id"), ("labels", "label_seq"))
_TEXTS = (
    ("posts", "post_id"),
    ("posts", "author_id"),
    ("posts", "community"),
    ("decisions", "post_id"),
    ("labels", "post_id"),
    ("labels", "id"),
)


def upgrade() -> None:
    """Widen in place; PostgreSQL rewrites only the tables whose numbers widen."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in _NUMBERS:
        op.alter_column(table, column, type_=sa.BigInteger())
        op.execute(f"ALTER SEQUENCE {table}_{column}_seq AS bigint")
    for table, column in _TEXTS:
        op.alter_column(table, column, type_=sa.Text())
