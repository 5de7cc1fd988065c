"""Webhooks: what is done with posts, kept in the ledger until the platform has taken it."""
