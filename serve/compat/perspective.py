"""Perspective's `comments:analyze` and `comments:suggestscore`, answered by Seawall's models and ledger."""

# No `from __future__ import annotations` here: FastAPI reads the parameters' types.

import asyncio
from collections.abc import Collection, Mapping, Sequence

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTasks
from starlette.responses import JSONResponse

from moderation.storage import labelling
from moderation.storage.ledger import now
from serve.compat.comments import Asked, asked_of, check_comment, languages_of
from serve.compat.errors import documented, route_class
from serve.compat.google import PerspectiveError, error_of
from serve.compat.labels import ATTRIBUTES
from serve.compat.perspective_wire import (
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    AttributeScores,
    Score,
    SpanScore,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
    reply_of,
)
from serve.compat.scoring import LabelScore, TextScores, score, services_of
from serve.compat.spans import Span, sentences, whole
from serve.compat.suggestions import label_of, post_of, suggested_labels
from serve.context import GatewayContext, Here
from serve.http.problems import Problem
from serve.http.wire import MOST_VALUES, Body, body_schema, check_media_type, client_of, parsed, read_parsed
from serve.labels.counting import count_labels

router = APIRouter(route_class=route_class(error_of))
_ERRORS = documented("Perspective's", 400, 413, 415)
_VALUES_A_SPAN = 5 * sum(label is not None for label in ATTRIBUTES.values())
"""JSON values that a suggestion of all attributes has for a span."""


@router.post(
    "/v1alpha1/comments:analyze",
    response_model=AnalyzeCommentResponse,
    responses=_ERRORS,
    openapi_extra=body_schema(AnalyzeCommentRequest),
    summary="Perspective's scores of a comment, recording nothing",
)
async def analyze(request: Request, context: Here) -> Response:
    """What no model scores is left out, or Perspective's own error, as `compat.perspective` says. `key` is ignored."""
    body = await _read(request, AnalyzeCommentRequest, context)
    bounds = context.topology.gateway
    text = check_comment(body.comment, body.context, bounds.max_text_characters)
    services = services_of(context.topology)
    omit = context.topology.compat.perspective.unknown == "omit"
    asked, omitted = asked_of(body, set(services), omit=omit)
    languages = languages_of(body.languages, text)
    told, drop = bool(languages.requested), bool(body.drop_unsupported_attributes)
    labels = {item.label for item in asked}
    client = client_of(request)
    chosen = languages.chosen or await _surest_language(context, text, languages.likely, labels, client)
    if chosen is None:
        raise PerspectiveError("Unable to detect language", "LANGUAGE_DETECTION_FAILED")
    spans = sentences(text, bounds.max_spans) if body.span_annotations else [whole(text)]
    # The whole in each language that it is said to be in, then the parts that are not the whole.
    codes = [chosen, *(code for code in languages.requested if code != chosen)]
    parts = [span.text for span in spans if span.text != text]
    texts = [(text, code) for code in codes] + [(part, chosen) for part in parts]
    scores = await score(context, texts, labels, client=client) if labels else []
    kept, marked, dropped = _by_language(asked, codes, scores, mark=omit and not told and not drop)
    if dropped and not drop and not (omit and kept):
        raise _unsupported_error(context, dropped, codes, scores, told=told)
    rest = iter(scores[len(codes) :])
    placed = [(span, scores[0] if span.text == text else next(rest)) for span in spans] if kept else []
    response = AnalyzeCommentResponse(
        attribute_scores={item.name: _attribute(item, scores[0], placed) for item in kept},
        languages=body.languages or [chosen],
        detected_languages=[languages.detected or chosen],
        client_token=body.client_token,
    )
    headers = {
        "Seawall-Omitted": ", ".join([*omitted, *(item.name for item in dropped)]),
        "Seawall-Untrained": ", ".join(f"{item.name}={chosen}" for item in marked),
    }
    return _answer(response, headers={name: value for name, value in headers.items() if value})


async def _surest_language(
    context: GatewayContext, text: str, likely: Sequence[str], labels: Collection[str], client: str | None
) -> str | None:
    """Of the languages that a comment may be in, that in which a model that learned it is surest of some label."""
    scores = await score(context, [(text, code) for code in likely], labels, client=client) if labels and likely else []
    surest = [
        (found.gravity, code)
        for code, row in zip(likely, scores, strict=False)
        for found in row.labels.values()
        if code in found.languages
    ]
    return max(surest)[1] if surest else None


def _unsupported(asked: Asked, codes: list[str], scores: list[TextScores]) -> list[str]:
    """The languages of a comment in which no model learned an attribute."""
    found = [item.labels.get(asked.label) for item in scores[: len(codes)]]
    return [code for code, item in zip(codes, found, strict=True) if item is None or code not in item.languages]


