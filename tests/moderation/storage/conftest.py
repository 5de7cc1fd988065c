"""A ledger on real SQLite, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from moderation.storage import media_collect, media_store, media_uses
from moderation.storage.ledger import Ledger, now
from moderation.storage.media_store import MediaStore
from tests.fresh import fresh_url
from tests.moderation.storage.rows import an_entry, record


@pytest.fixture
def url(tmp_path: Path) -> str:
    return fresh_url(tmp_path / "home" / "ledger.db")


@pytest.fixture(params=["folder", "bucket"])
def media_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of both kinds."""
    return str(tmp_path / "media") if request.param == "folder" else request.getfixturevalue("bucket_url")


@pytest.fixture
def store(media_url: str) -> MediaStore:
    return MediaStore(media_url)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()


@pytest.fixture
def neighbour(ledger: Ledger, url: str) -> Iterator[Ledger]:
    """Another process's view of the same ledger: nothing is shared but the file."""
    other = Ledger(url)
    yield other
    other.close()


@pytest.fixture
def posted(ledger: Ledger) -> Ledger:
    """A ledger that knows the posts p-1 and p-2."""
    record(ledger, an_entry("p-1"))
    record(ledger, an_entry("p-2"))
    return ledger


@pytest.fixture
def begun() -> datetime:
    """When the test began."""
    return now()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> float:
    """Everything is old at once, and aside for no longer than this, in seconds."""
    for module in (media_store, media_collect):
        monkeypatch.setattr(module, "TOUCH_AGAIN", timedelta(0))
    for module in (media_uses, media_collect):
        monkeypatch.setattr(module, "USED_AGAIN", timedelta(0))
    monkeypatch.setattr(media_collect, "ASIDE_FOR", timedelta(seconds=3))
    return 3.0
