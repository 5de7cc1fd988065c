"""Reports: one a reporter and content version; enough reliable reporters put a post before a person at once.

What a person allowed takes more than that to come before a person again, and more each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from moderation.labels import BY_NAME
from moderation.policy import Policy, Rule, urgency_of
from moderation.review import ReviewItem, ReviewRules, rank, reliability, severity_of, with_reports
from moderation.storage import post_status
from moderation.storage.dialect import claim, insert_into
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import reporters, reports, reviews
from moderation.storage.tables import of_version
from serve.review import items
from serve.review.contents import Content, content_of, newest_content, queue_content, same_content
from serve.review.items import Review
from serve.review.models import ReporterOut, ReportIn, ReportOut, ReportShown

_MOST_HEARD = 200
"""Reporters of a post whose unanswered reports are weighed; with more nothing changes any more."""
_MOST_NEEDED = 10_000
"""The same where it takes more than those to bring back what people allowed."""
_MOST_SHOWN = 20
"""Reports that a reviewer is shown."""


def add(
    ledger: Ledger, post_id: str, report: ReportIn, *, policy: Policy, rules: ReviewRules
) -> tuple[ReportOut, bool]:
    """Record a report on a post's newest content; a reporter's second report on that is their first.

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
        theirs = reports.c.reporter_id == report.reporter_id
        known = of_version(reports, post_id, post.content_version) & theirs
        row = connection.execute(select(reports).where(known)).first()
        fresh = row is None
        if fresh:
            own = report.reporter_id == post.author_id  # that puts nothing before a person
            weight = 0.0 if own else _weights(connection, [report.reporter_id])[report.reporter_id]
            values = report.model_dump() | {"post_id": post_id, "content_version": post.content_version}
            values |= {"weight": weight, "outcome": None, "created_at": now()}
            connection.execute(insert(reports).values(**values))
            row = connection.execute(select(reports).where(known)).one()
            _heed(connection, post, policy, rules)
        assert row is not None
        queued = post_id in post_status.open_reviews(connection, [post_id])
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


def _heed(connection: Connection, post: Content, policy: Policy, rules: ReviewRules) -> None:
    """Let what people report move the post in the queue, or into it."""
    allowed = _times_allowed(connection, post)
    needed = rules.reports_needed(post.community, allowed=allowed)
    heard = _unanswered(connection, post.post_id, upheld=rules.reopen_upheld if allowed else 0, needed=needed)
    weights = [report.weight for report in heard]
    named = list(dict.fromkeys(report.label for report in heard if report.label is not None))
    enough = sum(weights) >= needed
    waiting = items.REVIEW.where(reviews.c.status == "open", reviews.c.kind != "golden")
    found = items.read(connection, waiting.where(of_version(reviews, post.post_id, post.content_version)))
    decision = post.decision()
    region_rules = policy.rules(post.region)
    ranked = rank(decision.labels, region_rules)
    p_harm = with_reports(max(ranked.values(), default=0.0), weights)
    if found:  # one at most
        _raise(connection, found[0], named, p_harm, region_rules, enough=enough)
        return
    state = post_status.of(connection, [post.post_id]).get(post.post_id)
    if not enough or (state is not None and state.state == "removed"):
        return
    labels = tuple(dict.fromkeys([*named, *ranked]))
    item = ReviewItem(
        kind="reported",
        labels=labels,
        p_harm=p_harm,
        severity=severity_of(labels, region_rules),
        impressions=rules.expected_in(post.community),
        within=_deadline(labels, region_rules),
    )
    queue_content(connection, post, item, language=decision.language.code)


def _raise(
    connection: Connection, found: Review, named: list[str], p_harm: float, rules: Mapping[str, Rule], *, enough: bool
) -> None:
    """Move an open item up, never down; with enough reports it is as urgent as a reported one.

    What was drawn at random keeps its probability, by which it is known whatever it is called. The labels in question
    stay while somebody holds the item, who is asked about those.
    """
    if found.kind == "appeal":
        return  # there the question is whether the removal was wrong, and reports say nothing of that
    p_harm = max(p_harm, found.p_harm)
    severity = max(found.severity, severity_of(named, rules)) if enough else found.severity
    change: dict[str, object] = {
        "p_harm": p_harm,
        "severity": severity,
        "priority": p_harm * severity * found.impressions,
    }
    held = found.leased_until is not None and found.leased_until >= now()
    if not held:
        change["labels"] = list(dict.fromkeys([*found.labels, *named]))
    if enough:
        change["deadline"] = min(found.deadline, now() + _deadline(named or found.labels, rules))
        if found.kind in ("sampled", "cluster"):
            change["kind"] = "reported"
    connection.execute(update(reviews).where(reviews.c.review_id == found.review_id).values(**change))


