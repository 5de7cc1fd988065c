"""The logged features of a window, from a real ledger by way of a real lake."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from drift.novelty import COLUMN
from drift.window import columns_of, last_full, logged_features, logged_posts
from moderation.storage.lake import Lake
from tests.fresh import fresh_ledger
from tests.rooms import DAY, VARIANT, a_post, an_entry


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Posts of minute 0, 1, ... 5; the third judged by version 2, the fourth by no version."""
    ledger = fresh_ledger(tmp_path / "ledger.db")
    versions = [1, 1, 2, None, 1, 1]
    ledger.record(
        [
            an_entry(
                f"p-{minute}",
                a_post(f"text {minute}", minute=minute),
                scores={} if version is None else {"abuse": minute / 10},
                unseen=0.5,
                version=version,
            )
            for minute, version in enumerate(versions)
        ]
    )
    lake = Lake(tmp_path / "lake")
    lake.export(ledger)
    ledger.close()
    return lake


def ids(lake: Lake, begin: int, end: int, *, version: int | None = None, variant: str = VARIANT) -> list[str]:
    minute = timedelta(minutes=1)
    table = logged_posts(lake, variant, DAY + begin * minute, DAY + end * minute, version=version)
    found: list[str] = table["post_id"].to_pylist()
    return found


def test_a_window_holds_its_begin_and_not_its_end(lake: Lake) -> None:
    assert ids(lake, 1, 4) == ["p-1", "p-2", "p-3"]
    assert ids(lake, 4, 4) == []
    assert ids(lake, 6, 9) == []


@pytest.mark.parametrize(("version", "expected"), [(1, ["p-0", "p-1", "p-4", "p-5"]), (2, ["p-2"]), (3, [])])
def test_only_what_a_version_judged_itself_is_compared(lake: Lake, version: int, expected: list[str]) -> None:
    assert ids(lake, 0, 6, version=version) == expected


def test_what_another_variant_judged_is_left_out(lake: Lake) -> None:
    assert ids(lake, 0, 6, variant="text-other") == []


def test_an_empty_lake_holds_an_empty_window(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "nothing")
    assert ids(lake, 0, 6) == []
    assert ids(lake, 0, 6, version=1) == []
    assert logged_features(logged_posts(lake, VARIANT, DAY, DAY + timedelta(days=1))).empty


def test_features_are_those_that_were_logged_row_by_row(lake: Lake) -> None:
    frame = logged_features(logged_posts(lake, VARIANT, DAY, DAY + timedelta(days=1), version=1))
    assert frame["score_abuse"].tolist() == [0.0, 0.1, 0.4, 0.5]
    assert frame["unseen_word_share"].tolist() == [0.5] * 4
    assert frame["characters"].tolist() == [6.0] * 4
    assert frame["language"].tolist() == ["en"] * 4


def test_a_score_that_was_not_given_is_null_not_zero(lake: Lake) -> None:
    frame = logged_features(logged_posts(lake, VARIANT, DAY, DAY + timedelta(days=1)))
    assert frame["score_abuse"].isna().tolist() == [False, False, False, True, False, False]


def test_the_fixed_features_the_scores_and_the_new_words_are_compared_and_nothing_else() -> None:
    names = ["text", "author_id", "language", "score_hate", "words", COLUMN, "score_abuse", "characters", "other"]
    frame = pd.DataFrame({name: [1] for name in names})
    assert columns_of(frame) == (["characters", "words", "score_abuse", "score_hate", COLUMN], ["language"])
    assert columns_of(pd.DataFrame({"other": [1]})) == ([], [])


@pytest.mark.parametrize(
    ("at", "hours", "end"),
    [
        (timedelta(0), 24, timedelta(0)),
        (timedelta(microseconds=1), 24, timedelta(0)),
        (timedelta(hours=24, microseconds=-1), 24, timedelta(0)),
        (timedelta(hours=24), 24, timedelta(hours=24)),
        (timedelta(hours=5, minutes=59), 6, timedelta(0)),
        (timedelta(hours=7), 6, timedelta(hours=6)),
        (timedelta(minutes=44), 0.25, timedelta(minutes=30)),
    ],
)
def test_the_last_full_window_ends_on_the_grid(at: timedelta, hours: float, end: timedelta) -> None:
    length = timedelta(hours=hours)
    assert last_full(DAY + at, length) == DAY + end
    elsewhere = (DAY + at).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert last_full(elsewhere, length).isoformat() == (DAY + end).isoformat()


def test_windows_of_checks_that_come_early_or_late_join_and_never_overlap() -> None:
    length = timedelta(hours=24)
    checks: list[datetime] = [DAY + timedelta(days=day, hours=6, seconds=(-1) ** day * 40) for day in range(4)]
    ends = [last_full(at, length) for at in checks]
    assert [after - before for before, after in pairwise(ends)] == [length] * 3
