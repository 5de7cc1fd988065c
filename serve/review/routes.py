"""Routes of reports, reviews, appeals, reporters and reviewers. What they do is in the modules beside this one."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

import asyncio
import random
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from moderation.posts import Wire
from moderation.storage.ledger import now
from serve.context import Here
from serve.http.problems import OF_A_BODY, documented, over_bound
from serve.http.times import EARLIEST, asked
from serve.http.wire import Number, body_schema, checked_id, example_response, json_reply, read_json
from serve.review import appeals, examples, reports, reviewers
from serve.review import queue as review_queue
from serve.review.models import (
    Agreement,
    AppealIn,
    AppealOut,
    GoldenIn,
    LeaseIn,
    LeaseOut,
    ReporterIn,
    ReporterOut,
    ReportIn,
    ReportOut,
    ReviewerOut,
    VerdictIn,
    VerdictOut,
)

router = APIRouter(tags=["people"])
_chance = random.SystemRandom()


def _repeated(model: type[Wire]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "description": "Recorded before, as `Seawall-Replayed: true` says"}}


def _made(out: Wire, *, fresh: bool) -> Response:
    """201 for what is new; 200, and the header of a repeated request, for what was recorded before."""
    reply = json_reply(out.model_dump_json(), {} if fresh else {"Seawall-Replayed": "true"})
    reply.status_code = 201 if fresh else 200
    return reply


@router.post(
    "/v1/posts/{post_id:id}/reports",
    status_code=201,
    response_model=ReportOut,
    responses=_repeated(ReportOut) | documented(*OF_A_BODY, 404),
    openapi_extra=body_schema(ReportIn),
    summary="Report a post",
)
async def post_report(post_id: str, request: Request, here: Here) -> Response:
    """One a reporter and content: a second one answers with the first, and `Seawall-Replayed: true`."""
    body = await read_json(request, ReportIn, here.topology.gateway.max_body_bytes)
    policy, rules = here.topology.policy, here.topology.review
    out, fresh = await asyncio.to_thread(lambda: reports.add(here.ledger, post_id, body, policy=policy, rules=rules))
    return _made(out, fresh=fresh)


@router.put(
    "/v1/reporters/{reporter_id:id}",
    response_model=ReporterOut,
    responses=documented(*OF_A_BODY),
    openapi_extra=body_schema(ReporterIn),
    summary="Mute a reporter, or hear them again",
)
async def put_reporter(reporter_id: str, request: Request, here: Here) -> Response:
    """What a muted reporter reports is recorded and weighs nothing."""
    known = checked_id("reporter_id", reporter_id)
    body = await read_json(request, ReporterIn, here.topology.gateway.max_body_bytes)
    out = await asyncio.to_thread(lambda: reports.mute(here.ledger, known, muted=body.muted))
    return json_reply(out.model_dump_json())


@router.get(
    "/v1/reporters/{reporter_id:id}",
    response_model=ReporterOut,
    responses=example_response(examples.REPORTER) | documented(422),
    summary="How reliable a reporter was",
)
async def get_reporter(reporter_id: str, here: Here) -> Response:
    """One who never reported is as reliable as anyone of whom nothing is known."""
    known = checked_id("reporter_id", reporter_id)
    out = await asyncio.to_thread(lambda: reports.reporter(here.ledger, known))
    return json_reply(out.model_dump_json())


@router.post(
    "/v1/reviews:lease",
    response_model=LeaseOut,
    responses=documented(*OF_A_BODY),
    openapi_extra=body_schema(LeaseIn),
    summary="Lease items to a reviewer",
)
async def post_lease(request: Request, here: Here) -> Response:
    """The most pressing first, for a bounded time; nobody else gets them meanwhile.

    Nobody gets what they wrote, reported or judged.
    """
    body = await read_json(request, LeaseIn, here.topology.gateway.max_body_bytes)
    rules = here.topology.review
    if body.limit > rules.max_lease:
        raise over_bound("/limit", f"limit is {body.limit}", rules.max_lease)
    policy = here.topology.policy
    leased = await asyncio.to_thread(
        lambda: review_queue.lease(here.ledger, body, policy=policy, rules=rules, chance=_chance)
    )
    return json_reply(LeaseOut(reviews=leased).model_dump_json())


@router.put(
    "/v1/reviews/{review_id}",
    response_model=VerdictOut,
    responses=documented(*OF_A_BODY, 404, 409),
    openapi_extra=body_schema(VerdictIn),
    summary="Decide a leased item",
)
async def put_review(review_id: Number, request: Request, here: Here) -> Response:
    """Idempotent: the same verdict again answers the same, with `Seawall-Replayed: true`."""
    body = await read_json(request, VerdictIn, here.topology.gateway.max_body_bytes)
    rules = here.topology.review
    out, fresh = await asyncio.to_thread(
        lambda: review_queue.decide(here.ledger, review_id, body, rules=rules, chance=_chance)
    )
    return json_reply(out.model_dump_json(), {} if fresh else {"Seawall-Replayed": "true"})


@router.get(
    "/v1/reviews/agreement",
    response_model=Agreement,
    responses=example_response(examples.AGREEMENT) | documented(422),
    summary="How far two people agree",
)
async def get_agreement(
    here: Here, begin: Annotated[str, Query(alias="from")] = "", end: Annotated[str, Query(alias="to")] = ""
) -> Response:
    """Of items that a second person judged in [from, to); ISO 8601 with an offset. Absent: since ever, until now."""
    window = asked("from", begin or None) or EARLIEST, asked("to", end or None) or now()
    out = await asyncio.to_thread(lambda: reviewers.agreement(here.ledger, *window))
    return json_reply(out.model_dump_json())


@router.get(
    "/v1/reviewers/{reviewer_id:id}",
    response_model=ReviewerOut,
    responses=example_response(examples.REVIEWER) | documented(422),
    summary="How good a reviewer is",
)
async def get_reviewer(reviewer_id: str, here: Here) -> Response:
    """By golden items, whose right verdict is known."""
    known = checked_id("reviewer_id", reviewer_id)
    out = await asyncio.to_thread(lambda: reviewers.reviewer(here.ledger, known))
    return json_reply(out.model_dump_json())


@router.put(
    "/v1/golden/{post_id:id}",
    response_model=GoldenIn,
    responses=documented(*OF_A_BODY, 404),
    openapi_extra=body_schema(GoldenIn),
    summary="Say what the right verdict on a post is",
)
async def put_golden(post_id: str, request: Request, here: Here) -> Response:
    """From now on it is mixed into leases, to measure reviewers; its verdicts change nothing for the post."""
    body = await read_json(request, GoldenIn, here.topology.gateway.max_body_bytes)
    await asyncio.to_thread(lambda: reviewers.put_golden(here.ledger, post_id, body))
    return json_reply(body.model_dump_json())


@router.post(
    "/v1/posts/{post_id:id}/appeals",
    status_code=201,
    response_model=AppealOut,
    responses=_repeated(AppealOut) | documented(*OF_A_BODY, 404, 409),
    openapi_extra=body_schema(AppealIn),
    summary="Appeal against a removal",
)
async def post_appeal(post_id: str, request: Request, here: Here) -> Response:
    """One a removal; judged by somebody who has not judged this content before."""
    body = await read_json(request, AppealIn, here.topology.gateway.max_body_bytes)
    policy, rules = here.topology.policy, here.topology.review
    out, fresh = await asyncio.to_thread(lambda: appeals.add(here.ledger, post_id, body, policy=policy, rules=rules))
    return _made(out, fresh=fresh)


@router.get(
    "/v1/posts/{post_id:id}/appeals",
    response_model=list[AppealOut],
    responses=example_response([examples.APPEAL]) | documented(404),
    summary="A post's appeals",
)
async def get_appeals(post_id: str, here: Here) -> Response:
    """The first first."""
    found = await asyncio.to_thread(lambda: appeals.of_post(here.ledger, post_id))
    return json_reply("[" + ",".join(out.model_dump_json() for out in found) + "]")
