"""Which removals have a statement of reasons, on which day, and what retracts it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from moderation.storage.ledger import Ledger
from serve.statements import rows as statement_rows
from serve.statements.statement import Removal, Retraction
from tests.moderation.storage.acts import act, report
from tests.moderation.storage.media import with_media
from tests.moderation.storage.rows import an_entry, record

DAY = date(2026, 11, 24)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
A_DAY = timedelta(days=1)


def post(ledger: Ledger, post_id: str = "p-1", text: str = "one", *, minutes: float = 0) -> None:
    record(ledger, an_entry(post_id, text, minutes=minutes))


def removals(ledger: Ledger, day: date = DAY) -> list[int]:
    return [removal.action_id for removal in statement_rows.removals(ledger, day)]


def retractions(ledger: Ledger, day: date = DAY) -> list[tuple[int, str]]:
    return [(undone.action_id, undone.restored_by) for undone in statement_rows.retractions(ledger, day)]


def test_a_removal_is_told_with_what_the_ledger_knows(ledger: Ledger) -> None:
    post(ledger)
    act(ledger, labels=("hate", "abuse"), when=NOON)
    (found,) = statement_rows.removals(ledger, DAY)
    assert found == Removal(
        action_id=1,
        actor="model",
        labels=("hate", "abuse"),
        acted_at=NOON,
        created_at=datetime(2020, 1, 1, tzinfo=UTC),
        region="US",
        language="en",
        detected=False,
        reported=False,
    )


def test_only_removals_have_a_statement(ledger: Ledger) -> None:
    for number, action in enumerate(("hold", "allow", "restore", "remove")):
        post(ledger, f"p-{number}")
        act(ledger, f"p-{number}", action, when=NOON)
    assert removals(ledger) == [4]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (datetime(2026, 11, 23, 23, 59, 59, 999999, tzinfo=UTC), date(2026, 11, 23)),
        (datetime(2026, 11, 24, tzinfo=UTC), DAY),
        (datetime(2026, 11, 24, 23, 59, 59, 999999, tzinfo=UTC), DAY),
        (datetime(2026, 11, 25, 0, 30, tzinfo=UTC), date(2026, 11, 25)),
    ],
)
def test_a_day_begins_and_ends_at_midnight_in_utc(ledger: Ledger, when: datetime, expected: date) -> None:
    post(ledger)
    act(ledger, when=when)
    days = [DAY - A_DAY, DAY, DAY + A_DAY]
    assert [day for day in days if removals(ledger, day)] == [expected]


def test_what_is_restored_the_same_day_has_no_statement_but_a_retraction(ledger: Ledger) -> None:
    post(ledger)
    act(ledger, when=NOON)
    assert removals(ledger) == [1]
    act(ledger, action="restore", actor="appeal", when=NOON + HOUR)
    assert removals(ledger) == []
    assert retractions(ledger) == [(1, "appeal")]


def test_what_is_restored_later_keeps_its_statement_and_is_retracted_on_that_day(ledger: Ledger) -> None:
    post(ledger)
    act(ledger, when=NOON)
    act(ledger, action="restore", actor="appeal", when=NOON + A_DAY)
    assert removals(ledger) == [1]
    assert retractions(ledger) == []
    (undone,) = statement_rows.retractions(ledger, DAY + A_DAY)
    assert undone == Retraction(1, NOON, "appeal", NOON + A_DAY)


def test_a_removal_that_only_confirms_has_no_statement_of_its_own(ledger: Ledger) -> None:
    post(ledger)
    act(ledger, when=NOON)
    act(ledger, action="hold", actor="fuse", when=NOON + HOUR)
    act(ledger, actor="review", when=NOON + HOUR)
    act(ledger, actor="review", when=NOON + A_DAY)
    assert removals(ledger) == [1]
    assert removals(ledger, DAY + A_DAY) == []
    act(ledger, action="restore", actor="review", when=NOON + A_DAY)
    assert retractions(ledger, DAY + A_DAY) == [(1, "review")]


def test_what_is_removed_again_after_a_restoration_has_another_statement(ledger: Ledger) -> None:
    post(ledger)
    for hours, action in enumerate(("remove", "restore", "remove", "allow", "remove")):
        act(ledger, action=action, actor="review", when=NOON + hours * HOUR)
    assert removals(ledger) == [5]
    assert retractions(ledger) == [(1, "review"), (3, "review")]


def test_a_restoration_is_of_its_own_content_alone(ledger: Ledger) -> None:
    post(ledger)
    post(ledger, text="two", minutes=1)
    post(ledger, "p-2")
    act(ledger, when=NOON)
    act(ledger, when=NOON, content_version=2)
    act(ledger, "p-2", when=NOON)
    act(ledger, action="restore", when=NOON + HOUR, content_version=2)
    assert removals(ledger) == [1, 3]
    assert retractions(ledger) == [(2, "model")]


def test_a_restoration_of_what_was_never_removed_retracts_nothing(ledger: Ledger) -> None:
    post(ledger)
    act(ledger, action="hold", when=NOON)
    act(ledger, action="allow", actor="review", when=NOON)
    act(ledger, action="restore", actor="review", when=NOON)
    assert retractions(ledger) == []


@pytest.mark.parametrize(
    ("when", "weight", "expected"), [(NOON - HOUR, 1.0, True), (NOON + HOUR, 1.0, False), (NOON - HOUR, 0.0, False)]
)
def test_a_report_counts_if_it_came_before_and_was_heard(
    ledger: Ledger, when: datetime, weight: float, expected: bool
) -> None:
    post(ledger)
    report(ledger, when=when, weight=weight)
    act(ledger, actor="review", when=NOON)
    assert [removal.reported for removal in statement_rows.removals(ledger, DAY)] == [expected]


def test_many_are_read_in_pages_and_none_is_missed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_rows, "PAGE", 3)
    for number in range(7):
        post(ledger, f"p-{number}")
        act(ledger, f"p-{number}", when=NOON - number * HOUR)
    assert removals(ledger) == [1, 2, 3, 4, 5, 6, 7]
    for number in range(6):
        act(ledger, f"p-{number}", "restore", when=NOON + A_DAY)
    assert [number for number, _ in retractions(ledger, DAY + A_DAY)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "modalities"),
    [
        ("look at this", ("text", "image")),
        ("", ("image",)),
        ("  ", ("image",)),
        (" \n\t\r\n", ("image",)),
        ("\u00a0\u2003\u3000", ("image",)),  # no-break, em and ideographic space
    ],
)
def test_white_space_beside_a_picture_is_no_text(ledger: Ledger, text: str, modalities: tuple[str, ...]) -> None:
    record(ledger, with_media(text=text))
    act(ledger, when=NOON)
    (found,) = statement_rows.removals(ledger, DAY)
    assert found.modalities == modalities
