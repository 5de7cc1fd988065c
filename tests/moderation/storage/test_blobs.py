"""The lake in a folder and in a bucket: the same files, exactly once, however often the exporter is killed."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from moderation.errors import ConfigError, ConflictError
from moderation.storage import labelling
from moderation.storage import lake as lake_module
from moderation.storage.blobs import Bucket, Folder, Place, place_at
from moderation.storage.lake import SCHEMAS, Dataset, Exported, Lake
from moderation.storage.ledger import Ledger
from tests.killing import killed
from tests.moderation.storage.acts import a_review
from tests.moderation.storage.rows import a_label, an_entry, at, record, say, say_as_verdict


@pytest.fixture(params=["folder", "bucket"])
def lake_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of both kinds."""
    return str(tmp_path / "lake") if request.param == "folder" else request.getfixturevalue("bucket_url")


@pytest.fixture
def place(lake_url: str) -> Place:
    return place_at(lake_url)


@pytest.fixture
def lake(lake_url: str) -> Lake:
    return Lake(lake_url)


def rows(lake: Lake, dataset: Dataset) -> list[dict[str, Any]]:
    return [row for file in lake.files(dataset) for row in pq.read_table(file, filesystem=lake.filesystem).to_pylist()]


def fill(ledger: Ledger, posts: int, labels: int = 0) -> None:
    ledger.record([an_entry(f"p-{number}", f"text {number}", minutes=number) for number in range(1, posts + 1)])
    said = {
        number: a_label(f"l-{number}", f"p-{number % posts + 1}", sampling_probability=1 / number)
        for number in range(1, labels + 1)
    }
    assert labelling.add(ledger, said).accepted == labels


def test_a_url_names_a_folder_or_a_bucket(tmp_path: Path, bucket_url: str) -> None:
    assert isinstance(place_at(str(tmp_path)), Folder)
    assert isinstance(place_at(bucket_url), Bucket)
    bucket = bucket_url.split("/")[2]
    assert place_at(bucket_url).where("a/b") == f"{bucket}/some/where/a/b"
    for bare in (f"s3://{bucket}", f"s3://{bucket}/"):
        assert place_at(bare).where("a/b") == f"{bucket}/a/b"


@pytest.mark.parametrize("bad", ["s3://", "s3:///a", "s3://B/a", "gs://bucket/a", "http://host/a", "s3://bucket//a"])
def test_what_is_neither_is_told(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"SEAWALL_LAKE_URL: is .*; it must be a folder or s3://BUCKET/PREFIX"):
        Lake(bad)


def test_names_are_those_of_one_folder_and_sorted(place: Place) -> None:
    assert place.names("a") == []
    for name in ("a/2", "a/1", "ab/3", "b/4"):
        place.put(name, name.encode())
    assert place.names("a") == ["1", "2"]
    place.put("a/1", b"another")
    with (place.filesystem or pa.fs.LocalFileSystem()).open_input_file(place.where("a/1")) as file:
        assert file.read() == b"another"


def test_more_files_than_one_answer_lists(bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # a server lists as many as it likes; S3 1,000
    place = place_at(bucket_url)
    names = [f"{number:05d}" for number in range(25)]
    for name in names:
        place.put(f"a/{name}", b"")
    assert len(boto3.client("s3").list_objects_v2(Bucket=bucket_url.split("/")[2])["Contents"]) == 10
    assert place.names("a") == names


def test_a_file_that_cannot_be_written_is_told(bucket_url: str) -> None:
    place = place_at("s3://no-such-bucket-here/a")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        place.put("a", b"")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        place.names("a")


def test_an_export_writes_only_what_is_new(ledger: Ledger, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_module, "ROWS_A_FILE", 3)
    assert lake.export(ledger) == Exported(0, 0)
    fill(ledger, 7, 2)
    assert lake.export(ledger) == Exported(7, 2)
    assert lake.export(ledger) == Exported(0, 0)
    say(ledger, a_label("l-9"))
    assert lake.export(ledger) == Exported(0, 1)
    assert [file.rsplit("/", 1)[1] for file in lake.files("posts")] == [
        "part-000000000001-000000000003.parquet",
        "part-000000000004-000000000006.parquet",
        "part-000000000007-000000000007.parquet",
    ]
    assert [row["decision_id"] for row in rows(lake, "posts")] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["label_id"] for row in rows(lake, "labels")] == ["l-1", "l-2", "l-9"]
    for dataset in ("posts", "labels"):
        schema = pq.read_schema(lake.files(dataset)[0], filesystem=lake.filesystem)  # type: ignore[arg-type]  # a tuple's item is a str
        assert schema.equals(SCHEMAS[dataset])  # type: ignore[index]  # likewise a str


