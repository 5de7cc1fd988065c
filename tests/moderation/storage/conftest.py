"""A ledger on real SQLite, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation.storage.ledger import Ledger
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
