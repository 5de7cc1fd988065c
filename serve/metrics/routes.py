"""`POST /v1/events` and `GET /v1/metrics/online`."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types.

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from moderation.events import EventIn, EventsOut
from moderation.sections import Dimension, Metrics
from moderation.storage import events
from moderation.storage.ledger import now
from serve.context import Here
from serve.http.lines import NDJSON, parsed_lines, read_lines
from serve.http.problems import Problem, documented
from serve.http.times import asked, lines_within
from serve.http.wire import body_schema, example_response, json_reply
from serve.metrics import examples
from serve.metrics.online import GoldenRule, OnlineOut, measure
from serve.metrics.queries import DIMENSIONS, Window

router = APIRouter()
_DEFAULT_WINDOW = timedelta(hours=24)


@router.post(
    "/v1/events",
    response_model=EventsOut,
    responses=documented(413, 415),
    openapi_extra=body_schema(EventIn, NDJSON),
    summary="Take events in bulk",
)
async def post_events(request: Request, context: Here) -> Response:
    """NDJSON, an event a line, idempotent by `id`; a bad line is an error of its own."""
    bounds = context.topology.gateway
    lines = await read_lines(request, bounds.max_events_body_bytes, bounds.max_event_lines)
    good, errors = lines_within("happened_at", await parsed_lines(EventIn, lines), bounds)
    out = await asyncio.to_thread(events.add, context.ledger, good)
    out.errors = sorted([*errors, *out.errors], key=lambda item: item.line)
    return json_reply(out.model_dump_json())


@router.get(
    "/v1/metrics/online",
    response_model=OnlineOut,
    responses=example_response(examples.ONLINE) | documented(422),
    summary="The online metrics of a window",
)
async def get_online(
    context: Here,
    begin: Annotated[str | None, Query(alias="from", description="RFC 3339; 24 hours before `to` where absent")] = None,
    end: Annotated[str | None, Query(alias="to", description="RFC 3339, exclusive; now where absent")] = None,
    by: Annotated[str | None, Query(description="Of region, language, community, label, model_version; comma")] = None,
) -> Response:
    """Harm that the public saw, time to takedown, reports, appeals, reviews: in total and by group; null: unknown."""
    metrics = context.topology.metrics
    window = window_of({"from": begin, "to": end, "by": by}, metrics, now())
    out = await asyncio.to_thread(measure, context.ledger, window, rule_of(metrics))
    return json_reply(out.model_dump_json(by_alias=True))


def rule_of(metrics: Metrics) -> GoldenRule:
    """When golden items are enough, as configured."""
    return GoldenRule(timedelta(days=metrics.golden_days), metrics.least_golden)


def window_of(told: Mapping[str, str | None], metrics: Metrics, at: datetime) -> Window:
    """The window that a query asks for.

    Args:
        told: `from`, `to` and `by` as they came; None: absent.
        metrics: the bounds.
        at: the present.

    Raises:
        Problem: 422, with the value and the bound.
    """
    end = asked("to", told["to"]) or at
    begin = asked("from", told["from"]) or end - _DEFAULT_WINDOW
    if begin >= end:
        raise Problem(422, f"from is {begin.isoformat()}, not before to, which is {end.isoformat()}")
    days = (end - begin) / timedelta(days=1)
    if days > metrics.max_window_days:
        bound = metrics.max_window_days
        raise Problem(422, f"from and to are {days:g} days apart, the bound is {bound:g}", members={"bound": bound})
    return Window(begin, end, _dimensions(told["by"]), metrics.max_groups)


def _dimensions(told: str | None) -> tuple[Dimension, ...]:
    names = [] if not told else told.split(",")
    known: dict[str, Dimension] = {name: name for name in DIMENSIONS}
    for name in names:
        if name not in known:
            raise Problem(422, f"by is {told!r}: {name!r} is none of {', '.join(DIMENSIONS)}")
        if names.count(name) > 1:
            raise Problem(422, f"by is {told!r}: {name!r} is there twice")
    return tuple(known[name] for name in names)
