"""The HTTP surface, as the ingress deployment of Ray Serve. Checks what comes, hands on, and shapes what goes."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

import asyncio
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from ray import serve as ray_serve
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from moderation.errors import ConflictError, NotFoundError
from moderation.models.card import Card
from moderation.posts import Decision, Identifier, LabelIn, LabelLineError, LabelsOut, ModerateIn, ModerateOut, PostIn
from moderation.registry import Registry
from moderation.settings import Settings
from moderation.storage.ledger import Ledger, found
from moderation.topology import Topology
from serve.classifier import GroupScores
from serve.experiments.split import Arm
from serve.grouping import QueueFullError
from serve.moderator import Moderator
from serve.names import GatewayConfig, application_of
from serve.problems import Problem, invalid
from serve.wire import body_schema, check_media_type, json_reply, read_bounded

logger = logging.getLogger("ray.serve")
Body = TypeVar("Body", bound=BaseModel)
_POST_ID = TypeAdapter(Identifier)
_READY_WITHIN_S = 2.0

api = FastAPI(
    title="Seawall",
    version="0.1.0",
    description="Harmful content removal that keeps learning. Errors are RFC 9457 problems.",
)


@api.exception_handler(Problem)
async def _problem(_request: Request, error: Problem) -> Response:
    return error.response()


@api.exception_handler(HTTPException)
async def _http(_request: Request, error: HTTPException) -> Response:
    return Problem(error.status_code, str(error.detail)).response()


@api.exception_handler(RequestValidationError)
async def _validation(_request: Request, error: RequestValidationError) -> Response:
    return Problem(422, str(error)).response()


@api.exception_handler(SQLAlchemyError)
async def _ledger(_request: Request, error: SQLAlchemyError) -> Response:
    logger.error("the ledger failed", exc_info=error)
    return Problem(503, f"the ledger failed, nothing was recorded: {type(error).__name__}", retry_after=1).response()


@api.exception_handler(Exception)
async def _internal(_request: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    return Problem(500, f"{type(error).__name__}; the log of the service says more").response()


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/problem+json": {}}}
    for status, text in (
        (400, "Not JSON"),
        (409, "Newer content is recorded"),
        (413, "Body over the bound"),
        (415, "Not the media type"),
        (422, "Invalid content, with JSON pointers"),
        (503, "Overloaded; see Retry-After"),
    )
}


@ray_serve.deployment(name="gateway")
@ray_serve.ingress(api)
class Gateway:
    """Ingress deployment.

    Args:
        topology: path of the topology file.
    """

    def __init__(self, topology: str) -> None:
        settings = Settings.from_environment()
        self._registry = Registry(settings)
        self._ledger = Ledger(settings.ledger_url)
        self._topology = Topology.load(Path(topology))
        self._bounds = self._topology.gateway
        self._handles: dict[tuple[str, Arm], DeploymentHandle] = {}
        self._card = lru_cache(maxsize=256)(self._registry.card)
        self._moderator = Moderator(self._topology, self._ledger, self._score, self._read_card)

    def reconfigure(self, config: GatewayConfig) -> None:
        """Take over which experiments run."""
        self._moderator.splits = config["splits"]
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

    async def _score(self, variant: str, arm: Arm, texts: list[str], deadline: float) -> GroupScores:
        handle = self._handle(variant, arm)
        scored: GroupScores = await asyncio.wait_for(
            handle.score.remote(texts, deadline), self._bounds.deadline_ms / 1000
        )
        return scored

    @api.put(
        "/v1/posts/{post_id}",
        response_model=Decision,
        responses=_PROBLEMS,
        openapi_extra=body_schema(PostIn),
        summary="Moderate and record a post",
    )
    async def put_post(self, post_id: str, request: Request) -> Response:
        """Idempotent: the same content gets the recorded decision, with `Seawall-Replayed: true`."""
        try:
            _POST_ID.validate_python(post_id)
        except ValidationError as error:
            raise Problem(422, f"post_id is {post_id!r}: {error.errors()[0]['msg']}") from error
        post = await self._read(request, PostIn)
        self._check_text(post.text, "/text")
        try:
            answer = await self._moderator.moderate(post_id, post)
        except ConflictError as error:
            raise Problem(409, str(error)) from error
        except QueueFullError as error:
            raise Problem(503, str(error), retry_after=1) from error
        return json_reply(answer.body, {"Seawall-Replayed": "true"} if answer.replayed else {})

    @api.get("/v1/posts/{post_id}", response_model=Decision, summary="The newest decision on a post")
    async def get_post(self, post_id: str) -> Response:
        """404 for a post that was never recorded."""
        recorded = await asyncio.to_thread(self._ledger.newest, [post_id])
        try:
            return json_reply(found(recorded, post_id).body)
        except NotFoundError as error:
            raise Problem(404, str(error)) from error

    @api.get("/v1/posts/{post_id}/history", response_model=list[Decision], summary="All decisions on a post")
    async def get_history(self, post_id: str) -> Response:
        """A decision a content version, the first first."""
        history = await asyncio.to_thread(self._ledger.history, post_id)
        if not history:
            raise Problem(404, f"post {post_id!r} is not recorded")
        return json_reply("[" + ",".join(recorded.body for recorded in history) + "]")

    @api.post(
        "/v1/text/moderate",
        response_model=ModerateOut,
        responses=_PROBLEMS,
        openapi_extra=body_schema(ModerateIn),
        summary="Score texts, recording nothing",
    )
    async def moderate_text(self, request: Request) -> Response:
        """Confidences of the champions, in the order of the features."""
        body = await self._read(request, ModerateIn)
        if len(body.features) > self._bounds.max_features:
            bound = self._bounds.max_features
            raise Problem(
                422, f"/features: {len(body.features)} features, the bound is {bound}", members={"bound": bound}
            )
        for index, feature in enumerate(body.features):
            self._check_text(feature.text, f"/features/{index}/text")
        try:
            results = await self._moderator.score_texts(body.features)
        except Exception as error:
            logger.exception("scoring failed")
            raise Problem(503, f"no answer from a model: {type(error).__name__}", retry_after=1) from error
        return json_reply(ModerateOut(results=results).model_dump_json())

    @api.post(
        "/v1/labels",
        response_model=LabelsOut,
        openapi_extra=body_schema(LabelIn, "application/x-ndjson"),
        summary="Take labels in bulk",
    )
    async def post_labels(self, request: Request) -> Response:
        """NDJSON, a label a line, idempotent by `id`; a bad line is an error of its own."""
        check_media_type(request, "application/x-ndjson", "application/jsonl", "application/json")
        raw = await read_bounded(request, self._bounds.max_labels_body_bytes)
        lines = [(number, line) for number, line in enumerate(raw.split(b"\n"), start=1) if line.strip()]
        bound = self._bounds.max_label_lines
        if len(lines) > bound:
            raise Problem(413, f"{len(lines)} lines, the bound is {bound}", members={"bound": bound})
        good: dict[int, LabelIn] = {}
        errors: list[LabelLineError] = []
        for number, line in lines:
            try:
                good[number] = LabelIn.model_validate_json(line)
            except ValidationError as error:
                errors.append(LabelLineError(line=number, detail=invalid(error).detail))
        out = await asyncio.to_thread(self._ledger.add_labels, good)
        out.errors = sorted([*errors, *out.errors], key=lambda item: item.line)
        return json_reply(out.model_dump_json())

    @api.get("/healthz", summary="The process lives")
    async def healthz(self) -> dict[str, str]:
        """Answers as long as the process does."""
        return {"status": "ok"}

    @api.get("/readyz", summary="Every variant's model is loaded")
    async def readyz(self) -> Response:
        """503 with reasons until each variant, and each running experiment's challenger, has a model."""
        arms: list[tuple[str, Arm]] = [(name, "champion") for name in self._topology.variants]
        arms += [(name, "challenger") for name in self._moderator.splits]
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

    async def _read(self, request: Request, model: type[Body]) -> Body:
        check_media_type(request, "application/json")
        raw = await read_bounded(request, self._bounds.max_body_bytes)
        try:
            return model.model_validate_json(raw)
        except ValidationError as error:
            raise invalid(error) from error

    def _check_text(self, text: str, where: str) -> None:
        bound = self._bounds.max_text_characters
        if len(text) > bound:
            detail = f"{len(text)} characters, the bound is {bound}"
            raise Problem(
                422, f"{where}: {detail}", errors=[{"pointer": where, "detail": detail}], members={"bound": bound}
            )
