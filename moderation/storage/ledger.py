"""The ledger: the one truth. What is derived from it (lake, features, metrics, running configuration) can be rebuilt.

On SQLite, or on PostgreSQL where several machines write. Each method is one transaction, committed when it returns: a
group of posts costs one commit, and no reply says what is not recorded. Methods block; asynchronous callers put them on
a thread.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any  # Any: SQLAlchemy knows no type of a Table's columns

from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from moderation.errors import ConflictError, LedgerError, NotFoundError
from moderation.labels import Service
from moderation.posts import Actor, Decision, PostIn, ReviewDecision
from moderation.preprocess.features import Features
from moderation.review import ReviewItem
from moderation.storage import dialect, media_uses, post_status, removals
from moderation.storage.dialect import announce, chunks, claim
from moderation.storage.media_uses import Use
from moderation.storage.post_status import Act
from moderation.storage.schema import bring_to_head
from moderation.storage.tables import decisions, locks, of_version, posts, same_version, scorings

SETTING = "SEAWALL_LEDGER_URL"


@dataclass(frozen=True, slots=True)
class Scoring:
    """What one variant said of a post.

    Attributes:
        service: that it was asked for.
        variant: that was asked.
        version: that scored; None: it failed.
        experiment: under which it was asked, or None.
        arm: of that experiment.
        features: its scores, and what else of the post is seen through it.
    """

    service: Service
    variant: str
    version: int | None
    experiment: str | None
    arm: str
    features: Features


@dataclass(frozen=True, slots=True)
class Entry:
    """A post with its decision, ready to be recorded. `decision.content_version` is set by the ledger.

    Attributes:
        item: what a person is asked about it, if anything.
        actor: who acts by the decision.
        removed_for: labels that asked for a removal without a person, also where the fuse kept it back.
        acts: False: it is no post of the platform's, but a text to learn from; nothing is done, and nobody is asked.
        again: True: nobody sent it; it only takes the place of a decision that was made while a model was away.
    """

    post: PostIn
    content_hash: str
    decision: Decision
    features: Features
    scorings: tuple[Scoring, ...]
    received_at: datetime
    item: ReviewItem | None = None
    actor: Actor = "model"
    removed_for: tuple[str, ...] = ()
    acts: bool = True
    again: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded decision.

    Attributes:
        body: the reply, as JSON.
        content_hash: of the content that it judged.
        created_at: of that content, as it was last sent.
        content_version: 1 for the first content of a post.
        fresh: True: this very call recorded it.
        judge_again: True: a model was away, so another decision on the same content may take its place.
        rejudges: the content version of the decision whose place it took in this very call; None: of none.
    """

    body: str
    content_hash: str
    created_at: datetime
    content_version: int
    fresh: bool = False
    judge_again: bool = False
    rejudges: int | None = None


Again = dict[str, tuple[str, datetime]]
"""Of posts whose newest content came again: its hash, and when it was created as it was sent now."""


def now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


