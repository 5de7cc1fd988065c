"""The logged features of a window, from a real ledger by way of a real lake."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from drift.novelty import COLUMN
from drift.window import Traffic, columns_of, last_full, logged_features
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


def traffic(lake: Lake, begin: int, end: int, *, champion: int = 1, variant: str = VARIANT) -> Traffic:
    """Of some minutes."""
    start, stop = DAY + timedelta(minutes=begin), DAY + timedelta(minutes=end)
    posts = lake.posts_between(start, stop, variant=variant)
    return Traffic(variant=variant, champion=champion, begin=start, end=stop, posts=posts, lake=lake)


def ids(posts: pa.Table) -> list[str]:
    found: list[str] = posts["post_id"].to_pylist()
    return found


def test_a_window_holds_its_begin_and_not_its_end(lake: Lake) -> None:
    assert ids(traffic(lake, 1, 4).posts) == ["p-1", "p-2", "p-3"]
    assert ids(traffic(lake, 4, 4).posts) == []
    assert ids(traffic(lake, 6, 9).posts) == []


@pytest.mark.parametrize(("version", "expected"), [(1, ["p-0", "p-1", "p-4", "p-5"]), (2, ["p-2"]), (3, [])])
def test_only_what_a_version_judged_itself_is_compared(lake: Lake, version: int, expected: list[str]) -> None:
    assert ids(traffic(lake, 0, 6, champion=version).of_champion()) == expected


def test_what_another_variant_judged_is_left_out(lake: Lake) -> None:
    assert ids(traffic(lake, 0, 6, variant="text-other").posts) == []


def test_an_empty_lake_holds_an_empty_window(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "nothing")
    window = traffic(lake, 0, 6)
    assert ids(window.posts) == []
    assert ids(window.of_champion()) == []
    assert logged_features(window.posts).empty


def test_features_are_those_that_were_logged_row_by_row(lake: Lake) -> None:
    frame = logged_features(traffic(lake, 0, 6).of_champion())
    assert frame["score_abuse"].tolist() == [0.0, 0.1, 0.4, 0.5]
    assert frame["unseen_word_share"].tolist() == [0.5] * 4
    assert frame["characters"].tolist() == [6.0] * 4
    assert frame["language"].tolist() == ["en"] * 4


def test_a_score_that_was_not_given_is_null_not_zero(lake: Lake) -> None:
    frame = logged_features(traffic(lake, 0, 6).posts)
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
