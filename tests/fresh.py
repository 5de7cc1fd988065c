"""Ledgers whose tables were made once and are copied: making them takes a third of a second, and thousands need one."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from moderation.storage.ledger import Ledger


@functools.cache
def _template() -> Path:
    place = Path(tempfile.mkdtemp(prefix="seawall-template-")) / "ledger.db"
    Ledger(f"sqlite:///{place}").close()
    return place


def fresh_url(place: Path) -> str:
    """The URL of an empty ledger on SQLite at `place`, which must not exist."""
    assert not place.exists()
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_template(), place)
    return f"sqlite:///{place}"


def fresh_ledger(place: Path) -> Ledger:
    """An empty ledger on SQLite at `place`, which must not exist; the caller's to close."""
    return Ledger(fresh_url(place))
