"""Online features of authors and communities: what was known of them when a post was decided.

How old an account is, how fast it posts, how often it was removed or reported: read for a whole group before it is
scored, logged with the decision, counted up after it. A store is derived from the ledger: it may lag, lose the last
moments in a crash, or be deleted; `rebuild` fills it anew. No decision waits for it: a store that fails raises
`FeaturesUnavailableError`, and what was not known is to be logged as not known, not as zero.

Counts are approximate by one bucket (`feature_profiles`). Each version of a post and each label counts once: its digest
is remembered for a day (`MEMORY`), some 100 bytes each, so that a call that is made again, by a client or after a
timeout, counts nothing twice. What comes again later than that is held back at its source: a post that was decided
before is not fresh (`posts_observed`), and a label that was recorded before that day is not told again
(`labels_observed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVarTuple  # Any: SQLAlchemy knows no type of a Table's columns

from sqlalchemy import Column, Row, Select, exists, func, select
from sqlalchemy.engine import Connection

from moderation.errors import ConfigError, ConflictError
from moderation.storage.feature_profiles import (
    AUTHOR_FEATURES,
    COMMUNITY_FEATURES,
    MEMORY,
    RETENTION,
    WINDOW,
    Change,
    LabelObserved,
    PostObserved,
    author_key,
    change_of_label,
    change_of_post,
    community_key,
    first_post,
    harmful_of,
)
from moderation.storage.feature_store import CHANGES_A_CALL, FeatureStore
from moderation.storage.features_sql import SETTING, SqlFeatures
from moderation.storage.ledger import Entry, Ledger, Recorded, now
from moderation.storage.tables import decisions, labels, posts, same_version

__all__ = [
    "AUTHOR_FEATURES",
    "COMMUNITY_FEATURES",
    "MEMORY",
    "FeatureStore",
    "LabelObserved",
    "PostObserved",
    "labels_observed",
    "open_features",
    "posts_observed",
    "rebuild",
]

_IDS_A_QUERY = 500
Columns = TypeVarTuple("Columns")


def open_features(url: str, *, memory: timedelta = MEMORY) -> FeatureStore:
    """Open a store of features.

    Args:
        url: `sqlite:///PATH`, for the gateways of one machine; `redis://HOST:PORT/DATABASE`, `rediss://...` or
            `unix://PATH`, for many. Redis is first asked when it is needed.
        memory: how long it is remembered what was observed; all processes of a store should say the same.

    Raises:
        ConfigError: the URL is of another kind.
        FeaturesUnavailableError: the SQLite file cannot be opened.
    """
    scheme = url.partition(":")[0]
    if scheme in ("redis", "rediss", "unix"):
        from moderation.storage.features_redis import RedisFeatures  # imported only where it is used

        return RedisFeatures(url, memory)
    if scheme.partition("+")[0] == "sqlite":
        return SqlFeatures(url, memory)
    raise ConfigError(SETTING, f"is of {scheme!r}; sqlite, redis, rediss and unix are supported")


def posts_observed(entries: Sequence[Entry], results: Sequence[Recorded | ConflictError]) -> list[PostObserved]:
    """What a call of `Ledger.record` recorded, to be observed; what was recorded before, or judged before, is left out.

    Args:
        entries: that were handed to it.
        results: that it returned for them.
    """
    return [
        PostObserved(
            post_id=entry.decision.post_id,
            content_version=result.content_version,
            author_id=entry.post.author_id,
            community=entry.post.community,
            at=entry.post.created_at,
            decision=entry.decision.decision,
        )
        for entry, result in zip(entries, results, strict=True)
        if isinstance(result, Recorded) and result.fresh and result.rejudges is None
    ]


def labels_observed(ledger: Ledger, ids: Sequence[str]) -> list[LabelObserved]:
    """What the ledger recorded under these ids within `MEMORY`, to be observed after `labelling.add`.

    Read from the ledger, and not from what was sent: only there it is known whose post it is, and what is recorded.
    """
    query = _labels().where(labels.c.received_at > now() - MEMORY)
    found: list[LabelObserved] = []
    with ledger.read() as connection:
        for begin in range(0, len(ids), _IDS_A_QUERY):
            chosen = query.where(labels.c.id.in_(ids[begin : begin + _IDS_A_QUERY]))
            found += [_label(row) for row in connection.execute(chosen)]
    return found


def rebuild(store: FeatureStore, ledger: Ledger, at: datetime) -> None:
    """Empty a store and fill it from the ledger, one process at a time.

    Gateways may go on meanwhile: they tell what they have recorded, so whatever they tell is either in the ledger's
    state that is read here, and remembered as seen by whoever comes first, or told after the store was emptied.

    Args:
        store: what to fill.
        ledger: from which.
        at: the present, by the clock of the posts; what was created more than `WINDOW` before is in no count.

    Raises:
        ConflictError: another process rebuilds it.
        FeaturesUnavailableError: the store fails; it is not marked as built then.
    """
    with ledger.lock("features-rebuild", hold=timedelta(hours=1)):
        store.clear()
        with ledger.read() as connection:
            for changes in _batches(_changes(connection, at)):
                store.apply(changes)
        store.mark_built()


def _changes(connection: Connection, at: datetime) -> Iterator[Change]:
    for key, column in ((author_key, posts.c.author_id), (community_key, posts.c.community)):
        for name, first in _stream(connection, _first_posts(column, at)):
            yield first_post(key(name), first)
    present = now()
    remembered_from = present - MEMORY
    for *event, decided_at in _stream(connection, _posts().where(posts.c.created_at > at - WINDOW)):
        yield change_of_post(PostObserved(*event), now=present, remembered=decided_at > remembered_from)
    for row in _stream(connection, _labels().where(labels.c.labelled_at > at - WINDOW)):
        yield change_of_label(_label(row), now=present, remembered=row.received_at > remembered_from)


def _first_posts(column: Column[str], at: datetime) -> Select[str, datetime]:
    created = posts.c.created_at
    return select(column, func.min(created)).group_by(column).having(func.max(created) > at - RETENTION)


_before = posts.alias("before")
# What was judged again, as `posts_observed` leaves it out: otherwise content that follows itself is not recorded.
_judged_before = exists().where(
    _before.c.post_id == posts.c.post_id,
    _before.c.content_version == posts.c.content_version - 1,
    _before.c.content_hash == posts.c.content_hash,
)


def _posts() -> Select[*tuple[Any, ...]]:
    return (
        select(
            posts.c.post_id,
            posts.c.content_version,
            posts.c.author_id,
            posts.c.community,
            posts.c.created_at,
            decisions.c.decision,
            decisions.c.decided_at,
        )
        .join(decisions, same_version(posts, decisions))
        .where(~_judged_before)
    )


def _labels() -> Select[Any]:
    return select(
        labels.c.id,
        posts.c.author_id,
        posts.c.community,
        labels.c.labelled_at,
        labels.c.labels,
        labels.c.source,
        labels.c.received_at,
    ).join(posts, same_version(posts, labels))


def _label(row: Row[Any]) -> LabelObserved:
    return LabelObserved(
        label_id=row.id,
        author_id=row.author_id,
        community=row.community,
        at=row.labelled_at,
        harmful=harmful_of(row.labels, row.source),
        report=row.source == "report",
    )


def _stream(connection: Connection, query: Select[*Columns]) -> Iterator[Row[*Columns]]:
    yield from connection.execute(query, execution_options={"yield_per": 2000})


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    batch: list[Change] = []
    for change in changes:
        batch.append(change)
        if len(batch) == CHANGES_A_CALL:
            yield batch
            batch = []
    yield batch
