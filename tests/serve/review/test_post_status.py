"""How posts stand after what models and people did, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from moderation.posts import Decision, Standing
from moderation.storage import post_status
from moderation.storage.ledger import Ledger
from moderation.storage.people_tables import actions, strikes
from moderation.storage.people_tables import reviews as review_rows
from serve.review import queue as review_queue
from serve.review.models import LeaseIn
from tests.moderation.storage.rows import a_label, an_entry, record, say
from tests.serve.review.people import (
    NEVER,
    POLICY,
    RULES,
    acted,
    appeal,
    count,
    decide,
    decided,
    flagged,
    item,
    last_action,
    lease,
    newest,
    removed,
    rows,
    verdict,
)


@pytest.mark.parametrize(
    ("decision", "mode", "expected"),
    [
        ("allow", "reactive", []),
        ("review", "reactive", []),
        ("review", "proactive", [("hold", "model")]),
        ("remove", "reactive", [("remove", "model")]),
        ("remove", "proactive", [("remove", "model")]),
    ],
)
def test_a_decision_is_an_action_where_it_changes_what_is_shown(
    ledger: Ledger, decision: str, mode: str, expected: list[tuple[str, str]]
) -> None:
    record(ledger, decided(an_entry(), decision, mode))
    assert acted(ledger) == expected
    assert count(ledger, strikes) == (decision == "remove")


def test_a_repeated_decision_acts_once(ledger: Ledger) -> None:
    entry = removed(ledger)
    assert not record(ledger, entry).fresh
    assert acted(ledger) == [("remove", "model")]


@pytest.mark.parametrize("first", ["remove", "hold"])
def test_newer_content_is_judged_by_itself(ledger: Ledger, first: str) -> None:
    record(ledger, decided(an_entry(), "remove" if first == "remove" else "review", "proactive"))
    record(ledger, an_entry(text="sorry", minutes=5))
    assert acted(ledger) == [(first, "model"), ("allow", "model")]


def test_newer_content_takes_the_place_of_older_in_the_queue(ledger: Ledger) -> None:
    flagged(ledger)
    record(ledger, an_entry(text="sorry", minutes=5, author="author-of-p-1"))
    assert lease(ledger) == []


def test_what_nobody_acted_on_is_answered_as_it_was_recorded(ledger: Ledger) -> None:
    recorded = record(ledger, decided(an_entry(), "remove"))
    assert ledger.newest(["p-1"])["p-1"].body == recorded.body


def test_impressions_move_what_waits(ledger: Ledger) -> None:
    flagged(ledger, "p-1", 0.1)
    flagged(ledger, "p-2", 0.3)
    with ledger.write() as connection:
        post_status.count_impressions(connection, {"p-1": 900, "unknown": 5})
    got = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=POLICY, rules=RULES, chance=NEVER)
    assert [(leased.post_id, round(leased.priority, 3)) for leased in got] == [("p-1", 300.0), ("p-2", 90.0)]


def test_what_people_said_of_older_content_says_nothing_of_newer(ledger: Ledger) -> None:
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    newer = decided(an_entry(text="worse", minutes=5, flagged={"abuse": True}, author="author-of-p-1"), "review")
    recorded = record(ledger, replace(newer, item=item()))
    assert ledger.newest(["p-1"])["p-1"].body == recorded.body
    assert newest(ledger).decision == "review"


def test_a_removal_s_reasons_are_the_labels_that_asked_for_it(ledger: Ledger) -> None:
    entry = decided(an_entry(flagged={"abuse": True, "misinformation": True}), "remove")
    record(ledger, replace(entry, removed_for=("abuse",)))
    assert rows(ledger, select(actions.c.labels)) == [(["abuse"],)]


def test_a_text_to_learn_from_is_recorded_and_nothing_is_done_with_it(ledger: Ledger) -> None:
    entry = decided(an_entry(flagged={"abuse": True}), "remove")
    record(ledger, replace(entry, removed_for=("abuse",), item=item(), acts=False))
    assert newest(ledger).decision == "remove"
    assert acted(ledger) == rows(ledger, select(review_rows)) == rows(ledger, select(strikes)) == []
    assert say(ledger, a_label()).accepted == 1


def test_two_contents_of_a_post_in_one_group_both_act(ledger: Ledger) -> None:
    first = decided(an_entry(flagged={"abuse": True}), "remove")
    second = an_entry(text="sorry", minutes=5)
    ledger.record([first, second])
    assert acted(ledger) == [("remove", "model"), ("allow", "model")]


def removed_by_a_person(ledger: Ledger) -> None:
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict())


def back_and_forth(ledger: Ledger, minutes: int = 1) -> Any:
    """Another content of the post, and then the one before."""
    author = "author-of-p-1"
    record(ledger, an_entry(text="other", author=author, minutes=minutes))
    back = an_entry(flagged={"abuse": True}, author=author, minutes=minutes + 1)
    return record(ledger, replace(decided(back, "review"), item=item()))


def test_what_a_person_removed_is_not_back_by_an_edit_there_and_one_back(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    back = back_and_forth(ledger)
    assert Decision.model_validate_json(back.body).decision == "remove"
    assert (back.content_version, newest(ledger).decision) == (3, "remove")
    assert newest(ledger).standing == Standing(
        state="removed", actor="review", since=newest(ledger).decided_at, content_version=3
    )
    assert acted(ledger) == [("remove", "review"), ("allow", "model"), ("remove", "review")]
    assert lease(ledger, "mod-2") == []  # nobody is asked what was said already
    assert back_and_forth(ledger, 3).content_version == 5
    assert newest(ledger).decision == "remove"
    ((labels,),) = rows(ledger, select(actions.c.labels).where(actions.c.action_id == last_action(ledger)))
    assert labels == ["abuse"]
    assert count(ledger, strikes) == 3  # one a removal


def test_it_is_appealed_by_itself_and_is_back_once_that_is_upheld(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    back_and_forth(ledger)
    appeal(ledger, author="author-of-p-1")
    assert lease(ledger, "mod-1") == []  # who removed it first
    decide(ledger, lease(ledger, "mod-2")[0], verdict("mod-2", said="allow"))
    assert newest(ledger).decision == "allow"
    back_and_forth(ledger, 3)
    assert acted(ledger)[-1] != ("remove", "review")


def test_an_appeal_that_was_upheld_after_an_edit_counts_as_well(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    appeal(ledger, author="author-of-p-1")
    author = "author-of-p-1"
    record(ledger, decided(an_entry(text="worse", flagged={"abuse": True}, author=author, minutes=1), "remove"))
    decide(ledger, lease(ledger, "mod-2")[0], verdict("mod-2", said="allow"))
    back_and_forth(ledger, 2)
    assert acted(ledger)[-1] != ("remove", "review")


def test_another_post_with_the_same_content_is_judged_by_itself(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    record(ledger, an_entry("p-2", text="other", author="author-of-p-1"))
    record(ledger, an_entry("p-2", author="author-of-p-1", minutes=1))
    assert newest(ledger, "p-2").decision == "allow"