class Ledger:
    """The database behind everything that is recorded.

    Args:
        url: `sqlite:///PATH`, created with its folder, in WAL mode, and synced at every commit; or `postgresql://...`,
            an existing database. Its tables are made, or upgraded to what this code expects.

    Raises:
        ConfigError: the URL is of another kind, or the database is newer than this code or holds something else.
        LedgerError: the database cannot be reached or read.
    """

    def __init__(self, url: str) -> None:
        self._writer = secrets.token_hex(16)  # counts in rows of its own, so that no two ledgers wait for each other
        place = dialect.parse(url, setting=SETTING)
        try:
            self.engine = dialect.open_engine(place)
            self._reader = dialect.reader(self.engine)
            try:
                bring_to_head(self.engine, setting=SETTING)
            except BaseException:
                self.close()
                raise
        except (SQLAlchemyError, OSError) as error:
            raise LedgerError(
                f"no ledger at {dialect.redacted_url(place)}: {dialect.error_message(error, place)}"
            ) from error

    def newest(self, post_ids: Sequence[str]) -> dict[str, Recorded]:
        """The newest recorded decision of each post that has one, as it holds now."""
        with self.read() as connection:
            return as_they_hold(connection, _newest(connection, post_ids))

    def note_again(self, contents: Mapping[str, tuple[str, datetime]]) -> dict[str, Recorded]:
        """Note that contents came again, created later: nothing older may follow them.

        Args:
            contents: of each post the content's hash and when it was created; left alone where another one is newest.

        Returns:
            The newest recorded decision of each of these posts.
        """
        with self.write() as connection:
            claim(connection, "post", list(contents))
            known = _newest(connection, list(contents))
            for post_id, found in known.items():
                content_hash, created_at = contents[post_id]
                if found.content_hash == content_hash:
                    known[post_id] = _came_again(connection, post_id, found, created_at)
            return as_they_hold(connection, known)

    def exempt(self, content_hashes: Sequence[str]) -> set[str]:
        """Which of these contents were restored on appeal."""
        with self.read() as connection:
            return post_status.exempt(connection, content_hashes)

    def history(self, post_id: str) -> list[Recorded]:
        """All recorded decisions of a post, the first first; empty for an unknown post."""
        with self.read() as connection:
            rows = connection.execute(_recorded().where(posts.c.post_id == post_id).order_by(posts.c.content_version))
            return [_as_recorded(row) for row in rows]

    def record(self, entries: Sequence[Entry]) -> list[Recorded | ConflictError]:
        """Record posts and decisions, all in one transaction.

        Args:
            entries: whose media are kept already, so that no decision commits before the bytes that it names.

        Returns:
            For each entry, in order: what is recorded now. That is an earlier decision where the newest content of the
            post is the same, and a ConflictError, nothing recorded, where the newest content was created later. An
            earlier decision that was made while a model was away gives way to one that was not: it stays in the
            history, and the new one is the next content version, unless a person has to do with it.
        """
        if not entries:
            return []
        post_ids = [entry.decision.post_id for entry in entries]
        with self.write() as connection:
            claim(connection, "post", post_ids)
            known = as_they_hold(connection, _newest(connection, post_ids))
            replaceable = _replaceable(connection, known, entries)
            results: list[Recorded | ConflictError] = []
            new: list[tuple[Entry, Decision]] = []
            new_posts: dict[tuple[str, int], dict[str, object]] = {}
            new_decisions: list[dict[str, object]] = []
            new_scorings: list[dict[str, object]] = []
            said: dict[tuple[str, int], Act] = {}
            for entry in entries:
                post_id = entry.decision.post_id
                newest = known.get(post_id)
                if newest is not None and entry.again and newest.content_hash != entry.content_hash:
                    results.append(replace(newest, fresh=False))  # newer content stands
                    continue
                conflict = (
                    None
                    if newest is None
                    else conflict_with(newest, post_id, entry.post.created_at, entry.content_hash)
                )
                if conflict is not None:
                    results.append(conflict)
                    continue
                replaces = newest is not None and _replaces(entry, newest) and post_id in replaceable
                if newest is not None and newest.content_hash == entry.content_hash and not replaces:
                    if newest.fresh:  # of this very call, its row is not written yet
                        later = max(newest.created_at, entry.post.created_at)
                        new_posts[post_id, newest.content_version]["came_again_at"] = later
                        known[post_id] = replace(newest, created_at=later)
                    else:
                        known[post_id] = _came_again(connection, post_id, newest, entry.post.created_at)
                    results.append(replace(known[post_id], fresh=False, rejudges=None))
                    continue
                version = 1 if newest is None else newest.content_version + 1
                rejudges = newest.content_version if newest is not None and replaces else None
                decision = entry.decision.model_copy(update={"content_version": version, "rejudges": rejudges})
                if version > 1 and entry.acts:
                    decision = _as_people_said(connection, entry, decision, said)
                recorded = _fresh(entry, decision, newest if replaces else None)
                new.append((entry, decision))
                known[post_id] = recorded
                results.append(recorded)
                new_posts[post_id, version] = _post_row(entry, recorded)
                new_decisions.append(_decision_row(entry, recorded, decision))
                new_scorings += [_scoring_row(scoring, post_id, version) for scoring in entry.scorings]
            _replaced(connection, new)
            if new_posts:
                announce(connection, decisions.c.decision_id)
                connection.execute(insert(posts), list(new_posts.values()))
                connection.execute(insert(decisions), new_decisions)
                media_uses.add(connection, (Use(entry.post, decision) for entry, decision in new))
            if new_scorings:
                connection.execute(insert(scorings), new_scorings)
            _follow(connection, new, said, self._writer)
        return results

    @contextmanager
    def lock(
        self, name: str, *, wait: timedelta = timedelta(0), hold: timedelta = timedelta(minutes=10)
    ) -> Iterator[Held]:
        """Hold a named lock across processes; what it yields prolongs it.

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
            yield Held(self, name, holder, hold)
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


@dataclass(frozen=True, slots=True)
class Held:
    """A named lock that is held, of `Ledger.lock`."""

    ledger: Ledger
    name: str
    holder: str
    hold: timedelta

    def renew(self) -> None:
        """Hold it as long again from now on.

        Raises:
            ConflictError: it was overtaken meanwhile.
        """
        mine = (locks.c.name == self.name) & (locks.c.holder == self.holder)
        with self.ledger.write() as connection:
            renewed = connection.execute(update(locks).where(mine).values(expires_at=now() + self.hold)).rowcount
        if not renewed:
            raise ConflictError(f"lock {self.name!r} was held for longer than {self.hold} and is another one's now")


def conflict_with(newest: Recorded, post_id: str, created_at: datetime, content_hash: str) -> ConflictError | None:
    """Why content must not follow what is recorded, if so: other content that is newer stands already."""
    if content_hash == newest.content_hash or created_at >= newest.created_at:
        return None
    return ConflictError(
        f"post {post_id!r} has content created at {newest.created_at.isoformat()}, later than"
        f" {created_at.isoformat()}; the older one is not recorded"
    )


def found(recorded: Mapping[str, Recorded], post_id: str) -> Recorded:
    """The post's record.

    Raises:
        NotFoundError: there is none.
    """
    if post_id not in recorded:
        raise NotFoundError(f"post {post_id!r} is not recorded")
    return recorded[post_id]


def as_they_hold(connection: Connection, recorded: dict[str, Recorded]) -> dict[str, Recorded]:
    """Recorded decisions with what people made of them since."""
    if not recorded:
        return recorded
    acted = post_status.of(connection, list(recorded))
    waiting = post_status.open_reviews(connection, list(recorded))
    result = dict(recorded)
    for post_id, found in recorded.items():
        stands, review = acted.get(post_id), waiting.get(post_id)
        # What was done with, or is asked about, older content says nothing of this one.
        stands = stands if stands and stands.content_version == found.content_version else None
        review = review if review and review.content_version == found.content_version else None
        if (stands and stands.actor in ("review", "appeal")) or (review and review.kind != "flagged"):
            body = post_status.effective(found.body, stands, review)
            result[post_id] = replace(found, body=body, judge_again=False)
        elif stands and stands.state == "removed":
            result[post_id] = replace(found, judge_again=False)
    return result


def _came_again(connection: Connection, post_id: str, newest: Recorded, created_at: datetime) -> Recorded:
    """A post's newest content, after the same came again: nothing older than this may follow it."""
    if created_at <= newest.created_at:
        return newest
    which = of_version(posts, post_id, newest.content_version)
    connection.execute(update(posts).where(which).values(came_again_at=created_at))
    return replace(newest, created_at=created_at)


