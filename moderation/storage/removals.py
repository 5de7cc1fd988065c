"""How many posts models removed, a minute at a time: what the fuse looks at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.engine import Connection

from moderation.storage.dialect import insert_into
from moderation.storage.people_tables import removal_counts

Key = tuple[str, str]
"""Label and region."""

ALL = ""
"""In the place of a label: all posts."""


def count(connection: Connection, writer: str, at: datetime, decided: Mapping[Key, int]) -> None:
    """Add to the counts of a minute.

    Args:
        connection: in a transaction that writes.
        writer: who counts; no other adds to its rows.
        at: when the posts were decided.
        decided: by label, or none for all posts, and region.
    """
    begin = at.replace(second=0, microsecond=0)
    rows = [
        {"begin": begin, "writer": writer, "region": region, "label": label, "count": number}
        for (label, region), number in sorted(decided.items())
    ]
    if rows:
        statement = insert_into(connection, removal_counts)
        added = removal_counts.c.count + statement.excluded.count
        keys = list(removal_counts.primary_key)
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_={"count": added}), rows)
