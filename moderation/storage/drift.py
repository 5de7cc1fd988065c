"""What drift detection keeps in the ledger: references, windows, alerts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.retraining import ACTIVE, DEAD_AFTER, bury, inserted
from moderation.storage.tables import alerts, drift_references, drift_windows, retrain_requests


@dataclass(frozen=True, slots=True)
class Window:
    """One drift check.

    Attributes:
        window_from: begin of the posts that were compared, by their `created_at`.
        window_to: end, excluded.
        rows: posts compared.
        drifted: whether any column drifted.
        columns: per column the method, its score, its threshold and the verdict.
    """

    window_from: datetime
    window_to: datetime
    rows: int
    drifted: bool
    columns: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Reference:
    """The traffic that a model version is compared with."""

    window_from: datetime
    window_to: datetime
    rows: int


def put_reference(ledger: Ledger, variant: str, version: int, reference: Reference) -> None:
    """Set what a version is compared with; windows checked against an earlier reference no longer count."""
    key = (drift_references.c.variant == variant) & (drift_references.c.model_version == version)
    values = {
        "window_from": reference.window_from,
        "window_to": reference.window_to,
        "rows": reference.rows,
        "made_at": now(),
    }
    windows = (drift_windows.c.variant == variant) & (drift_windows.c.model_version == version)
    with ledger.write() as connection:
        claim(connection, "drift", [variant])
        connection.execute(delete(drift_windows).where(windows))
        if not connection.execute(update(drift_references).where(key).values(**values)).rowcount:
            connection.execute(insert(drift_references).values(variant=variant, model_version=version, **values))


def get_reference(ledger: Ledger, variant: str, version: int) -> Reference | None:
    """What a version is compared with, if that is settled."""
    columns = drift_references.c
    query = select(columns.window_from, columns.window_to, columns.rows)
    with ledger.read() as connection:
        row = connection.execute(query.where(columns.variant == variant, columns.model_version == version)).first()
    return None if row is None else Reference(*row)


def put_window(ledger: Ledger, variant: str, version: int, window: Window) -> None:
    """Record a check; a second check of the same window replaces the first."""
    columns = drift_windows.c
    key = (
        (columns.variant == variant)
        & (columns.model_version == version)
        & (columns.window_from == window.window_from)
        & (columns.window_to == window.window_to)
    )
    values = {"rows": window.rows, "drifted": window.drifted, "columns": window.columns, "checked_at": now()}
    with ledger.write() as connection:
        claim(connection, "drift", [variant])
        if not connection.execute(update(drift_windows).where(key).values(**values)).rowcount:
            connection.execute(
                insert(drift_windows).values(
                    variant=variant,
                    model_version=version,
                    window_from=window.window_from,
                    window_to=window.window_to,
                    **values,
                )
            )


def last_windows(ledger: Ledger, variant: str, version: int, *, until: datetime, count: int) -> list[Window]:
    """The last checks of a version that end at or before `until`, the newest first; of those that overlap, the last.

    So no post is in two of them, and none counts twice.
    """
    columns = drift_windows.c
    query = (
        select(columns.window_from, columns.window_to, columns.rows, columns.drifted, columns.columns)
        .where(columns.variant == variant, columns.model_version == version)
        .order_by(columns.window_to.desc(), columns.window_id.desc())
        .limit(1)
    )
    found: list[Window] = []
    with ledger.read() as connection:
        while len(found) < count:
            row = connection.execute(query.where(columns.window_to <= until)).first()
            if row is None:
                break
            found.append(Window(*row))
            until = found[-1].window_from
    return found


def raise_alert(
    ledger: Ledger, variant: str, version: int, *, window_to: datetime, evidence: Mapping[str, object], reason: str
) -> tuple[int | None, int | None]:
    """Record an alert and ask for a retraining, in one transaction.

    Returns:
        The alert's number and the request's. (None, None) where an alert on this version was answered already, or is
        being answered; the request's is None where the variant has an active request for another reason.
    """
    at = now()
    requests = retrain_requests.c
    with ledger.write() as connection:
        claim(connection, "retraining", [variant])
        bury(connection, variant, DEAD_AFTER)
        answered = (
            select(requests.request_id)
            .join(alerts, alerts.c.alert_id == requests.alert_id)
            .where(
                alerts.c.variant == variant,
                alerts.c.model_version == version,
                requests.status.in_((*ACTIVE, "done")),
            )
        )
        if connection.execute(answered).first() is not None:
            return None, None
        alert_id = inserted(
            connection.execute(
                insert(alerts).values(
                    variant=variant, model_version=version, window_to=window_to, evidence=evidence, created_at=at
                )
            )
        )
        active = select(requests.request_id).where(requests.variant == variant, requests.status.in_(ACTIVE))
        if connection.execute(active).first() is not None:
            return alert_id, None
        request = insert(retrain_requests).values(
            variant=variant, alert_id=alert_id, reason=reason, status="open", created_at=at, updated_at=at
        )
        return alert_id, inserted(connection.execute(request))


def count_alerts(ledger: Ledger, variant: str) -> int:
    """How many alerts a variant has had."""
    with ledger.read() as connection:
        return len(connection.execute(select(alerts.c.alert_id).where(alerts.c.variant == variant)).all())
