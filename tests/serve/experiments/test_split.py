"""Who is in which arm."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from moderation.storage.experiments import BUCKETS, Experiment
from serve.experiments.split import Split, arm_of, bucket_of, split_of

UNITS = [f"author-{number}" for number in range(20_000)]


def a_split(buckets: int, salt: str = "try-2:0123") -> Split:
    return Split(experiment="try-2", salt=salt, buckets=buckets)


@pytest.mark.parametrize(
    ("salt", "unit", "bucket"),
    [("salt", "u-1", 7793), ("salt", "u-2", 8155), ("try-2:00", "u-1", 7522), ("", "", 1657)],
)
def test_a_bucket_never_changes_or_running_experiments_would_be_shuffled(salt: str, unit: str, bucket: int) -> None:
    assert bucket_of(salt, unit) == bucket


def test_buckets_are_even() -> None:
    """Chi-square over 100 groups of buckets; 99 degrees of freedom exceed 148.2 once in a thousand."""
    counts = Counter(bucket_of("salt", unit) // 100 for unit in UNITS)
    expected = len(UNITS) / 100
    assert set(counts) == set(range(100))
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 148.2
    assert {bucket_of("salt", unit) < BUCKETS for unit in UNITS} == {True}


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_the_challenger_gets_its_share(share: float) -> None:
    split = a_split(round(share * BUCKETS))
    found = sum(arm_of(split, unit) == "challenger" for unit in UNITS) / len(UNITS)
    assert abs(found - share) < 4 * (share * (1 - share) / len(UNITS)) ** 0.5


def test_a_ramp_only_ever_adds_units() -> None:
    before: set[str] = set()
    for buckets in (0, 1, 100, 2500, 9999, 10_000):
        split = a_split(buckets)
        inside = {unit for unit in UNITS if arm_of(split, unit) == "challenger"}
        assert before <= inside
        before = inside
    assert before == set(UNITS)


@pytest.mark.parametrize(("buckets", "arm"), [(0, "champion"), (BUCKETS, "challenger")])
def test_a_share_of_nothing_or_all_is_just_that(buckets: int, arm: str) -> None:
    assert {arm_of(a_split(buckets), unit) for unit in UNITS[:1000]} == {arm}


def test_the_bound_is_excluded() -> None:
    bucket = bucket_of("salt", "u-1")
    assert arm_of(a_split(bucket, "salt"), "u-1") == "champion"
    assert arm_of(a_split(bucket + 1, "salt"), "u-1") == "challenger"


def test_experiments_with_other_salts_split_independently() -> None:
    both = Counter((arm_of(a_split(5000, "a"), unit), arm_of(a_split(5000, "b"), unit)) for unit in UNITS)
    expected = len(UNITS) / 4
    assert len(both) == 4
    # Chi-square, three degrees of freedom: 16.27 is exceeded once in a thousand.
    assert sum((count - expected) ** 2 / expected for count in both.values()) < 16.27


def test_the_gateway_is_told_the_name_the_salt_and_the_buckets() -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    experiment = Experiment("try-2", "text-multi", 1, 2, "try-2:0123", 2500, "running", at, None)
    assert split_of(experiment) == {"experiment": "try-2", "salt": "try-2:0123", "buckets": 2500}
    assert experiment.share == 0.25
