"""`GET /v1/fuses` and `POST /v1/fuses/{fuse_id}:reset`."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

import asyncio

from fastapi import APIRouter, Request, Response

from serve.context import Here
from serve.fuse import examples, fuses
from serve.fuse.fuses import FuseOut, FuseResetIn
from serve.http.problems import OF_A_BODY, documented
from serve.http.wire import Number, body_schema, example_response, json_reply, read_json

router = APIRouter(tags=["people"])


@router.get(
    "/v1/fuses",
    response_model=list[FuseOut],
    responses=example_response([examples.FUSE]) | documented(),
    summary="Fuses that have blown",
)
async def get_fuses(here: Here) -> Response:
    """The last first, also those that were reset."""
    found = await asyncio.to_thread(fuses.all_fuses, here.ledger)
    return json_reply("[" + ",".join(fuse.model_dump_json() for fuse in found) + "]")


@router.post(
    "/v1/fuses/{fuse_id}:reset",
    response_model=FuseOut,
    responses=documented(*OF_A_BODY, 404, 409),
    openapi_extra=body_schema(FuseResetIn),
    summary="Let removals be automatic again",
)
async def post_reset(fuse_id: Number, request: Request, here: Here) -> Response:
    """What was seen before no longer counts; every gateway follows within the seconds of `fuse.check_s`."""
    body = await read_json(request, FuseResetIn, here.topology.gateway.max_body_bytes)
    out = await asyncio.to_thread(fuses.reset, here.ledger, fuse_id, body.by)
    return json_reply(out.model_dump_json())
