"""The discovery document, as Google's own library reads it."""

from __future__ import annotations

import json

import pytest
from googleapiclient.discovery import build_from_document

from serve.compat.discovery import document
from tests.serve.compat.routes import Compat

PATH = "/$discovery/rest?version=v1alpha1"


@pytest.mark.parametrize(
    ("host", "headers", "root"),
    [
        ("seawall.test", {}, "http://seawall.test/"),
        ("seawall.test:8000", {}, "http://seawall.test:8000/"),
        ("127.0.0.1:9", {}, "http://127.0.0.1:9/"),
        ("[::1]:8000", {}, "http://[::1]:8000/"),
        ("seawall.test", {"X-Forwarded-Proto": "https"}, "https://seawall.test/"),
        ("seawall.test", {"X-Forwarded-Proto": "https, http"}, "https://seawall.test/"),
        ("seawall.test", {"X-Forwarded-Proto": "gopher"}, "http://seawall.test/"),
        ("seawall.test", {"Host": "moderation.example:444"}, "http://moderation.example:444/"),
    ],
)
def test_the_root_is_the_host_that_was_asked(compat: Compat, host: str, headers: dict[str, str], root: str) -> None:
    response = compat.send("GET", PATH, host=host, headers=headers)
    assert response.status_code == 200, response.text
    assert response.json() == document(root)
    assert response.headers["vary"] == "Host, X-Forwarded-Proto"


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "user@host", "host:port", "a\\b", "-a", "h?x", '"', "[::1", "h:123456"]
)
def test_a_host_that_is_none_is_refused(compat: Compat, host: str) -> None:
    response = compat.send("GET", PATH, headers={"Host": host})
    assert response.status_code == 400
    assert response.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_another_version_is_not_found(compat: Compat) -> None:
    for path in ("/$discovery/rest?version=v2", "/discovery/v1/apis/commentanalyzer/v2/rest"):
        response = compat.send("GET", path)
        assert response.status_code == 404
        assert response.json()["error"]["status"] == "NOT_FOUND"


def test_the_older_path_and_a_key_give_the_same(compat: Compat) -> None:
    same = compat.send("GET", PATH).json()
    assert compat.send("GET", "/discovery/v1/apis/commentanalyzer/v1alpha1/rest").json() == same
    assert compat.send("GET", f"{PATH}&key=secret").json() == same
    assert compat.send("GET", "/$discovery/rest").json() == same


def test_google_s_library_builds_the_methods_from_it() -> None:
    with build_from_document(json.dumps(document("http://seawall.test/"))) as client:
        request = client.comments().analyze(body={"comment": {"text": "a"}})
        assert request.uri == "http://seawall.test/v1alpha1/comments:analyze?alt=json"
        assert client.comments().suggestscore(body={}).uri.endswith("/v1alpha1/comments:suggestscore?alt=json")


def test_every_reference_leads_somewhere_and_every_schema_is_perspective_s() -> None:
    schemas = document("http://x/")["schemas"]
    assert set(schemas) == {
        "AnalyzeCommentRequest",
        "AnalyzeCommentResponse",
        "ArticleAndParentComment",
        "AttributeParameters",
        "AttributeScores",
        "Context",
        "Score",
        "SpanScore",
        "SuggestCommentScoreRequest",
        "SuggestCommentScoreResponse",
        "TextEntry",
    }
    text = json.dumps(schemas)
    assert "$defs" not in text
    assert "anyOf" not in text
    assert {part.split('"')[0] for part in text.split('"$ref": "')[1:]} <= set(schemas)
    assert schemas["SpanScore"]["properties"]["begin"]["format"] == "int32"
    assert schemas["Score"]["properties"]["type"]["enum"][1] == "PROBABILITY"
    assert schemas["AnalyzeCommentRequest"]["properties"]["requestedAttributes"]["additionalProperties"] == {
        "$ref": "AttributeParameters"
    }


def test_the_routes_are_documented_and_no_reference_leads_nowhere(compat: Compat) -> None:
    described = compat.app.openapi()
    assert {
        "/v1/moderations",
        "/v1alpha1/comments:analyze",
        "/v1alpha1/comments:suggestscore",
        "/$discovery/rest",
    } == set(described["paths"])
    text = json.dumps(described)
    named = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= set(described["components"]["schemas"])
    for path in ("/v1/moderations", "/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore"):
        [example] = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["examples"]
        assert compat.send("POST", path, json=example).status_code == 200
