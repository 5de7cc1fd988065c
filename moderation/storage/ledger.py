"""The ledger: the one truth. What is derived from it (lake, metrics, running configuration) can be rebuilt.

Each method is one transaction. Methods block; asynchronous callers put them on a thread.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, func, insert, select, tuple_
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import IntegrityError

from moderation.errors import ConflictError, NotFoundError
from moderation.posts import Decision, LabelIn, LabelLineError, LabelsOut, PostIn
from moderation.preprocess.features import Features
from moderation.storage.tables import decisions, labels, locks, metadata, posts


@dataclass(frozen=True, slots=True)
class Entry:
    """A post with its decision, ready to be recorded. `decision.content_version` is set by the ledger."""

    post: PostIn
    content_hash: str
    decision: Decision
    features: Features
    variant: str | None
    model_version: int | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded decision.

    Attributes:
        body: the reply, as JSON.
        content_hash: of the content that it judged.
        created_at: of that content.
        content_version: 1 for the first content of a post.
        fresh: True: this very call recorded it.
    """

    body: str
    content_hash: str
    created_at: datetime
    content_version: int
    fresh: bool = False


def now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


class Ledger:
    """The database behind everything that is recorded.

    Args:
        url: an SQLAlchemy URL; SQLite files are created with their folder, in WAL mode, and synced at every commit.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._reader = self.engine.execution_options(seawall_read_only=True)
        metadata.create_all(self.engine)

    def newest(self, post_ids: Sequence[str]) -> dict[str, Recorded]:
        """The newest recorded decision of each post that has one."""
        with self.read() as connection:
            return _newest(connection, post_ids)

    def history(self, post_id: str) -> list[Recorded]:
        """All recorded decisions of a post, the first first; empty for an unknown post."""
        with self.read() as connection:
            rows = connection.execute(_recorded().where(posts.c.post_id == post_id).order_by(posts.c.content_version))
            return [Recorded(*row[1:]) for row in rows]

    def record(self, entries: Sequence[Entry]) -> list[Recorded | ConflictError]:
        """Record posts and decisions, all in one transaction.

        Returns:
            For each entry, in order: what is recorded now. That is an earlier decision where the newest content of the
            post is the same, and a ConflictError, nothing recorded, where the newest content was created later.
        """
        with self.write() as connection:
            known = _newest(connection, [entry.decision.post_id for entry in entries])
            results: list[Recorded | ConflictError] = []
            new_posts: list[dict[str, Any]] = []
            new_decisions: list[dict[str, Any]] = []
            for entry in entries:
                post_id = entry.decision.post_id
                newest = known.get(post_id)
                conflict = None if newest is None else conflict_with(newest, post_id, entry.post, entry.content_hash)
                if newest is not None and (newest.content_hash == entry.content_hash or conflict):
                    results.append(conflict or replace(newest, fresh=False))
                    continue
                version = 1 if newest is None else newest.content_version + 1
                decision = entry.decision.model_copy(update={"content_version": version})
                recorded = Recorded(
                    decision.model_dump_json(), entry.content_hash, entry.post.created_at, version, True
                )
                known[post_id] = recorded
                results.append(recorded)
                new_posts.append(_post_row(entry, version))
                new_decisions.append(_decision_row(entry, decision, recorded.body))
            if new_posts:
                connection.execute(insert(posts), new_posts)
                connection.execute(insert(decisions), new_decisions)
        return results

    def add_labels(self, lines: Mapping[int, LabelIn]) -> LabelsOut:
        """Record labels by their ids.

        Args:
            lines: by line number.

        Returns:
            How many were new and how many known; a line for an unknown post, or whose id stands for another content,
            is an error of its own and does not hold up the others.
        """
        out = LabelsOut(accepted=0, duplicates=0, errors=[])
        with self.write() as connection:
            digests = _digests(connection, [line.id for line in lines.values()])
            versions = _versions(connection, [line.post_id for line in lines.values()])
            rows: list[dict[str, Any]] = []
            for number, line in lines.items():
                digest = hashlib.sha256(line.model_dump_json().encode()).hexdigest()
                newest = versions.get(line.post_id)
                if line.id in digests:
                    if digests[line.id] == digest:
                        out.duplicates += 1
                    else:
                        problem = f"id {line.id!r} is recorded already, with another content"
                        out.errors.append(LabelLineError(line=number, detail=problem))
                elif newest is None or (line.content_version or 1) > newest:
                    version = "" if line.content_version is None else f" in version {line.content_version}"
                    problem = f"post_id {line.post_id!r} is unknown{version}"
                    out.errors.append(LabelLineError(line=number, detail=problem))
                else:
                    digests[line.id] = digest
                    rows.append(
                        line.model_dump()
                        | {"content_version": line.content_version or newest, "digest": digest, "received_at": now()}
                    )
            if rows:
                connection.execute(insert(labels), rows)
            out.accepted = len(rows)
        return out

    @contextmanager
    def lock(
        self, name: str, *, wait: timedelta = timedelta(0), hold: timedelta = timedelta(minutes=10)
    ) -> Iterator[None]:
        """Hold a named lock across processes.

        Args:
            name: what is locked.
            wait: how long to try.
            hold: after that long a holder is taken for dead.

        Raises:
            ConflictError: another one holds it; says who and until when.
        """
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        give_up = time.monotonic() + wait.total_seconds()
        while True:
            try:
                with self.write() as connection:
                    connection.execute(delete(locks).where(locks.c.name == name, locks.c.expires_at < now()))
                    connection.execute(insert(locks).values(name=name, holder=holder, expires_at=now() + hold))
                break
            except IntegrityError:
                if time.monotonic() >= give_up:
                    with self.read() as connection:
                        row = connection.execute(select(locks).where(locks.c.name == name)).first()
                    if row is not None:
                        message = (
                            f"lock {name!r} is held by {row.holder} until {row.expires_at.isoformat()} at the latest"
                        )
                        raise ConflictError(message) from None
                time.sleep(0.2)
        try:
            yield
        finally:
            with self.write() as connection:
                connection.execute(delete(locks).where(locks.c.name == name, locks.c.holder == holder))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state and changes nothing; never waits for a writer."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is committed at the end, or nothing."""
        with self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def conflict_with(newest: Recorded, post_id: str, post: PostIn, content_hash: str) -> ConflictError | None:
    """Why content must not follow what is recorded, if so: other content that is newer stands already."""
    if content_hash == newest.content_hash or post.created_at >= newest.created_at:
        return None
    return ConflictError(
        f"post {post_id!r} has content created at {newest.created_at.isoformat()}, later than"
        f" {post.created_at.isoformat()}; the older one is not recorded"
    )


