"""What the ledger says of a window of time, counted by SQL: posts, impressions, draws, reports, removals, reviews.

Counts come grouped; only what was drawn for review is read row by row. Each query begins at an index of a time and
goes on by primary keys. A group's key holds a value for each dimension that was asked for, in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import (
    ColumnElement,
    Float,
    FromClause,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.engine import Connection

from moderation.errors import TooManyGroupsError
from moderation.estimate import Population
from moderation.sections import Dimension
from moderation.storage.people_tables import actions, appeals, events, golden, reports, reviews
from moderation.storage.tables import decisions, posts, same_version, scorings
from serve.metrics.expressions import Seconds, elements

Frame: TypeAlias = Literal["posts", "impressions"]
Key: TypeAlias = tuple[str, ...]
"""A value for each dimension; empty: everything."""

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of time and how it is divided.

    Attributes:
        begin: first moment of it.
        end: first moment after it.
        by: dimensions, in the order of a key; empty: everything is one group.
        max_groups: more are an error.
    """

    begin: datetime
    end: datetime
    by: tuple[Dimension, ...] = ()
    max_groups: int = 1000

    @property
    def unlabelled(self) -> tuple[Dimension, ...]:
        """The dimensions that a post has before anybody judged it: all but `label`."""
        return tuple(name for name in self.by if name != "label")


@dataclass(frozen=True, slots=True)
class Judged:
    """A post that a person was asked about by a rule with a known probability.

    Attributes:
        decision: on it.
        probability: with which it was drawn, in (0, 1]; 1: the policy queued it.
        size: 1, or its impressions in the window.
        verdict: the newest, `remove` or `allow`; None: there is none yet.
        labels: that the verdict named.
    """

    decision: str
    probability: float
    size: float
    verdict: str | None
    labels: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Takedown:
    """How long removals took, in seconds from receipt; of as many as `count`.

    Attributes:
        count: first removals of a content version.
        p50: time within which half of them came, by the nearest rank.
        p95: likewise for 95 %.
    """

    count: int
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Appeals:
    """Appeals that were filed in the window."""

    filed: int
    decided: int
    upheld: int


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Reviews whose deadline lay in the window."""

    due: int
    missed: int


@dataclass(frozen=True, slots=True)
class Golden:
    """What a reviewer said of a post whose truth is known."""

    truth: str
    truth_labels: dict[str, bool]
    verdict: str
    labels: dict[str, bool]


def populations(connection: Connection, window: Window, frame: Frame) -> dict[Key, dict[str, Population]]:
    """How many posts were decided, or how many impressions they had, by group (without `label`) and decision."""
    framed, size = _frame(window, frame)
    source, columns = _grouped(framed, framed, window.unlabelled)
    query = (
        select(*columns, decisions.c.decision, func.sum(size), func.sum(size * size))
        .select_from(_with_decisions(source, framed, window.unlabelled))
        .group_by(*columns, decisions.c.decision)
    )
    result: dict[Key, dict[str, Population]] = {}
    for *key, decision, total, squares in _bounded(connection, query, window, rows=3):
        result.setdefault(tuple(key), {})[decision] = Population(float(total), float(squares))
    return result


def judged(connection: Connection, window: Window, frame: Frame) -> dict[Key, list[Judged]]:
    """The posts of the window, or with impressions in it, that were drawn for review, by group (without `label`).

    Drawn are those that a coin chose (they keep its probability, also when reports made them urgent) and those that the
    policy queued (`flagged`, all of them). What reports, appeals and second looks brought to a reviewer is no draw;
    their verdicts count for posts that were drawn, as the newest verdict is the truth.
    """
    framed, size = _frame(window, frame)
    source, columns = _grouped(framed, framed, window.unlabelled)
    source = _with_decisions(source, framed, window.unlabelled).join(
        reviews,
        and_(same_version(reviews, framed), reviews.c.kind != "golden"),
    )
    query = (
        select(
            *columns,
            framed.c.post_id,
            framed.c.content_version,
            decisions.c.decision,
            size,
            reviews.c.kind,
            reviews.c.sampling_probability,
            reviews.c.verdict,
            reviews.c.verdict_labels,
        )
        .select_from(source)
        # The undecided first: the last row that has a verdict has the newest.
        .order_by(case((reviews.c.decided_at.is_(None), 0), else_=1), reviews.c.decided_at, reviews.c.review_id)
    )
    found: dict[tuple[Key, str, int], Judged] = {}
    for *key, post_id, version, decision, weight, kind, p, verdict, labels in connection.execute(query):
        name = (tuple(key), post_id, version)
        before = found.get(name, Judged(decision, 0.0, float(weight), None, {}))
        drawn = 1.0 if kind == "flagged" else p or 0.0
        said = (before.verdict, before.labels) if verdict is None else (verdict, labels or {})
        found[name] = Judged(decision, max(before.probability, drawn), before.size, *said)
    result: dict[Key, list[Judged]] = {}
    for (group, _, _), post in found.items():
        if post.probability > 0:
            result.setdefault(group, []).append(post)
    return result


def reported(connection: Connection, window: Window) -> dict[Key, int]:
    """Reports of the window, but for those of muted reporters."""
    source, columns = _grouped(reports, reports, window.by, {"label": reports.c.label})
    within = and_(_within(reports.c.created_at, window), reports.c.weight > 0)
    query = select(*columns, func.count()).select_from(source).where(within).group_by(*columns)
    # A report that names no label is in no label's group.
    return {tuple(key): count for *key, count in _bounded(connection, query, window) if None not in key}


def takedowns(connection: Connection, window: Window) -> dict[Key, dict[bool, Takedown]]:
    """How long the window's first removals of a content version took; True: nobody had reported it before."""
    earlier = actions.alias()
    first = ~exists().where(
        same_version(earlier, actions),
        earlier.c.action_id < actions.c.action_id,
        earlier.c.action == "remove",
    )
    was_reported = exists().where(
        same_version(reports, actions),
        reports.c.created_at <= actions.c.acted_at,
        reports.c.weight > 0,
    )
    source, columns = _grouped(actions, actions, window.by, _labels_of(connection, actions.c.labels, window))
    if not {"region", "community"} & set(window.by):
        source = source.join(posts, same_version(posts, actions))
    proactive = case((was_reported, 0), else_=1).label("proactive")
    taken = Seconds(posts.c.received_at, actions.c.acted_at).label("seconds")
    rows = (
        select(*columns, proactive, taken)
        .select_from(source)
        .where(_within(actions.c.acted_at, window), actions.c.action == "remove", first)
        .subquery()
    )
    return _percentiles(connection, rows, window)


