"""What passes from drift detection to training, as rows of the ledger: windows, references, alerts, requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CursorResult, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from moderation.errors import ConflictError, NotFoundError
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.tables import alerts, drift_references, drift_windows, retrain_requests

ACTIVE = ("open", "running")
Outcome = Literal["done", "refused", "failed"]


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
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reference:
    """The traffic that a model version is compared with."""

    window_from: datetime
    window_to: datetime
    rows: int


@dataclass(frozen=True, slots=True)
class RetrainRequest:
    """An asked-for retraining.

    Attributes:
        request_id: its number.
        variant: what to retrain.
        alert_id: the alert behind it, or None.
        reason: for people.
        status: open, running, done, refused or failed.
        outcome: what came of it, once it ended.
        evidence: the alert's, or empty.
    """

    request_id: int
    variant: str
    alert_id: int | None
    reason: str
    status: str
    outcome: dict[str, Any] | None
    evidence: dict[str, Any]


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
    """The last checks of a version that end at or before `until`, the newest first."""
    columns = drift_windows.c
    query = (
        select(columns.window_from, columns.window_to, columns.rows, columns.drifted, columns.columns)
        .where(columns.variant == variant, columns.model_version == version, columns.window_to <= until)
        .order_by(columns.window_to.desc(), columns.window_id.desc())
        .limit(count)
    )
    with ledger.read() as connection:
        return [Window(*row) for row in connection.execute(query)]


def raise_alert(
    ledger: Ledger, variant: str, version: int, *, window_to: datetime, evidence: dict[str, Any], reason: str
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
        alert_id = _inserted(
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
        return alert_id, _inserted(connection.execute(request))


def _inserted(result: CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def begin_request(ledger: Ledger, variant: str, *, reason: str) -> RetrainRequest:
    """Start the variant's open request, or a new one with `reason` where none is open.

    Raises:
        ConflictError: a retraining of the variant is running.
    """
    columns = retrain_requests.c
    try:
        with ledger.write() as connection:
            claim(connection, "retraining", [variant])
            open_id = connection.execute(
                select(columns.request_id).where(columns.variant == variant, columns.status == "open")
            ).scalar()
            if open_id is None:
                at = now()
                connection.execute(
                    insert(retrain_requests).values(
                        variant=variant, reason=reason, status="running", created_at=at, updated_at=at
                    )
                )
            else:
                connection.execute(
                    update(retrain_requests)
                    .where(columns.request_id == open_id)
                    .values(status="running", updated_at=now())
                )
    except IntegrityError:
        raise ConflictError(f"a retraining of {variant!r} is running; see `seawall status`") from None
    request = active_request(ledger, variant)
    if request is None:
        raise NotFoundError(f"the retrain request of {variant!r} ended meanwhile")
    return request


def active_request(ledger: Ledger, variant: str) -> RetrainRequest | None:
    """The variant's open or running request, if any."""
    columns = retrain_requests.c
    query = (
        select(
            columns.request_id,
            columns.variant,
            columns.alert_id,
            columns.reason,
            columns.status,
            columns.outcome,
            alerts.c.evidence,
        )
        .outerjoin(alerts, alerts.c.alert_id == columns.alert_id)
        .where(columns.variant == variant, columns.status.in_(ACTIVE))
    )
    with ledger.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else RetrainRequest(*row[:6], row[6] or {})


def end_request(ledger: Ledger, request_id: int, status: Outcome, outcome: dict[str, Any]) -> None:
    """Record what came of a retraining."""
    with ledger.write() as connection:
        connection.execute(
            update(retrain_requests)
            .where(retrain_requests.c.request_id == request_id)
            .values(status=status, outcome=outcome, updated_at=now())
        )


def count_alerts(ledger: Ledger, variant: str) -> int:
    """How many alerts a variant has had."""
    with ledger.read() as connection:
        return len(connection.execute(select(alerts.c.alert_id).where(alerts.c.variant == variant)).all())
