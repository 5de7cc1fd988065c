"""What passes from drift detection to training."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from moderation.errors import ConflictError
from moderation.storage import drift, retraining
from moderation.storage.drift import Reference, Window
from moderation.storage.ledger import Ledger
from moderation.storage.retraining import RequestEnd, RetrainRequest
from moderation.storage.tables import retrain_requests
from tests.moderation.storage.rows import at
from tests.moderation.waiting import wait_until
from tests.processes import a_process

VARIANT = "text-multi"
RETRAINING = """
import sys, time
from datetime import timedelta
from moderation.storage import retraining
from moderation.storage.ledger import Ledger

ledger = Ledger(sys.argv[1])
request = retraining.begin_request(ledger, "text-multi", reason="by hand")
with retraining.heartbeat(ledger, request.request_id, every=timedelta(seconds=0.05)):
    print(request.request_id, flush=True)
    time.sleep(600)
"""


def a_window(hour: int, *, drifted: bool = False, rows: int = 300) -> Window:
    columns = {"words": {"method": "wasserstein", "score": 0.31, "threshold": 0.2, "drifted": drifted}}
    return Window(at(60 * hour), at(60 * (hour + 1)), rows, drifted, columns)


def alert(ledger: Ledger, version: int = 1, variant: str = VARIANT, **evidence: Any) -> tuple[int | None, int | None]:
    return drift.raise_alert(ledger, variant, version, window_to=at(60), evidence=evidence, reason="words drifted")


def active(ledger: Ledger, variant: str = VARIANT) -> RetrainRequest:
    request = retraining.active_request(ledger, variant)
    assert request is not None
    return request


def test_a_reference_is_kept_for_each_version_and_can_be_set_anew(ledger: Ledger) -> None:
    assert drift.get_reference(ledger, VARIANT, 1) is None
    first, second = Reference(at(0), at(60), 300), Reference(at(60), at(120), 400)
    drift.put_reference(ledger, VARIANT, 1, first)
    drift.put_reference(ledger, VARIANT, 2, second)
    assert drift.get_reference(ledger, VARIANT, 1) == first
    assert drift.get_reference(ledger, VARIANT, 2) == second
    assert drift.get_reference(ledger, "other", 1) is None
    drift.put_reference(ledger, VARIANT, 1, second)
    assert drift.get_reference(ledger, VARIANT, 1) == second


def test_the_last_windows_come_newest_first_and_none_from_the_future(ledger: Ledger) -> None:
    windows = [a_window(hour, drifted=hour % 2 == 1) for hour in range(5)]
    for place in (3, 0, 4, 1, 2):
        drift.put_window(ledger, VARIANT, 1, windows[place])
    drift.put_window(ledger, VARIANT, 2, a_window(3))
    drift.put_window(ledger, "other", 1, a_window(3))

    def last(hour: int, count: int) -> list[Window]:
        return drift.last_windows(ledger, VARIANT, 1, until=at(60 * hour), count=count)

    assert last(5, 3) == [windows[4], windows[3], windows[2]]
    assert last(4, 3) == [windows[3], windows[2], windows[1]]
    assert last(1, 3) == [windows[0]]
    assert last(0, 3) == []


def test_a_window_that_is_checked_again_is_replaced(ledger: Ledger) -> None:
    drift.put_window(ledger, VARIANT, 1, a_window(0, rows=200))
    drift.put_window(ledger, VARIANT, 1, a_window(0, drifted=True, rows=250))
    assert drift.last_windows(ledger, VARIANT, 1, until=at(60), count=9) == [a_window(0, drifted=True, rows=250)]


def test_of_windows_that_overlap_the_last_counts(ledger: Ledger) -> None:
    def window(begin: float, end: float) -> Window:
        return Window(at(begin), at(end), 300, True, {})

    days = [window(0, 60), window(60, 120), window(120, 180)]
    others = [window(30, 90), window(70, 119), window(100, 160), window(179, 239)]
    for each in (*days, *others):
        drift.put_window(ledger, VARIANT, 1, each)

    def last(minute: float, count: int = 9) -> list[Window]:
        return drift.last_windows(ledger, VARIANT, 1, until=at(minute), count=count)

    assert last(180) == [days[2], days[1], days[0]]
    assert last(239) == [others[3], others[2], others[0]]
    assert last(239, 2) == [others[3], others[2]]
    assert last(119) == [others[1], days[0]]


def test_windows_checked_against_an_earlier_reference_no_longer_count(ledger: Ledger) -> None:
    drift.put_reference(ledger, VARIANT, 1, Reference(at(-60), at(0), 300))
    drift.put_window(ledger, VARIANT, 1, a_window(0, drifted=True))
    drift.put_window(ledger, VARIANT, 2, a_window(0, drifted=True))
    drift.put_reference(ledger, VARIANT, 1, Reference(at(0), at(60), 300))
    assert drift.last_windows(ledger, VARIANT, 1, until=at(240), count=9) == []
    assert drift.last_windows(ledger, VARIANT, 2, until=at(240), count=9) == [a_window(0, drifted=True)]
    drift.put_window(ledger, VARIANT, 1, a_window(1))
    assert drift.last_windows(ledger, VARIANT, 1, until=at(240), count=9) == [a_window(1)]


def test_an_alert_asks_for_a_retraining_with_its_evidence(ledger: Ledger) -> None:
    alert_id, request_id = alert(ledger, new_words=["grubnik"])
    assert (alert_id, request_id) == (1, 1)
    assert active(ledger) == RetrainRequest(1, VARIANT, 1, "words drifted", "open", None, {"new_words": ["grubnik"]})
    assert drift.count_alerts(ledger, VARIANT) == 1
    assert drift.count_alerts(ledger, "other") == 0


def test_an_alert_that_is_being_answered_is_not_raised_again(ledger: Ledger) -> None:
    alert(ledger)
    assert alert(ledger) == (None, None)
    retraining.begin_request(ledger, VARIANT, reason="-")
    assert alert(ledger) == (None, None)
    assert drift.count_alerts(ledger, VARIANT) == 1


@pytest.mark.parametrize(("outcome", "again"), [("done", False), ("refused", True), ("failed", True)])
def test_only_a_retraining_that_was_done_answers_an_alert_for_good(
    ledger: Ledger, outcome: RequestEnd, again: bool
) -> None:
    alert(ledger)
    request = retraining.begin_request(ledger, VARIANT, reason="-")
    retraining.end_request(ledger, request.request_id, outcome, {})
    assert alert(ledger) == ((2, 2) if again else (None, None))
    assert drift.count_alerts(ledger, VARIANT) == (2 if again else 1)


def test_the_next_champion_may_drift_anew(ledger: Ledger) -> None:
    alert(ledger, version=1)
    request = retraining.begin_request(ledger, VARIANT, reason="-")
    retraining.end_request(ledger, request.request_id, "done", {})
    assert alert(ledger, version=2) == (2, 2)


def test_an_alert_beside_a_request_for_another_reason_opens_no_second_one(ledger: Ledger) -> None:
    manual = retraining.begin_request(ledger, VARIANT, reason="asked for by hand")
    assert alert(ledger) == (1, None)
    assert active(ledger) == manual
    assert manual.alert_id is None
    assert manual.evidence == {}


def test_variants_are_alerted_apart(ledger: Ledger) -> None:
    assert alert(ledger) == (1, 1)
    assert alert(ledger, variant="other") == (2, 2)
    assert active(ledger, "other").alert_id == 2


def test_one_alert_is_raised_by_many_checks_at_once(ledger: Ledger, neighbour: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        raised = list(pool.map(lambda index: alert((ledger, neighbour)[index % 2]), range(8)))
    assert sorted(raised, key=str) == [(1, 1)] + [(None, None)] * 7


def test_an_open_request_is_what_a_retraining_begins_with(ledger: Ledger) -> None:
    _, request_id = alert(ledger, new_words=["grubnik"])
    request = retraining.begin_request(ledger, VARIANT, reason="by hand")
    assert (request.request_id, request.status, request.reason) == (request_id, "running", "words drifted")
    assert request.evidence == {"new_words": ["grubnik"]}
    assert active(ledger) == request


def test_a_variant_has_one_retraining_at_a_time(ledger: Ledger) -> None:
    first = retraining.begin_request(ledger, VARIANT, reason="by hand")
    assert (first.status, first.reason) == ("running", "by hand")
    with pytest.raises(ConflictError, match="a retraining of 'text-multi' is running; see `seawall status`"):
        retraining.begin_request(ledger, VARIANT, reason="again")
    assert retraining.begin_request(ledger, "other", reason="by hand").variant == "other"
    retraining.end_request(ledger, first.request_id, "failed", {"error": "no memory"})
    assert retraining.active_request(ledger, VARIANT) is None
    second = retraining.begin_request(ledger, VARIANT, reason="again")
    assert second.request_id != first.request_id


def test_of_many_retrainings_that_begin_at_once_one_does(ledger: Ledger, neighbour: Ledger) -> None:
    alert(ledger)

    def attempt(index: int) -> int | None:
        try:
            return retraining.begin_request((ledger, neighbour)[index % 2], VARIANT, reason="-").request_id
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        begun = [request for request in pool.map(attempt, range(8)) if request is not None]
    assert begun == [1]


def test_without_a_request_none_is_active(ledger: Ledger) -> None:
    assert retraining.active_request(ledger, VARIANT) is None


@contextmanager
def a_retraining(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that retrains, blocked in what takes long, as in Ray Train's fit."""
    with a_process([sys.executable, "-c", RETRAINING, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        yield process


def row(ledger: Ledger, request_id: int) -> tuple[str, dict[str, Any] | None, datetime]:
    columns = retrain_requests.c
    query = select(columns.status, columns.outcome, columns.updated_at).where(columns.request_id == request_id)
    with ledger.read() as connection:
        found = connection.execute(query).one()
    return found[0], found[1], found[2]


def let_pass(ledger: Ledger, passed: timedelta) -> None:
    """Let the first request have been heard of so much earlier."""
    columns = retrain_requests.c
    with ledger.write() as connection:
        heard = connection.execute(select(columns.updated_at).where(columns.request_id == 1)).scalar_one()
        connection.execute(update(retrain_requests).where(columns.request_id == 1).values(updated_at=heard - passed))


def test_a_retraining_that_was_killed_has_failed_and_the_next_one_goes_on_with_its_alert(
    ledger: Ledger, url: str
) -> None:
    alert(ledger, new_words=["grubnik"])
    with a_retraining(url) as process:
        for _ in range(2):
            heard = row(ledger, 1)[2]
            let_pass(ledger, timedelta(minutes=10))
            wait_until(lambda heard=heard: row(ledger, 1)[2] > heard)  # type: ignore[misc]  # mypy infers no lambda with a default
        # It lives, and is not taken for dead however long it takes.
        with pytest.raises(
            ConflictError, match=r"a retraining of 'text-multi' is running.* last heard of at .* 300 s later"
        ):
            retraining.begin_request(ledger, VARIANT, reason="again", dead_after=timedelta(minutes=5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        heard = row(ledger, 1)[2]
        with pytest.raises(ConflictError, match=f"last heard of at {heard.isoformat()[:19]}"):
            retraining.begin_request(ledger, VARIANT, reason="again", dead_after=timedelta(minutes=5))
    let_pass(ledger, timedelta(minutes=5))
    heard = row(ledger, 1)[2]
    request = retraining.begin_request(ledger, VARIANT, reason="again", dead_after=timedelta(minutes=5))
    assert row(ledger, 1)[:2] == (
        "failed",
        {"error": f"not heard of since {heard.isoformat()}: it was killed, or its machine is gone"},
    )
    assert request == RetrainRequest(2, VARIANT, 1, "words drifted", "running", None, {"new_words": ["grubnik"]})
    assert active(ledger) == request
    retraining.end_request(ledger, 2, "done", {})
    assert alert(ledger) == (None, None)  # answered


def test_a_retraining_that_was_stopped_for_too_long_learns_of_it_and_changes_nothing(ledger: Ledger) -> None:
    first = retraining.begin_request(ledger, VARIANT, reason="by hand")
    retraining.beat(ledger, first.request_id)
    time.sleep(0.05)
    second = retraining.begin_request(ledger, VARIANT, reason="again", dead_after=timedelta(milliseconds=20))
    assert (second.reason, second.alert_id) == ("by hand", None)
    with pytest.raises(ConflictError, match="retrain request 1 is running no more: it was taken for dead, or ended"):
        retraining.beat(ledger, first.request_id)
    with retraining.heartbeat(ledger, first.request_id, every=timedelta(milliseconds=5)):
        time.sleep(0.05)
    retraining.end_request(ledger, first.request_id, "done", {"version": 2})
    status, outcome, _ = row(ledger, first.request_id)
    assert status == "failed"
    assert outcome is not None
    assert outcome["error"].startswith("not heard of since ")
    assert active(ledger) == second


def test_an_alert_finds_a_killed_retraining_failed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    alert(ledger)
    retraining.begin_request(ledger, VARIANT, reason="-")
    assert alert(ledger) == (None, None)
    monkeypatch.setattr(drift, "DEAD_AFTER", timedelta(milliseconds=10))
    time.sleep(0.05)
    assert alert(ledger) == (2, 2)
    assert row(ledger, 1)[0] == "failed"
    assert active(ledger).status == "open"


def test_a_heartbeat_ends_with_what_it_is_of(ledger: Ledger) -> None:
    request = retraining.begin_request(ledger, VARIANT, reason="by hand")
    begun = row(ledger, request.request_id)[2]
    with retraining.heartbeat(ledger, request.request_id, every=timedelta(milliseconds=10)):
        wait_until(lambda: row(ledger, request.request_id)[2] > begun)
    last = row(ledger, request.request_id)[2]
    time.sleep(0.05)
    assert row(ledger, request.request_id)[2] == last
