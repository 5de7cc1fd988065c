"""Deletes what nobody needs any more of the store of media: `seawall media collect`, hourly, on one machine at a time.

Bytes go in two steps, an hour apart, for the reason that `media_store` gives. What the ledger says of a medium decides
in both, and `removed_at` is where the collector and a post that is being recorded meet: the collector sets it only
while the last use is old, in one statement, and recording clears it. Whoever comes second sees what the first did.

- Aside goes what was last used more than `KeepRules.days` ago and has no post that waits for a person, and what no post
  was recorded with. Neither may have been kept, held or touched within `KeepRules.unused_hours`.
- An hour later it is deleted, with what was found in it, if its row still says so and nobody began to wait; else it
  goes back to its place.

Killed at any point it leaves each medium in its place, aside or gone, as its row says or to be told by the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.engine import Connection

from moderation.media import KeepRules
from moderation.storage.blobs import Stored
from moderation.storage.ledger import Held, Ledger
from moderation.storage.media_rows import drop_scores
from moderation.storage.media_store import ASIDE, PASSING, TOUCH_AGAIN, MediaStore, is_sha256, name_of, store_errors
from moderation.storage.media_tables import media, post_media
from moderation.storage.media_uses import USED_AGAIN
from moderation.storage.people_tables import actions, reviews
from moderation.storage.tables import same_version

LOCK = "media-collect"
LOCK_HOLD = timedelta(minutes=5)
"""For how long a collector that got no further is taken for alive."""
ASIDE_FOR = timedelta(hours=1)
"""A request must come from keeping its media to the commit of its decision within this time."""
PASSING_FOR = timedelta(hours=1)
"""After that long a request that keeps nothing, or a write that was begun, is taken for dead."""
PAGE = 200
"""Media that are looked up, and moved or deleted, between two renewals of the lock."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did.

    Attributes:
        removed: media that were deleted.
        bytes: that they had.
        aside: media that were moved aside, to be deleted in an hour.
        restored: media that were aside, and went back to their place.
        leftovers: files that killed processes left: of requests that keep nothing, and half written ones.
    """

    removed: int = 0
    bytes: int = 0
    aside: int = 0
    restored: int = 0
    leftovers: int = 0


def collect(ledger: Ledger, store: MediaStore, rules: KeepRules, now: datetime) -> Collected:
    """Delete what is due, and move aside what is due in an hour.

    Of a ledger that knows no medium at all only leftovers go: most likely it is the wrong one.

    Args:
        ledger: whose posts use the media.
        store: of that ledger, and of no other: what this ledger does not know is taken for unused.
        rules: how long is kept.
        now: the time.

    Raises:
        ConflictError: another collection is under way.
        MediaUnavailableError: the store cannot be reached, or fails.
    """
    with ledger.lock(LOCK, hold=LOCK_HOLD) as held, store_errors():
        work = _Work(ledger, store, held, now, unused_before=now - timedelta(days=rules.days) - USED_AGAIN)
        done = Collected(leftovers=_leftovers(store, now))
        if not _knows_media(ledger):
            return done
        # Deleted first: what goes aside in this run waits for a later one, whatever `now` is.
        for page in _pages(_older(store, ASIDE, now - ASIDE_FOR)):
            done = work.end(page, done)
        kept_before = now - timedelta(hours=rules.unused_hours) - TOUCH_AGAIN
        for page in _pages(_older(store, "", kept_before)):
            done = work.begin(page, done)
    return done


def _knows_media(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        return connection.execute(select(media.c.sha256).limit(1)).first() is not None


def _leftovers(store: MediaStore, now: datetime) -> int:
    old = list(_older(store, PASSING, now - PASSING_FOR))
    for stored in old:
        store.place.delete(stored.name)
    return len(old) + store.place.clear_partial(now - PASSING_FOR)


def _older(store: MediaStore, folder: str, before: datetime) -> Iterator[Stored]:
    """What is older of a folder; of the whole store, the media that are in their places."""
    for stored in store.place.listing(folder):
        sha256 = _sha256(stored)
        in_place = is_sha256(sha256) and stored.name == (f"{folder}/{sha256}" if folder else name_of(sha256))
        if stored.modified < before and (in_place or folder == PASSING):
            yield stored


def _pages(found: Iterator[Stored]) -> Iterator[dict[str, Stored]]:
    while page := {_sha256(stored): stored for stored in islice(found, PAGE)}:
        yield page


def _sha256(stored: Stored) -> str:
    return stored.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _Work:
    """One collection."""

    ledger: Ledger
    store: MediaStore
    held: Held
    now: datetime
    unused_before: datetime

    def begin(self, page: dict[str, Stored], done: Collected) -> Collected:
        """Move aside what of a page is due."""
        self.held.renew()
        with self.ledger.write() as connection:
            self._lock(connection, page)
            due = self._due(connection, page)
            mark = update(media).where(media.c.sha256.in_(sorted(due)), self._unused())
            # A post that was recorded since has the last word: what it uses stays.
            marked = set(connection.execute(mark.values(removed_at=self.now).returning(media.c.sha256)).scalars())
            kept = set(self._rows(connection, due - marked, media.c.removed_at.is_(None)))
        going = sorted(due - kept)
        moved = sum(self.store.place.move(page[sha256].name, f"{ASIDE}/{sha256}") for sha256 in going)
        return replace(done, aside=done.aside + moved)

    def end(self, page: dict[str, Stored], done: Collected) -> Collected:
        """Delete what of a page, aside, is still due; the others go back."""
        self.held.renew()
        place = self.store.place
        with self.ledger.write() as connection:
            self._lock(connection, page)
            waiting = set(self._rows(connection, page, _waits()))
            # Again, as a restored medium is held from now on.
            connection.execute(update(media).where(media.c.sha256.in_(sorted(waiting))).values(removed_at=None))
            back = waiting | set(self._rows(connection, page, media.c.removed_at.is_(None)))
            going = sorted(page.keys() - back)
            drop_scores(connection, going)
        for sha256 in back:
            place.move(f"{ASIDE}/{sha256}", name_of(sha256))
        for sha256 in going:
            place.delete(f"{ASIDE}/{sha256}")
        freed = sum(page[sha256].size for sha256 in going)
        return replace(
            done,
            removed=done.removed + len(going),
            bytes=done.bytes + freed,
            restored=done.restored + len(back),
        )

    def _lock(self, connection: Connection, page: Iterable[str]) -> None:
        # In the order in which posts are recorded with media, so that neither waits for the other.
        query = select(media.c.sha256).where(media.c.sha256.in_(sorted(page))).order_by(media.c.sha256)
        connection.execute(query.with_for_update()).all()

    def _due(self, connection: Connection, page: Iterable[str]) -> set[str]:
        wanted = set(page)
        needed = self._rows(connection, wanted, and_(media.c.removed_at.is_(None), or_(~self._unused(), _waits())))
        return wanted - set(needed)

    def _unused(self) -> ColumnElement[bool]:
        return media.c.last_used_at < self.unused_before

    def _rows(self, connection: Connection, sha256s: Iterable[str], condition: ColumnElement[bool]) -> Sequence[str]:
        query = select(media.c.sha256).where(media.c.sha256.in_(sorted(sha256s)), condition)
        return connection.execute(query).scalars().all()


def _waits() -> ColumnElement[bool]:
    """Whether a post with a medium waits for a person: it is asked about, an appeal among it, or held."""
    later = actions.alias("later")
    asked = exists().where(
        same_version(reviews, post_media),
        reviews.c.status == "open",
    )
    held = exists().where(
        same_version(actions, post_media),
        actions.c.action == "hold",
        ~exists().where(later.c.post_id == actions.c.post_id, later.c.action_id > actions.c.action_id),
    )
    return exists().where(post_media.c.sha256 == media.c.sha256, or_(asked, held))
