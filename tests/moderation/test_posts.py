"""What crosses the wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from moderation.posts import (
    Decision,
    LabelDecision,
    LabelIn,
    LanguageDecision,
    ModerateIn,
    PostIn,
    ReviewDecision,
    TextFeature,
)


def a_post(**changes: Any) -> dict[str, Any]:
    return {
        "author_id": "u-1",
        "community": "gardening",
        "region": "US",
        "created_at": "2020-01-01T00:00:00Z",
        "text": "the tomatoes are ripe",
    } | changes


def a_label(**changes: Any) -> dict[str, Any]:
    return {
        "id": "l-1",
        "post_id": "p-1",
        "labels": {"abuse": True},
        "source": "review",
        "labelled_at": "2020-01-01T00:00:00Z",
    } | changes


def wrong_field(model: Any, raw: dict[str, Any]) -> tuple[int | str, ...]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(raw))
    where: tuple[int | str, ...] = caught.value.errors()[0]["loc"]
    return where


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"author_id": ""}, ("author_id",)),
        ({"author_id": "a" * 129}, ("author_id",)),
        ({"author_id": "a b"}, ("author_id",)),
        ({"author_id": "a\n"}, ("author_id",)),
        ({"author_id": "é"}, ("author_id",)),
        ({"author_id": "a%2Fb"}, ("author_id",)),
        ({"author_id": "a\u0000"}, ("author_id",)),
        ({"author_id": "."}, ("author_id",)),
        ({"author_id": "a/../b"}, ("author_id",)),
        ({"community": ""}, ("community",)),
        ({"community": "c" * 129}, ("community",)),
        ({"region": "u1"}, ("region",)),
        ({"region": "USA"}, ("region",)),
        ({"region": "US\n"}, ("region",)),
        ({"language": "e"}, ("language",)),
        ({"language": "en-"}, ("language",)),
        ({"language": "en US"}, ("language",)),
        ({"language": "en-" + "-".join(["aaaaaaaa"] * 7)}, ("language",)),
        ({"language": "engl"}, ("language",)),
        ({"created_at": "2020-01-01T00:00:00"}, ("created_at",)),
        ({"created_at": "2020-13-01T00:00:00Z"}, ("created_at",)),
        ({"created_at": "0001-01-01T00:00:00+05:00"}, ("created_at",)),
        ({"created_at": "9999-12-31T23:59:59-05:00"}, ("created_at",)),
        ({"text": None}, ("text",)),
        ({"media": ["cat.png"]}, ("media", 0)),
        ({"media": [{"kind": "sound", "uri": "s3://a/b"}]}, ("media", 0, "kind")),
        ({"media": [{"kind": "image"}]}, ("media", 0)),
        ({"media": [{"kind": "image", "uri": "s3://a/b", "data": "aa"}]}, ("media", 0)),
        ({"media": [{"kind": "image", "sha256": "ABC"}]}, ("media", 0, "sha256")),
        ({"author": {str(index): 1 for index in range(51)}}, ("author",)),
        ({"unknown": 1}, ("unknown",)),
    ],
)
def test_a_post_out_of_bounds_is_refused_at_its_field(changes: dict[str, Any], where: tuple[str, ...]) -> None:
    assert wrong_field(PostIn, a_post(**changes)) == where


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        *(("en", "en"), ("eng", "en"), ("deu", "de"), ("ger", "de"), ("zho", "zh"), ("cmn", "zh"), ("por", "pt")),
        *(("rus", "ru"), ("hrv", "hr"), ("tl", "tl"), ("ceb", "ceb"), ("und", "und"), ("xyz", "xyz")),
        *(("en-US", "en"), ("en_US", "en"), ("EN", "en"), ("pt-BR", "pt"), ("zh-Hans-CN", "zh"), ("zh_hant_tw", "zh")),
        *(("sr-Latn", "sr"), ("deu-DE", "de"), ("de-DE-1996", "de"), ("es-419", "es"), ("en-US-u-ca-gregory", "en")),
        *(("iw", "he"), ("iw-IL", "he"), ("in", "id"), ("CMN", "zh"), ("fil-PH", "fil"), ("UND", "und")),
    ],
)
def test_a_language_is_kept_with_two_letters_where_it_has_such(told: str, kept: str) -> None:
    assert PostIn.model_validate(a_post(language=told)).language == kept
    assert TextFeature(id="1", text="", language=told).language == kept


@pytest.mark.parametrize(
    "changes",
    [
        {"author_id": "A" * 128},
        {"author_id": "0.a_b~c-d"},
        {"author_id": "_ann"},
        {"author_id": "-MhLeOlGIEjaIOFHR0xd"},  # a push id of Firebase
        {"author_id": "t2_4f9x"},
        {"author_id": "@ann:example.org"},
        {"author_id": "$h29iv0s8:example.com"},
        {"author_id": "+4915112345678"},
        {"author_id": "ann+cats@example.org"},
        {"author_id": "did:plc:z72i7hdynmk6r22z27h6tvur"},
        {"author_id": "at://did:plc:z72i7hdynmk6/app.bsky.feed.post/3k43tv4rft22g"},
        {"author_id": "https://example.org/users/ann/statuses/1?page=2#likes"},
        {"author_id": "dGVzdA=="},
        {"author_id": "!room:example.org"},
        {"author_id": "..."},
        {"community": "c" * 128},
        {"language": "yue"},
        {"language": None},
        {"text": ""},
        {"media": []},
        {"author": {str(index): index for index in range(50)}},
        {"author": {"age_days": 812, "verified": True, "country": "US", "karma": None}},
    ],
)
def test_a_post_at_its_bounds_is_taken(changes: dict[str, Any]) -> None:
    post = PostIn.model_validate_json(json.dumps(a_post(**changes)))
    (name, value), *_ = changes.items()
    assert getattr(post, name) == value


@pytest.mark.parametrize("told", ["us", "Us", "US"])
def test_a_region_is_kept_in_capitals(told: str) -> None:
    assert PostIn.model_validate(a_post(region=told)).region == "US"
    assert PostIn.model_validate(a_post(region=told)).content_hash() == PostIn.model_validate(a_post()).content_hash()


def test_a_language_that_is_empty_is_one_that_is_not_told() -> None:
    assert PostIn.model_validate(a_post(language="")).language is None
    assert TextFeature(id="1", text="", language="").language is None


def test_one_language_is_one_content_however_it_is_written() -> None:
    told = [PostIn.model_validate(a_post(language=tag)).content_hash() for tag in ("en", "en-US", "EN_us", "eng")]
    assert len(set(told)) == 1


@pytest.mark.parametrize(
    "told",
    [
        "2020-01-02T03:04:05Z",
        "2020-01-02t03:04:05z",
        "2020-01-02 03:04:05Z",
        "2020-01-02T03:04:05.000000000Z",
        "2020-01-02T04:04:05+0100",
        "2020-01-02T08:49:05+05:45",
        1577934245,
        1577934245.0,
        "1577934245",
        1577934245000,
    ],
)
def test_a_time_is_taken_as_clients_write_it(told: str | float) -> None:
    assert PostIn.model_validate_json(json.dumps(a_post(created_at=told))).created_at == datetime(
        2020, 1, 2, 3, 4, 5, tzinfo=UTC
    )


def test_the_time_of_a_post_is_kept_in_utc() -> None:
    post = PostIn.model_validate(a_post(created_at="2020-01-01T02:30:00+05:30"))
    assert post.created_at == datetime(2019, 12, 31, 21, 0, tzinfo=UTC)
    assert post.created_at.tzinfo is UTC


def test_the_hash_of_a_post_ignores_its_time_and_the_order_of_its_fields() -> None:
    first = PostIn.model_validate(a_post(author={"a": 1, "b": 2}))
    later = PostIn.model_validate(a_post(author={"b": 2, "a": 1}, created_at="2021-05-05T00:00:00Z"))
    assert len(first.content_hash()) == 64
    assert first.content_hash() == later.content_hash()


def test_the_hash_of_a_post_is_not_of_what_is_known_of_its_author() -> None:
    aged = PostIn.model_validate(a_post(author={"age_days": 1}))
    assert aged.content_hash() == PostIn.model_validate(a_post()).content_hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"author_id": "u-2"},
        {"community": "cooking"},
        {"region": "DE"},
        {"language": "en"},
        {"text": "the tomatoes are ripe "},
    ],
)
def test_the_hash_of_a_post_changes_with_its_content(changes: dict[str, Any]) -> None:
    assert PostIn.model_validate(a_post(**changes)).content_hash() != PostIn.model_validate(a_post()).content_hash()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"id": ""}, ("id",)),
        ({"id": "x" * 129}, ("id",)),
        ({"post_id": "a b"}, ("post_id",)),
        ({"content_version": 0}, ("content_version",)),
        ({"labels": {}}, ("labels",)),
        ({"labels": {"abuse": "perhaps"}}, ("labels", "abuse")),
        ({"source": "guess"}, ("source",)),
        ({"labelled_at": "2020-01-01T00:00:00"}, ("labelled_at",)),
        ({"sampling_probability": 0}, ("sampling_probability",)),
        ({"sampling_probability": 1.01}, ("sampling_probability",)),
        ({"sampling_probability": float("nan")}, ("sampling_probability",)),
        ({"note": "?"}, ("note",)),
    ],
)
def test_a_label_out_of_bounds_is_refused_at_its_field(changes: dict[str, Any], where: tuple[str, ...]) -> None:
    assert wrong_field(LabelIn, a_label(**changes)) == where


def test_an_unknown_label_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="label 'sarcasm' is not known; known are abuse, hate, violence"):
        LabelIn.model_validate(a_label(labels={"abuse": True, "sarcasm": True}))


def test_the_time_of_a_label_is_kept_in_utc() -> None:
    label = LabelIn.model_validate(a_label(labelled_at="2020-01-01T00:00:00-01:00"))
    assert label.labelled_at == datetime(2020, 1, 1, 1, 0, tzinfo=UTC)
    assert label.labelled_at.tzinfo is UTC


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_label_from_outside_the_years_of_utc_is_refused_like_a_post(moment: str) -> None:
    assert wrong_field(LabelIn, a_label(labelled_at=moment)) == ("labelled_at",)


def test_what_was_not_said_of_a_label_is_null() -> None:
    label = LabelIn.model_validate(a_label())
    assert label.content_version is None
    assert label.sampling_probability is None


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan")])
def test_a_score_outside_zero_and_one_cannot_be_answered(score: float) -> None:
    with pytest.raises(ValidationError):
        LabelDecision(status="scored", score=score)


def test_a_label_without_a_score_says_null_on_the_wire() -> None:
    shown = LabelDecision(status="not_scored", reason="no_model").model_dump(mode="json")
    assert shown["score"] is None
    assert shown["threshold"] is None
    assert shown["flagged"] is False


def test_texts_to_score_need_one_at_least_and_an_id_each() -> None:
    assert wrong_field(ModerateIn, {"features": []}) == ("features",)
    assert wrong_field(ModerateIn, {"features": [{"id": "1", "text": "a"}, {"id": "", "text": "b"}]}) == (
        "features",
        1,
        "id",
    )
    features = ModerateIn.model_validate({"features": [{"id": "1", "text": ""}]}).features
    assert features == [TextFeature(id="1", text="", language=None)]


def test_a_decision_survives_the_wire() -> None:
    decision = Decision(
        post_id="p-1",
        content_version=1,
        decision="review",
        mode="reactive",
        degraded=False,
        labels={"abuse": LabelDecision(status="scored", score=0.25, threshold=0.5)},
        language=LanguageDecision(code="en", confidence=0.9, in_training=True),
        links=[],
        review=ReviewDecision(queued=True, deadline=datetime(2020, 1, 2, tzinfo=UTC), reasons=["abuse is uncertain"]),
        policy_version="1+abc",
        models={"text": "text-multi@1"},
        decided_at=datetime(2020, 1, 1, tzinfo=UTC),
        latency_ms=3.5,
    )
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_the_examples_of_the_documentation_are_valid() -> None:
    for model in (PostIn, ModerateIn):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)
