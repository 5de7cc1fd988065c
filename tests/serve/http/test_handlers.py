"""Each error that a route raises is answered with the problem that it is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from moderation.errors import (
    ConflictError,
    MediaUnavailableError,
    NotFoundError,
    RegistryError,
    TooManyGroupsError,
)
from moderation.media import Refused
from serve.errors import ClientShareError, NoAnswerError, QueueFullError, RefusedMediumError
from serve.http.handlers import add_handlers
from serve.http.problems import MEDIA_TYPE, Problem

LOST = OperationalError("INSERT", {}, Exception("disk"))


@pytest.mark.parametrize(
    ("error", "status", "detail", "more"),
    [
        (Problem(422, "no", members={"bound": 3}), 422, "no", {"bound": 3}),
        (NotFoundError("post 'p-1' is not recorded"), 404, "post 'p-1' is not recorded", {}),
        (ConflictError("newer content is recorded"), 409, "newer content is recorded", {}),
        (TooManyGroupsError("9 groups", 8), 422, "9 groups", {"bound": 8}),
        (RefusedMediumError(1, Refused("broken", "why")), 422, "/media/1: why", {"code": "broken"}),
        (QueueFullError("full", 4, 7), 503, "full; try again in 7 s", {"bound": 4, "Retry-After": "7"}),
        (ClientShareError("yours", 2, 3), 429, "yours; try again in 3 s", {"bound": 2, "Retry-After": "3"}),
        (NoAnswerError(TimeoutError()), 503, "no answer from a model: TimeoutError", {"Retry-After": "1"}),
        (MediaUnavailableError("it is away"), 503, "it is away; nothing was recorded", {"Retry-After": "1"}),
        (LOST, 503, "the ledger failed, nothing was recorded: OperationalError", {"Retry-After": "1"}),
        (RegistryError("no such version"), 500, "RegistryError; the log of the service says more", {}),
        (KeyError("x"), 500, "KeyError; the log of the service says more", {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_the_problem_that_it_is(
    error: Exception, status: int, detail: str, more: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    add_handlers(app)

    @app.get("/")
    async def raises() -> None:
        raise error

    with caplog.at_level(logging.ERROR, logger="ray.serve"):
        response = TestClient(app, raise_server_exceptions=False).get("/")
    assert (response.status_code, response.headers["content-type"]) == (status, MEDIA_TYPE)
    told = response.json()
    assert (told["status"], told["detail"]) == (status, detail)
    found = told | ({"Retry-After": response.headers["retry-after"]} if "retry-after" in response.headers else {})
    assert more.items() <= found.items()
    assert ("Retry-After" in found) == ("Retry-After" in more)
    logged = [record.message for record in caplog.records if record.name == "ray.serve"]
    assert logged == (["the ledger failed"] if error is LOST else ["unexpected error"] if status == 500 else [])