def _by_language(
    asked: list[Asked], codes: list[str], scores: list[TextScores], *, mark: bool
) -> tuple[list[Asked], list[Asked], list[Asked]]:
    """What is answered; what of it was not learned in the comment's language; what is left out for its language.

    Args:
        asked: attributes that some model scores.
        codes: languages of the comment, that in which it is scored first.
        scores: of the comment in each of them, and then of its parts.
        mark: answer also what a model scores without having learned it in the language.
    """
    unlearned = [item for item in asked if _unsupported(item, codes, scores)]
    marked = [item for item in unlearned if mark and item.label in scores[0].labels]
    dropped = [item for item in unlearned if item not in marked]
    return [item for item in asked if item not in dropped], marked, dropped


def _unsupported_error(
    context: GatewayContext,
    refused: list[Asked],
    codes: list[str],
    scores: list[TextScores],
    *,
    told: bool,
) -> PerspectiveError:
    members = []
    for item in refused:
        scored = [found for row in scores[: len(codes)] if (found := row.labels.get(item.label)) is not None]
        supported = {code for found in scored for code in found.languages} or _routed(context, item.label)
        detail = {"attribute": item.name, "supportedLanguages": sorted(supported)}
        detail |= {"requestedLanguages" if told else "detectedLanguages": codes}
        members.append({"languageNotSupportedByAttributeError": detail})
    shown = ", ".join(_unsupported(refused[0], codes, scores))
    message = f"Attribute {refused[0].name} does not support request languages: {shown}"
    return PerspectiveError(message, "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE", members)


def _routed(context: GatewayContext, label: str) -> set[str]:
    """The languages whose texts are put to a variant with the label."""
    topology = context.topology
    routes = [route for route in topology.routes if label in topology.variants[route.variant].labels]
    return {code for route in routes for code in route.languages if code != "*"}


def _attribute(asked: Asked, summary: TextScores, spans: list[tuple[Span, TextScores]]) -> AttributeScores:
    least = -1.0 if asked.threshold is None else asked.threshold

    def score_of(found: LabelScore) -> Score | None:
        return Score(value=found.confidence, type="PROBABILITY") if found.confidence >= least else None

    parts = [
        SpanScore(begin=span.begin, end=span.end, score=value)
        for span, scores in spans
        if (value := score_of(scores.labels[asked.label])) is not None
    ]
    return AttributeScores(span_scores=parts or None, summary_score=score_of(summary.labels[asked.label]))


@router.post(
    "/v1alpha1/comments:suggestscore",
    response_model=SuggestCommentScoreResponse,
    responses=_ERRORS,
    openapi_extra=body_schema(SuggestCommentScoreRequest),
    summary="Perspective's suggestion of a score, kept as labels",
)
async def suggest_score(request: Request, context: Here) -> Response:
    """The comment becomes a post, the scores labels of it; the same suggestion again changes nothing."""
    # A browser sends without asking what has no media type, or one of a form: what is recorded must have its own.
    check_media_type(request, "application/json")
    body = await _read(request, SuggestCommentScoreRequest, context)
    text = check_comment(body.comment, body.context, context.topology.gateway.max_text_characters)
    labels = suggested_labels(body.attribute_scores, text)
    languages = languages_of(body.languages, text)
    post_id, post = post_of(text, languages.requested, body.community_id, at=now())
    tasks = BackgroundTasks()
    if not body.do_not_store:
        await context.moderator.moderate(post_id, post, acts=False, client=client_of(request))
        label = label_of(post_id, labels, said_by=(body.session_id, body.client_token), at=now())
        out = await asyncio.to_thread(labelling.add, context.ledger, {1: label})
        # Its id says all of it but the time: what stands under it already is this very suggestion.
        if out.errors and not await asyncio.to_thread(labelling.has, context.ledger, label.id):
            raise Problem(503, f"the label was not recorded: {out.errors[0].detail}", retry_after=1)
        if out.accepted:
            tasks.add_task(count_labels, context, [label.id])
    response = SuggestCommentScoreResponse(
        client_token=body.client_token,
        detected_languages=[found] if (found := languages.detected or languages.chosen) else None,
        requested_languages=body.languages or None,
    )
    return _answer(response, tasks)


async def _read(request: Request, model: type[Body], context: GatewayContext) -> Body:
    """The body. Perspective takes it without a media type, as many of its clients send it."""
    if "content-type" in request.headers:
        check_media_type(request, "application/json")
    bounds = context.topology.gateway
    most = MOST_VALUES + _VALUES_A_SPAN * bounds.max_spans
    return await read_parsed(request, lambda raw: parsed(model, raw, most_values=most), bounds.max_body_bytes)


def _answer(
    message: AnalyzeCommentResponse | SuggestCommentScoreResponse,
    tasks: BackgroundTasks | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return JSONResponse(reply_of(message), headers=headers, background=tasks)
