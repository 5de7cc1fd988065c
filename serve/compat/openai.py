"""OpenAI's `POST /v1/moderations`, answered by Seawall's models and policy."""

# No `from __future__ import annotations` here: FastAPI reads the parameters' types.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.responses import JSONResponse

from moderation.errors import QuotingError, SeawallError
from serve.compat.errors import compat_problem_of, documented, retry_headers, route_class
from serve.compat.images import ImageScores, look_at
from serve.compat.labels import CATEGORIES, SHOWN, scored_names
from serve.compat.openai_wire import (
    ImagePart,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
    Remarks,
    TextPart,
)
from serve.compat.scoring import LabelScore, TextScores, score, services_of
from serve.context import GatewayContext, Here
from serve.errors import NoAnswerError
from serve.http.problems import Problem
from serve.http.repair import unmarked
from serve.http.shape import holds_more
from serve.http.wire import body_schema, check_media_type, client_of, json_reply, read_parsed


class RefusedError(QuotingError):
    """A request that OpenAI's client should raise its BadRequestError for.

    Args:
        message: what is wrong, with the value and the bound.
        param: where, as `input[1].text`.
        code: for programs.
    """

    def __init__(self, message: str, param: str | None, code: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


def error_of(error: Exception) -> Response:
    """The reply to a request that failed."""
    if isinstance(error, RefusedError):
        return _error(400, error.message, "invalid_request_error", error.param, error.code)
    problem = compat_problem_of(error)
    status = 400 if problem.status == 422 else problem.status
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return _error(status, problem.detail, kind, None, None, retry_headers(problem))


def _error(
    status: int, message: str, kind: str, param: str | None, code: str | None, headers: dict[str, str] | None = None
) -> Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers)


router = APIRouter(route_class=route_class(error_of))
_ERRORS = documented("OpenAI's", 400, 413, 415)


@router.post(
    "/v1/moderations",
    response_model=ModerationResponse,
    responses=_ERRORS,
    openapi_extra=body_schema(ModerationRequest),
    summary="OpenAI's moderation, recording nothing",
)
async def moderate(request: Request, context: Here) -> Response:
    """A category that no model scores is `null`; `flagged` follows the policy's thresholds.

    Of an image, `sexual` is what it shows, and the rest what is written in it; `seawall.not_scored` says what was not.
    """
    check_media_type(request, "application/json")
    body = await _read(request, context)
    texts, images = _texts(body), _images(body)
    _check_bounds(context, texts, images, body)
    names = scored_names(CATEGORIES, CATEGORIES, services_of(context.topology))
    seen = await _seen(context, images) if images else {}
    asked = [(text, None) for text in texts.values()]
    scores = await score(context, asked, set(names.values()), client=client_of(request)) if texts else []
    found = [_Part("text", item, names) for item in scores]
    if _one_each(body):
        results = [_result([part], {}) for part in found]
    else:
        found += [_Part("image", item, _shown_names(context)) for image in seen.values() for item in image.scores]
        results = [_result(found, {where: image for where, image in seen.items() if image.missing})]
    models = sorted({model for part in found for model in part.scores.models})
    response = ModerationResponse(id=f"modr-{uuid4().hex}", model=",".join(models), results=results)
    return json_reply(response.model_dump_json())


async def _read(request: Request, context: GatewayContext) -> ModerationRequest:
    bounds = context.topology.gateway
    bound = bounds.max_body_bytes

    def parse(raw: bytes) -> ModerationRequest:
        body = _parsed(raw, bounds.most_values)
        if len(raw) > bound and not _images(body):
            raise Problem(413, f"the body has {len(raw)} bytes, the bound without images is {bound}")
        return body

    return await read_parsed(request, parse, max(bound, context.topology.media.max_json_body_bytes))


async def _seen(context: GatewayContext, images: Mapping[str, str]) -> dict[str, ImageScores]:
    try:
        return await look_at(context, images, set(_shown_names(context).values()))
    except Problem:
        raise
    except SeawallError as error:
        raise NoAnswerError(error) from error


def _shown_names(context: GatewayContext) -> dict[str, str]:
    variants = context.topology.variants.values()
    return scored_names(SHOWN, SHOWN, (label for item in variants if item.service != "video" for label in item.labels))


