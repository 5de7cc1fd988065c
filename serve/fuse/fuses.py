"""Which fuses have blown, and which must, by the counts of `removals`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy
from moderation.posts import Wire
from moderation.sections import FuseRules
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import fuses, removal_counts
from moderation.storage.removals import ALL, Key
from serve.fuse.rule import Counts, blows


class FuseOut(Wire):
    """A fuse that has blown: what models would remove for this label in this region is held for people."""

    fuse_id: int
    label: str
    region: str
    evidence: dict[str, Any] = Field(description="What was seen, and what was expected")
    tripped_at: datetime
    reset_at: datetime | None = Field(description="null: it is still blown")
    reset_by: str | None


class FuseResetIn(Wire):
    """The body of `POST /v1/fuses/{fuse_id}:reset`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"by": "alice"}]})

    by: Annotated[str, StringConstraints(min_length=1, max_length=128)]


def check(ledger: Ledger, policy: Policy, rules: FuseRules, at: datetime) -> set[Key]:
    """Blow what must blow.

    Args:
        ledger: whose counts are looked at.
        policy: what it promises is expected where there is no traffic to compare with.
        rules: the bounds.
        at: now.

    Returns:
        Every label and region whose fuse has blown and was not reset.
    """
    begin = at - timedelta(minutes=rules.window_minutes)
    with ledger.read() as connection:
        found = _blown(connection)
        window, since = _window(connection, begin, at)
        suspects = {key: counts for key, counts in window.items() if key not in found and counts.removals}
        if not suspects:
            return found
        baseline = _baseline(connection, begin - timedelta(minutes=rules.baseline_minutes), begin, suspects)
    tripped = {}
    for (label, region), counts in suspects.items():
        rule = policy.rules(region).get(label)
        evidence = rule and blows(counts, baseline[label, region], rule, rules)
        if evidence:
            tripped[label, region] = evidence | {"from": since[label, region].isoformat(), "to": at.isoformat()}
    return found | set(_trip(ledger, tripped, at))


def blown(ledger: Ledger) -> set[Key]:
    """Every label and region whose fuse has blown and was not reset."""
    with ledger.read() as connection:
        return _blown(connection)


def _trip(ledger: Ledger, tripped: Mapping[Key, dict[str, Any]], at: datetime) -> Collection[Key]:
    if not tripped:
        return []
    with ledger.write() as connection:
        claim(connection, "fuse")
        known = _blown(connection)  # another process may have seen the same
        rows = [
            {"label": label, "region": region, "evidence": evidence, "tripped_at": at}
            for (label, region), evidence in tripped.items()
            if (label, region) not in known
        ]
        if rows:
            connection.execute(insert(fuses), rows)
    return tripped.keys()


def _blown(connection: Connection) -> set[Key]:
    rows = connection.execute(select(fuses.c.label, fuses.c.region).where(fuses.c.reset_at.is_(None)))
    return {(row.label, row.region) for row in rows}


def _window(connection: Connection, begin: datetime, end: datetime) -> tuple[dict[Key, Counts], dict[Key, datetime]]:
    """Counts of each label and region since `begin`, or since its fuse was last reset."""
    resets = select(fuses.c.label, fuses.c.region, func.max(fuses.c.reset_at).label("at")).where(
        fuses.c.reset_at.is_not(None)
    )
    last = {
        (row.label, row.region): row.at for row in connection.execute(resets.group_by(fuses.c.label, fuses.c.region))
    }
    columns = removal_counts.c
    query = select(columns.begin, columns.region, columns.label, func.sum(columns.count).label("number"))
    query = query.where(columns.begin >= begin, columns.begin <= end)
    minutes = connection.execute(query.group_by(columns.begin, columns.region, columns.label)).all()
    found: dict[Key, Counts] = {}
    since: dict[Key, datetime] = {}
    for label, region in {(row.label, row.region) for row in minutes if row.label != ALL}:
        first = max(begin, last.get((label, region), begin))
        mine = [row for row in minutes if row.region == region and row.begin >= first]
        removals = sum(int(row.number) for row in mine if row.label == label)
        found[label, region] = Counts(removals, sum(int(row.number) for row in mine if row.label == ALL))
        since[label, region] = first
    return found, since


def _baseline(connection: Connection, begin: datetime, end: datetime, keys: Collection[Key]) -> dict[Key, Counts]:
    """Counts of the time before, without the times when the fuse had blown."""
    columns = removal_counts.c
    result = {}
    for label, region in keys:
        times = select(fuses.c.tripped_at, fuses.c.reset_at, fuses.c.evidence).where(
            fuses.c.label == label, fuses.c.region == region, fuses.c.reset_at > begin
        )
        query = select(columns.label, func.sum(columns.count).label("number"))
        query = query.where(columns.region == region, columns.label.in_((label, ALL)))
        query = query.where(columns.begin >= begin, columns.begin < end)
        for row in connection.execute(times):
            suspect_from = datetime.fromisoformat(row.evidence["from"])
            query = query.where((columns.begin < suspect_from) | (columns.begin >= row.reset_at))
        numbers = {row.label: int(row.number) for row in connection.execute(query.group_by(columns.label))}
        result[label, region] = Counts(numbers.get(label, 0), numbers.get(ALL, 0))
    return result


def all_fuses(ledger: Ledger, *, blown_only: bool = False) -> list[FuseOut]:
    """Every fuse that has blown, the last first."""
    query = select(fuses).order_by(fuses.c.fuse_id.desc())
    if blown_only:
        query = query.where(fuses.c.reset_at.is_(None))
    with ledger.read() as connection:
        return [FuseOut(**row._mapping) for row in connection.execute(query)]


def reset(ledger: Ledger, fuse_id: int, by: str) -> FuseOut:
    """Let a label's removals in a region be automatic again; what was seen before no longer counts.

    Raises:
        NotFoundError: there is no such fuse.
        ConflictError: it was reset already.
    """
    with ledger.write() as connection:
        claim(connection, "fuse")
        row = connection.execute(select(fuses).where(fuses.c.fuse_id == fuse_id)).first()
        if row is None:
            raise NotFoundError(f"fuse {fuse_id} is not recorded")
        if row.reset_at is not None:
            raise ConflictError(f"fuse {fuse_id} was reset by {row.reset_by!r} at {row.reset_at.isoformat()}")
        values = {"reset_at": now(), "reset_by": by}
        connection.execute(update(fuses).where(fuses.c.fuse_id == fuse_id).values(**values))
        return FuseOut(**(dict(row._mapping) | values))


def forget(ledger: Ledger, before: datetime) -> None:
    """Delete counts that no baseline needs any more."""
    with ledger.write() as connection:
        connection.execute(delete(removal_counts).where(removal_counts.c.begin < before))
