"""`POST /v1/labels` and `GET /v1/labels/export`: labels in, and labels out from a number on."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

from moderation.posts import LabelIn, LabelsOut
from moderation.storage import label_rows, labelling
from serve.context import Here
from serve.http.lines import NDJSON, parsed_lines, read_lines, streamed
from serve.http.problems import Problem, documented
from serve.http.times import lines_within
from serve.http.wire import body_schema, example_response, json_reply
from serve.labels import examples
from serve.labels.counting import count_labels

router = APIRouter()

NEXT = "Seawall-Next"
"""Header of `GET /v1/labels/export`: the `after` of the next request."""


@router.post(
    "/v1/labels",
    response_model=LabelsOut,
    responses=documented(413, 415),
    openapi_extra=body_schema(LabelIn, NDJSON),
    summary="Take labels in bulk",
)
async def post_labels(request: Request, here: Here) -> Response:
    """NDJSON, a label a line, idempotent by `id`; a bad line is an error of its own."""
    bounds = here.topology.gateway
    lines = await read_lines(request, bounds.max_labels_body_bytes, bounds.max_label_lines)
    good, errors = lines_within("labelled_at", await parsed_lines(LabelIn, lines), bounds)
    out = await asyncio.to_thread(labelling.add, here.ledger, good)
    out.errors = sorted([*errors, *out.errors], key=lambda item: item.line)
    counting = BackgroundTask(count_labels, here, [line.id for line in good.values()])
    return json_reply(out.model_dump_json(), background=counting)


@router.get(
    "/v1/labels/export",
    response_class=StreamingResponse,
    responses=example_response(examples.LABEL, NDJSON) | documented(422),
    summary="Labels, from a number on",
)
async def export_labels(
    here: Here,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="`Seawall-Next` of the reply before; 0: all")] = 0,
    limit: Annotated[int, Query(ge=1, description="Lines at most")] = 10_000,
) -> StreamingResponse:
    """NDJSON, with what the models saw. Ask again with `after` = `Seawall-Next`; none is skipped, none comes twice."""
    bound = here.topology.gateway.max_exported_labels
    if limit > bound:
        raise Problem(422, f"limit is {limit}, the bound is {bound}", members={"bound": bound})
    span = await asyncio.to_thread(label_rows.span, here.ledger, after=after, limit=limit)
    return await streamed(label_rows.exported(here.ledger, span), {NEXT: str(span.last)})