def _replaces(entry: Entry, newest: Recorded) -> bool:
    """Whether a decision, now that no model was away, takes the place of one on the same content."""
    same = newest.content_hash == entry.content_hash
    return same and newest.judge_again and not entry.decision.degraded and entry.acts


def _replaceable(connection: Connection, known: Mapping[str, Recorded], entries: Sequence[Entry]) -> set[str]:
    """The posts of entries whose newest decision may be taken the place of: no person has to do with it."""
    versions = {
        entry.decision.post_id: newest.content_version
        for entry in entries
        if (newest := known.get(entry.decision.post_id)) is not None and _replaces(entry, newest)
    }
    return post_status.left_to_models(connection, versions) if versions else set()


def _replaced(connection: Connection, new: Sequence[tuple[Entry, Decision]]) -> None:
    """Note of decisions whose place others take that they are not to be made again."""
    for _, decision in new:
        if decision.rejudges is not None:
            which = of_version(decisions, decision.post_id, decision.rejudges)
            connection.execute(update(decisions).where(which).values(judge_again=False))


def _fresh(entry: Entry, decision: Decision, before: Recorded | None) -> Recorded:
    """A decision as it is recorded now; `before` is the one on the same content whose place it takes."""
    created_at = entry.post.created_at
    return Recorded(
        decision.model_dump_json(),
        entry.content_hash,
        created_at if before is None else max(created_at, before.created_at),
        decision.content_version,
        fresh=True,
        judge_again=decision.degraded and entry.acts and not decision.exempt,
        rejudges=None if before is None else before.content_version,
    )


def _as_people_said(
    connection: Connection, entry: Entry, decision: Decision, said: dict[tuple[str, int], Act]
) -> Decision:
    """A decision, or a removal where a person removed this content of the post before; that is noted in `said`.

    Otherwise what a person removed would be back by an edit there and one back.
    """
    before = post_status.removed_by_people(connection, decision.post_id, entry.content_hash)
    if before is None:
        return decision
    version, author = decision.content_version, entry.post.author_id
    said[decision.post_id, version] = Act(
        decision.post_id,
        version,
        "remove",
        "review",
        before.labels,
        decision.decided_at,
        author,
        before.review_id,
    )
    return decision.model_copy(update={"decision": "remove", "review": ReviewDecision(queued=False)})


