"""OpenAI's moderations, on real models, in process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openai.types import ModerationCreateResponse

from moderation.policy import threshold_of
from moderation.settings import DEPLOYMENTS
from serve.compat.labels import CATEGORIES
from serve.grouping import QueueFullError
from tests.serve.compat.routes import Compat

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


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}


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
    assert result["seawall"] == {"languages": ["en"], "untrained": []}
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


def test_a_label_without_a_rule_has_a_score_and_no_verdict(
    make_compat: Callable[[Path], Compat], tmp_path: Path
) -> None:
    policy = yaml.safe_load((DEPLOYMENTS / "policies/default.yaml").read_text(encoding="utf-8"))
    policy["labels"].pop("hate")
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    topology = yaml.safe_load((DEPLOYMENTS / "local.yaml").read_text(encoding="utf-8"))
    topology |= {"policy": "policy.yaml", "blocklist": str(DEPLOYMENTS / "blocklist.txt")}
    (tmp_path / "topology.yaml").write_text(yaml.safe_dump(topology), encoding="utf-8")
    [result] = moderate(make_compat(tmp_path / "topology.yaml"), KIND)["results"]
    assert result["categories"]["hate"] is None
    assert result["category_scores"]["hate"] is not None
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


def test_a_content_of_images_alone_is_refused_and_not_called_harmless(compat: Compat) -> None:
    error = the_error(compat.post(PATH, {"input": [IMAGE, IMAGE]}))
    assert (error["param"], error["code"]) == ("input", "unsupported_input_type")
    assert "Images are not scored" in error["message"]
    assert compat.models.calls == []


def test_languages_are_told_and_categories_that_were_not_learned_in_them(compat: Compat) -> None:
    german = "Die Tomaten im Garten sind endlich reif geworden, alle dürfen welche nehmen"
    turkish = "Bu sabah bahçede domatesler sonunda kızardı, herkese teşekkürler"
    results = moderate(compat, [KIND, german, turkish])["results"]
    assert [result["seawall"] for result in results] == [
        {"languages": ["en"], "untrained": []},
        {"languages": ["de"], "untrained": ["hate"]},
        {"languages": ["tr"], "untrained": ["harassment", "hate"]},
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
    large = compat.send("POST", PATH, content=b" " * 1_000_001, headers={"Content-Type": "application/json"})
    assert "the bound is 1000000" in the_error(large, 413)["message"]
    plain = compat.send("POST", PATH, content="{}", headers={"Content-Type": "text/plain"})
    assert "text/plain" in the_error(plain, 415)["message"]


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("gone"), QueueFullError(1)])
def test_a_model_that_fails_is_no_verdict(compat: Compat, error: Exception) -> None:
    compat.models.error = error
    response = compat.post(PATH, {"input": KIND})
    assert the_error(response, 503)["type"] == "server_error"
    assert response.headers["retry-after"] == "1"
