"""Brings a ledger's schema to what this code expects, when the ledger is opened.

That is one query where nothing is to do. Otherwise Alembic runs the steps of `migrations/` in one transaction, which
others that start at the same time wait for and then find done: SQLite's write lock, a claim on PostgreSQL. A step that
fails leaves the schema as it was.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Engine, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from moderation.errors import ConfigError
from moderation.storage.dialect import claim, reader

HEAD = "0008"
"""The last step in `migrations/versions`. Kept here, so that Alembic is imported only where something is to do."""
FIRST = "0001"
"""The step that makes the tables as they were before there were steps."""

_FOLDER = Path(__file__).parent / "migrations"
_FIRST_TABLES = frozenset(
    {
        "posts",
        "decisions",
        "labels",
        "experiments",
        "drift_windows",
        "drift_references",
        "alerts",
        "retrain_requests",
        "promotions",
        "locks",
    }
)
_alembic = threading.Lock()  # it keeps its context in a module


def bring_to_head(engine: Engine, *, setting: str) -> None:
    """Upgrade, make or adopt a ledger's tables.

    Args:
        engine: whose transactions may write.
        setting: where its URL comes from, for the error.

    Raises:
        ConfigError: the database is newer than this code, or holds something else.
    """
    with reader(engine).connect() as connection:
        try:
            revision = _revision(connection)
        except (OperationalError, ProgrammingError):
            revision = None  # most likely there is no such table yet; anything else is raised again below
    if revision == HEAD:
        return
    with _alembic, engine.begin() as connection:
        claim(connection, "schema")
        _upgrade(connection, setting)


def _revision(connection: Connection) -> str | None:
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection, setting: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    tables = set(inspect(connection).get_table_names())
    revision = _revision(connection) if "alembic_version" in tables else None
    if revision is not None:
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        _check_known(revision, known, setting)
    elif tables & _FIRST_TABLES:
        _check_complete(tables, setting)
        command.stamp(config, FIRST)
    command.upgrade(config, HEAD)


def _check_known(revision: str, known: set[str], setting: str) -> None:
    if revision in known:
        return
    if revision.isdecimal() and revision > HEAD:
        raise ConfigError(
            setting,
            f"the ledger's schema is {revision}, newer than {HEAD}, which is all that this Seawall knows;"
            " start one that is as new as what wrote it",
        )
    raise ConfigError(setting, f"the database's schema is {revision!r}: it is no ledger, it belongs to something else")


def _check_complete(tables: set[str], setting: str) -> None:
    missing = sorted(_FIRST_TABLES - tables)
    if missing:
        present = sorted(_FIRST_TABLES & tables)
        raise ConfigError(
            setting,
            f"the database holds {', '.join(present)}, but not {', '.join(missing)}: it is neither empty nor a ledger",
        )
