"""The HTTP surface, as the ingress deployment of Ray Serve. Checks what comes, hands on, and shapes what goes."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

import asyncio
import json
import logging
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from ray import serve as ray_serve
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError
from starlette.background import BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match

from moderation.errors import ConflictError, FeaturesUnavailableError, MediaUnavailableError, NotFoundError
from moderation.labels import Service
from moderation.media import MediaRef
from moderation.models.card import Card
from moderation.posts import (
    BatchLine,
    BatchPost,
    Decision,
    Identifier,
    LabelIn,
    LabelsOut,
    ModerateIn,
    ModerateOut,
    PostIn,
    TextFeature,
)
from moderation.preprocess.features import Features
from moderation.preprocess.language import detect_language
from moderation.registry import Registry
from moderation.sections import Gateway as Bounds
from moderation.settings import Settings
from moderation.storage import labelling
from moderation.storage.features import labels_observed, open_features
from moderation.storage.ledger import Ledger, found
from moderation.storage.media_store import MediaStore
from moderation.topology import Topology
from serve.compat import discovery, openai, perspective
from serve.context import GatewayContext
from serve.experiments.split import Arm
from serve.fuse.routes import router as fuse
from serve.http import admission, entrance
from serve.http.entrance import Entrance
from serve.http.problems import OF_A_BODY, Problem, documented, over_bound, overloaded, parameters
from serve.http.times import check_told, lines_within
from serve.http.wire import (
    MOST_VALUES,
    Api,
    Doorkeeper,
    batch_line,
    body_schema,
    check_media_type,
    client_of,
    json_reply,
    parsed_lines,
    read_json,
    read_lines,
    shown,
)
from serve.media.door import MULTIPART, MediaDoor, carries_media, store_failed
from serve.media.incoming import INCOMING
from serve.media.intake import refusal
from serve.media.routes import router as media
from serve.metrics.routes import router as metrics
from serve.metrics.series import DecisionSeries, start_refreshing
from serve.posts import examples
from serve.posts.answers import GroupFound, GroupScores
from serve.posts.batcher import QueueFullError
from serve.posts.ensemble import RefusedMediumError
from serve.posts.moderator import Answer, Moderator
from serve.posts.ordering import Turns
from serve.posts.rejudging import Rejudging
from serve.review.routes import router as people
from serve.rollout.names import GatewayConfig, application_of
from serve.rollout.replica import settle
from serve.statements import routes

logger = logging.getLogger("ray.serve")
_POST_ID = TypeAdapter(Identifier)
_READY_WITHIN_S = 2.0
_CLIENT_GONE = 499
"""As proxies count such a request."""

api = Api(
    title="Seawall",
    version="0.1.0",
    description="Harmful content removal that keeps learning. Errors are RFC 9457 problems.",
)
api.add_middleware(Entrance)
api.add_middleware(Doorkeeper)
for router in (openai.router, perspective.router, discovery.router, people, fuse, metrics, routes.router, media):
    api.include_router(router)


@api.exception_handler(Problem)
async def _problem(_request: Request, error: Problem) -> Response:
    return error.response()


@api.exception_handler(HTTPException)
async def _http(request: Request, error: HTTPException) -> Response:
    response = Problem(error.status_code, str(error.detail)).response()
    response.headers.update(error.headers or {})
    if error.status_code == 405:  # Starlette names the methods of one route; a path may have several
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    def fits(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT") if fits(method)]


@api.exception_handler(RequestValidationError)
async def _validation(_request: Request, error: RequestValidationError) -> Response:
    return parameters(error.errors()).response()


@api.exception_handler(SQLAlchemyError)
async def _ledger(_request: Request, error: SQLAlchemyError) -> Response:
    return ledger_failed(error).response()


@api.exception_handler(MediaUnavailableError)
async def _media(_request: Request, error: MediaUnavailableError) -> Response:
    return store_failed(error).response()


@api.exception_handler(ClientDisconnect)
async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    """Whoever asked has gone, before the whole request was there: nobody reads this, and it is no error of ours."""
    return Response(status_code=_CLIENT_GONE)


@api.exception_handler(Exception)
async def _internal(_request: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    return internal(error).response()


def ledger_failed(error: SQLAlchemyError) -> Problem:
    """Nothing was recorded, so nothing may be said of the post: try again."""
    logger.error("the ledger failed", exc_info=error)
    return Problem(503, f"the ledger failed, nothing was recorded: {type(error).__name__}", retry_after=1)


def internal(error: Exception) -> Problem:
    """What nobody foresaw."""
    return Problem(500, f"{type(error).__name__}; the log of the service says more")


class _Lines(JSONResponse):
    media_type = "application/x-ndjson"


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


@ray_serve.deployment(name="gateway")
@ray_serve.ingress(api)
class Gateway:
    """Ingress deployment.

    Args:
        topology: path of the topology file.
    """

    def __init__(self, topology: str) -> None:
        settle()
        settings = Settings.from_environment()
        # What these read is read now, and not while the first request waits.
        detect_language("hm", region="US")
        self._registry = Registry(settings)
        self._ledger = Ledger(settings.ledger_url)
        self._topology = Topology.load(Path(topology))
        self._topology.blocklist.watch()
        self._bounds = self._topology.gateway
        entrance.HERE.bounds = self._bounds
        admission.HERE.bounds = self._bounds  # of the module: Ray copies what this class itself refers to
        self._handles: dict[tuple[str, Arm], DeploymentHandle] = {}
        self._card = lru_cache(maxsize=256)(self._registry.card)
        self._known = open_features(settings.features_url)
        series = DecisionSeries()
        self._moderator = Moderator(
            self._topology,
            self._ledger,
            self._score,
            self._read_card,
            self._known,
            series.count,
            score_media=self._score_media,
        )
        store = MediaStore(settings.media_url)
        self._door = MediaDoor(self._topology.media, store, settings.home / INCOMING, self._ledger)
        self.context = GatewayContext(self._topology, self._ledger, self._moderator, self._known, self._door)
        start_refreshing(self._ledger, self._topology.metrics)
        # Kept, or it would end. Serve makes its deployments on the loop that they answer on.
        self._rejudging = asyncio.get_running_loop().create_task(
            Rejudging(self._ledger, self._moderator, self._topology.rejudge).run()
        )

    def reconfigure(self, config: GatewayConfig) -> None:
        """Take over which experiments run."""
        self._moderator.judge.splits = config["splits"]
        # A challenger's application may have gone and come back since its handle was made.
        self._handles = {key: handle for key, handle in self._handles.items() if key[1] == "champion"}

    def _read_card(self, variant: str, version: int) -> Card:
        return self._card(variant, version)

    def _handle(self, variant: str, arm: Arm) -> DeploymentHandle:
        # Kept: looking one up asks Serve's controller, and each handle learns the replicas' load anew.
        key = (variant, arm)
        if key not in self._handles:
            self._handles[key] = ray_serve.get_deployment_handle("classifier", application_of(variant, arm))
        return self._handles[key]

    async def _score(
        self, variant: str, arm: Arm, texts: list[str], known: list[Features], deadline: float
    ) -> GroupScores:
        handle = self._handle(variant, arm)
        scored: GroupScores = await asyncio.wait_for(
            handle.score.remote(texts, known, deadline), max(0.0, deadline - time.time())
        )
        return scored

    async def _score_media(self, variant: str, arm: Arm, media: list[MediaRef], deadline: float) -> GroupFound:
        handle = self._handle(variant, arm)
        found: GroupFound = await asyncio.wait_for(
            handle.score.remote(media, deadline), self._topology.media.deadline_ms / 1000
        )
        return found

    @api.put(
        "/v1/posts/{post_id:id}",
        response_model=Decision,
        responses=shown(examples.DECISION) | documented(*OF_A_BODY, 409, 429),
        openapi_extra=_post_body(),
        summary="Moderate and record a post",
    )
    async def put_post(self, post_id: str, request: Request) -> Response:
        """Idempotent: the same content gets the recorded decision, with `Seawall-Replayed: true`.

        With media, as `multipart/form-data` too: a part named `post` with the JSON, and a part for each file.
        """
        try:
            _POST_ID.validate_python(post_id)
        except ValidationError as error:
            raise Problem(422, f"post_id is {post_id!r}: {error.errors()[0]['msg']}") from error
        check_media_type(request, "application/json", MULTIPART)
        client = client_of(request)
        if carries_media(request, self._bounds.max_body_bytes):
            self._admit(client, media=True)
        post = await self._door.read_post(request, self._bounds.max_body_bytes)
        answer = await self._moderate(post_id, post, client=client)
        return json_reply(answer.body, {"Seawall-Replayed": "true"} if answer.replayed else {})

    def _admit(self, client: str | None, *, media: bool = False) -> None:
        try:
            self._moderator.admit(client, media=media)
        except QueueFullError as error:
            raise overloaded(error) from error

    async def _moderate(self, post_id: str, post: PostIn, *, taken: bool = False, client: str | None) -> Answer:
        _check_text(post.text, "/text", self._bounds)
        check_told("/created_at", post.created_at, self._bounds)
        try:
            return await self._moderator.moderate(post_id, post, taken=taken, client=client)
        except ConflictError as error:
            raise Problem(409, str(error)) from error
        except RefusedMediumError as error:
            await self._door.let_go(post)
            raise refusal(error.index, error.refused) from error
        except QueueFullError as error:
            raise overloaded(error) from error
        except SQLAlchemyError as error:
            raise ledger_failed(error) from error

    @api.get(
        "/v1/posts/{post_id:id}",
        response_model=Decision,
        responses=shown(examples.DECISION) | documented(404),
        summary="The newest decision on a post",
    )
    async def get_post(self, post_id: str) -> Response:
        """404 for a post that was never recorded."""
        recorded = await asyncio.to_thread(self._ledger.newest, [post_id])
        try:
            return json_reply(found(recorded, post_id).body)
        except NotFoundError as error:
            raise Problem(404, str(error)) from error

    @api.get(
        "/v1/posts/{post_id:id}/history",
        response_model=list[Decision],
        responses=shown([examples.DECISION]) | documented(404),
        summary="All decisions on a post",
    )
    async def get_history(self, post_id: str) -> Response:
        """A decision a content version, the first first."""
        history = await asyncio.to_thread(self._ledger.history, post_id)
        if not history:
            raise Problem(404, f"post {post_id!r} is not recorded")
        return json_reply("[" + ",".join(recorded.body for recorded in history) + "]")

    @api.post(
        "/v1/posts:batch",
        response_class=_Lines,
        response_model=BatchLine,
        responses=documented(413, 415, 429),
        openapi_extra=body_schema(BatchPost, "application/x-ndjson"),
        summary="Moderate and record many posts",
    )
    async def post_batch(self, request: Request) -> Response:
        """NDJSON, a post a line; an answer a line in the same order, each with its own status."""
        most = max(self._bounds.max_batch_body_bytes, self._topology.media.max_json_body_bytes)
        lines = await read_lines(request, most, self._bounds.max_batch_posts)
        client = client_of(request)
        self._admit(client)
        told = await parsed_lines(BatchPost, lines, most_values=MOST_VALUES)
        turns = Turns()
        answers = await asyncio.gather(*(self._batch_line(number, post, client, turns) for number, post in told))
        return Response("".join(answers), media_type="application/x-ndjson")

    async def _batch_line(self, number: int, told: BatchPost | Problem, client: str | None, turns: Turns) -> str:
        post_id = None
        try:
            if isinstance(told, Problem):
                raise told
            post_id = told.post_id
            with turns.take(post_id) as turn:
                post = await self._door.hold_all(told)
                await turn.come()  # of one post, the later line is the later content, though its media were here first
                answer = await self._moderate(post_id, post, taken=True, client=client)
        except Problem as problem:
            return batch_line(number, post_id, problem)
        except MediaUnavailableError as error:
            return batch_line(number, post_id, store_failed(error))
        except Exception as error:  # a line that breaks must not take the others' answers with it
            logger.exception("line %d of a batch failed", number)
            return batch_line(number, post_id, internal(error))
        return batch_line(number, post_id, (answer.replayed, answer.body))

    @api.post(
        "/v1/posts:preview",
        response_model=Decision,
        responses=shown(examples.DECISION) | documented(*OF_A_BODY, 429),
        openapi_extra=_post_body(),
        summary="What would be decided on a post, recording nothing",
    )
    async def preview_post(self, request: Request) -> Response:
        """Takes what `PUT /v1/posts/{post_id}` takes, and answers as it would for a new post, whose id is `preview`.

        Nobody is asked to review it, nothing is counted, and it is in no statement, webhook, metric or training set.
        """
        check_media_type(request, "application/json", MULTIPART)
        client = client_of(request)
        if carries_media(request, self._bounds.max_body_bytes):
            self._admit(client, media=True)
        post = await self._door.read_post(request, self._bounds.max_body_bytes)
        try:
            _check_text(post.text, "/text", self._bounds)
            return json_reply(await self._moderator.preview(post, client=client))
        except RefusedMediumError as error:
            raise refusal(error.index, error.refused) from error
        except QueueFullError as error:
            raise overloaded(error) from error
        finally:
            if post.media:
                await self._door.let_go(post)

    @api.post(
        "/v1/text/moderate",
        response_model=ModerateOut,
        responses=documented(*OF_A_BODY),
        openapi_extra=body_schema(ModerateIn),
        summary="Score texts, recording nothing",
    )
    async def moderate_text(self, request: Request) -> Response:
        """Confidences of the champions, in the order of the features."""
        return await self._score_features("text", request)

    @api.post(
        "/v1/misinformation/moderate",
        response_model=ModerateOut,
        responses=documented(*OF_A_BODY),
        openapi_extra=body_schema(ModerateIn),
        summary="Score texts for rumours, recording nothing",
    )
    async def moderate_misinformation(self, request: Request) -> Response:
        """As `/v1/text/moderate`; a language that no variant covers gets no labels and the model `none`."""
        return await self._score_features("misinformation", request)

    async def _score_features(self, service: Service, request: Request) -> Response:
        features = await read_features(request, self._bounds)
        try:
            results = await self._moderator.judge.score_texts(service, features, client=client_of(request))
        except QueueFullError as error:
            raise overloaded(error) from error
        except Exception as error:
            logger.exception("scoring failed")
            raise Problem(503, f"no answer from a model: {type(error).__name__}", retry_after=1) from error
        return json_reply(ModerateOut(results=results).model_dump_json())

    @api.post(
        "/v1/labels",
        response_model=LabelsOut,
        responses=documented(413, 415),
        openapi_extra=body_schema(LabelIn, "application/x-ndjson"),
        summary="Take labels in bulk",
    )
    async def post_labels(self, request: Request) -> Response:
        """NDJSON, a label a line, idempotent by `id`; a bad line is an error of its own."""
        lines = await read_lines(request, self._bounds.max_labels_body_bytes, self._bounds.max_label_lines)
        good, errors = lines_within("labelled_at", await parsed_lines(LabelIn, lines), self._bounds)
        out = await asyncio.to_thread(labelling.add, self._ledger, good)
        tasks = BackgroundTasks()
        tasks.add_task(self._count_labels, [line.id for line in good.values()])
        out.errors = sorted([*errors, *out.errors], key=lambda item: item.line)
        return json_reply(out.model_dump_json(), background=tasks)

    def _count_labels(self, ids: list[str]) -> None:
        """Count recorded labels for their authors and communities, after the reply."""
        try:
            self._known.observe_labels(labels_observed(self._ledger, ids))
        except FeaturesUnavailableError:
            logger.exception("%d labels are not counted until the features are rebuilt", len(ids))

    @api.get("/healthz", responses=shown(examples.HEALTH) | documented(), summary="The process lives")
    async def healthz(self) -> dict[str, str]:
        """Answers as long as the process does."""
        return examples.HEALTH

    @api.get("/readyz", responses=shown(examples.READY) | documented(), summary="Every variant's model is loaded")
    async def readyz(self) -> Response:
        """503 with reasons until each variant, and each running experiment's challenger, has a model."""
        arms: list[tuple[str, Arm]] = [(name, "champion") for name in self._topology.variants]
        arms += [(name, "challenger") for name in self._moderator.judge.splits]
        found = await asyncio.gather(*(self._version(*arm) for arm in arms), return_exceptions=True)
        models = {f"{name}/{arm}": version for (name, arm), version in zip(arms, found, strict=True)}
        reasons = [
            f"{key}: {type(error).__name__}" for key, error in models.items() if isinstance(error, BaseException)
        ]
        if reasons:
            return Problem(
                503, "not ready: " + "; ".join(reasons), retry_after=1, members={"reasons": reasons}
            ).response()
        return json_reply(json.dumps({"status": "ready", "models": models}))

    async def _version(self, variant: str, arm: Arm) -> int:
        handle = self._handle(variant, arm)
        return int(await asyncio.wait_for(handle.version.remote(), _READY_WITHIN_S))
