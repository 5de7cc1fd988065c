"""OpenAI's moderations, on real models, in process."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openai.types import ModerationCreateResponse
from PIL import Image

from moderation.media import Failed, Words, Written
from moderation.policy import threshold_of
from moderation.settings import DEPLOYMENTS
from serve.compat.labels import CATEGORIES
from serve.errors import QueueFullError
from tests.media_samples import encoded
from tests.serve.compat.routes import CLEAN, Compat

PATH = "/v1/moderations"
ABUSE = "you are such a stupid bitch, shut the fuck up you worthless piece of trash"
KIND = "The train leaves at nine and arrives before noon."
SCORED = {"harassment", "hate"}


def moderate(compat: Compat, content: Any, **more: Any) -> dict[str, Any]:
    response = compat.post(PATH, {"input": content, **more})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def the_error(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def image_part(data: bytes) -> dict[str, Any]:
    url = f"data:image/png;base64,{b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def written(text: str, *, unreadable: int = 0) -> Written:
    box = (0.1, 0.2, 0.9, 0.3)
    return Written((Words(text, 0.99, box, None),), (box,) * unreadable)


PNG = encoded(Image.new("RGB", (32, 32), "red"), "PNG")
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}


def test_a_text_of_an_unsure_language_has_the_surest_score_of_those_that_are_likely(compat: Compat) -> None:
    [result] = moderate(compat, "you idiot")["results"]
    [(_, texts, known)] = compat.models.calls
    assert texts == ["you idiot"] * 4
    assert [features["language"] for features in known] == ["und", "es", "en", "hr"]
    scored = compat.models.loaded["text-multi"].score(texts, known).confidence[:, 0]
    assert result["category_scores"]["harassment"] == pytest.approx(float(scored.max()), abs=1e-4)
    assert result["seawall"]["languages"] == ["und"]
    assert "harassment" not in result["seawall"]["untrained"]


def test_a_text_is_scored_and_what_nobody_scores_is_null(compat: Compat) -> None:
    body = moderate(compat, ABUSE, model="omni-moderation-latest")
    assert body["id"].startswith("modr-")
    assert body["model"] == "text-multi@1"
    [result] = body["results"]
    assert result["flagged"] is True
    for part in ("categories", "category_scores", "category_applied_input_types"):
        assert list(result[part]) == list(CATEGORIES)
    assert result["categories"]["harassment"] is True
    assert result["category_scores"]["harassment"] > 0.5
    for name in set(CATEGORIES) - SCORED:
        assert (result["categories"][name], result["category_scores"][name]) == (None, None)
        assert result["category_applied_input_types"][name] == []
    assert all(result["category_applied_input_types"][name] == ["text"] for name in SCORED)
    assert result["seawall"] == {"languages": ["en"], "untrained": [], "not_scored": {}}
    assert compat.rows() == ([], [])


def test_the_client_s_own_model_takes_the_answer(compat: Compat) -> None:
    parsed = ModerationCreateResponse.construct(**moderate(compat, [ABUSE, KIND]))
    assert [result.flagged for result in parsed.results] == [True, False]


def test_flags_follow_the_policy_s_thresholds_and_nothing_else(compat: Compat) -> None:
    card = compat.models.loaded["text-multi"].card
    rule = compat.context.topology.policy.rules("*")["abuse"]
    threshold = threshold_of(card.curve("abuse", "en"), rule.objective, rule.prevalence)
    assert threshold is not None
    texts = [ABUSE, KIND, "you are an idiot", "what an idiot I am", "stupid weather", "shut up", "trash day is Monday"]
    results = moderate(compat, texts)["results"]
    scores = [result["category_scores"]["harassment"] for result in results]
    assert [result["categories"]["harassment"] for result in results] == [score >= threshold for score in scores]
    assert [result["flagged"] for result in results] == [any(result["categories"].values()) for result in results]


def test_another_policy_flags_otherwise(make_compat: Callable[[Path], Compat], tmp_path: Path) -> None:
    def flagged(objective: str) -> list[bool]:
        policy = yaml.safe_load((DEPLOYMENTS / "policies/default.yaml").read_text(encoding="utf-8"))
        policy["labels"]["abuse"].update(objective=objective, remove_objective=None)
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
        topology = yaml.safe_load((DEPLOYMENTS / "local.yaml").read_text(encoding="utf-8"))
        topology |= {"policy": "policy.yaml", "blocklist": str(DEPLOYMENTS / "blocklist.txt")}
        (tmp_path / "topology.yaml").write_text(yaml.safe_dump(topology), encoding="utf-8")
        results = moderate(make_compat(tmp_path / "topology.yaml"), [ABUSE, "shut up", KIND])["results"]
        return [result["categories"]["harassment"] for result in results]

    assert flagged("precision>=0.999") == [False, False, False]
    assert flagged("recall>=0.5") == [True, False, False]
    assert flagged("precision>=0.3") == [True, True, False]


def test_a_label_that_a_topology_does_without_has_no_score_and_no_verdict(
    make_compat: Callable[[Path], Compat], tmp_path: Path
) -> None:
    policy = yaml.safe_load((DEPLOYMENTS / "policies/default.yaml").read_text(encoding="utf-8"))
    policy["labels"].pop("hate")
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    topology = yaml.safe_load((DEPLOYMENTS / "local.yaml").read_text(encoding="utf-8"))
    topology |= {"policy": "policy.yaml", "blocklist": str(DEPLOYMENTS / "blocklist.txt")}
    topology["variants"]["text-multi"]["labels"] = ["abuse"]
    (tmp_path / "topology.yaml").write_text(yaml.safe_dump(topology), encoding="utf-8")
    [result] = moderate(make_compat(tmp_path / "topology.yaml"), KIND)["results"]
    assert result["categories"]["hate"] is None
    assert result["category_scores"]["hate"] is None
    assert result["category_scores"]["harassment"] is not None
    assert result["flagged"] is False


def test_texts_are_scored_in_order_in_one_call(compat: Compat) -> None:
    texts = [ABUSE if number % 3 == 0 else f"{KIND} {number}" for number in range(50)]
    results = moderate(compat, texts)["results"]
    scores = [result["category_scores"]["harassment"] for result in results]
    assert min(scores[::3]) > max(scores[1::3] + scores[2::3])
    assert [(variant, said) for variant, said, _ in compat.models.calls] == [("text-multi", texts)]


def test_parts_are_one_content_and_its_gravest_text_counts(compat: Compat) -> None:
    [result] = moderate(compat, [text_part(KIND), IMAGE, text_part(ABUSE)])["results"]
    [alone] = moderate(compat, ABUSE)["results"]
    assert result["flagged"] is True
    assert result["category_scores"]["harassment"] == alone["category_scores"]["harassment"]
    assert all("image" not in types for types in result["category_applied_input_types"].values())
    assert list(result["seawall"]["not_scored"]) == ["input[1].image_url"]


def test_a_content_of_images_that_cannot_be_read_is_refused_and_not_called_harmless(compat: Compat) -> None:
    error = the_error(compat.post(PATH, {"input": [IMAGE, IMAGE]}))
    assert (error["param"], error["code"]) == ("input", "unsupported_input_type")
    assert error["message"].startswith("Nothing can be said of this content: input[0].image_url was not scored: ")
    assert "example.org" in error["message"]
    assert compat.models.calls == []


def test_what_an_image_shows_is_sexual_or_not_and_nothing_is_kept(compat: Compat) -> None:
    compat.models.shown = replace(CLEAN, scores={"nudity": 0.97})
    [result] = moderate(compat, [image_part(PNG)])["results"]
    assert (result["categories"]["sexual"], result["category_scores"]["sexual"]) == (True, 0.97)
    assert result["category_applied_input_types"]["sexual"] == ["image"]
    assert result["flagged"] is True
    assert result["category_scores"]["harassment"] is None  # nothing is written in it
    assert result["seawall"] == {"languages": [], "untrained": [], "not_scored": {}}
    compat.models.shown = CLEAN
    other = moderate(compat, [image_part(PNG)])
    assert (other["results"][0]["flagged"], other["model"]) == (False, "image-multi@1")
    assert not [path for path in compat.store.rglob("*") if path.is_file()]
    assert compat.rows() == ([], [])


def test_what_is_written_in_an_image_counts_beside_the_text(compat: Compat) -> None:
    compat.models.shown = replace(CLEAN, written=written(ABUSE, unreadable=1))
    body = moderate(compat, [text_part(KIND), image_part(PNG)])
    [result] = body["results"]
    [alone] = moderate(compat, ABUSE)["results"]
    assert body["model"] == "image-multi@1,text-multi@1"
    assert result["category_scores"]["harassment"] == alone["category_scores"]["harassment"]
    assert result["category_applied_input_types"]["harassment"] == ["text", "image"]
    assert result["category_applied_input_types"]["sexual"] == ["image"]
    assert result["seawall"]["not_scored"] == {"input[1].image_url": "unreadable_text"}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("data:image/png;base64,%%%%", "data is not base64"),
        ("data:image/png,abcd", "uri is 'data:image/png,abcd'; it must begin with"),
        ("http://example.org/cat.png", "it must begin with s3:// or https://"),
        ("https://127.0.0.1/cat.png", "127.0.0.1"),
        ("https://example.org/" + "x" * 3000, "url: String should have at most 2048 characters"),
    ],
)
def test_an_image_that_cannot_be_had_is_told_beside_a_text(url: str, why: str, compat: Compat) -> None:
    [result] = moderate(compat, [text_part(ABUSE), {"type": "image_url", "image_url": {"url": url}}])["results"]
    assert result["flagged"] is True
    assert why in result["seawall"]["not_scored"]["input[1].image_url"]


def test_an_image_that_failed_is_told(compat: Compat) -> None:
    compat.models.shown = Failed("the decoder crashed")
    [result] = moderate(compat, [text_part(KIND), image_part(PNG)])["results"]
    assert result["seawall"]["not_scored"] == {"input[1].image_url": "the decoder crashed"}
    assert result["category_scores"]["sexual"] is None
    response = compat.post(PATH, {"input": [image_part(PNG)]})
    assert "the decoder crashed" in the_error(response, 503)["message"]
    assert response.headers["retry-after"] == "1"


def test_images_have_bounds(compat: Compat) -> None:
    error = the_error(compat.post(PATH, {"input": [image_part(PNG)] * 11}))
    assert error["message"] == "input: 11 images, the bound is 10"
    large = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_500_000}}
    [result] = moderate(compat, [text_part(KIND), large])["results"]  # longer than a body of texts may be
    assert result["seawall"]["not_scored"] == {}
    response = compat.post(PATH, {"input": ["x" * 30_000] * 40})
    assert (response.status_code, response.json()["error"]["message"]) == (
        413,
        "the body has 1200131 bytes, the bound without images is 1000000",
    )


def test_languages_are_told_and_categories_that_were_not_learned_in_them(compat: Compat) -> None:
    german = "Die Tomaten im Garten sind endlich reif geworden, alle dürfen welche nehmen"
    turkish = "Bu sabah bahçede domatesler sonunda kızardı, herkese teşekkürler"
    results = moderate(compat, [KIND, german, turkish])["results"]
    assert [result["seawall"] for result in results] == [
        {"languages": ["en"], "untrained": [], "not_scored": {}},
        {"languages": ["de"], "untrained": ["hate"], "not_scored": {}},
        {"languages": ["tr"], "untrained": ["harassment", "hate"], "not_scored": {}},
    ]


def test_a_text_that_no_variant_takes_is_an_error(make_compat: Callable[[Path], Compat], tmp_path: Path) -> None:
    topology = yaml.safe_load((DEPLOYMENTS / "local.yaml").read_text(encoding="utf-8"))
    topology["policy"] = str(DEPLOYMENTS / topology["policy"])
    topology["blocklist"] = str(DEPLOYMENTS / topology["blocklist"])
    topology["routes"][0]["languages"] = ["de"]
    (tmp_path / "topology.yaml").write_text(yaml.safe_dump(topology), encoding="utf-8")
    error = the_error(make_compat(tmp_path / "topology.yaml").post(PATH, {"input": KIND}))
    assert "no category is scored" in error["message"]
    assert "en" in error["message"]


@pytest.mark.parametrize("text", ["", " ", "\u200b\u202e", "🍅" * 500, "a\0b", "ﷺ" * 1000, "x" * 40_000, "1"])
def test_strange_texts_are_scored(compat: Compat, text: str) -> None:
    [result] = moderate(compat, text)["results"]
    assert result["category_scores"]["harassment"] is not None


@pytest.mark.parametrize(
    ("raw", "param", "code"),
    [
        ("", None, "invalid_json"),
        ("not json", None, "invalid_json"),
        ('{"input": "a"', None, "invalid_json"),
        ('{"input": "\\ud800"}', None, "invalid_json"),
        ("[]", None, "invalid_value"),
        ("null", None, "invalid_value"),
        ('"text"', None, "invalid_value"),
        ("{}", "input", "missing_required_parameter"),
        ('{"model": "m"}', "input", "missing_required_parameter"),
        ('{"input": null}', "input", "invalid_value"),
        ('{"input": 7}', "input", "invalid_value"),
        ('{"input": true}', "input", "invalid_value"),
        ('{"input": {}}', "input", "invalid_value"),
        ('{"input": []}', "input", "invalid_value"),
        ('{"input": [7]}', "input[0]", "invalid_value"),
        ('{"input": [[1, 2]]}', "input[0]", "invalid_value"),
        ('{"input": ["a", null]}', "input[1]", "invalid_value"),
        ('{"input": ["a", {"type": "text", "text": "b"}]}', "input[1]", "invalid_value"),
        ('{"input": [{"type": "text", "text": "b"}, "a"]}', "input[1]", "invalid_value"),
        ('{"input": [{}]}', "input[0]", "invalid_value"),
        ('{"input": [{"type": "audio"}]}', "input[0]", "invalid_value"),
        ('{"input": [{"type": "text"}]}', "input[0].text", "missing_required_parameter"),
        ('{"input": [{"type": "text", "text": 1}]}', "input[0].text", "invalid_value"),
        ('{"input": [{"type": "text", "text": "a", "more": 1}]}', "input[0].more", "unknown_parameter"),
        ('{"input": [{"type": "image_url"}]}', "input[0].image_url", "missing_required_parameter"),
        ('{"input": [{"type": "image_url", "image_url": "u"}]}', "input[0].image_url", "invalid_value"),
        ('{"input": [{"type": "image_url", "image_url": {}}]}', "input[0].image_url.url", "missing_required_parameter"),
        ('{"input": "a", "model": 7}', "model", "invalid_value"),
        ('{"input": "a", "temperature": 1}', "temperature", "unknown_parameter"),
        (json.dumps({"input": "x" * 40_001}), "input", "string_above_max_length"),
        (json.dumps({"input": ["a", "x" * 40_001]}), "input[1]", "string_above_max_length"),
        (json.dumps({"input": [text_part("x" * 40_001)]}), "input[0].text", "string_above_max_length"),
        (json.dumps({"input": ["a"] * 1001}), "input", "array_above_max_length"),
        (json.dumps({"input": [IMAGE] * 1001 + [text_part("a")]}), "input", "array_above_max_length"),
    ],
)
def test_bad_requests_are_told_as_openai_tells_them(compat: Compat, raw: str, param: str | None, code: str) -> None:
    response = compat.send("POST", PATH, content=raw, headers={"Content-Type": "application/json"})
    error = the_error(response)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert compat.models.calls == []


def test_bounds_and_media_types_are_told_too(compat: Compat) -> None:
    large = compat.send("POST", PATH, content=b" " * 16_000_001, headers={"Content-Type": "application/json"})
    assert "the bound is 16000000" in the_error(large, 413)["message"]
    plain = compat.send("POST", PATH, content="{}", headers={"Content-Type": "text/plain"})
    assert "text/plain" in the_error(plain, 415)["message"]


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("gone"), QueueFullError("full", 1, 1)])
def test_a_model_that_fails_is_no_verdict(compat: Compat, error: Exception) -> None:
    compat.models.error = error
    response = compat.post(PATH, {"input": KIND})
    assert the_error(response, 503)["type"] == "server_error"
    assert response.headers["retry-after"] == "1"