def _parsed(raw: bytes, most_values: int) -> ModerationRequest:
    if holds_more(raw, most_values):
        raise RefusedError(f"the body holds more than {most_values} JSON values", None, "array_above_max_length")
    try:
        return ModerationRequest.model_validate_json(unmarked(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = _param(first["loc"])
        if first["type"] == "json_invalid":
            raise RefusedError(f"the body is not JSON: {first['msg']}", None, "invalid_json") from error
        if first["type"] == "extra_forbidden":
            raise RefusedError(f"Unknown parameter: {param!r}.", param, "unknown_parameter") from error
        if first["type"] == "missing":
            raise RefusedError(
                f"Missing required parameter: {param!r}.", param, "missing_required_parameter"
            ) from error
        raise RefusedError(f"Invalid {param or 'body'}: {first['msg']}", param, "invalid_value") from error


def _param(location: tuple[int | str, ...]) -> str | None:
    """A pydantic location as OpenAI writes it: without the names that tell the forms of `input` apart.

    Example:
        >>> _param(("input", "parts", 1, "text", "text"))
        'input[1].text'
    """
    if location[:1] != ("input",):
        return ".".join(map(str, location)) or None
    index, *rest = location[2:] or ("",)
    fields = rest[1:] if location[1:2] == ("parts",) else rest
    return "input" + (f"[{index}]" if index != "" else "") + "".join(f".{name}" for name in fields)


def _one_each(body: ModerationRequest) -> bool:
    """Whether each item has a result of its own: texts have, parts are one content."""
    return isinstance(body.input, str) or isinstance(body.input[0], str)


def _texts(body: ModerationRequest) -> dict[str, str]:
    """The texts by where they stand."""
    if isinstance(body.input, str):
        return {"input": body.input}
    texts: dict[str, str] = {}
    for index, item in enumerate(body.input):
        if isinstance(item, str):
            texts[f"input[{index}]"] = item
        elif isinstance(item, TextPart):
            texts[f"input[{index}].text"] = item.text
    return texts


def _images(body: ModerationRequest) -> dict[str, str]:
    """The images' URLs by where they stand."""
    items = [] if isinstance(body.input, str) else list(enumerate(body.input))
    return {f"input[{index}].image_url": item.image_url.url for index, item in items if isinstance(item, ImagePart)}


def _check_bounds(
    context: GatewayContext, texts: Mapping[str, str], images: Mapping[str, str], body: ModerationRequest
) -> None:
    bounds = context.topology.gateway
    count = len(body.input) if isinstance(body.input, list) else 1
    if count > bounds.max_features:
        message = f"input: {count} items, the bound is {bounds.max_features}"
        raise RefusedError(message, "input", "array_above_max_length")
    if len(images) > context.topology.media.max_media:
        message = f"input: {len(images)} images, the bound is {context.topology.media.max_media}"
        raise RefusedError(message, "input", "array_above_max_length")
    for where, text in texts.items():
        if len(text) > bounds.max_text_characters:
            message = f"{where}: {len(text)} characters, the bound is {bounds.max_text_characters}"
            raise RefusedError(message, where, "string_above_max_length")


@dataclass(frozen=True, slots=True)
class _Part:
    """A text, what an image shows, or a text in an image; and which categories stand for which labels in it."""

    input_type: Literal["text", "image"]
    scores: TextScores
    names: Mapping[str, str]


def _result(parts: Sequence[_Part], missing: Mapping[str, ImageScores]) -> ModerationResult:
    """One content's result: of each category the gravest of its parts, a flagged one first."""
    gravest: dict[str, LabelScore] = {}
    types: dict[str, set[Literal["text", "image"]]] = {}
    untrained: set[str] = set()
    for part in parts:
        for name, label in part.names.items():
            found = part.scores.labels.get(label)
            if found is None:
                continue
            types.setdefault(name, set()).add(part.input_type)
            if part.scores.language is not None and found.language not in found.languages:
                untrained.add(name)
            if name not in gravest or found.gravity > gravest[name].gravity:
                gravest[name] = found
    languages = list(dict.fromkeys(part.scores.language for part in parts if part.scores.language is not None))
    if all(found.flagged is None for found in gravest.values()):
        if missing:
            where, image = next(iter(missing.items()))
            message = f"Nothing can be said of this content: {where} was not scored: {image.missing}"
            if image.failed:
                raise Problem(503, message, retry_after=1)
            raise RefusedError(message, "input", "unsupported_input_type")
        raise Problem(422, f"no category is scored for this text, whose language is {', '.join(sorted(languages))}")
    return ModerationResult(
        flagged=any(found.flagged for found in gravest.values()),
        categories={name: gravest[name].flagged if name in gravest else None for name in CATEGORIES},
        category_scores={name: gravest[name].confidence if name in gravest else None for name in CATEGORIES},
        category_applied_input_types={name: sorted(types.get(name, ()), reverse=True) for name in CATEGORIES},
        seawall=Remarks(
            languages=languages,
            untrained=[name for name in CATEGORIES if name in untrained],
            not_scored={where: image.missing for where, image in missing.items()},
        ),
    )