def test_a_window_is_read_from_either(ledger: Ledger, lake: Lake) -> None:
    assert lake.posts_between(at(0), at(9), variant="text-multi").num_rows == 0
    fill(ledger, 6)
    lake.export(ledger)
    table = lake.posts_between(at(2), at(5), variant="text-multi")
    assert table["post_id"].to_pylist() == ["p-2", "p-3", "p-4"]


def test_a_label_says_who_decided_and_how_the_post_came_before_them(ledger: Ledger, lake: Lake) -> None:
    record(ledger, an_entry())
    number = a_review(ledger, kind="sampled", by="r-7")
    say_as_verdict(ledger, a_label(f"review:{number}", sampling_probability=0.02))
    say(ledger, a_label("l-2", source="platform"))
    lake.export(ledger)
    found = [(row["reviewer"], row["review_kind"], row["sampling_probability"]) for row in rows(lake, "labels")]
    assert found == [("r-7", "sampled", 0.02), (None, None, None)]


def test_files_of_before_there_were_reviewers_are_still_read(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 1)
    lake.export(ledger)
    name = "labels/part-000000000001-000000000001.parquet"
    lake.put(name, lake.get(name).drop_columns(["reviewer", "review_kind"]))
    say(ledger, a_label("l-2"))
    assert lake.export(ledger) == Exported(0, 1)
    table = pa.dataset.dataset(lake.files("labels"), schema=SCHEMAS["labels"], filesystem=lake.filesystem).to_table()
    assert (table["label_id"].to_pylist(), table["reviewer"].to_pylist()) == (["l-1", "l-2"], [None, None])


def test_a_file_of_another_kind_is_put_and_got(lake: Lake) -> None:
    with pytest.raises(FileNotFoundError):
        lake.get("references/a/1.parquet")
    for value in (1, 2):
        lake.put("references/a/1.parquet", pa.table({"x": [value]}))
        assert lake.get("references/a/1.parquet").to_pylist() == [{"x": value}]
    assert lake.files("posts") == []


def test_where_two_files_begin_at_one_row_the_longest_counts_and_no_row_twice(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 9)
    lake.export(ledger)
    whole = lake.get("posts/part-000000000001-000000000009.parquet")

    def part(begin: int, end: int) -> None:
        lake.put(f"posts/part-{begin:012d}-{end:012d}.parquet", whole.slice(begin - 1, end - begin + 1))

    for begin, end in ((1, 4), (5, 9), (5, 6), (10, 12)):
        part(begin, end)
    assert len(lake.files("posts")) == 2  # 1 to 9, and what follows it
    assert Counter(row["decision_id"] for row in rows(lake, "posts")) == Counter(range(1, 10))


def test_a_hole_in_the_chain_is_filled(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_module, "ROWS_A_FILE", 2)
    lake = Lake(tmp_path)
    fill(ledger, 6)
    lake.export(ledger)
    (tmp_path / "posts" / "part-000000000003-000000000004.parquet").unlink()
    assert [row["decision_id"] for row in rows(lake, "posts")] == [1, 2]
    assert lake.export(ledger).posts == 4
    assert [row["decision_id"] for row in rows(lake, "posts")] == [1, 2, 3, 4, 5, 6]


def test_a_lock_that_was_overtaken_cannot_be_renewed(ledger: Ledger, neighbour: Ledger) -> None:
    with ledger.lock("a", hold=timedelta(0)) as late, neighbour.lock("a") as holder:
        with pytest.raises(ConflictError, match="is another one's now"):  # not the locks themselves
            late.renew()
        holder.renew()


