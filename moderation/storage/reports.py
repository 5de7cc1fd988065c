"""Reports: one a reporter and post; enough reliable reporters put a post before a person at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from moderation.labels import BY_NAME
from moderation.people import ReporterOut, ReportIn, ReportOut, ReportShown
from moderation.policy import Policy
from moderation.posts import Decision
from moderation.review import ReviewItem, ReviewRules, rank, reliability, severity_of, with_reports
from moderation.storage import standing
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, newest_content, now
from moderation.storage.people_tables import reporters, reports, reviews


def add(
    ledger: Ledger, post_id: str, report: ReportIn, *, policy: Policy, rules: ReviewRules
) -> tuple[ReportOut, bool]:
    """Record a report on a post's newest content; a reporter's second report on a post is their first.

    Args:
        ledger: of the post.
        post_id: what is reported.
        report: by whom and why.
        policy: its prevalences weigh the model's scores.
        rules: from when on a person looks at it.

    Returns:
        What is recorded, and whether it is new.

    Raises:
        NotFoundError: the post is unknown.
    """
    with ledger.write() as connection:
        claim(connection, "post", [post_id])
        post = newest_content(connection, post_id)
        known = (reports.c.post_id == post_id) & (reports.c.reporter_id == report.reporter_id)
        row = connection.execute(select(reports).where(known)).first()
        fresh = row is None
        if fresh:
            weight = _weights(connection, [report.reporter_id])[report.reporter_id]
            values = report.model_dump() | {"post_id": post_id, "content_version": post.content_version}
            values |= {"weight": weight, "outcome": None, "created_at": now()}
            connection.execute(insert(reports).values(**values))
            row = connection.execute(select(reports).where(known)).one()
            _heed(connection, post, policy, rules)
        assert row is not None
        queued = post_id in standing.open_reviews(connection, [post_id])
    out = ReportOut(
        report_id=row.report_id,
        post_id=post_id,
        content_version=row.content_version,
        reporter_id=row.reporter_id,
        reason=row.reason,
        label=row.label,
        created_at=row.created_at,
        review_queued=queued,
    )
    return out, fresh


def _heed(connection: Connection, post: Any, policy: Policy, rules: ReviewRules) -> None:
    """Let what people report move the post in the queue, or into it."""
    heard = _unanswered(connection, post.post_id)
    weights = [row.weight for row in heard]
    named = dict.fromkeys(row.label for row in heard if row.label is not None and row.weight > 0)
    found = connection.execute(
        select(reviews).where(reviews.c.post_id == post.post_id, reviews.c.status == "open", reviews.c.kind != "golden")
    ).first()
    decision = Decision.model_validate_json(post.body, extra="ignore")
    ranked = rank(decision.labels, policy.rules(post.region))
    labels = list(dict.fromkeys([*named, *(found.labels if found else ()), *ranked]))
    p_harm = with_reports(max(ranked.values(), default=0.0), weights)
    if found is not None:
        severity = severity_of(labels)
        change = {"labels": labels, "p_harm": p_harm, "severity": severity}
        change["priority"] = p_harm * severity * found.impressions
        connection.execute(update(reviews).where(reviews.c.review_id == found.review_id).values(**change))
        return
    state = standing.of(connection, [post.post_id]).get(post.post_id)
    if sum(weights) < rules.report_threshold_of(post.community) or (state is not None and state.state == "removed"):
        return
    item = ReviewItem(
        kind="reported",
        labels=tuple(labels),
        p_harm=p_harm,
        severity=severity_of(labels),
        impressions=rules.expected_in(post.community),
        within=min((BY_NAME[name].deadline for name in labels[:1]), default=timedelta(hours=24)),
    )
    standing.queue(
        connection,
        post.post_id,
        post.content_version,
        item,
        language=decision.language.code,
        region=post.region,
        community=post.community,
        created_at=now(),
    )


def _unanswered(connection: Connection, post_id: str) -> Sequence[Any]:
    query = select(reports.c.label, reports.c.weight).where(reports.c.post_id == post_id, reports.c.outcome.is_(None))
    return connection.execute(query.order_by(reports.c.report_id)).all()


def shown(connection: Connection, post_ids: Sequence[str]) -> dict[str, list[ReportShown]]:
    """What was reported of posts and is not answered yet, the first first; muted reporters are left out."""
    query = select(reports.c.post_id, reports.c.reason, reports.c.label).where(
        reports.c.post_id.in_(post_ids), reports.c.outcome.is_(None), reports.c.weight > 0
    )
    result: dict[str, list[ReportShown]] = {}
    for row in connection.execute(query.order_by(reports.c.report_id)):
        result.setdefault(row.post_id, []).append(ReportShown(reason=row.reason, label=row.label))
    return result


def answer(connection: Connection, post_id: str, content_version: int, *, removed: bool) -> None:
    """Count a verdict for those who reported the content and were not answered yet."""
    outcome = "upheld" if removed else "dismissed"
    mine = (reports.c.post_id == post_id) & (reports.c.content_version <= content_version) & reports.c.outcome.is_(None)
    heard = sorted(row[0] for row in connection.execute(select(reports.c.reporter_id).where(mine)))
    if not heard:
        return
    connection.execute(update(reports).where(mine).values(outcome=outcome))
    counted = reporters.c.upheld if removed else reporters.c.dismissed
    for reporter_id in heard:  # in one order, so that two verdicts never wait for each other
        _make_known(connection, reporter_id)
        connection.execute(
            update(reporters).where(reporters.c.reporter_id == reporter_id).values({counted: counted + 1})
        )


def mute(ledger: Ledger, reporter_id: str, *, muted: bool) -> ReporterOut:
    """Let a reporter's reports weigh nothing from now on, or something again."""
    with ledger.write() as connection:
        claim(connection, "reporter", [reporter_id])
        _make_known(connection, reporter_id)
        connection.execute(update(reporters).where(reporters.c.reporter_id == reporter_id).values(muted=muted))
        return _reporters(connection, [reporter_id])[reporter_id]


def reporter(ledger: Ledger, reporter_id: str) -> ReporterOut:
    """How reliable a reporter was; one who never reported is like any other."""
    with ledger.read() as connection:
        known = _reporters(connection, [reporter_id])
    return known.get(reporter_id) or _unknown(reporter_id)


def _make_known(connection: Connection, reporter_id: str) -> None:
    make = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    values = {"reporter_id": reporter_id, "upheld": 0, "dismissed": 0, "muted": False}
    connection.execute(make(reporters).values(**values).on_conflict_do_nothing())


def _weights(connection: Connection, ids: Iterable[str]) -> dict[str, float]:
    asked = list(ids)
    known = _reporters(connection, asked)
    found = {reporter_id: known.get(reporter_id) or _unknown(reporter_id) for reporter_id in asked}
    return {reporter_id: 0.0 if row.muted else row.reliability for reporter_id, row in found.items()}


def _reporters(connection: Connection, ids: Sequence[str]) -> dict[str, ReporterOut]:
    rows = connection.execute(select(reporters).where(reporters.c.reporter_id.in_(ids)))
    return {
        row.reporter_id: ReporterOut(
            reporter_id=row.reporter_id,
            upheld=row.upheld,
            dismissed=row.dismissed,
            reliability=reliability(row.upheld, row.dismissed),
            muted=row.muted,
        )
        for row in rows
    }


def _unknown(reporter_id: str) -> ReporterOut:
    return ReporterOut(reporter_id=reporter_id, upheld=0, dismissed=0, reliability=reliability(0, 0), muted=False)
