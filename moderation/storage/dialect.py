"""Where SQLite and PostgreSQL differ: how they are opened, how writers keep apart, and which row numbers are settled.

SQLite has one writer at a time: a transaction takes the write lock at its start, so writers never meet, and row numbers
are committed in their order. PostgreSQL has many, which costs two things that this module pays for:

- Two transactions that read the same row and then write what follows from it would both be right and together wrong.
  Whoever reads before it writes says what it is about to change: `claim` keeps everyone else who claims the same away
  until the transaction ends (advisory locks, taken in one order, so that no two wait for each other).
- A row's number is taken before its transaction commits, so a smaller number can appear after a larger one. A writer
  says beforehand up to which number it will add nothing (`announce`); `settled` is the smallest such floor, or the
  last number given out where nobody writes. It blocks nobody; a transaction that hangs holds up what comes after it.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    ColumnElement,
    Engine,
    Table,
    case,
    column,
    create_engine,
    event,
    func,
    select,
    table,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from moderation.errors import ConfigError

BUSY_S = 30
"""How long a transaction of the ledger waits for SQLite's one writer, in seconds."""
CLAIMS = 256
"""Above that many things a transaction claims all of their kind, for PostgreSQL's table of locks is bounded."""

_READ_ONLY = "seawall_read_only"
# Advisory locks are 64-bit numbers. Claims are negative; a floor is 16 bits that say of what, then 48 of row number.
_FLOORS = {"decisions": 0x5EA1, "labels": 0x5EA2, "actions": 0x5EA3}
_NUMBER_BITS = 48


def parse(url: str, *, setting: str) -> URL:
    """Read the URL of a database.

    Args:
        url: `sqlite:///PATH`, or `postgresql://...` in SQLAlchemy's form; `postgresql+psycopg://` is the same.
        setting: where it comes from, for the error.

    Raises:
        ConfigError: it is not a URL, or of another database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: of a port, which may be a piece of an unquoted password
        raise ConfigError(setting, "is not a URL; sqlite:///PATH or postgresql://USER@HOST/DATABASE is") from None
    if parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("postgresql+psycopg", "sqlite", "sqlite+pysqlite"):
        return parsed
    raise ConfigError(setting, f"is of {parsed.drivername!r}; sqlite and postgresql are supported")


def redacted_url(url: URL) -> str:
    """A database's URL without its passwords."""
    hidden = {name: "***" for name in url.query if _secret(name)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def error_message(error: SQLAlchemyError | OSError, url: URL) -> str:
    """What a database, or the way to it, has to complain of: one line, without SQL, parameters and passwords.

    Args:
        error: of SQLAlchemy, or of the folder of an SQLite file.
        url: of the database; its passwords are taken out should the driver repeat one.
    """
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = " ".join(str(cause.args[0] if isinstance(cause, SQLAlchemyError) and cause.args else cause).split())
    secrets = [url.password, *(value for name, value in url.query.items() if _secret(name))]
    for secret in secrets:
        if secret:
            text = text.replace(str(secret), "***")
    return f"{type(error).__name__}: {text}"


def _secret(parameter: str) -> bool:
    return "pass" in parameter.lower()


_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq's: a server that falls silent, as a host that is lost does, is given up within half a minute, and not within
hours, while every post waits. What the URL says itself counts."""


def open_engine(url: URL, *, synchronous: Literal["FULL", "OFF"] = "FULL", busy_s: float = BUSY_S) -> Engine:
    """An engine whose transactions may write; `reader` makes one whose may not.

    Args:
        url: of `parse`. An SQLite file is created with its folder, in WAL mode.
        synchronous: SQLite's: FULL syncs every commit, OFF none; PostgreSQL is left as its server is configured.
        busy_s: how long a transaction waits for SQLite's one writer, in seconds.
    """
    if url.get_backend_name() != "sqlite":
        told = {name: value for name, value in _PATIENCE.items() if name not in url.query}
        return create_engine(
            url, pool_pre_ping=True, connect_args=told, json_serializer=dump_json, hide_parameters=True
        )
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": busy_s}, json_serializer=dump_json, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's begin event below opens the transaction instead
        _use_wal(connection, busy_s)
        connection.execute(f"PRAGMA synchronous={synchronous}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads and then writes must hold the write lock from its start, or it can fail half-way.
        reads = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: sqlite3.Connection, busy_s: float) -> None:
    give_up = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # Of several that open a new file one changes its mode; the others are told so at once, timeout or not.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up:
                raise
            time.sleep(0.01)


def reader(engine: Engine) -> Engine:
    """The same engine, for transactions that see one state of the database and change nothing."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_READ_ONLY: True})
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def dump_json(value: object) -> str:
    """JSON as both databases take it: a number that is none (NaN, infinity) becomes null, as on the wire."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def insert_into(connection: Connection, rows: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert of the connection's own database, which may say what is done with a row that is there."""
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(rows)


def claim(connection: Connection, kind: str, names: Iterable[str] = ()) -> None:
    """Keep other transactions that claim any of the same things waiting until this one ends. Claim before reading.

    Args:
        connection: in a transaction that writes; the first claim of it, so that all take their locks in one order.
        kind: what is claimed, as `post`.
        names: which ones; empty, or more than `CLAIMS`: all of the kind.
    """
    if connection.dialect.name == "sqlite":
        return  # it holds the one write lock already
    keys = sorted({_key(kind, name) for name in names})
    every = {"kind": _key(kind, "")}
    if not keys or len(keys) > CLAIMS:
        connection.execute(_CLAIM_KIND, every)
    else:
        connection.execute(_CLAIM_NAMES, every | {"keys": keys})


_CLAIM_KIND = text("SELECT pg_advisory_xact_lock(:kind)")
# In this order: whoever claims the whole kind comes before or after everyone, never in between.
_CLAIM_NAMES = text(
    "SELECT pg_advisory_xact_lock_shared(:kind)"
    " UNION ALL SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key"
)


def _key(kind: str, name: str) -> int:
    digest = hashlib.blake2b(f"{kind}\0{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") | 1 << 63) - (1 << 64)