def _percentiles(connection: Connection, rows: FromClause, window: Window) -> dict[Key, dict[bool, Takedown]]:
    keys = [column for column in rows.c if column.name != "seconds"]
    rank = func.row_number().over(partition_by=keys, order_by=rows.c.seconds).label("rank")
    count = func.count().over(partition_by=keys).label("count")
    ranked = select(*rows.c, rank, count).subquery()
    # Nearest rank: the smallest time that at least this part of them does not exceed; in whole numbers.
    half, most = (ranked.c.count * 50 + 99) // 100, (ranked.c.count * 95 + 99) // 100
    keys = [ranked.c[column.name] for column in keys]
    query = (
        select(
            *keys,
            func.max(ranked.c.count),
            func.min(case((ranked.c.rank >= half, ranked.c.seconds))),
            func.min(case((ranked.c.rank >= most, ranked.c.seconds))),
        )
        .select_from(ranked)
        .group_by(*keys)
    )
    result: dict[Key, dict[bool, Takedown]] = {}
    for *key, proactive, number, p50, p95 in _bounded(connection, query, window, rows=2):
        result.setdefault(tuple(key), {})[bool(proactive)] = Takedown(number, float(p50), float(p95))
    return result


def appealed(connection: Connection, window: Window) -> dict[Key, Appeals]:
    """Appeals that were filed in the window, and what has become of them since."""
    labels: dict[str, Any] = {}
    source: FromClause = appeals
    if "label" in window.by:
        source = appeals.join(reviews, reviews.c.review_id == appeals.c.review_id)
        labels = _labels_of(connection, reviews.c.labels, window)
    source, columns = _grouped(source, appeals, window.by, labels)
    decided = func.count(case((appeals.c.status != "open", 1)))
    upheld = func.count(case((appeals.c.status == "upheld", 1)))
    query = (
        select(*columns, func.count(), decided, upheld)
        .select_from(source)
        .where(_within(appeals.c.created_at, window))
        .group_by(*columns)
    )
    return {tuple(row[:-3]): Appeals(*row[-3:]) for row in _bounded(connection, query, window)}


def backlog(connection: Connection, window: Window) -> dict[Key, int]:
    """Reviews that waited for a verdict at the window's end; those that newer content replaced since are left out."""
    waiting = or_(reviews.c.status == "open", reviews.c.decided_at >= window.end)
    where = and_(waiting, reviews.c.created_at < window.end, reviews.c.kind != "golden")
    source, columns = _grouped(reviews, reviews, window.by, _labels_of(connection, reviews.c.labels, window))
    query = select(*columns, func.count()).select_from(source).where(where).group_by(*columns)
    return {tuple(key): count for *key, count in _bounded(connection, query, window)}


