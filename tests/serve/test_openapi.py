"""What the API says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from serve.gateway import api

OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in api.openapi()["paths"].items()
    for method, operation in operations.items()
}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_route_says_what_it_does_and_shows_a_body(name: str) -> None:
    operation: dict[str, Any] = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        assert content["schema"]["examples"], name


def test_no_reference_leads_nowhere() -> None:
    known = api.openapi()["components"]["schemas"]

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    found = references(api.openapi()["paths"])
    assert found
    assert {reference.removeprefix("#/components/schemas/") for reference in found} <= set(known)
