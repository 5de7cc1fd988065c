"""Run by Alembic: on the connection that `schema` hands over, or on SEAWALL_LEDGER_URL for the `alembic` command."""

from __future__ import annotations

from alembic import context
from sqlalchemy.engine import Connection

from moderation.settings import Settings
from moderation.storage.dialect import open_engine, parse
from moderation.storage.media_tables import media
from moderation.storage.people_tables import actions

_TABLES = (actions, media)  # imported, all of them are known to their common metadata


def _migrate(connection: Connection) -> None:
    # SQLite alters little in place: there a table is written anew and renamed.
    as_batch = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection, target_metadata=_TABLES[0].metadata, compare_type=True, render_as_batch=as_batch
    )
    with context.begin_transaction():
        context.run_migrations()


_given = context.config.attributes.get("connection")
if _given is not None:
    _migrate(_given)
else:
    with open_engine(parse(Settings.from_environment().ledger_url, setting="SEAWALL_LEDGER_URL")).begin() as _opened:
        _migrate(_opened)