def announce(connection: Connection, number: Column[int]) -> None:
    """Tell `settled` that this transaction is about to add rows. Call before the insert takes their numbers.

    Args:
        connection: in a transaction that writes.
        number: the row numbers' column, of `decisions`, `labels` or `actions`.
    """
    if connection.dialect.name == "sqlite":
        return
    # Read and locked in one statement; what others take of the sequence in between is only more than the floor.
    floor = _given_out(number) + (_FLOORS[number.table.name] << _NUMBER_BITS)
    connection.execute(select(func.pg_advisory_xact_lock_shared(floor)))


def _given_out(number: Column[int]) -> ColumnElement[int]:
    """The last number that PostgreSQL's sequence of a column gave out."""
    sequence = table(f"{number.table.name}_{number.name}_seq", column("last_value", BigInteger), column("is_called"))
    return sequence.c.last_value - case((sequence.c.is_called, 0), else_=1)


def settled(connection: Connection, number: Column[int]) -> int:
    """The row number up to which everything that will ever be is committed; read the rows in a later transaction.

    Sound on PostgreSQL because of the order: a number up to the last one given out belongs to a transaction that
    announced itself before, so it is either seen holding its floor, or it has ended, and what begins now sees its rows.
    That takes a sequence without a cache, which is what PostgreSQL makes of a serial column.

    Args:
        connection: in any transaction.
        number: the row numbers' column, of `decisions`, `labels` or `actions`.
    """
    if connection.dialect.name == "sqlite":
        return connection.execute(select(func.max(number))).scalar() or 0
    last = int(connection.execute(select(_given_out(number))).scalar_one())
    floor = connection.execute(_FLOOR, {"of": _FLOORS[number.table.name]}).scalar()
    return last if floor is None else min(last, int(floor))


# A lock of one 64-bit number shows as two halves of 32; the upper 16 bits of the upper half say what it is a floor of.
_FLOOR = text(
    "SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) FROM pg_locks"
    " WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = :of"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Slices of at most `size`: a statement has room for so many parameters."""
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]
