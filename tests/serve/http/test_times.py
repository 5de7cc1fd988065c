"""Times that clients tell: one bound on all of them, told with the value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from moderation.posts import LabelIn
from moderation.sections import Gateway
from moderation.storage import labelling
from moderation.storage.ledger import Ledger, now
from serve.http.problems import Problem
from serve.http.times import EARLIEST, asked, check_told, lines_within
from tests.rooms import a_label, a_post, an_entry

BOUNDS = Gateway()


def refused(told: datetime, bounds: Gateway = BOUNDS) -> Problem:
    with pytest.raises(Problem) as caught:
        check_told("/created_at", told, bounds)
    assert caught.value.status == 422
    return caught.value


def test_clocks_may_differ_by_minutes_and_no_more() -> None:
    check_told("/created_at", now() + timedelta(seconds=290), BOUNDS)
    problem = refused(now() + timedelta(seconds=310))
    assert problem.members == {"bound": 300}
    assert problem.errors is not None
    assert problem.errors[0]["pointer"] == "/created_at"
    assert "s ahead of the clock here, the bound is 300" in problem.detail


@pytest.mark.parametrize(
    "told", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00", "1969-12-31T23:59:59+00:00"]
)
def test_what_no_clock_says_is_refused_with_the_value(told: str) -> None:
    assert told in refused(datetime.fromisoformat(told)).detail


def test_the_earliest_is_let_in() -> None:
    check_told("/created_at", EARLIEST, BOUNDS)
    assert refused(EARLIEST - timedelta(microseconds=1)).members == {"bound": EARLIEST.isoformat()}


def test_an_operator_says_how_far_clocks_differ() -> None:
    ahead = now() + timedelta(hours=1)
    check_told("/created_at", ahead, Gateway(max_ahead_s=7200))
    assert refused(now() + timedelta(seconds=5), Gateway(max_ahead_s=0)).members == {"bound": 0}


def test_a_label_from_the_year_9999_is_an_error_of_its_line_and_outranks_nobody(ledger: Ledger) -> None:
    ledger.record([an_entry("p-1", a_post(), scores={"abuse": 0.9})])
    far = a_label("p-1", False, id="far", labelled_at=datetime(9999, 12, 31, tzinfo=UTC))
    early = a_label("p-1", False, id="early", labelled_at=datetime(1, 1, 1, tzinfo=UTC))
    fine = a_label("p-1", True, id="fine", labelled_at=now())
    malformed = Problem(400, "no JSON")
    lines: list[tuple[int, LabelIn | Problem]] = [(1, far), (2, malformed), (3, fine), (5, early)]
    good, errors = lines_within("labelled_at", lines, BOUNDS)
    assert good == {3: fine}
    assert [error.line for error in errors] == [1, 2, 5]
    assert errors[0].detail.startswith("/labelled_at: 9999-12-31T00:00:00+00:00 is ")
    assert errors[0].detail.endswith(", the bound is 300")
    assert labelling.add(ledger, good).accepted == 1
    assert not labelling.has(ledger, "far")


@pytest.mark.parametrize("told", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "2026-11-24", "", "soon"])
def test_a_query_for_what_is_no_time_is_told_so(told: str) -> None:
    with pytest.raises(Problem, match="from is ") as caught:
        asked("from", told)
    assert caught.value.status == 422


def test_a_query_may_ask_for_what_is_yet_to_come() -> None:
    assert asked("to", "9999-12-31T23:59:59Z") == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert asked("to", None) is None
