"""What passes from drift detection to training, as rows of the ledger: windows, references, alerts, requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import CursorResult, delete, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from moderation.errors import ConflictError, NotFoundError
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.tables import alerts, drift_references, drift_windows, retrain_requests

logger = logging.getLogger(__name__)

ACTIVE = ("open", "running")
HEARTBEAT = timedelta(seconds=10)
"""How often a retraining says that it lives."""
DEAD_AFTER = timedelta(minutes=5)
"""A running request that was not heard of for that long is taken for dead; far longer than a busy ledger costs."""
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
        _bury(connection, variant, DEAD_AFTER)
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


def begin_request(ledger: Ledger, variant: str, *, reason: str, dead_after: timedelta = DEAD_AFTER) -> RetrainRequest:
    """Start the variant's open request, or a new one where none is open.

    A running request that was not heard of for `dead_after` has failed, and the new one takes over its reason and its
    alert.

    Args:
        ledger: where it is recorded.
        variant: what is retrained.
        reason: of the new request, where it takes over none.
        dead_after: see `DEAD_AFTER`.

    Raises:
        ConflictError: a retraining of the variant is running.
    """
    columns = retrain_requests.c
    active = select(columns.request_id, columns.status, columns.updated_at)
    with ledger.write() as connection:
        claim(connection, "retraining", [variant])
        buried = _bury(connection, variant, dead_after)
        row = connection.execute(active.where(columns.variant == variant, columns.status.in_(ACTIVE))).first()
        if row is not None and row.status == "running":
            raise ConflictError(
                f"a retraining of {variant!r} is running; see `seawall status`. Request {row.request_id} was last heard"
                f" of at {row.updated_at.isoformat()}, and is taken for dead {dead_after.total_seconds():.0f} s later"
            )
        at = now()
        if row is None:
            alert_id, reason = (None, reason) if buried is None else buried
            values = {"variant": variant, "alert_id": alert_id, "reason": reason, "created_at": at}
            connection.execute(insert(retrain_requests).values(**values, status="running", updated_at=at))
        else:
            key = columns.request_id == row.request_id
            connection.execute(update(retrain_requests).where(key).values(status="running", updated_at=at))
    request = active_request(ledger, variant)
    if request is None:
        raise NotFoundError(f"the retrain request of {variant!r} ended meanwhile")
    return request


def _bury(connection: Connection, variant: str, dead_after: timedelta) -> tuple[int | None, str] | None:
    """End the variant's running request if it is taken for dead; its alert and its reason, if so."""
    columns = retrain_requests.c
    at = now()
    row = connection.execute(
        select(columns.request_id, columns.alert_id, columns.reason, columns.updated_at).where(
            columns.variant == variant, columns.status == "running", columns.updated_at < at - dead_after
        )
    ).first()
    if row is None:
        return None
    error = f"not heard of since {row.updated_at.isoformat()}: it was killed, or its machine is gone"
    ended = update(retrain_requests).where(columns.request_id == row.request_id)
    connection.execute(ended.values(status="failed", outcome={"error": error}, updated_at=at))
    return row.alert_id, row.reason


def beat(ledger: Ledger, request_id: int) -> None:
    """Say that a retraining lives.

    Raises:
        ConflictError: it was taken for dead meanwhile, and another may run in its place.
    """
    key = (retrain_requests.c.request_id == request_id) & (retrain_requests.c.status == "running")
    with ledger.write() as connection:
        alive = connection.execute(update(retrain_requests).where(key).values(updated_at=now())).rowcount
    if not alive:
        raise ConflictError(f"retrain request {request_id} is running no more: it was taken for dead, or ended")


@contextmanager
def heartbeat(ledger: Ledger, request_id: int, *, every: timedelta = HEARTBEAT) -> Iterator[None]:
    """Say every so often, from a thread of its own, that a retraining lives, whatever blocks the caller meanwhile."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(every.total_seconds()):
            try:
                beat(ledger, request_id)
            except ConflictError:
                return  # told where it matters, before a version is registered
            except SQLAlchemyError as error:  # the next one may go through
                logger.warning("retrain request %d: no heartbeat: %s", request_id, type(error).__name__)

    thread = threading.Thread(target=work, name=f"heartbeat-{request_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


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
    """Record what came of a retraining; one that ended before, as it was taken for dead, stays as it is."""
    with ledger.write() as connection:
        connection.execute(
            update(retrain_requests)
            .where(retrain_requests.c.request_id == request_id, retrain_requests.c.status.in_(ACTIVE))
            .values(status=status, outcome=outcome, updated_at=now())
        )


def count_alerts(ledger: Ledger, variant: str) -> int:
    """How many alerts a variant has had."""
    with ledger.read() as connection:
        return len(connection.execute(select(alerts.c.alert_id).where(alerts.c.variant == variant)).all())