def _follow(
    connection: Connection,
    new: Sequence[tuple[Entry, Decision]],
    said: Mapping[tuple[str, int], Act],
    writer: str,
) -> None:
    """What fresh decisions do with their posts, or people did with the same content, and what people are asked."""
    edited = [decision.post_id for _, decision in new if decision.content_version > 1]
    stands = post_status.of(connection, edited) if edited else {}
    if edited:
        post_status.drop_open(connection, edited)
    acts: list[Act] = []
    newest: dict[str, tuple[Entry, Decision]] = {}
    for entry, decision in new:
        newest[decision.post_id] = (entry, decision)
        if not entry.acts:
            continue
        done = said.get((decision.post_id, decision.content_version)) or post_status.follows(
            decision,
            author_id=entry.post.author_id,
            actor=entry.actor,
            removed_for=entry.removed_for,
            before=stands.get(decision.post_id),
        )
        if done is not None:
            acts.append(done)
            stands[decision.post_id] = post_status.state_after(done)
    post_status.act(connection, acts)
    _count(connection, [entry for entry, _ in new if entry.acts], writer)
    for entry, decision in newest.values():
        if entry.item is not None and entry.acts and (decision.post_id, decision.content_version) not in said:
            post_status.queue(
                connection,
                decision.post_id,
                decision.content_version,
                entry.item,
                language=decision.language.code,
                region=entry.post.region,
                community=entry.post.community,
                created_at=decision.decided_at,
            )


def _count(connection: Connection, entries: Sequence[Entry], writer: str) -> None:
    """Count for the fuse, in the minute in which the group is recorded."""
    counted: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        counted.update((label, entry.post.region) for label in ("", *entry.removed_for))
    removals.count(connection, writer, now(), counted)


def _recorded() -> Select[Any]:
    created_at = func.coalesce(posts.c.came_again_at, posts.c.created_at)
    return select(
        posts.c.post_id,
        decisions.c.body,
        posts.c.content_hash,
        created_at.label("newest_at"),
        posts.c.content_version,
        decisions.c.judge_again,
    ).join(decisions, same_version(posts, decisions))


def _as_recorded(row: Row[Any]) -> Recorded:
    return Recorded(row.body, row.content_hash, row.newest_at, row.content_version, judge_again=bool(row.judge_again))


def _newest(connection: Connection, post_ids: Sequence[str]) -> dict[str, Recorded]:
    result: dict[str, Recorded] = {}
    for chunk in chunks(sorted(set(post_ids))):
        rows = connection.execute(_NEWEST.where(posts.c.post_id.in_(chunk)))
        result.update((row.post_id, _as_recorded(row)) for row in rows)
    return result


_VERSIONS = posts.alias()
# One step in the primary key's index a post, however often it was edited.
_NEWEST = _recorded().where(
    posts.c.content_version
    == select(func.max(_VERSIONS.c.content_version)).where(_VERSIONS.c.post_id == posts.c.post_id).scalar_subquery()
)


def _post_row(entry: Entry, recorded: Recorded) -> dict[str, object]:
    later = recorded.created_at > entry.post.created_at
    return {
        "post_id": entry.decision.post_id,
        "content_version": recorded.content_version,
        "content_hash": entry.content_hash,
        "author_id": entry.post.author_id,
        "community": entry.post.community,
        "region": entry.post.region,
        "created_at": entry.post.created_at,
        "text": entry.post.text,
        "author": entry.post.author,
        "received_at": entry.received_at,
        "came_again_at": recorded.created_at if later else None,
    }


def _decision_row(entry: Entry, recorded: Recorded, decision: Decision) -> dict[str, object]:
    return {
        "post_id": decision.post_id,
        "content_version": decision.content_version,
        "decision": decision.decision,
        "body": recorded.body,
        "features": entry.features,
        "decided_at": decision.decided_at,
        "judge_again": recorded.judge_again or None,
    }


def _scoring_row(scoring: Scoring, post_id: str, version: int) -> dict[str, object]:
    return {
        "post_id": post_id,
        "content_version": version,
        "service": scoring.service,
        "variant": scoring.variant,
        "model_version": scoring.version,
        "experiment": scoring.experiment,
        "arm": None if scoring.experiment is None else scoring.arm,
        "features": scoring.features,
    }
