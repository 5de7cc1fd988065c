"""Perspective's comments:suggestscore: posts and labels in a real ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serve.compat.routes import Compat
from tests.serve.compat.test_perspective import kind_of, the_error

PATH = "/v1alpha1/comments:suggestscore"
TEXT = "Get busy living, or get busy dying."


def scores(**values: float) -> dict[str, Any]:
    return {name: {"summaryScore": {"value": value}} for name, value in values.items()}


def a_suggestion(text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"comment": {"text": text}, "attributeScores": scores(TOXICITY=0)} | more


def suggest(compat: Compat, body: dict[str, Any]) -> dict[str, Any]:
    response = compat.post(PATH, body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_suggestion_becomes_a_post_and_a_label(compat: Compat) -> None:
    body = a_suggestion(
        attributeScores=scores(TOXICITY=1, INSULT=0.9, IDENTITY_ATTACK=0), communityId="/forum/movies", clientToken="t"
    )
    assert suggest(compat, body) == {"clientToken": "t", "detectedLanguages": ["en"]}
    [post], [label] = compat.rows()
    assert (post.text, post.community, post.region, post.content_version) == (TEXT, "/forum/movies", "ZZ", 1)
    assert (label.post_id, label.content_version, label.source) == (post.post_id, 1, "platform")
    assert label.labels == {"abuse": True, "hate": False}
    assert label.sampling_probability is None
    recorded = compat.context.ledger.newest([post.post_id])[post.post_id]
    assert json.loads(recorded.body)["labels"]["abuse"]["status"] == "scored"


@pytest.mark.parametrize(
    "told", [None, "", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"]
)
def test_what_a_page_of_anybody_can_send_unasked_is_not_recorded(compat: Compat, told: str | None) -> None:
    # These are what a browser sends to another origin without asking it first.
    headers = {} if told is None else {"Content-Type": told}
    response = compat.send("POST", PATH, content=json.dumps(a_suggestion()), headers=headers)
    the_error(response, 415)
    assert compat.rows() == ([], [])


def test_languages_of_the_request_come_back(compat: Compat) -> None:
    answer = suggest(compat, a_suggestion(languages=["en-GB"]))
    assert answer == {"detectedLanguages": ["en"], "requestedLanguages": ["en-GB"]}
    assert suggest(compat, a_suggestion("12345")) == {}


def test_the_same_suggestion_again_changes_nothing(compat: Compat) -> None:
    for _ in range(3):
        suggest(compat, a_suggestion(clientToken="t"))
    recorded, labels = compat.rows()
    assert (len(recorded), len(labels)) == (1, 1)
    assert len(compat.models.calls) == 2  # text and misinformation, for the first alone


def test_another_word_on_the_same_comment_is_a_label_of_the_same_post(compat: Compat) -> None:
    suggest(compat, a_suggestion(clientToken="a"))
    suggest(compat, a_suggestion(clientToken="b"))
    suggest(compat, a_suggestion(clientToken="b", attributeScores=scores(TOXICITY=1)))
    recorded, labels = compat.rows()
    assert len(recorded) == 1
    assert [row.labels for row in labels] == [{"abuse": False}, {"abuse": False}, {"abuse": True}]
    assert sorted(row.labelled_at for row in labels) == [row.labelled_at for row in labels]


@pytest.mark.parametrize("change", [{"communityId": "other"}, {"languages": ["en"]}, {"comment": {"text": "Other."}}])
def test_another_comment_is_another_post_of_another_author(compat: Compat, change: dict[str, Any]) -> None:
    suggest(compat, a_suggestion())
    suggest(compat, a_suggestion() | change)
    recorded, _ = compat.rows()
    assert len({row.post_id for row in recorded}) == len({row.author_id for row in recorded}) == 2


@pytest.mark.parametrize("text", ["\U0001f345" * 50, "a\0b", "你好，世界", "\u202e\u200b?", " "])
def test_texts_of_any_script_are_recorded_as_they_are(compat: Compat, text: str) -> None:
    suggest(compat, a_suggestion(text))
    suggest(compat, a_suggestion(text))
    [post], [_] = compat.rows()
    assert post.text == text


def test_what_must_not_be_stored_is_not(compat: Compat) -> None:
    assert suggest(compat, a_suggestion(doNotStore=True, clientToken="t"))["clientToken"] == "t"
    assert compat.rows() == ([], [])
    the_error(compat.post(PATH, a_suggestion(doNotStore=True, attributeScores=scores(THREAT=1))))


def test_spans_beside_a_summary_are_checked_and_left(compat: Compat) -> None:
    span = {"begin": 0, "end": 16, "score": {"value": 1, "type": "PROBABILITY"}}
    suggest(compat, a_suggestion(attributeScores={"TOXICITY": {"summaryScore": {"value": 1}, "spanScores": [span]}}))
    assert compat.rows()[1][0].labels == {"abuse": True}


def one(**score: Any) -> dict[str, Any]:
    return {"TOXICITY": {"summaryScore": score}}


def spanned(begin: Any, end: Any, score: Any = 1) -> dict[str, Any]:
    span = {"begin": begin, "end": end, "score": {"value": score}}
    return {"TOXICITY": {"summaryScore": {"value": 1}, "spanScores": [span]}}


@pytest.mark.parametrize(
    ("suggested", "message"),
    [
        (None, "attribute_scores must not be empty"),
        ({}, "attribute_scores must not be empty"),
        (scores(THREAT=1), "Unknown requested attribute: THREAT. Known here: TOXICITY, "),
        (scores(TOXICITY=1, PROFANITY=1), "Unknown requested attribute: PROFANITY"),
        (scores(NEW=1), "Unknown requested attribute: NEW"),
        ({"TOXICITY": {}}, "a summaryScore is needed"),
        ({"TOXICITY": {"spanScores": [{"begin": 0, "end": 3, "score": {"value": 1}}]}}, "a summaryScore is needed"),
        (one(), "no score is set"),
        (one(type="PROBABILITY"), "no score is set"),
        (one(value=1, type="RAW"), "score type RAW is not supported"),
        (one(value=1.01), "the score is 1.01, a probability lies in [0, 1]"),
        (one(value=-1), "the score is -1.0"),
        (one(value=0.5), "0.5 says neither"),
        (scores(TOXICITY=1, INSULT=0), "INSULT contradicts another attribute: both are the label 'abuse'"),
        (spanned(None, 3), "[None, 3) is no part of the text's 35 UTF-16 units"),
        (spanned(3, 3), "[3, 3) is no part"),
        (spanned(-1, 3), "[-1, 3) is no part"),
        (spanned(0, 36), "[0, 36) is no part"),
        (spanned(0, 3, 7), "the score is 7.0"),
        (spanned(0, 3, None), "no score is set"),
    ],
)
def test_scores_that_are_no_labels_are_errors_and_nothing_is_recorded(
    compat: Compat, suggested: dict[str, Any] | None, message: str
) -> None:
    error = the_error(compat.post(PATH, a_suggestion(attributeScores=suggested)))
    assert kind_of(error) == "INVALID_REQUEST"
    assert message in error["message"]
    assert compat.rows() == ([], [])


@pytest.mark.parametrize(
    "change",
    [
        {"comment": {"text": ""}},
        {"comment": {"text": "a", "type": "HTML"}},
        {"communityId": "c" * 129},
        {"languages": ["english"]},
        {"requestedAttributes": {"TOXICITY": {}}},
    ],
)
def test_other_bad_suggestions_are_errors_too(compat: Compat, change: dict[str, Any]) -> None:
    the_error(compat.post(PATH, a_suggestion() | change))
    assert compat.rows() == ([], [])


def test_a_model_that_fails_costs_no_label(compat: Compat) -> None:
    compat.models.error = TimeoutError()
    suggest(compat, a_suggestion())
    recorded, labels = compat.rows()
    assert (len(recorded), len(labels)) == (1, 1)
