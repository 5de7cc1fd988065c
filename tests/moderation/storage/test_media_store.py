"""The bytes of media in a folder and in a bucket: whole or not at all, once, and for as long as they are needed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from moderation.errors import ConfigError, MediaUnavailableError, NotFoundError
from moderation.storage.media_store import ASIDE, PASSING, Held, MediaStore, name_of
from tests.killing import killed
from tests.moderation.storage.media import SHA, age
from tests.moderation.waiting import LONG_S

BYTES = b"a picture"
NAMED = hashlib.sha256(BYTES).hexdigest()
A_DAY = timedelta(days=1)


def everything(store: MediaStore) -> list[str]:
    """Names of all that the store holds, in whatever folder."""
    return sorted(stored.name for stored in store.place.listing())


def read(store: MediaStore, name: str) -> bytes:
    with store.open(name) as path:
        return path.read_bytes()


def counted(store: MediaStore, monkeypatch: pytest.MonkeyPatch, method: str) -> list[str]:
    """The names that a method of the store's place is called with from now on."""
    names: list[str] = []
    real: Callable[..., Any] = getattr(store.place, method)

    def note(name: str, *arguments: Any) -> Any:
        names.append(name)
        return real(name, *arguments)

    monkeypatch.setattr(store.place, method, note)
    return names


@pytest.mark.parametrize("bad", ["s3://", "gs://bucket/a"])
def test_what_is_neither_a_folder_nor_a_bucket_is_told(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"SEAWALL_MEDIA_URL: is .*; it must be a folder or s3://BUCKET/PREFIX"):
        MediaStore(bad)