def _deadline(labels: Sequence[str], rules: Mapping[str, Rule]) -> timedelta:
    """How soon a person looks at what is reported for these labels: the most urgent one's time."""
    return min((urgency_of(name, rules).deadline for name in labels if name in BY_NAME), default=timedelta(hours=24))


def _times_allowed(connection: Connection, post: Content) -> int:
    """How often people allowed this content of a post; of two who looked at it one after the other, once."""
    same = same_content(connection, post.post_id, post.content_hash)
    query = select(func.count()).where(
        reviews.c.post_id == post.post_id,
        reviews.c.content_version.in_(same),
        reviews.c.verdict == "allow",
        reviews.c.kind.not_in(("golden", "second")),
    )
    return connection.execute(query).scalar_one()


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a reporter said of a post, and with which weight."""

    label: str | None
    weight: float


def _unanswered(connection: Connection, post_id: str, *, upheld: int, needed: float) -> list[_Heard]:
    """What people whose word counts reported of a post and nobody answered yet, the first first; the last of each.

    Also of content that was edited since: an edit does not make the reports go away.

    Args:
        connection: in a transaction that claims the post.
        post_id: that is reported.
        upheld: reports that a reporter must have been right with to be heard.
        needed: sum of their weights that matters.
    """
    heard = select(func.max(reports.c.report_id)).where(
        reports.c.post_id == post_id, reports.c.outcome.is_(None), reports.c.weight > 0
    )
    if upheld:
        of_record = select(reporters.c.reporter_id).where(reporters.c.upheld >= upheld)
        heard = heard.where(reports.c.reporter_id.in_(of_record))
    most = int(min(_MOST_NEEDED, max(_MOST_HEARD, 4 * needed)))
    query = select(reports.c.label, reports.c.weight).where(
        reports.c.report_id.in_(heard.group_by(reports.c.reporter_id))
    )
    return [_Heard(*row) for row in connection.execute(query.order_by(reports.c.report_id).limit(most))]


def reports_of(connection: Connection, post_ids: Sequence[str]) -> dict[str, list[ReportShown]]:
    """What was reported of posts, the first first, a bounded number each; muted reporters are left out."""
    result: dict[str, list[ReportShown]] = {}
    for post_id in dict.fromkeys(post_ids):
        query = select(reports.c.reason, reports.c.label).where(reports.c.post_id == post_id, reports.c.weight > 0)
        rows = connection.execute(query.order_by(reports.c.report_id).limit(_MOST_SHOWN))
        result[post_id] = [ReportShown(reason=row.reason, label=row.label) for row in rows]
    return result


def answer(connection: Connection, post_id: str, content_version: int, *, removed: bool) -> None:
    """Count a verdict for those who reported this content and were not answered yet; not for its author."""
    outcome = "upheld" if removed else "dismissed"
    post = content_of(connection, post_id, content_version)
    versions = same_content(connection, post_id, post.content_hash)
    same = (reports.c.post_id == post_id) & reports.c.content_version.in_(versions)
    mine = same & reports.c.outcome.is_(None)
    asked = select(reports.c.reporter_id).where(mine, reports.c.reporter_id != post.author_id).distinct()
    heard = sorted(row[0] for row in connection.execute(asked))
    connection.execute(update(reports).where(mine).values(outcome=outcome))
    if not heard:
        return
    statement = insert_into(connection, reporters)
    added = {
        reporters.c.upheld: reporters.c.upheld + statement.excluded.upheld,
        reporters.c.dismissed: reporters.c.dismissed + statement.excluded.dismissed,
    }
    counts = {"upheld": int(removed), "dismissed": int(not removed), "muted": False}
    # In one order, so that two verdicts never wait for each other.
    rows = [{"reporter_id": reporter_id, **counts} for reporter_id in heard]
    connection.execute(statement.on_conflict_do_update(index_elements=[reporters.c.reporter_id], set_=added), rows)


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
    values = {"reporter_id": reporter_id, "upheld": 0, "dismissed": 0, "muted": False}
    connection.execute(insert_into(connection, reporters).values(**values).on_conflict_do_nothing())


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
