"""Routes of one feature over a ledger, without the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.context import current
from serve.http.handlers import add_handlers
from tests.rooms import TOPOLOGY

PLATFORM = Topology.load(TOPOLOGY)


@contextmanager
def client_of(router: APIRouter, ledger: Ledger) -> Iterator[TestClient]:
    """A client of these routes alone."""
    app = FastAPI()
    app.include_router(router)
    app.dependency_overrides[current] = lambda: SimpleNamespace(topology=PLATFORM, ledger=ledger)
    add_handlers(app)
    with TestClient(app) as client:
        yield client


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    """The objects of an export, a line each."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert not response.text or response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]