def test_bytes_are_named_after_what_they_are(store: MediaStore, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(BYTES)
    assert store.keep(path) == Held(NAMED, 9)
    assert path.read_bytes() == BYTES
    assert store.keep_bytes(b"other").sha256 != NAMED
    assert read(store, NAMED) == BYTES
    assert store.has(NAMED)
    assert f"{NAMED[:2]}/{NAMED}" in everything(store)
    assert len(everything(store)) == 2


def test_a_large_file_is_the_same(store: MediaStore, tmp_path: Path) -> None:
    path = tmp_path / "video"
    path.write_bytes(b"0123456789abcdef" * 600_000)  # S3 gets it in pieces
    held = store.keep(path)
    assert held.size == 9_600_000
    with store.open(held.sha256) as kept, kept.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == held.sha256


def test_no_bytes_are_bytes_too(store: MediaStore) -> None:
    held = store.keep_bytes(b"")
    assert (held.size, read(store, held.sha256)) == (0, b"")


def test_what_is_known_is_not_written_again(store: MediaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written = counted(store, monkeypatch, "put_file")
    touched = counted(store, monkeypatch, "touch")
    held = [store.keep_bytes(BYTES) for _ in range(3)]
    assert held == [Held(NAMED, 9)] * 3
    assert (written, touched) == ([name_of(NAMED)], [])


def test_what_is_known_and_old_is_new_again(store: MediaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    name = name_of(store.keep_bytes(BYTES).sha256)
    written = counted(store, monkeypatch, "put_file")
    for again in (lambda: store.keep_bytes(BYTES), lambda: store.hold(NAMED)):
        age(store, name, A_DAY)
        assert again() == Held(NAMED, 9)
        found = store.place.look(name)
        assert found is not None
        assert abs(found.modified - datetime.now(UTC)) < timedelta(minutes=2)
    assert written == []
    assert read(store, NAMED) == BYTES


def test_what_was_cut_short_is_written_anew(store: MediaStore) -> None:
    store.place.put(name_of(NAMED), BYTES[:4])
    store.keep_bytes(BYTES)
    assert read(store, NAMED) == BYTES


def test_what_is_aside_is_still_held(store: MediaStore) -> None:
    assert not store.put_aside(NAMED)
    store.keep_bytes(BYTES)
    assert store.put_aside(NAMED)
    assert everything(store) == [f"{ASIDE}/{NAMED}"]
    assert store.has(NAMED)
    assert read(store, NAMED) == BYTES
    assert store.hold(NAMED) == Held(NAMED, 9)
    assert everything(store) == [name_of(NAMED)]


@pytest.mark.parametrize("name", [SHA, "", "../ledger.db", "a" * 63, "A" * 64, f"{PASSING}/../x", f"{PASSING}/{SHA}"])
def test_what_is_not_held_is_told(store: MediaStore, name: str) -> None:
    with pytest.raises(NotFoundError, match="is not held"), store.open(name):
        pass
    with pytest.raises(NotFoundError, match="is not held"):
        store.hold(name)


def test_a_copy_out_of_a_bucket_goes_with_the_context(bucket_url: str) -> None:
    store = MediaStore(bucket_url)
    store.keep_bytes(BYTES)
    with store.open(NAMED) as path:
        assert path.is_file()
    assert not path.parent.exists()


def test_what_is_lent_is_there_for_as_long_as_the_context(store: MediaStore, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(BYTES)
    for content in (BYTES, path):
        with store.lend(content) as lent:
            assert (lent.sha256, lent.size) == (NAMED, 9)
            assert read(store, lent.name) == BYTES
            assert not store.has(NAMED)
        assert everything(store) == []
        with pytest.raises(NotFoundError), store.open(lent.name):
            pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_whatever_ends_the_context_takes_what_was_lent(store: MediaStore, error: type[BaseException]) -> None:
    with pytest.raises(error), store.lend(BYTES):
        raise error
    assert everything(store) == []


def test_an_error_inside_the_context_stays_what_it_is(store: MediaStore) -> None:
    store.keep_bytes(BYTES)
    for context in (store.open(NAMED), store.lend(BYTES)):
        with pytest.raises(OSError, match="disk full"), context:
            raise OSError("disk full")


def test_many_that_keep_the_same_bytes_at_once_all_can(media_url: str) -> None:
    stores = [MediaStore(media_url) for _ in range(2)]
    begin = threading.Barrier(6)

    def keep(index: int) -> Held:
        begin.wait(LONG_S)
        return stores[index % 2].keep_bytes(BYTES)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(keep, range(6))) == {Held(NAMED, 9)}
    assert everything(stores[0]) == [name_of(NAMED)]
    assert read(stores[0], NAMED) == BYTES


def test_a_store_that_fails_is_told(bucket_url: str, tmp_path: Path) -> None:
    missing = MediaStore("s3://no-such-bucket-here/a")
    with pytest.raises(MediaUnavailableError, match="NoSuchBucket"):
        missing.keep_bytes(BYTES)
    (tmp_path / "file").write_bytes(b"")
    in_the_way = MediaStore(tmp_path / "file" / "media")
    with pytest.raises(MediaUnavailableError, match="Not a directory"):
        in_the_way.keep_bytes(BYTES)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MediaStore(tmp_path / "media")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("moderation.storage.blobs.shutil.copyfile", full)
    with pytest.raises(MediaUnavailableError, match="no space left"):
        store.keep_bytes(BYTES)
    assert everything(store) == []


@pytest.mark.slow
def test_an_upload_that_is_killed_leaves_no_partial_file_under_a_name(store: MediaStore, media_url: str) -> None:
    whole: list[str] = []
    for round_ in range(10):  # longer from round to round: how long an upload takes depends on the machine
        done = killed("keep_media", media_url, seed=1, kills=8, least=0.0, most=0.6 * 2**round_)
        assert done == {"killed": 8, "ended": 0}
        whole = [name for name in everything(store) if not name.startswith(".partial")]
        if whole:
            break
    for name in whole:
        assert name == name_of(hashlib.sha256(read(store, name.rpartition("/")[2])).hexdigest())
    assert whole, "none came so far"
    later = datetime.now(UTC) + timedelta(minutes=5)
    if not media_url.startswith("s3://"):  # moto says of every upload that it began in 2010
        assert store.place.clear_partial(later - A_DAY) == 0
    store.place.clear_partial(later)
    assert everything(store) == whole
    if media_url.startswith("s3://"):
        assert boto3.client("s3").list_multipart_uploads(Bucket=media_url.split("/")[2]).get("Uploads", []) == []
