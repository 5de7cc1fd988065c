"""OpenAI's `POST /v1/moderations`, answered by Seawall's models and policy."""

# No `from __future__ import annotations` here: FastAPI reads the parameters' types.

from collections.abc import Mapping, Sequence
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError
from starlette.responses import JSONResponse

from serve.compat.errors import problem_of, retry_headers, route_class
from serve.compat.labels import CATEGORIES, scored_names
from serve.compat.openai_wire import ModerationRequest, ModerationResponse, ModerationResult, Remarks, TextPart
from serve.compat.scoring import LabelScore, TextScores, score, services_of
from serve.context import Context, current
from serve.problems import Problem
from serve.wire import body_schema, check_media_type, json_reply, read_bounded


class RefusedError(Exception):
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
    problem = problem_of(error)
    status = 400 if problem.status == 422 else problem.status
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return _error(status, problem.detail, kind, None, None, retry_headers(problem))


def _error(
    status: int, message: str, kind: str, param: str | None, code: str | None, headers: dict[str, str] | None = None
) -> Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers)


router = APIRouter(route_class=route_class(error_of))
_ERRORS: dict[int | str, dict[str, object]] = {
    400: {"description": "In OpenAI's shape"},
    503: {"description": "Likewise"},
}


@router.post(
    "/v1/moderations",
    response_model=ModerationResponse,
    responses=_ERRORS,
    openapi_extra=body_schema(ModerationRequest),
    summary="OpenAI's moderation, recording nothing",
)
async def moderate(request: Request, context: Annotated[Context, Depends(current)]) -> Response:
    """A category that no model scores is `null`; `flagged` follows the policy's thresholds. Images are not scored."""
    check_media_type(request, "application/json")
    body = _parsed(await read_bounded(request, context.topology.gateway.max_body_bytes))
    texts, contents = _contents(body)
    _check_bounds(context, texts, body)
    names = scored_names(CATEGORIES, CATEGORIES, services_of(context.topology))
    scores = await score(context, [(text, None) for text in texts.values()], set(names.values()))
    found = dict(zip(texts, scores, strict=True))
    models = sorted({model for item in scores for model in item.models})
    results = [_result([found[where] for where in content], names) for content in contents]
    response = ModerationResponse(id=f"modr-{uuid4().hex}", model=",".join(models), results=results)
    return json_reply(response.model_dump_json())


def _parsed(raw: bytes) -> ModerationRequest:
    try:
        return ModerationRequest.model_validate_json(raw)
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


def _contents(body: ModerationRequest) -> tuple[dict[str, str], list[list[str]]]:
    """The texts by where they stand, and for each result those that it is about.

    Raises:
        RefusedError: there is nothing that could be scored.
    """
    if isinstance(body.input, str):
        return {"input": body.input}, [["input"]]
    texts: dict[str, str] = {}
    for index, item in enumerate(body.input):
        if isinstance(item, str):
            texts[f"input[{index}]"] = item
        elif isinstance(item, TextPart):
            texts[f"input[{index}].text"] = item.text
    if not texts:
        message = "Images are not scored here, and there is no text beside them: nothing can be said of this content."
        raise RefusedError(message, "input", "unsupported_input_type")
    one_each = isinstance(body.input[0], str)
    return texts, [[where] for where in texts] if one_each else [list(texts)]


def _check_bounds(context: Context, texts: Mapping[str, str], body: ModerationRequest) -> None:
    bounds = context.topology.gateway
    count = len(body.input) if isinstance(body.input, list) else 1
    if count > bounds.max_features:
        message = f"input: {count} items, the bound is {bounds.max_features}"
        raise RefusedError(message, "input", "array_above_max_length")
    for where, text in texts.items():
        if len(text) > bounds.max_text_characters:
            message = f"{where}: {len(text)} characters, the bound is {bounds.max_text_characters}"
            raise RefusedError(message, where, "string_above_max_length")


def _result(scores: Sequence[TextScores], names: Mapping[str, str]) -> ModerationResult:
    """One content's result: of each category the gravest of its texts, a flagged one first."""
    gravest: dict[str, LabelScore] = {}
    untrained: set[str] = set()
    for item in scores:
        for name, label in names.items():
            found = item.labels.get(label)
            if found is None:
                continue
            if item.language not in found.languages:
                untrained.add(name)
            if name not in gravest or _gravity(found) > _gravity(gravest[name]):
                gravest[name] = found
    if all(found.flagged is None for found in gravest.values()):
        languages = ", ".join(sorted({item.language for item in scores}))
        raise Problem(422, f"no category is scored for this text, whose language is {languages}")
    return ModerationResult(
        flagged=any(found.flagged for found in gravest.values()),
        categories={name: gravest[name].flagged if name in gravest else None for name in CATEGORIES},
        category_scores={name: gravest[name].confidence if name in gravest else None for name in CATEGORIES},
        category_applied_input_types={name: ["text"] if name in gravest else [] for name in CATEGORIES},
        seawall=Remarks(
            languages=list(dict.fromkeys(item.language for item in scores)),
            untrained=[name for name in CATEGORIES if name in untrained],
        ),
    )


def _gravity(found: LabelScore) -> tuple[bool, float]:
    return bool(found.flagged), found.confidence