def deadlines(connection: Connection, window: Window, at: datetime) -> dict[Key, Deadlines]:
    """Reviews whose deadline lay in the window and has passed.

    Args:
        connection: that reads.
        window: in which the deadlines lie.
        at: the present; what is due later is not missed yet.
    """
    end = min(window.end, at)
    late = or_(reviews.c.decided_at.is_(None), reviews.c.decided_at > reviews.c.deadline)
    source, columns = _grouped(reviews, reviews, window.by, _labels_of(connection, reviews.c.labels, window))
    query = (
        select(*columns, func.count(), func.count(case((late, 1))))
        .select_from(source)
        .where(
            reviews.c.status.in_(("open", "decided")),
            reviews.c.deadline >= window.begin,
            reviews.c.deadline < end,
            reviews.c.kind != "golden",
        )
        .group_by(*columns)
    )
    return {tuple(row[:-2]): Deadlines(*row[-2:]) for row in _bounded(connection, query, window)}


def golden_verdicts(connection: Connection, begin: datetime, end: datetime) -> list[Golden]:
    """What reviewers said, in a window, of posts whose truth is known."""
    query = (
        select(golden.c.verdict, golden.c.labels, reviews.c.verdict, reviews.c.verdict_labels)
        .select_from(reviews.join(golden, same_version(golden, reviews)))
        .where(reviews.c.decided_at >= begin, reviews.c.decided_at < end, reviews.c.kind == "golden")
        .where(reviews.c.verdict.is_not(None))
    )
    rows = connection.execute(query)
    return [Golden(truth, known or {}, verdict, said or {}) for truth, known, verdict, said in rows]


def _frame(window: Window, frame: Frame) -> tuple[FromClause, ColumnElement[float]]:
    """The content versions that a share is taken of, and what each counts."""
    if frame == "posts":
        rows = select(decisions.c.post_id, decisions.c.content_version, literal(1.0).label("size"))
        framed: FromClause = rows.where(_within(decisions.c.decided_at, window)).subquery()
    else:
        key = (events.c.post_id, events.c.content_version)
        # As floats: the square of what a viral post had is beyond 64 bits.
        total = cast(func.sum(events.c.count), Float).label("size")
        within = and_(_within(events.c.happened_at, window), events.c.kind == "impression")
        framed = select(*key, total).where(within).group_by(*key).subquery()
    return framed, framed.c.size


def _grouped(
    source: FromClause, keyed: FromClause, by: Sequence[Dimension], labels: dict[str, Any] | None = None
) -> tuple[FromClause, list[ColumnElement[Any]]]:
    """What to select from, and the dimensions' columns, for rows that name a content version.

    Args:
        source: holds `keyed`.
        keyed: has `post_id` and `content_version`.
        by: dimensions.
        labels: the `label` column, and under `from` what it needs beside the source.
    """
    labels = labels or {}
    columns: dict[Dimension, ColumnElement[Any]] = {}
    if {"region", "community"} & set(by):
        source = source.join(posts, same_version(posts, keyed))
        columns |= {"region": posts.c.region, "community": posts.c.community}
    if "model_version" in by:
        source = source.join(scorings, and_(same_version(scorings, keyed), scorings.c.model_version.is_not(None)))
        columns["model_version"] = scorings.c.variant + "@" + cast(scorings.c.model_version, String)
    if "language" in by and keyed is not decisions:
        source = source.join(decisions, same_version(decisions, keyed))
    columns["language"] = decisions.c.features["language"].as_string()
    if "label" in labels:
        columns["label"] = labels["label"]
        if "from" in labels:
            source = source.join(labels["from"], literal(True))
    return source, [columns[name].label(name) for name in by]


def _with_decisions(source: FromClause, keyed: FromClause, by: Sequence[Dimension]) -> FromClause:
    return source if "language" in by else source.join(decisions, same_version(decisions, keyed))


def _labels_of(connection: Connection, array: ColumnElement[Any], window: Window) -> dict[str, Any]:
    if "label" not in window.by:
        return {}
    rows, name = elements(connection, array)
    return {"from": rows, "label": name}


def _within(at: ColumnElement[datetime], window: Window) -> ColumnElement[bool]:
    return and_(at >= window.begin, at < window.end)


def _bounded(connection: Connection, query: Select[Any], window: Window, *, rows: int = 1) -> list[list[Any]]:
    """The rows of a grouped query; each group has at most as many `rows`."""
    bound = window.max_groups * rows
    found = [list(row) for row in connection.execute(query.limit(bound + 1))]
    if len(found) > bound:
        raise TooManyGroupsError(
            f"by={','.join(window.by)} has more than {window.max_groups} groups, the bound", window.max_groups
        )
    return found
