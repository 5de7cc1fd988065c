"""What a query of the online metrics may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from moderation.sections import Metrics
from serve.http.problems import Problem
from serve.metrics.routes import window_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BOUNDS = Metrics(max_window_days=7, max_groups=50)


def ask(begin: str | None = None, end: str | None = None, by: str | None = None) -> dict[str, str | None]:
    return {"from": begin, "to": end, "by": by}


def test_without_a_word_it_is_the_last_day_as_a_whole() -> None:
    window = window_of(ask(), BOUNDS, NOW)
    assert (window.begin, window.end, window.by, window.max_groups) == (NOW - timedelta(hours=24), NOW, (), 50)


def test_times_have_any_offset() -> None:
    window = window_of(ask("2026-11-20T00:00:00+02:00", "2026-11-21T00:00:00Z", "label,region"), BOUNDS, NOW)
    assert window.begin == datetime(2026, 11, 19, 22, tzinfo=UTC)
    assert window.begin.tzinfo is UTC
    assert window.end == datetime(2026, 11, 21, tzinfo=UTC)
    assert window.by == ("label", "region")


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (ask("yesterday"), "from is 'yesterday'; it must be a time with its offset"),
        (ask("2026-11-20T00:00:00"), "it must be a time with its offset"),
        (ask(None, "0001-01-01T00:00:00Z"), "to is '0001-01-01T00:00:00Z'; the earliest is 1970-01-01T00:00:00"),
        (ask("1969-12-31T23:59:59Z", "1970-01-01T12:00:00Z"), "from is '1969-12-31T23:59:59Z'; the earliest is"),
        (ask("2026-11-20T00:00:00 02:00"), r"\+ is written %2B"),
        (ask("0001-01-01T00:00:00+14:00"), "it must be a time"),
        (ask("2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z"), "not before to"),
        (ask("2026-11-12T00:00:00Z", "2026-11-20T00:00:00Z"), "8 days apart, the bound is 7"),
        (ask(by="country"), "'country' is none of region, language, community, label, model_version"),
        (ask(by="region,region"), "'region' is there twice"),
        (ask(by="region,"), "'' is none of"),
    ],
)
def test_what_is_wrong_is_told_with_the_value_and_the_bound(told: dict[str, str | None], problem: str) -> None:
    with pytest.raises(Problem, match=problem) as caught:
        window_of(told, BOUNDS, NOW)
    assert caught.value.status == 422
