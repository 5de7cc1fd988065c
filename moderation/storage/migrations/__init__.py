"""Alembic's environment, a file a step in `versions/`. `moderation.storage.schema` runs them as a ledger is opened."""
