"""Labels out: who said them, how the post came before them, what the models saw, and a cursor that skips none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moderation.storage import label_rows
from moderation.storage.ledger import Ledger
from tests.moderation.storage.acts import a_review
from tests.moderation.storage.rows import a_label, an_entry, record, say, say_as_verdict


def exported(ledger: Ledger, *, after: int = 0, limit: int = 1000) -> tuple[list[dict[str, Any]], int]:
    span = label_rows.span(ledger, after=after, limit=limit)
    return [json.loads(line) for line in label_rows.exported(ledger, span)], span.last


def test_a_label_comes_with_what_the_models_saw(ledger: Ledger) -> None:
    record(ledger, an_entry(author="u-7", region="DE", model_version=3, experiment="e", arm="challenger"))
    say(ledger, a_label(labels={"abuse": True, "hate": False}, source="audit", sampling_probability=0.25))
    (row,), last = exported(ledger)
    assert row.pop("received_at").endswith("Z")
    assert last == 1
    assert row == {
        "label_seq": 1,
        "id": "l-1",
        "post_id": "p-1",
        "content_version": 1,
        "labels": {"abuse": True, "hate": False},
        "source": "audit",
        "labelled_at": "2020-01-01T01:00:00Z",
        "sampling_probability": 0.25,
        "author_id": "u-7",
        "community": "gardening",
        "region": "DE",
        "created_at": "2020-01-01T00:00:00Z",
        "decided_at": "2020-01-01T00:00:00Z",
        "features": {"characters": 21.0, "language": "en"},
        "reviewer": None,
        "review_kind": None,
        "models": [
            {
                "service": "text",
                "variant": "text-multi",
                "model_version": 3,
                "experiment": "e",
                "arm": "challenger",
                "features": {"score_abuse": 0.1},
            }
        ],
    }


def test_a_verdict_s_label_says_who_decided_and_why_they_were_asked(ledger: Ledger) -> None:
    record(ledger, an_entry())
    number = a_review(ledger, kind="sampled", by="r-7")
    say_as_verdict(ledger, a_label(f"review:{number}", sampling_probability=0.01))
    say(ledger, a_label("l-2"))
    first, second = exported(ledger)[0]
    assert (first["reviewer"], first["review_kind"], first["sampling_probability"]) == ("r-7", "sampled", 0.01)
    assert (second["reviewer"], second["review_kind"]) == (None, None)


@pytest.mark.parametrize(
    "id_", ["review:2", "review:01", "review:", "review:x", "review:-1", "review:²", "review:" + "9" * 40, "preview:1"]
)
def test_a_label_that_only_looks_like_a_verdict_s_has_no_reviewer(ledger: Ledger, id_: str) -> None:
    record(ledger, an_entry())
    a_review(ledger)
    say_as_verdict(ledger, a_label(id_))
    ((row,), _) = exported(ledger)
    assert row["reviewer"] is None


def test_another_post_s_review_lends_no_reviewer(ledger: Ledger) -> None:
    for post_id in ("p-1", "p-2"):
        record(ledger, an_entry(post_id))
    number = a_review(ledger, "p-2")
    say_as_verdict(ledger, a_label(f"review:{number}", "p-1"))
    ((row,), _) = exported(ledger)
    assert row["reviewer"] is None


def test_a_post_that_no_model_judged_has_no_models(ledger: Ledger) -> None:
    record(ledger, an_entry(variant=None, model_version=None))
    say(ledger, a_label())
    ((row,), _) = exported(ledger)
    assert row["models"] == []
    assert row["sampling_probability"] is None


def test_the_cursor_goes_on_where_the_last_reply_ended(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_rows, "PAGE", 2)
    record(ledger, an_entry())
    say(ledger, *(a_label(f"l-{number}") for number in range(1, 8)))
    seen: list[int] = []
    after = 0
    for expected in ([1, 2, 3], [4, 5, 6], [7], []):
        rows, following = exported(ledger, after=after, limit=3)
        assert [row["label_seq"] for row in rows] == expected
        seen, after = seen + expected, following
    assert after == 7
    say(ledger, a_label("l-8"))
    assert [row["id"] for row in exported(ledger, after=after)[0]] == ["l-8"]


def test_an_empty_ledger_leaves_the_cursor_where_it_was(ledger: Ledger) -> None:
    assert exported(ledger) == ([], 0)
    assert exported(ledger, after=2**63 - 1) == ([], 2**63 - 1)
