"""What leaves as JSON Lines: statements of reasons and their retractions by day, labels from a number on."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types.

import asyncio
from collections.abc import Iterator
from datetime import date
from itertools import chain, islice
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import StreamingResponse

from moderation.storage import label_rows
from serve.context import GatewayContext, current
from serve.http.problems import Problem, documented
from serve.http.wire import shown
from serve.statements import examples
from serve.statements.commands import retraction_lines, statement_lines

router = APIRouter()

NEXT = "Seawall-Next"
"""Header of `GET /v1/labels/export`: the `after` of the next request."""
MEDIA_TYPE = "application/x-ndjson"
_FIRST = 100
"""Lines that are read before the reply begins: an error among them is still told by its status."""

Day = Annotated[date, Query(description="In UTC, as 2026-11-24", examples=["2026-11-24"])]


async def streamed(lines: Iterator[str], headers: dict[str, str] | None = None) -> StreamingResponse:
    """A reply of lines that are read, on a thread, as they are sent."""
    first = await asyncio.to_thread(lambda: list(islice(lines, _FIRST)))
    return StreamingResponse(chain(first, lines), media_type=MEDIA_TYPE, headers=headers)


@router.get(
    "/v1/statements",
    response_class=StreamingResponse,
    responses=shown(examples.STATEMENT, MEDIA_TYPE) | documented(422),
    summary="A day's statements of reasons",
)
async def get_statements(day: Day, context: Annotated[GatewayContext, Depends(current)]) -> StreamingResponse:
    """NDJSON, as the DSA Transparency Database takes them; what was restored on the same day is left out."""
    return await streamed(statement_lines(context.ledger, context.topology, day))


@router.get(
    "/v1/statements/retractions",
    response_class=StreamingResponse,
    responses=shown(examples.RETRACTION, MEDIA_TYPE) | documented(422),
    summary="The statements that a day's restorations retract",
)
async def get_retractions(day: Day, context: Annotated[GatewayContext, Depends(current)]) -> StreamingResponse:
    """NDJSON, a line a statement, by its `puid`, whenever the post was removed."""
    return await streamed(retraction_lines(context.ledger, context.topology, day))


@router.get(
    "/v1/labels/export",
    response_class=StreamingResponse,
    responses=shown(examples.LABEL, MEDIA_TYPE) | documented(422),
    summary="Labels, from a number on",
)
async def export_labels(
    context: Annotated[GatewayContext, Depends(current)],
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="`Seawall-Next` of the reply before; 0: all")] = 0,
    limit: Annotated[int, Query(ge=1, description="Lines at most")] = 10_000,
) -> StreamingResponse:
    """NDJSON, with what the models saw. Ask again with `after` = `Seawall-Next`; none is skipped, none comes twice."""
    bound = context.topology.gateway.max_exported_labels
    if limit > bound:
        raise Problem(422, f"limit is {limit}, the bound is {bound}", members={"bound": bound})
    span = await asyncio.to_thread(label_rows.span, context.ledger, after=after, limit=limit)
    return await streamed(label_rows.exported(context.ledger, span), {NEXT: str(span.last)})
