"""Online features in an SQLite file of their own, for the gateways of one machine.

Nothing is synced: what a power cut takes, or leaves unreadable, is rebuilt from the ledger. The tables' names carry the
version of what they hold; another version starts with tables of its own, empty.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, Text, delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from moderation.errors import FeaturesUnavailableError
from moderation.storage.dialect import open_engine, parse, reader
from moderation.storage.feature_profiles import MEMORY, RETENTION, Change, Document, add, prune
from moderation.storage.feature_store import FeatureStore

SETTING = "SEAWALL_FEATURES_URL"
BUSY_S = 2.0
"""How long a change waits for another process's."""
_SWEEP_EVERY_S = 3600.0

_tables = MetaData()
_documents = Table(
    "documents_1",
    _tables,
    Column("key", String, primary_key=True),
    Column("document", Text, nullable=False),
    Column("keep_until", Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)
_seen = Table(
    "seen_1",
    _tables,
    Column("digest", LargeBinary, primary_key=True),
    Column("keep_until", Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)
_facts = Table("facts_1", _tables, Column("name", String, primary_key=True), sqlite_with_rowid=False)


class SqlFeatures(FeatureStore):
    """Features in SQLite.

    Args:
        url: `sqlite:///PATH`; created with its folder.
        memory: how long it is remembered what was observed.

    Raises:
        ConfigError: the URL is not SQLite's.
        FeaturesUnavailableError: the file cannot be opened.
    """

    def __init__(self, url: str, memory: timedelta = MEMORY) -> None:
        self._memory_s = memory.total_seconds()
        self._swept = 0.0
        with _store_errors():
            self._engine = open_engine(parse(url, setting=SETTING), synchronous="OFF", busy_s=BUSY_S)
            self._reader = reader(self._engine)
            with self._engine.begin() as connection:
                _tables.create_all(connection)

    @property
    def is_built(self) -> bool:
        """Whether the store was filled from the ledger once."""
        with _store_errors(), self._reader.connect() as connection:
            return connection.execute(select(_facts.c.name)).first() is not None

    def mark_built(self) -> None:
        """Say that the store was filled from the ledger."""
        with _store_errors(), self._engine.begin() as connection:
            connection.execute(insert(_facts).values(name="built").on_conflict_do_nothing())

    def clear(self) -> None:
        """Forget everything."""
        with _store_errors(), self._engine.begin() as connection:
            for table in _tables.sorted_tables:
                connection.execute(delete(table))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _load(self, keys: Sequence[str]) -> list[str | None]:
        with _store_errors(), self._reader.connect() as connection:
            documents = _documents_of(connection, keys)
        return [documents.get(key) for key in keys]

    def _apply(self, changes: Sequence[Change]) -> int:
        now = time.time()
        with _store_errors(), self._engine.begin() as connection:
            self._sweep(connection, now)
            fresh = _remember(connection, changes, int(now), int(now + self._memory_s))
            _store(connection, fresh, int(now + RETENTION.total_seconds()))
        return len(fresh)

    def _sweep(self, connection: Connection, now: float) -> None:
        if now - self._swept < _SWEEP_EVERY_S:
            return
        for table in (_documents, _seen):
            connection.execute(delete(table).where(table.c.keep_until <= int(now)))
        self._swept = now


def _documents_of(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    query = select(_documents.c.key, _documents.c.document).where(_documents.c.key.in_(keys))
    return {row.key: row.document for row in connection.execute(query)}


def _remember(connection: Connection, changes: Sequence[Change], now: int, until: int) -> list[Change]:
    """Of the changes, those that were not seen; from now on they are."""
    digests = [change.seen for change in changes if change.seen is not None]
    query = select(_seen.c.digest).where(_seen.c.digest.in_(digests), _seen.c.keep_until > now)
    known: set[bytes] = set(connection.execute(query).scalars()) if digests else set()
    fresh: list[Change] = []
    rows: list[dict[str, object]] = []
    for change in changes:
        if change.seen is None:
            fresh.append(change)
        elif change.seen not in known:
            known.add(change.seen)
            fresh.append(change)
            rows.append({"digest": change.seen, "keep_until": until})
    if rows:
        statement = insert(_seen)
        # One that is there was seen so long ago that it has been forgotten, but was not swept away yet.
        replaced = {"keep_until": statement.excluded.keep_until}
        connection.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=replaced), rows)
    return fresh


def _store(connection: Connection, changes: Sequence[Change], until: int) -> None:
    keys = sorted({key for change in changes for key in change.keys})
    if not keys:
        return
    held: dict[str, Document] = {key: {} for key in keys}
    held |= {key: json.loads(document) for key, document in _documents_of(connection, keys).items()}
    for change in changes:
        for key in change.keys:
            add(held[key], change)
    for document in held.values():
        prune(document)
    statement = insert(_documents)
    replaced = {"document": statement.excluded.document, "keep_until": statement.excluded.keep_until}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["key"], set_=replaced),
        [
            {"key": key, "document": json.dumps(document, separators=(",", ":")), "keep_until": until}
            for key, document in held.items()
        ],
    )


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        reason = getattr(error, "orig", None) or error  # without the statement and its parameters
        raise FeaturesUnavailableError(
            f"the features' file failed: {reason}; it may be deleted, for it is rebuilt from the ledger"
        ) from error
