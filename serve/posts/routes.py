"""Routes of posts: moderated and recorded, looked up, previewed; and texts that are only scored."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from moderation.errors import NotFoundError
from moderation.labels import Service
from moderation.posts import BatchLine, BatchPost, Decision, ModerateIn, ModerateOut, PostIn, TextFeature
from moderation.sections import Gateway as Bounds
from moderation.storage.ledger import found
from serve.context import GatewayContext, Here
from serve.errors import RefusedMediumError
from serve.http.lines import NDJSON, parsed_lines, read_lines
from serve.http.problems import OF_A_BODY, Problem, documented, over_bound, problem_of
from serve.http.times import check_told
from serve.http.wire import (
    MOST_VALUES,
    body_schema,
    check_media_type,
    checked_id,
    client_of,
    example_response,
    json_reply,
    read_json,
)
from serve.media.door import MULTIPART, carries_media
from serve.posts import examples
from serve.posts.moderator import Answer
from serve.posts.ordering import Turns
from serve.posts.texts import answers_needed

router = APIRouter()


class _Lines(JSONResponse):
    media_type = NDJSON


def _post_body() -> dict[str, Any]:
    """The body of `PUT /v1/posts/{post_id}`: JSON, or an upload of JSON and files."""
    body = body_schema(PostIn)
    content = body["requestBody"]["content"]
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "A part a file"}
    post = content["application/json"]["schema"]
    content[MULTIPART] = {
        "schema": {
            "type": "object",
            "required": ["post"],
            "properties": {"post": post, "media": files},
            "examples": [{"post": post["examples"][0], "media": ["(the bytes of picture.jpg)"]}],
        },
        "encoding": {"post": {"contentType": "application/json"}, "media": {"contentType": "image/*, video/*"}},
    }
    return body


@router.put(
    "/v1/posts/{post_id:id}",
    response_model=Decision,
    responses=example_response(examples.DECISION) | documented(*OF_A_BODY, 409, 429),
    openapi_extra=_post_body(),
    summary="Moderate and record a post",
)
async def put_post(post_id: str, request: Request, here: Here) -> Response:
    """Idempotent: the same content gets the recorded decision, with `Seawall-Replayed: true`.

    With media, as `multipart/form-data` too: a part named `post` with the JSON, and a part for each file.
    """
    checked_id("post_id", post_id)
    client = client_of(request)
    post = await _read_post(request, here, client)
    answer = await _moderate(post_id, post, here, client=client)
    return json_reply(answer.body, {"Seawall-Replayed": "true"} if answer.replayed else {})


async def _read_post(request: Request, here: GatewayContext, client: str | None) -> PostIn:
    """The post of a request; one with media is received only where there is room to judge it."""
    check_media_type(request, "application/json", MULTIPART)
    bound = here.topology.gateway.max_body_bytes
    if carries_media(request, bound):
        here.moderator.admit(client, media=True)
    return await here.door.read_post(request, bound)


async def _moderate(
    post_id: str, post: PostIn, here: GatewayContext, *, taken: bool = False, client: str | None
) -> Answer:
    _check_text(post.text, "/text", here.topology.gateway)
    check_told("/created_at", post.created_at, here.topology.gateway)
    try:
        return await here.moderator.moderate(post_id, post, taken=taken, client=client)
    except RefusedMediumError:
        await here.door.let_go(post)
        raise


@router.get(
    "/v1/posts/{post_id:id}",
    response_model=Decision,
    responses=example_response(examples.DECISION) | documented(404),
    summary="The newest decision on a post",
)
async def get_post(post_id: str, here: Here) -> Response:
    """404 for a post that was never recorded."""
    newest = await asyncio.to_thread(here.ledger.newest, [post_id])
    return json_reply(found(newest, post_id).body)


@router.get(
    "/v1/posts/{post_id:id}/history",
    response_model=list[Decision],
    responses=example_response([examples.DECISION]) | documented(404),
    summary="All decisions on a post",
)
async def get_history(post_id: str, here: Here) -> Response:
    """A decision a content version, the first first."""
    history = await asyncio.to_thread(here.ledger.history, post_id)
    if not history:
        raise NotFoundError(f"post {post_id!r} is not recorded")
    return json_reply("[" + ",".join(recorded.body for recorded in history) + "]")


@router.post(
    "/v1/posts:batch",
    response_class=_Lines,
    response_model=BatchLine,
    responses=documented(413, 415, 429),
    openapi_extra=body_schema(BatchPost, NDJSON),
    summary="Moderate and record many posts",
)
async def post_batch(request: Request, here: Here) -> Response:
    """NDJSON, a post a line; an answer a line in the same order, each with its own status."""
    bounds = here.topology.gateway
    most = max(bounds.max_batch_body_bytes, here.topology.media.max_json_body_bytes)
    lines = await read_lines(request, most, bounds.max_batch_posts)
    client = client_of(request)
    here.moderator.admit(client)
    told = await parsed_lines(BatchPost, lines, most_values=MOST_VALUES)
    turns = Turns()
    answers = await asyncio.gather(*(_answer_line(number, post, here, client, turns) for number, post in told))
    return Response("".join(answers), media_type=NDJSON)


async def _answer_line(
    number: int, told: BatchPost | Problem, here: GatewayContext, client: str | None, turns: Turns
) -> str:
    if isinstance(told, Problem):
        return batch_line(number, None, told)
    try:
        with turns.take(told.post_id) as turn:
            post = await here.door.hold_all(told)
            await turn.come()  # of one post, the later line is the later content, though its media were here first
            answer = await _moderate(told.post_id, post, here, taken=True, client=client)
    except Exception as error:  # a line that breaks must not take the others' answers with it
        return batch_line(number, told.post_id, problem_of(error))
    return batch_line(number, told.post_id, (answer.replayed, answer.body))


def batch_line(line: int, post_id: str | None, outcome: Problem | tuple[bool, str]) -> str:
    """One line of a batch's answer, with its newline: a problem, or whether it was replayed and the decision's JSON."""
    head: dict[str, Any] = {"line": line, "post_id": post_id}
    if isinstance(outcome, Problem):
        return json.dumps(head | {"status": outcome.status, "problem": outcome.body()}, ensure_ascii=False) + "\n"
    replayed, decision = outcome
    start = json.dumps(head | {"status": 200, "replayed": replayed}, ensure_ascii=False)
    return f'{start[:-1]}, "decision": {decision}}}\n'


@router.post(
    "/v1/posts:preview",
    response_model=Decision,
    responses=example_response(examples.DECISION) | documented(*OF_A_BODY, 429),
    openapi_extra=_post_body(),
    summary="What would be decided on a post, recording nothing",
)
async def preview_post(request: Request, here: Here) -> Response:
    """Takes what `PUT /v1/posts/{post_id}` takes, and answers as it would for a new post, whose id is `preview`.

    Nobody is asked to review it, nothing is counted, and it is in no statement, webhook, metric or training set.
    """
    client = client_of(request)
    post = await _read_post(request, here, client)
    try:
        _check_text(post.text, "/text", here.topology.gateway)
        return json_reply(await here.moderator.preview(post, client=client))
    finally:
        if post.media:
            await here.door.let_go(post)


@router.post(
    "/v1/text/moderate",
    response_model=ModerateOut,
    responses=documented(*OF_A_BODY),
    openapi_extra=body_schema(ModerateIn),
    summary="Score texts, recording nothing",
)
async def moderate_text(request: Request, here: Here) -> Response:
    """Confidences of the champions, in the order of the features."""
    return await _score_features("text", request, here)


@router.post(
    "/v1/misinformation/moderate",
    response_model=ModerateOut,
    responses=documented(*OF_A_BODY),
    openapi_extra=body_schema(ModerateIn),
    summary="Score texts for rumours, recording nothing",
)
async def moderate_misinformation(request: Request, here: Here) -> Response:
    """As `/v1/text/moderate`; a language that no variant covers gets no labels and the model `none`."""
    return await _score_features("misinformation", request, here)


async def _score_features(service: Service, request: Request, here: GatewayContext) -> Response:
    features = await read_features(request, here.topology.gateway)
    with answers_needed():
        results = await here.moderator.judge.texts.score(service, features, client=client_of(request))
    return json_reply(ModerateOut(results=results).model_dump_json())


async def read_features(request: Request, bounds: Bounds) -> list[TextFeature]:
    """The texts of a request to a stateless service, within the bounds."""
    body = await read_json(request, ModerateIn, bounds.max_batch_body_bytes, most_values=bounds.most_values)
    if len(body.features) > bounds.max_features:
        raise over_bound("/features", f"{len(body.features)} features", bounds.max_features)
    for index, feature in enumerate(body.features):
        _check_text(feature.text, f"/features/{index}/text", bounds)
    total = sum(len(feature.text) for feature in body.features)
    if total > bounds.max_total_characters:
        raise over_bound("/features", f"{total} characters in all", bounds.max_total_characters)
    return body.features


def _check_text(text: str, where: str, bounds: Bounds) -> None:
    if len(text) > bounds.max_text_characters:
        raise over_bound(where, f"{len(text)} characters", bounds.max_text_characters)
