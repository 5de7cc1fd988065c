"""The lake: Parquet, derived from the ledger."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from moderation.storage import lake as lake_module
from moderation.storage.lake import SCHEMAS, Dataset, Exported, Lake
from moderation.storage.ledger import Ledger
from tests.moderation.storage.rows import a_label, an_entry, at, record, say

DATASETS: tuple[Dataset, ...] = ("posts", "labels")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home" / "lake")


def rows(lake: Lake, dataset: Dataset) -> list[dict[str, Any]]:
    return [row for file in lake.files(dataset) for row in pq.read_table(file).to_pylist()]


def names(lake: Lake, dataset: Dataset) -> list[str]:
    return [Path(file).name for file in lake.files(dataset)]


def fill(ledger: Ledger, first: int, last: int) -> None:
    ledger.record([an_entry(f"p-{number}", f"text {number}", minutes=number) for number in range(first, last + 1)])


def test_an_empty_ledger_makes_no_files(ledger: Ledger, lake: Lake) -> None:
    assert lake.export(ledger) == Exported(posts=0, labels=0)
    assert lake.files("posts") == lake.files("labels") == []
    assert lake.posts_between(at(0), at(1), variant="text-multi").num_rows == 0


def test_a_decision_becomes_a_row_with_what_the_model_saw(ledger: Ledger, lake: Lake) -> None:
    record(ledger, an_entry(text="Ж 🍅", author="u-7", region="DE", model_version=3, experiment="e", arm="challenger"))
    assert lake.export(ledger) == Exported(posts=1, labels=0)
    (row,) = rows(lake, "posts")
    features = json.loads(row.pop("features"))
    assert features == {"characters": 3.0, "language": "en", "score_abuse": 0.1}
    assert row == {
        "decision_id": 1,
        "post_id": "p-1",
        "content_version": 1,
        "author_id": "u-7",
        "community": "gardening",
        "region": "DE",
        "created_at": at(0),
        "text": "Ж 🍅",
        "variant": "text-multi",
        "model_version": 3,
        "arm": "challenger",
        "media": [],
        "media_kinds": [],
    }


def test_a_label_is_joined_with_the_features_of_the_content_that_it_was_said_of(ledger: Ledger, lake: Lake) -> None:
    record(ledger, an_entry(text="first"))
    record(ledger, an_entry(text="the second", minutes=1, model_version=2))
    say(
        ledger,
        a_label("l-1", content_version=1, labels={"abuse": True, "hate": False}, sampling_probability=0.5),
        a_label("l-2", source="report"),
    )
    assert lake.export(ledger) == Exported(posts=2, labels=2)
    first, second = rows(lake, "labels")
    assert (first["label_seq"], first["label_id"], first["source"]) == (1, "l-1", "review")
    assert json.loads(first["labels"]) == {"abuse": True, "hate": False}
    assert (first["labelled_at"], first["sampling_probability"]) == (at(60), 0.5)
    assert (first["content_version"], first["text"], first["model_version"]) == (1, "first", 1)
    assert json.loads(first["features"])["characters"] == 5.0
    assert (second["content_version"], second["text"], second["model_version"]) == (2, "the second", 2)
    assert json.loads(second["features"])["characters"] == 10.0
    assert (second["source"], second["sampling_probability"]) == ("report", None)


def test_files_have_the_promised_schema(ledger: Ledger, lake: Lake) -> None:
    record(ledger, an_entry(variant=None, model_version=None))
    say(ledger, a_label())
    lake.export(ledger)
    for dataset in DATASETS:
        (file,) = lake.files(dataset)
        assert pq.read_schema(file).equals(SCHEMAS[dataset])
    assert rows(lake, "posts")[0]["variant"] is None


def test_an_export_writes_only_what_is_new(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 3)
    assert lake.export(ledger).posts == 3
    before = {file: Path(file).read_bytes() for file in lake.files("posts")}
    assert lake.export(ledger) == Exported(0, 0)
    fill(ledger, 4, 5)
    say(ledger, a_label())
    assert lake.export(ledger) == Exported(2, 1)
    assert names(lake, "posts") == [
        "part-000000000001-000000000003.parquet",
        "part-000000000004-000000000005.parquet",
    ]
    assert names(lake, "labels") == ["part-000000000001-000000000001.parquet"]
    assert {file: Path(file).read_bytes() for file in before} == before
    assert [row["decision_id"] for row in rows(lake, "posts")] == [1, 2, 3, 4, 5]


def test_a_large_export_is_cut_into_files(ledger: Ledger, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_module, "ROWS_A_FILE", 3)
    fill(ledger, 1, 7)
    assert lake.export(ledger).posts == 7
    assert names(lake, "posts") == [
        "part-000000000001-000000000003.parquet",
        "part-000000000004-000000000006.parquet",
        "part-000000000007-000000000007.parquet",
    ]
    assert [row["post_id"] for row in rows(lake, "posts")] == [f"p-{number}" for number in range(1, 8)]


def test_what_a_killed_export_left_is_neither_read_nor_in_the_way(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 2)
    lake.export(ledger)
    folder = lake.root / "posts"
    (folder / "part-000000000003-000000000004.tmp").write_bytes(b"PAR1 and then the power failed")
    (folder / "part-000000000003-000000000004.parquet.tmp").write_bytes(b"")
    (folder / "notes.parquet").write_bytes(b"")
    (folder / "part-old.parquet").write_bytes(b"")
    assert names(lake, "posts") == ["part-000000000001-000000000002.parquet"]
    fill(ledger, 3, 4)
    assert lake.export(ledger).posts == 2
    assert [row["decision_id"] for row in rows(lake, "posts")] == [1, 2, 3, 4]
    assert not (folder / "part-000000000003-000000000004.tmp").exists()


def test_an_export_that_dies_on_its_way_goes_on_where_it_was(
    ledger: Ledger, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "ROWS_A_FILE", 2)
    fill(ledger, 1, 5)
    say(ledger, a_label())
    in_the_way = lake.root / "posts" / "part-000000000003-000000000004.tmp"
    in_the_way.mkdir(parents=True)  # so that the second of three files cannot be written
    with pytest.raises(OSError, match="part-000000000003"):
        lake.export(ledger)
    assert names(lake, "posts") == ["part-000000000001-000000000002.parquet"]
    assert names(lake, "labels") == []
    in_the_way.rmdir()
    assert lake.export(ledger) == Exported(posts=3, labels=1)
    assert [row["decision_id"] for row in rows(lake, "posts")] == [1, 2, 3, 4, 5]


def test_a_deleted_lake_is_written_anew_from_the_ledger(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 3)
    say(ledger, a_label())
    lake.export(ledger)
    fill(ledger, 4, 4)
    lake.export(ledger)
    before = [rows(lake, dataset) for dataset in DATASETS]
    shutil.rmtree(lake.root)
    assert lake.export(ledger) == Exported(posts=4, labels=1)
    assert [rows(lake, dataset) for dataset in DATASETS] == before


def test_exports_at_the_same_time_write_each_row_once(ledger: Ledger, neighbour: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 50)
    with ThreadPoolExecutor(4) as pool:
        exported = list(pool.map(lambda index: lake.export((ledger, neighbour)[index % 2]), range(4)))
    assert sum(each.posts for each in exported) == 50
    assert [row["decision_id"] for row in rows(lake, "posts")] == list(range(1, 51))


def test_posts_of_a_window_include_its_begin_and_exclude_its_end(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 6)
    record(ledger, an_entry("p-other", minutes=3, variant="other"))
    record(ledger, an_entry("p-none", minutes=3, variant=None, model_version=None))
    lake.export(ledger)

    def between(begin: float, end: float, variant: str = "text-multi") -> list[str]:
        table = lake.posts_between(at(begin), at(end), variant=variant)
        assert table.schema.equals(SCHEMAS["posts"])
        ids: list[str] = table["post_id"].to_pylist()
        return ids

    assert between(2, 5) == ["p-2", "p-3", "p-4"]
    assert between(2, 5, "other") == ["p-other"]
    assert between(5, 5) == []
    assert between(100, 200) == []


def test_a_window_may_be_given_in_any_time_zone(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 6)
    lake.export(ledger)
    zone = timezone(timedelta(hours=5, minutes=30))
    table = lake.posts_between(at(2).astimezone(zone), at(5).astimezone(zone), variant="text-multi")
    assert table["post_id"].to_pylist() == ["p-2", "p-3", "p-4"]


def test_what_was_not_exported_yet_is_not_in_the_window(ledger: Ledger, lake: Lake) -> None:
    fill(ledger, 1, 1)
    lake.export(ledger)
    fill(ledger, 2, 2)
    assert lake.posts_between(at(0), at(9), variant="text-multi")["post_id"].to_pylist() == ["p-1"]
