"""The fuse in the ledger: counts, what blows, what a reset forgets; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy
from moderation.sections import FuseRules
from moderation.settings import DEPLOYMENTS
from moderation.storage import removals
from moderation.storage.ledger import Ledger, now
from serve.fuse import fuses
from tests.moderation.storage.rows import an_entry, record

POLICY = Policy.load(DEPLOYMENTS / "policies" / "default.yaml")
RULES = FuseRules(min_posts=100, min_baseline_posts=1000)
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def url(either_url: str) -> str:
    return either_url


def count(ledger: Ledger, minutes: float, removed: int, posts: int, region: str = "US", writer: str = "one") -> None:
    """Counts of a time, in minutes after noon."""
    with ledger.write() as connection:
        decided = {("", region): posts, ("abuse", region): removed}
        removals.count(connection, writer, NOON + timedelta(minutes=minutes), decided)


def check(ledger: Ledger, minutes: float) -> set[tuple[str, str]]:
    return fuses.check(ledger, POLICY, RULES, NOON + timedelta(minutes=minutes))


def usual(ledger: Ledger) -> None:
    """Six hours at one in a hundred."""
    for minutes in range(-360, -10, 10):
        count(ledger, minutes, 10, 1000)


def test_twice_the_rate_blows_the_fuse_of_that_label_and_region_alone(ledger: Ledger) -> None:
    usual(ledger)
    count(ledger, -5, 100, 5000)
    count(ledger, -5, 50, 5000, region="DE")
    assert check(ledger, 0) == {("abuse", "US")}
    (fuse,) = fuses.all_fuses(ledger)
    assert (fuse.label, fuse.region, fuse.reset_at) == ("abuse", "US", None)
    assert fuse.evidence["removals"] == 100
    assert fuse.evidence["expected_rate"] == 0.01


def test_the_usual_rate_does_not(ledger: Ledger) -> None:
    usual(ledger)
    count(ledger, -5, 50, 5000)
    assert check(ledger, 0) == set()


def test_it_stays_blown_and_is_recorded_once(ledger: Ledger) -> None:
    usual(ledger)
    count(ledger, -5, 100, 5000)
    with ThreadPoolExecutor(4) as pool:
        assert set.union(*pool.map(lambda _: check(ledger, 0), range(8))) == {("abuse", "US")}
    assert check(ledger, 500) == fuses.blown(ledger) == {("abuse", "US")}
    assert len(fuses.all_fuses(ledger)) == 1


def test_a_person_resets_it_and_what_was_seen_is_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    usual(ledger)
    count(ledger, -5, 100, 5000)
    check(ledger, 0)
    (fuse,) = fuses.all_fuses(ledger, blown_only=True)
    monkeypatch.setattr(fuses, "now", lambda: NOON + timedelta(minutes=1))
    done = fuses.reset(ledger, fuse.fuse_id, "alice")
    assert done.reset_by == "alice"
    assert fuses.blown(ledger) == check(ledger, 2) == set()
    with pytest.raises(ConflictError, match="was reset by 'alice'"):
        fuses.reset(ledger, fuse.fuse_id, "bob")


def test_after_a_reset_it_can_blow_again_against_the_traffic_before(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(ledger)
    count(ledger, -5, 100, 5000)
    check(ledger, 0)
    monkeypatch.setattr(fuses, "now", lambda: NOON + timedelta(minutes=1))
    fuses.reset(ledger, 1, "alice")
    count(ledger, 15, 100, 5000)
    assert check(ledger, 20) == {("abuse", "US")}
    assert fuses.all_fuses(ledger)[0].evidence["expected_rate"] == pytest.approx(0.01, rel=0.05)


def test_an_unknown_fuse(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="fuse 3"):
        fuses.reset(ledger, 3, "alice")


def test_writers_add_to_rows_of_their_own(ledger: Ledger) -> None:
    usual(ledger)
    for writer in ("one", "two"):
        for _ in range(2):
            count(ledger, -5, 25, 1250, writer=writer)
    check(ledger, 0)
    assert fuses.all_fuses(ledger)[0].evidence["posts"] == 5000


def test_recorded_decisions_are_counted_also_those_that_were_kept_back(ledger: Ledger) -> None:
    for number in range(400):
        entry = an_entry(f"p-{number}", text=str(number))
        record(ledger, replace(entry, removed_for=("abuse",) if number % 2 else (), actor="fuse"))
    assert fuses.check(ledger, POLICY, RULES, now()) == {("abuse", "US")}
    assert fuses.all_fuses(ledger)[0].evidence["expected_by"] == "policy"


def test_a_repeated_post_is_counted_once(ledger: Ledger) -> None:
    entry = replace(an_entry(), removed_for=("abuse",))
    for _ in range(300):
        record(ledger, entry)
    assert fuses.check(ledger, POLICY, RULES, now()) == set()


def test_old_counts_can_be_forgotten(ledger: Ledger) -> None:
    usual(ledger)
    fuses.forget(ledger, NOON)
    count(ledger, -5, 100, 5000)
    assert check(ledger, 0) == set()  # 2 % is what the policy expects at most
