"""Perspective's comments:analyze, on real models, in process."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from serve.compat.labels import ATTRIBUTES
from tests.serve.compat.routes import Compat

PATH = "/v1alpha1/comments:analyze"
ABUSE = "You are such a stupid bitch, shut the fuck up you worthless piece of trash!"
KIND = "The train leaves at nine and arrives before noon."
TURKISH = "Bu sabah bahçede domatesler sonunda kızardı, herkese teşekkürler"
GERMAN = "Die Tomaten im Garten sind endlich reif geworden, alle dürfen welche nehmen"


def a_request(text: str = ABUSE, *attributes: str, **more: Any) -> dict[str, Any]:
    return {"comment": {"text": text}, "requestedAttributes": {name: {} for name in attributes or ("TOXICITY",)}} | more


def analyze(compat: Compat, body: dict[str, Any]) -> dict[str, Any]:
    response = compat.post(PATH, body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def the_error(response: httpx.Response, status: int = 400, name: str = "INVALID_ARGUMENT") -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert (error["code"], error["status"]) == (status, name)
    assert error["message"]
    return error


def kind_of(error: dict[str, Any]) -> str:
    detail: dict[str, Any] = error["details"][0]
    assert detail["@type"] == "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
    kind: str = detail["errorType"]
    return kind


def test_a_comment_is_scored_by_the_requested_attributes(compat: Compat) -> None:
    answer = analyze(compat, a_request(ABUSE, "TOXICITY", "INSULT", "IDENTITY_ATTACK", "MISINFORMATION"))
    assert set(answer) == {"attributeScores", "languages", "detectedLanguages"}
    assert list(answer["attributeScores"]) == ["TOXICITY", "INSULT", "IDENTITY_ATTACK", "MISINFORMATION"]
    values = {name: found["summaryScore"]["value"] for name, found in answer["attributeScores"].items()}
    assert values["TOXICITY"] == values["INSULT"] > 0.9  # one label, one score
    assert values["IDENTITY_ATTACK"] != values["TOXICITY"]
    assert {found["summaryScore"]["type"] for found in answer["attributeScores"].values()} == {"PROBABILITY"}
    assert (answer["languages"], answer["detectedLanguages"]) == (["en"], ["en"])
    assert sorted(variant for variant, _, _ in compat.models.calls) == ["misinformation", "text-multi"]


def test_nothing_of_it_is_recorded(compat: Compat) -> None:
    for store in (True, False, None):
        analyze(compat, a_request(doNotStore=store))
    assert compat.rows() == ([], [])


def test_tokens_come_back_and_context_is_taken(compat: Compat) -> None:
    entry = {"text": "An article", "type": "PLAIN_TEXT"}
    more = {"clientToken": "t-\U0001f345", "sessionId": "s", "communityId": "c", "context": {"entries": [entry]}}
    assert analyze(compat, a_request(**more))["clientToken"] == "t-\U0001f345"
    pair = {"articleAndParentComment": {"article": entry, "parentComment": entry}}
    assert "clientToken" not in analyze(compat, a_request(context=pair))


def test_names_in_snake_case_and_nulls_are_taken_as_google_takes_them(compat: Compat) -> None:
    body = {
        "comment": {"text": ABUSE, "type": None},
        "requested_attributes": {"TOXICITY": {"score_type": "PROBABILITY", "score_threshold": None}},
        "client_token": "t",
        "languages": None,
        "context": None,
        "span_annotations": None,
    }
    assert analyze(compat, body) == analyze(compat, a_request(clientToken="t"))


def test_a_body_without_a_media_type_and_with_a_key_is_taken(compat: Compat) -> None:
    response = compat.send("POST", f"{PATH}?key=secret&alt=json", content=json.dumps(a_request()))
    assert response.status_code == 200, response.text


def test_without_annotations_one_span_is_the_whole(compat: Compat) -> None:
    text = " \U0001f600 Shut up. You idiot! "
    found = analyze(compat, a_request(text, languages=["en"]))["attributeScores"]["TOXICITY"]
    assert found["spanScores"] == [{"begin": 0, "end": 24, "score": found["summaryScore"]}]
    assert [texts for _, texts, _ in compat.models.calls] == [[text]]


def test_spans_have_scores_of_their_own_in_one_call(compat: Compat) -> None:
    text = f"\U0001f600\U0001f600 {KIND} {ABUSE} Thanks \U0001f345."
    asked = a_request(text, "TOXICITY", "IDENTITY_ATTACK", spanAnnotations=True)
    found = analyze(compat, asked)["attributeScores"]
    spans = found["TOXICITY"]["spanScores"]
    units = text.encode("utf-16-le")
    cut = [units[2 * span["begin"] : 2 * span["end"]].decode("utf-16-le") for span in spans]
    assert cut == [f"\U0001f600\U0001f600 {KIND}", ABUSE, "Thanks \U0001f345."]
    [(variant, texts, known)] = compat.models.calls
    assert (variant, texts, known) == ("text-multi", [text, *cut], [{"language": "en"}] * 4)
    alone = [analyze(compat, a_request(part, languages=["en"])) for part in cut]
    assert [span["score"] for span in spans] == [one["attributeScores"]["TOXICITY"]["summaryScore"] for one in alone]
    assert [span["begin"] for span in found["IDENTITY_ATTACK"]["spanScores"]] == [span["begin"] for span in spans]


def test_a_single_sentence_is_not_scored_twice(compat: Compat) -> None:
    found = analyze(compat, a_request(ABUSE, spanAnnotations=True))["attributeScores"]["TOXICITY"]
    assert found["spanScores"] == [{"begin": 0, "end": len(ABUSE), "score": found["summaryScore"]}]
    assert [texts for _, texts, _ in compat.models.calls] == [[ABUSE]]


def test_a_text_of_many_sentences_is_cut_into_the_bound(compat: Compat) -> None:
    text = "Get out. " * 4000
    found = analyze(compat, a_request(text, spanAnnotations=True, languages=["en"]))["attributeScores"]["TOXICITY"]
    assert len(found["spanScores"]) == compat.context.topology.gateway.max_spans == 64
    assert found["spanScores"][-1]["end"] == len(text.rstrip())


def test_scores_below_a_threshold_are_not_returned(compat: Compat) -> None:
    asked = a_request(f"{KIND} {ABUSE}", spanAnnotations=True)
    [kind, abuse] = analyze(compat, asked)["attributeScores"]["TOXICITY"]["spanScores"]
    assert kind["score"]["value"] < 0.6 < abuse["score"]["value"]
    asked["requestedAttributes"] = {"TOXICITY": {"scoreThreshold": 0.6}, "INSULT": {"scoreThreshold": 1.5}}
    found = analyze(compat, asked)["attributeScores"]
    assert found["TOXICITY"]["spanScores"] == [abuse]
    assert found["TOXICITY"]["summaryScore"]["value"] >= 0.6
    assert found["INSULT"] == {}
    exact = {"TOXICITY": {"scoreThreshold": abuse["score"]["value"]}}
    again = analyze(compat, a_request(ABUSE, requestedAttributes=exact, languages=["en"]))
    assert again["attributeScores"]["TOXICITY"]["summaryScore"] == abuse["score"]


@pytest.mark.parametrize(
    ("told", "scored_in"),
    [(["en"], "en"), (["en-US"], "en"), (["PT_br"], "pt"), (["zh-Hant-TW"], "zh"), (["de", "en"], "en")],
)
def test_told_languages_are_mirrored_and_scored_in(compat: Compat, told: list[str], scored_in: str) -> None:
    answer = analyze(compat, a_request(languages=told))
    assert (answer["languages"], answer["detectedLanguages"]) == (told, ["en"])
    assert compat.models.calls[0][2][0] == {"language": scored_in}


def test_a_language_that_cannot_be_told_is_an_error_unless_it_is_told(compat: Compat) -> None:
    error = the_error(compat.post(PATH, a_request("12345")))
    assert (kind_of(error), error["message"]) == ("LANGUAGE_DETECTION_FAILED", "Unable to detect language")
    assert analyze(compat, a_request("12345", languages=["en"]))["detectedLanguages"] == ["en"]  # clients read it


def test_where_the_language_is_unsure_the_surest_of_those_that_are_likely_counts(compat: Compat) -> None:
    unsure = analyze(compat, a_request("you idiot"))
    english = analyze(compat, a_request("you idiot", languages=["en"]))
    assert unsure["languages"] == ["en"]
    assert unsure["detectedLanguages"] == ["en"]
    assert unsure["attributeScores"] == english["attributeScores"]


def test_a_language_that_is_neither_sure_nor_learned_is_perspective_s_error(refusing: Compat) -> None:
    assert kind_of(the_error(refusing.post(PATH, a_request("ĝis")))) in (
        "LANGUAGE_DETECTION_FAILED",
        "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
    )


def not_supported(error: dict[str, Any]) -> list[dict[str, Any]]:
    assert kind_of(error) == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"
    return [detail["languageNotSupportedByAttributeError"] for detail in error["details"]]


def test_a_language_that_no_model_was_trained_on_is_perspective_s_error(refusing: Compat) -> None:
    error = the_error(refusing.post(PATH, a_request(TURKISH)))
    assert error["message"] == "Attribute TOXICITY does not support request languages: tr"
    five = ["de", "en", "pt", "ru", "zh"]
    assert not_supported(error) == [{"attribute": "TOXICITY", "supportedLanguages": five, "detectedLanguages": ["tr"]}]
    told = the_error(refusing.post(PATH, a_request(languages=["en", "fr-CA"])))
    assert told["message"] == "Attribute TOXICITY does not support request languages: fr"
    assert not_supported(told) == [
        {"attribute": "TOXICITY", "supportedLanguages": five, "requestedLanguages": ["en", "fr"]}
    ]


def test_an_attribute_has_the_languages_that_its_label_was_learned_in(refusing: Compat) -> None:
    asked = a_request(GERMAN, "TOXICITY", "IDENTITY_ATTACK", "MISINFORMATION")
    error = the_error(refusing.post(PATH, asked))
    assert error["message"] == "Attribute IDENTITY_ATTACK does not support request languages: de"
    assert not_supported(error) == [
        {"attribute": "IDENTITY_ATTACK", "supportedLanguages": ["en", "pt"], "detectedLanguages": ["de"]},
        {"attribute": "MISINFORMATION", "supportedLanguages": ["en"], "detectedLanguages": ["de"]},
    ]
    kept = analyze(refusing, asked | {"dropUnsupportedAttributes": True})
    assert list(kept["attributeScores"]) == ["TOXICITY"]


def test_a_retrained_model_keeps_the_languages_of_what_it_was_retrained_from(refusing: Compat) -> None:
    card = refusing.models.loaded["text-multi"].card
    refusing.models.cards["text-multi", 1] = replace(card, about={"parent": "text-multi@7"})
    refusing.models.cards["text-multi", 7] = card
    assert analyze(refusing, a_request(ABUSE, "IDENTITY_ATTACK", languages=["pt"]))["attributeScores"]
    the_error(refusing.post(PATH, a_request(GERMAN, "IDENTITY_ATTACK")))


@pytest.mark.parametrize("name", sorted(name for name, label in ATTRIBUTES.items() if label is None))
def test_an_attribute_that_no_model_scores_is_an_error_and_no_number(refusing: Compat, name: str) -> None:
    error = the_error(refusing.post(PATH, a_request(ABUSE, "TOXICITY", name)))
    assert kind_of(error) == "INVALID_REQUEST"
    assert error["message"].startswith(f"Unknown requested attribute: {name}. Known here: TOXICITY, ")
    kept = analyze(refusing, a_request(ABUSE, "TOXICITY", name, dropUnsupportedAttributes=True))
    assert list(kept["attributeScores"]) == ["TOXICITY"]
    assert analyze(refusing, a_request(ABUSE, name, dropUnsupportedAttributes=True))["attributeScores"] == {}


PRODUCTION = ("TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT")
"""What most clients of Perspective ask for, in one request."""


def test_the_usual_request_is_answered_with_what_is_scored(compat: Compat) -> None:
    response = compat.post(PATH, a_request(ABUSE, *PRODUCTION))
    assert response.status_code == 200, response.text
    assert list(response.json()["attributeScores"]) == ["TOXICITY", "IDENTITY_ATTACK", "INSULT"]
    assert response.headers["Seawall-Omitted"] == "SEVERE_TOXICITY, PROFANITY, THREAT"
    assert "Seawall-Untrained" not in response.headers
    error = the_error(compat.post(PATH, a_request(ABUSE, "TOXICITY", "NEW")))  # Perspective had none of that name
    assert error["message"].startswith("Unknown requested attribute: NEW")


def test_nothing_that_is_asked_for_is_scored_and_that_is_said(compat: Compat) -> None:
    response = compat.post(PATH, a_request(ABUSE, "THREAT"))
    assert (response.status_code, response.json()["attributeScores"]) == (200, {})
    assert response.headers["Seawall-Omitted"] == "THREAT"
    assert compat.models.calls == []


def test_a_language_that_nobody_named_is_scored_and_marked_where_it_was_not_learned(compat: Compat) -> None:
    response = compat.post(PATH, a_request(TURKISH))
    assert response.status_code == 200, response.text
    assert 0 <= response.json()["attributeScores"]["TOXICITY"]["summaryScore"]["value"] <= 1
    assert (response.json()["languages"], response.headers["Seawall-Untrained"]) == (["tr"], "TOXICITY=tr")
    german = compat.post(PATH, a_request(GERMAN, "TOXICITY", "IDENTITY_ATTACK", "MISINFORMATION"))
    assert list(german.json()["attributeScores"]) == ["TOXICITY", "IDENTITY_ATTACK"]
    assert german.headers["Seawall-Untrained"] == "IDENTITY_ATTACK=de"
    assert german.headers["Seawall-Omitted"] == "MISINFORMATION"  # no model is asked of German
    dropped = compat.post(PATH, a_request(GERMAN, "TOXICITY", "IDENTITY_ATTACK", dropUnsupportedAttributes=True))
    assert list(dropped.json()["attributeScores"]) == ["TOXICITY"]
    assert dropped.headers["Seawall-Omitted"] == "IDENTITY_ATTACK"


def test_in_a_language_that_is_named_only_what_was_learned_in_it_is_scored(compat: Compat) -> None:
    response = compat.post(PATH, a_request(GERMAN, *PRODUCTION, languages=["de"]))
    assert list(response.json()["attributeScores"]) == ["TOXICITY", "INSULT"]
    assert response.headers["Seawall-Omitted"] == "SEVERE_TOXICITY, PROFANITY, THREAT, IDENTITY_ATTACK"
    error = the_error(compat.post(PATH, a_request(TURKISH, languages=["tr"])))  # nothing at all: as Perspective's
    assert kind_of(error) == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"comment": None}, "COMMENT_EMPTY", "Comment must be non-empty."),
    ({"comment": {}}, "COMMENT_EMPTY", "Comment must be non-empty."),
    ({"comment": {"text": ""}}, "COMMENT_EMPTY", "Comment must be non-empty."),
    ({"comment": {"text": "x" * 40_001}}, "COMMENT_TOO_LONG", "40001 characters, the bound is 40000"),
    ({"comment": {"text": "a", "type": "HTML"}}, "INVALID_REQUEST", "only 'PLAIN_TEXT' comments"),
    ({"comment": {"text": "a", "type": "MARKDOWN"}}, "INVALID_REQUEST", "Unknown text type: MARKDOWN"),
    ({"context": {"entries": [{"text": "a", "type": "HTML"}]}}, "INVALID_REQUEST", "only 'PLAIN_TEXT'"),
    (
        {"context": {"entries": [{"text": "a"}], "articleAndParentComment": {"article": {"text": "b"}}}},
        "INVALID_REQUEST",
        "both fields were populated",
    ),
    ({"requestedAttributes": None}, "NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes"),
    ({"requestedAttributes": {}}, "NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes"),
    ({"requestedAttributes": {"toxicity": {}}}, "INVALID_REQUEST", "Unknown requested attribute: toxicity"),
    ({"requestedAttributes": {"TOXICITY@6": {}}}, "INVALID_REQUEST", "Unknown requested attribute: TOXICITY@6"),
    ({"requestedAttributes": {"": {}}}, "INVALID_REQUEST", "Unknown requested attribute: "),
    (
        {"requestedAttributes": {"NEW": {}}, "dropUnsupportedAttributes": True},
        "INVALID_REQUEST",
        "Unknown requested attribute: NEW",
    ),
    (
        {"requestedAttributes": {"TOXICITY": {"scoreType": "PERCENTILE"}}},
        "INVALID_REQUEST",
        "score type PERCENTILE is not supported by attribute TOXICITY",
    ),
    ({"requestedAttributes": {"TOXICITY": {"scoreType": "LOUD"}}}, "INVALID_REQUEST", "score type 'LOUD' is not"),
    ({"languages": ["english"]}, "INVALID_REQUEST", "Invalid language code: 'english'"),
    ({"languages": [""]}, "INVALID_REQUEST", "Invalid language code: ''"),
    ({"languages": ["en"] * 9}, "INVALID_REQUEST", "9 languages, the bound is 8"),
    ({"languages": ["und"]}, "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE", "request languages: und"),
]


@pytest.mark.parametrize(("change", "kind", "message"), BAD)
def test_bad_requests_are_perspective_s_errors(compat: Compat, change: dict[str, Any], kind: str, message: str) -> None:
    error = the_error(compat.post(PATH, a_request() | change))
    assert kind_of(error) == kind
    assert message in error["message"]


def test_a_request_without_a_body_has_a_detail_as_every_other_error(compat: Compat) -> None:
    assert kind_of(the_error(compat.send("POST", PATH))) == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("", None),
        ("not json", None),
        ('{"comment": {"text": "\\ud800"}}', None),
        ("[]", ""),
        ("7", ""),
        ('{"comment": "text"}', "comment"),
        ('{"comment": {"text": 7}}', "comment.text"),
        ('{"comment": {"text": "a", "html": true}}', "comment.html"),
        ('{"comment": {"text": "a"}, "attributes": {}}', "attributes"),
        ('{"requestedAttributes": ["TOXICITY"]}', "requestedAttributes"),
        ('{"requestedAttributes": {"TOXICITY": null}}', "requestedAttributes.TOXICITY"),
        ('{"requestedAttributes": {"TOXICITY": {"threshold": 1}}}', "requestedAttributes.TOXICITY.threshold"),
        ('{"requestedAttributes": {"TOXICITY": {"scoreThreshold": "high"}}}', "requestedAttributes.TOXICITY"),
        ('{"requestedAttributes": {"TOXICITY": {"scoreThreshold": NaN}}}', None),
        ('{"languages": "en"}', "languages"),
        ('{"languages": [1]}', "languages.0"),
        ('{"doNotStore": "perhaps"}', "doNotStore"),
        ('{"spanAnnotations": 2}', "spanAnnotations"),
        ('{"clientToken": 1}', "clientToken"),
        ('{"context": {"entries": [null]}}', "context.entries.0"),
    ],
)
def test_what_does_not_fit_the_messages_is_told_with_its_field(compat: Compat, raw: str, field: str | None) -> None:
    error = the_error(compat.send("POST", PATH, content=raw))
    if field is None:
        assert error["details"][0]["@type"]  # clients read the first without asking
        return
    [detail] = error["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"].startswith(field)
    assert detail["fieldViolations"][0]["description"]


def test_bounds_media_types_and_failures_are_told_too(compat: Compat) -> None:
    assert "1000000" in the_error(compat.send("POST", PATH, content=b" " * 1_000_001), 413)["message"]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    the_error(compat.send("POST", PATH, content="{}", headers=form), 415)
    compat.models.error = TimeoutError()
    response = compat.post(PATH, a_request())
    the_error(response, 503, "UNAVAILABLE")
    assert response.headers["retry-after"] == "1"
