"""`POST /v1/image/moderate` and `POST /v1/video/moderate`: media scored, nothing recorded or kept."""

# No `from __future__ import annotations` here: FastAPI reads the parameters' types.

import asyncio
import re
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from moderation.media import Failed, Found, MediaKind, Refused
from moderation.posts import LabelConfidence, MediaFeature, MediaRefusal, MediaResult, ModerateMediaIn, ModerateMediaOut
from serve.context import GatewayContext, Here
from serve.http.problems import OF_A_BODY, Problem, documented, over_bound
from serve.http.wire import body_schema, example_response, json_reply, read_json
from serve.posts import ensemble
from serve.posts.cases import Medium

router = APIRouter()
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@router.post(
    "/v1/image/moderate",
    response_model=ModerateMediaOut,
    responses=documented(*OF_A_BODY),
    openapi_extra=body_schema(ModerateMediaIn),
    summary="Score images, recording nothing",
)
async def moderate_images(request: Request, here: Here) -> Response:
    """Confidences of the champions, in the order of the features; a bad image is a problem of its own."""
    return await _moderate("image", request, here)


@router.post(
    "/v1/video/moderate",
    response_model=ModerateMediaOut,
    responses=documented(*OF_A_BODY),
    openapi_extra=body_schema(ModerateMediaIn),
    summary="Score videos, recording nothing",
)
async def moderate_videos(request: Request, here: Here) -> Response:
    """As `/v1/image/moderate`; `evidence` names the second."""
    return await _moderate("video", request, here)


@router.get(
    "/v1/media/{sha256}",
    response_class=StreamingResponse,
    responses=example_response("(the bytes of picture.jpg)", "application/octet-stream") | documented(404, 422),
    summary="The bytes of an image or video that is held",
)
async def get_media(sha256: str, here: Here) -> Response:
    """For reviewers. 404 for what is not held, or was collected; told as what it is, and never as a page."""
    if not _SHA256.match(sha256):
        raise Problem(422, f"sha256 is {sha256[:100]!r}; it must be 64 hexadecimal digits in lower case")
    content, size = await here.door.bytes_of(sha256)
    headers = {"Content-Length": str(size), "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
    return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


async def _moderate(kind: MediaKind, request: Request, here: GatewayContext) -> Response:
    rules = here.topology.media
    most = here.topology.gateway.most_values
    body = await read_json(request, ModerateMediaIn, rules.max_json_body_bytes, most_values=most)
    if len(body.features) > rules.max_features:
        raise over_bound("/features", f"{len(body.features)} features", rules.max_features)
    with here.door.room_for(len(body.features)):
        results = await asyncio.gather(*(_result(feature, kind, here) for feature in body.features))
    return json_reply(ModerateMediaOut(results=results).model_dump_json())


async def _result(feature: MediaFeature, kind: MediaKind, here: GatewayContext) -> MediaResult:
    async with here.door.lent(feature, kind) as ref:
        if isinstance(ref, Refused):
            return _refused(feature.id, ref)
        medium = await here.moderator.judge.look(ref)
    if isinstance(medium.outcome, Refused):
        return _refused(feature.id, medium.outcome)
    if isinstance(medium.outcome, Failed):
        problem = MediaRefusal(code="failed", detail=medium.outcome.reason)
        return MediaResult(id=feature.id, labels=[], model="none", problem=problem)
    if medium.outcome is None or medium.ask is None:
        return MediaResult(id=feature.id, labels=[], model="none")
    return MediaResult(
        id=feature.id,
        labels=_labels(medium.outcome, [medium]),
        model=f"{medium.ask.variant}@{medium.version}",
        evidence=ensemble.evidence([medium]),
        text=ensemble.text_in(medium),
        unreadable=medium.outcome.written is not None and bool(medium.outcome.written.unreadable),
        looked_at=medium.outcome.looked_at,
        not_looked_at=list(medium.outcome.unseen),
        text_not_read=ensemble.unread(medium),
        problem=None if (error := ensemble.words_error(medium)) is None else MediaRefusal(code="failed", detail=error),
    )


def _refused(feature_id: str, refused: Refused) -> MediaResult:
    problem = MediaRefusal(code=refused.code, detail=refused.detail, bound=refused.bound)
    return MediaResult(id=feature_id, labels=[], model="none", problem=problem)


def _labels(found: Found, media: Sequence[Medium]) -> list[LabelConfidence]:
    """What the pictures show, and what the words in them say, where those say more."""
    surest = dict(found.scores)
    for medium in media:
        for words in medium.words:
            for judged in words.judged:
                for label, score in judged.scores.items():
                    surest[label] = max(score, surest.get(label, 0.0))
    return [LabelConfidence(label=label, confidence=score) for label, score in surest.items()]
