"""Retrain requests in the ledger: what drift detection asks of training; one at a time a variant."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal  # Any: SQLAlchemy knows no type of a Table's columns

from sqlalchemy import CursorResult, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from moderation.errors import ConflictError, NotFoundError
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.tables import alerts, retrain_requests

logger = logging.getLogger(__name__)

ACTIVE = ("open", "running")
HEARTBEAT = timedelta(seconds=10)
"""How often a retraining says that it lives."""
DEAD_AFTER = timedelta(minutes=5)
"""A running request that was not heard of for that long is taken for dead; far longer than a busy ledger costs."""
RequestEnd = Literal["done", "refused", "failed"]


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


def inserted(result: CursorResult[Any]) -> int:
    """The number of the row that was inserted."""
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
        buried = bury(connection, variant, dead_after)
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


def bury(connection: Connection, variant: str, dead_after: timedelta) -> tuple[int | None, str] | None:
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


def end_request(ledger: Ledger, request_id: int, status: RequestEnd, outcome: Mapping[str, object]) -> None:
    """Record what came of a retraining; one that ended before, as it was taken for dead, stays as it is."""
    with ledger.write() as connection:
        connection.execute(
            update(retrain_requests)
            .where(retrain_requests.c.request_id == request_id, retrain_requests.c.status.in_(ACTIVE))
            .values(status=status, outcome=outcome, updated_at=now())
        )
