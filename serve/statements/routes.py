"""Statements of reasons and their retractions, by day, as JSON Lines."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from serve.context import Here
from serve.http.lines import NDJSON, streamed
from serve.http.problems import documented
from serve.http.wire import example_response
from serve.statements import examples
from serve.statements.export import retraction_lines, statement_lines

router = APIRouter()

Day = Annotated[date, Query(description="In UTC, as 2026-11-24", examples=["2026-11-24"])]


@router.get(
    "/v1/statements",
    response_class=StreamingResponse,
    responses=example_response(examples.STATEMENT, NDJSON) | documented(422),
    summary="A day's statements of reasons",
)
async def get_statements(day: Day, here: Here) -> StreamingResponse:
    """NDJSON, as the DSA Transparency Database takes them; what was restored on the same day is left out."""
    return await streamed(statement_lines(here.ledger, here.topology, day))


@router.get(
    "/v1/statements/retractions",
    response_class=StreamingResponse,
    responses=example_response(examples.RETRACTION, NDJSON) | documented(422),
    summary="The statements that a day's restorations retract",
)
async def get_retractions(day: Day, here: Here) -> StreamingResponse:
    """NDJSON, a line a statement, by its `puid`, whenever the post was removed."""
    return await streamed(retraction_lines(here.ledger, here.topology, day))