def test_an_export_that_was_overtaken_writes_nothing_more(
    ledger: Ledger, neighbour: Ledger, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "LOCK_HOLD", timedelta(0))
    real = lake_module._post_rows

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(lake_module, "_post_rows", real)
        monkeypatch.setattr(lake_module, "LOCK_HOLD", timedelta(minutes=1))
        assert Lake(lake.root).export(neighbour) == Exported(3, 0)  # while this one slept
        return real(*arguments)

    fill(ledger, 2)
    monkeypatch.setattr(lake_module, "_post_rows", slow)
    record(ledger, an_entry("p-3"))
    with pytest.raises(ConflictError, match="is another one's now"):
        lake.export(ledger)
    assert [row["decision_id"] for row in rows(lake, "posts")] == [1, 2, 3]


def test_a_renewed_lock_is_not_overtaken(ledger: Ledger, neighbour: Ledger) -> None:
    with ledger.lock("a", hold=timedelta(seconds=30)) as held:
        held.renew()
        with pytest.raises(ConflictError, match="is held by"), neighbour.lock("a"):
            pass
    with neighbour.lock("a"):
        pass


def test_exports_at_the_same_time_write_each_row_once(
    ledger: Ledger, neighbour: Ledger, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "ROWS_A_FILE", 5)
    fill(ledger, 20, 20)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda index: lake.export((ledger, neighbour)[index % 2]), range(4)))
    assert sum(each.posts for each in done) == sum(each.labels for each in done) == 20
    assert [row["label_seq"] for row in rows(lake, "labels")] == list(range(1, 21))


def test_a_reader_can_be_sent_to_another_process(bucket_url: str) -> None:
    filesystem = pickle.loads(pickle.dumps(Lake(bucket_url).filesystem))
    bucket = bucket_url.split("/")[2]
    boto3.client("s3").put_object(Bucket=bucket, Key="a", Body=b"here")
    with filesystem.open_input_file(f"{bucket}/a") as file:
        assert file.read() == b"here"


@pytest.fixture
def kept(lake_url: str) -> Iterator[dict[str, bytes]]:
    """Files as they were seen first; at the end each is what it was."""
    seen: dict[str, bytes] = {}
    yield seen
    lake = Lake(lake_url)
    for file, content in seen.items():
        assert content_of(lake, file) == content, f"{file} was changed"


def content_of(lake: Lake, file: str) -> bytes:
    if lake.filesystem is None:
        return Path(file).read_bytes()
    with lake.filesystem.open_input_file(file) as opened:
        content: bytes = opened.read()
        return content


@pytest.mark.slow
def test_an_exporter_that_is_killed_again_and_again_writes_each_label_once(
    ledger: Ledger, url: str, lake_url: str, kept: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 30, 3000)
    lake = Lake(lake_url)
    ledger.engine.dispose()
    kills = 0
    grew = 0
    most = 0.2
    for round_ in range(12):
        before = len(lake.files("labels"))
        if round_ >= 4 and before:
            break
        done = killed("export_lake", url, lake_url, seed=round_, kills=6, least=0.0, most=most)
        kills += done["killed"]
        if len(lake.files("labels")) == before:  # how long a file takes depends on the machine
            most *= 2
        for dataset in ("posts", "labels"):
            for file in lake.files(dataset):  # type: ignore[arg-type]  # a tuple's item is a str
                kept.setdefault(file, content_of(lake, file))
        grew += before < len(lake.files("labels")) < 1000
    assert kills >= 20
    assert grew >= 1, "none was killed on its way"
    monkeypatch.setattr(lake_module, "LOCK_HOLD", timedelta(seconds=0.4))
    lake.export(ledger)
    labels = rows(lake, "labels")
    assert Counter(row["label_id"] for row in labels) == Counter(f"l-{n}" for n in range(1, 3001))
    assert [row["decision_id"] for row in rows(lake, "posts")] == list(range(1, 31))
    written = [json.loads(row["features"]) for row in labels]
    assert all(features["score_abuse"] == 0.1 for features in written)