def found(recorded: Mapping[str, Recorded], post_id: str) -> Recorded:
    """The post's record.

    Raises:
        NotFoundError: there is none.
    """
    if post_id not in recorded:
        raise NotFoundError(f"post {post_id!r} is not recorded")
    return recorded[post_id]


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's begin event below opens the transaction instead
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads and then writes must hold the write lock from its start, or it can fail half-way.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")

    return engine


def _writes(connection: Connection) -> bool:
    return not connection.get_execution_options().get("seawall_read_only", False)


def _recorded() -> Any:
    return select(
        posts.c.post_id, decisions.c.body, posts.c.content_hash, posts.c.created_at, posts.c.content_version
    ).join(
        decisions,
        tuple_(posts.c.post_id, posts.c.content_version) == tuple_(decisions.c.post_id, decisions.c.content_version),
    )


def _newest(connection: Connection, post_ids: Sequence[str]) -> dict[str, Recorded]:
    rows = connection.execute(
        _recorded().where(posts.c.post_id.in_(set(post_ids))).order_by(posts.c.post_id, posts.c.content_version)
    )
    return {row[0]: Recorded(*row[1:]) for row in rows}


def _versions(connection: Connection, post_ids: Sequence[str]) -> dict[str, int]:
    result: dict[str, int] = {}
    for chunk in _chunks(sorted(set(post_ids))):
        query = select(posts.c.post_id, func.max(posts.c.content_version)).where(posts.c.post_id.in_(chunk))
        result.update(row._tuple() for row in connection.execute(query.group_by(posts.c.post_id)))
    return result


def _digests(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for chunk in _chunks(sorted(set(ids))):
        rows = connection.execute(select(labels.c.id, labels.c.digest).where(labels.c.id.in_(chunk)))
        result.update(row._tuple() for row in rows)
    return result


def _chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def _post_row(entry: Entry, version: int) -> dict[str, Any]:
    return {
        "post_id": entry.decision.post_id,
        "content_version": version,
        "content_hash": entry.content_hash,
        "author_id": entry.post.author_id,
        "community": entry.post.community,
        "region": entry.post.region,
        "created_at": entry.post.created_at,
        "text": entry.post.text,
        "author": entry.post.author,
        "received_at": entry.received_at,
    }


def _decision_row(entry: Entry, decision: Decision, body: str) -> dict[str, Any]:
    experiment = decision.experiment
    return {
        "post_id": decision.post_id,
        "content_version": decision.content_version,
        "decision": decision.decision,
        "body": body,
        "features": entry.features,
        "variant": entry.variant,
        "model_version": entry.model_version,
        "experiment": None if experiment is None else experiment.name,
        "arm": None if experiment is None else experiment.arm,
        "decided_at": decision.decided_at,
    }
