"""What the API says of itself: an example for every route, which its own model takes, and what it may refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from moderation.labels import BY_NAME
from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.compat.discovery import document
from serve.context import current
from serve.gateway import api
from serve.http.problems import OF_A_BODY
from serve.posts import examples
from serve.statements.statement import RETRACTION, SCHEMAS, STATEMENT
from tests.moderation.storage.rows import an_entry, record
from tests.rooms import TOPOLOGY

DOCUMENT = api.openapi()
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method in METHODS
}
WITH_BODY = sorted(name for name, operation in OPERATIONS.items() if "requestBody" in operation)
WITHOUT_BODY = sorted(set(OPERATIONS) - set(WITH_BODY))
COMPATIBLE = {
    "POST /v1/moderations",
    "POST /v1alpha1/comments:analyze",
    "POST /v1alpha1/comments:suggestscore",
    "GET /$discovery/rest",
}
"""Their errors are in another service's shape."""
PROBLEM = "application/problem+json"
PLACES = {"post_id": "p-1", "reporter_id": "u-9", "reviewer_id": "mod-3", "review_id": "1", "fuse_id": "1"}


def models() -> dict[str, type[BaseModel]]:
    """Seawall's models by name, as a schema's title is."""
    found: dict[str, type[BaseModel]] = {}
    left: list[type[BaseModel]] = [BaseModel]
    while left:
        for model in left.pop().__subclasses__():
            left.append(model)
            if model.__module__.split(".")[0] in ("moderation", "serve"):
                found[model.__name__] = model
    return found


MODELS = models()


def asked(name: str) -> Iterator[tuple[str, type[BaseModel], dict[str, Any]]]:
    """The examples of a route's body, with their media type and the model that reads them."""
    for media_type, content in OPERATIONS[name]["requestBody"]["content"].items():
        schema = content["schema"]
        post = schema["properties"]["post"] if media_type == "multipart/form-data" else schema
        for example in schema["examples"]:
            yield media_type, MODELS[post["title"]], example["post"] if post is not schema else example


def answered(name: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """The examples of a route's answers, with the schema of each; {}: it has none."""
    for status, response in OPERATIONS[name]["responses"].items():
        for content in response.get("content", {}).values():
            if "example" in content:
                assert status == "200"
                yield content.get("schema", {}), content["example"]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_route_says_what_it_does_and_has_an_example(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    if "requestBody" in operation:
        types = list(operation["requestBody"]["content"])
        assert types
        assert [media_type for media_type, _, _ in asked(name)] == types
    else:
        assert len(list(answered(name))) == 1


@pytest.mark.parametrize("name", WITH_BODY)
def test_the_example_of_a_body_is_valid(name: str) -> None:
    for media_type, model, example in asked(name):
        model.model_validate_json(json.dumps(example))
        if media_type != "multipart/form-data":
            jsonschema.validate(example, OPERATIONS[name]["requestBody"]["content"][media_type]["schema"])


@pytest.mark.parametrize("name", sorted(name for name in OPERATIONS if list(answered(name))))
def test_the_example_of_an_answer_is_valid_and_leaves_nothing_out(name: str) -> None:
    for schema, example in answered(name):
        whole = schema | {"components": DOCUMENT["components"]}
        jsonschema.validate(example, whole, format_checker=jsonschema.FormatChecker())
        title = schema.get("items", schema).get("$ref", "").rsplit("/", 1)[-1]
        if title:
            expected = set(DOCUMENT["components"]["schemas"][title]["properties"])
            assert {name for item in (example if isinstance(example, list) else [example]) for name in item} == expected


def test_the_decision_that_is_shown_speaks_of_every_label() -> None:
    assert set(examples.DECISION.labels) == set(BY_NAME)
    [(_, example)] = answered("GET /v1/posts/{post_id}")
    assert example == examples.DECISION.model_dump(mode="json")
    assert example["labels"]["nudity"]["score"] is None  # null is not zero, and not absent


@pytest.mark.parametrize(
    ("path", "schema"), [("/v1/statements", STATEMENT), ("/v1/statements/retractions", RETRACTION)]
)
def test_the_statements_that_are_shown_fit_their_schema(path: str, schema: str) -> None:
    [(_, example)] = answered(f"GET {path}")
    jsonschema.validate(example, json.loads((SCHEMAS / schema).read_text(encoding="utf-8")))


def test_the_discovery_document_that_is_shown_is_the_one_that_is_answered() -> None:
    [(_, example)] = answered("GET /$discovery/rest")
    assert example == document("http://127.0.0.1:8000/")


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_route_says_what_it_refuses_and_in_which_shape(name: str) -> None:
    responses = OPERATIONS[name]["responses"]
    shape = "application/json" if name in COMPATIBLE else PROBLEM
    for status, response in responses.items():
        if status not in ("200", "201"):
            of_the_proxy = {PROBLEM} if status == "503" else set()
            assert set(response["content"]) == {shape} | of_the_proxy, status
            assert response["description"]
    assert {"503", "default"} <= set(responses)
    if "requestBody" in OPERATIONS[name]:
        # A line of NDJSON is refused within the answer.
        lines = "application/x-ndjson" in OPERATIONS[name]["requestBody"]["content"]
        body = {413, 415} if lines else {400, 413, 415} if name in COMPATIBLE else set(OF_A_BODY)
        assert {str(status) for status in body} <= set(responses)


@pytest.fixture
def client(ledger: Ledger) -> Iterator[TestClient]:
    """The API without a cluster: of it, what stands on the ledger alone."""
    context = SimpleNamespace(topology=Topology.load(TOPOLOGY), ledger=ledger)
    api.dependency_overrides[current] = lambda: context
    yield TestClient(api)
    del api.dependency_overrides[current]


ON_THE_LEDGER = sorted(
    name
    for name in OPERATIONS
    if "people" in OPERATIONS[name].get("tags", [])
    or name in ("POST /v1/events", "GET /v1/metrics/online", "GET /v1/labels/export")
)


@pytest.mark.parametrize("name", ON_THE_LEDGER)
def test_an_example_is_taken_as_it_is_sent(name: str, client: TestClient, ledger: Ledger) -> None:
    record(ledger, an_entry(author="u-4711"))
    method, path = name.split()
    bodies = asked(name) if name in WITH_BODY else [("application/json", BaseModel, None)]
    for media_type, _, example in bodies:
        content = None if example is None else json.dumps(example)
        response = client.request(method, path.format(**PLACES), content=content, headers={"Content-Type": media_type})
        # Nothing was removed, leased or tripped here.
        expected = {"appeals": 409, "reviews/{": 404, "fuses/{": 404}
        wrong = next((status for part, status in expected.items() if part in path and method != "GET"), None)
        assert response.status_code == (wrong or (201 if "201" in OPERATIONS[name]["responses"] else 200))
        assert str(response.status_code) in OPERATIONS[name]["responses"]


def test_no_reference_leads_nowhere() -> None:
    known = DOCUMENT["components"]["schemas"]

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    operations = json.loads(json.dumps(DOCUMENT["paths"]))
    for response in (
        item for path in operations.values() for method in path.values() for item in method["responses"].values()
    ):
        for content in response.get("content", {}).values():
            content.pop("example", None)  # Perspective's document has references of its own
    found = references(operations)
    assert found
    assert {reference.removeprefix("#/components/schemas/") for reference in found} <= set(known)
    assert not {"HTTPValidationError", "ValidationError"} & set(known)  # a problem says it
