"""What is kept of an author or a community, and what is read from it: counts in buckets, as one JSON document.

A document is `{"f": first seen, "m": {bucket: posts}, "h": {bucket: posts}, "d": {bucket: [a count a measure]}}`. Times
are whole seconds since 1970, a bucket's name is that time divided by its width, rounded down. A window is read as the
buckets from the one that holds its begin to the one that holds its end, so it counts everything in it and at most one
bucket more: 5 minutes of an hour, an hour of a day, a day of 30 days. Whoever adds to a document drops the buckets that
no window reaches any more, so it has a bounded size: below 3 kB for the busiest, some 100 bytes for most. `LATE` more
are kept, so that posts that arrive out of order, or read a little late, find what they would have found.

The Redis back end adds with a script of its own (`features_redis`); the rules are these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypedDict, TypeVar

COUNTED = ("posts", "removed", "reviewed", "harmful", "reports")
"""What is counted, in this order, in a document's days."""
MEASURES = ("age_days", "posts_hour", "posts_day", *(f"{name}_month" for name in COUNTED))
"""What is read of a document: days since the first post; posts of the last hour and day; counts of the last 30 days."""
AUTHOR_FEATURES = tuple(f"author_{name}" for name in MEASURES)
"""Features of a post's author: how new, how busy, how often removed or reviewed, labelled harmful, reported."""
COMMUNITY_FEATURES = tuple(f"community_{name}" for name in MEASURES)
"""The same of the community that it is posted in."""

Series = Literal["m", "h", "d"]
SERIES: dict[Series, tuple[int, int]] = {"m": (300, 12), "h": (3600, 24), "d": (86_400, 30)}
"""Per series, a bucket's width in seconds and how many of them a window is long: an hour, a day, 30 days."""
LATE = 2
"""So many buckets further back than a window reaches are kept: 10 minutes for the hour, two hours for the day."""
WINDOW = timedelta(days=31)
"""Further back than that no window reaches."""
RETENTION = timedelta(days=400)
"""So long after the last change a document is kept; who was silent for longer is new again."""
MEMORY = timedelta(days=1)
"""So long it is remembered what was observed, so that a call that is made again counts nothing twice."""


@dataclass(frozen=True, slots=True)
class PostObserved:
    """A post that was decided.

    Attributes:
        post_id: with `content_version`, what is counted once; an edit is judged anew, so it counts as a post.
        content_version: as recorded.
        author_id: who wrote it.
        community: where.
        at: when it was created. By that time it is counted, so that a backfill counts like live traffic did.
        decision: of the policy.
    """

    post_id: str
    content_version: int
    author_id: str
    community: str
    at: datetime
    decision: Literal["allow", "review", "remove"]


@dataclass(frozen=True, slots=True)
class LabelObserved:
    """What was said of a post.

    Attributes:
        label_id: what is counted once.
        author_id: who wrote the post.
        community: where.
        at: when it was said.
        harmful: someone judged that the post carries a harm; see `harmful_of`.
        report: it came as a report, which is a claim and no judgement.
    """

    label_id: str
    author_id: str
    community: str
    at: datetime
    harmful: bool
    report: bool


def harmful_of(labels: Mapping[str, bool], source: str) -> bool:
    """Whether a label is a judgement that a post is harmful; a report only claims it."""
    return source != "report" and any(labels.values())


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to the documents of an author and of a community.

    Attributes:
        seen: names what was observed; None: it is not remembered.
        keys: of the documents.
        at: seconds since 1970.
        counts: in the order of `COUNTED`.
        first: whether the author, and the community, were there at that time.
    """

    seen: bytes | None
    keys: tuple[str, ...]
    at: int
    counts: tuple[int, int, int, int, int]
    first: bool


def author_key(author_id: str) -> str:
    """Where an author's document lies."""
    return f"a:{author_id}"


def community_key(community: str) -> str:
    """Where a community's document lies."""
    return f"c:{community}"


def change_of_post(event: PostObserved, *, now: datetime, remembered: bool = True) -> Change:
    """A decided post, as what it adds."""
    seen = _digest(f"post\0{event.post_id}\0{event.content_version}") if remembered else None
    counts = (1, int(event.decision == "remove"), int(event.decision == "review"), 0, 0)
    keys = (author_key(event.author_id), community_key(event.community))
    return Change(seen, keys, _clamped(event.at, now), counts, first=True)


def change_of_label(event: LabelObserved, *, now: datetime, remembered: bool = True) -> Change:
    """A label, as what it adds."""
    seen = _digest(f"label\0{event.label_id}") if remembered else None
    keys = (author_key(event.author_id), community_key(event.community))
    return Change(seen, keys, _clamped(event.at, now), (0, 0, 0, int(event.harmful), int(event.report)), first=False)


def first_post(key: str, at: datetime) -> Change:
    """That an author or a community was there at a time, and no count."""
    return Change(None, (key,), seconds(at), (0, 0, 0, 0, 0), first=True)


def seconds(at: datetime) -> int:
    """An aware time in whole seconds since 1970, rounded down.

    Raises:
        ValueError: it has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone")
    return int(at.timestamp() // 1)


def _clamped(at: datetime, now: datetime) -> int:
    # A clock that is years ahead would push everything that is true out of the windows.
    return min(seconds(at), seconds(now))


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


class Document(TypedDict, total=False):
    """What is kept of an author or a community; see the module. A name is left out where nothing was counted."""

    f: int
    m: dict[str, int]
    h: dict[str, int]
    d: dict[str, list[int]]


_OF_POSTS: tuple[Literal["m"], Literal["h"]] = ("m", "h")
"""Series that count posts alone."""
Count = TypeVar("Count")


def add(document: Document, change: Change) -> None:
    """Add to a document in place; an empty one is a new one. `prune` it, once all is added."""
    if change.first:
        document["f"] = min(change.at, document.get("f", change.at))
    if not any(change.counts):
        return
    day = document.setdefault("d", {}).setdefault(str(change.at // SERIES["d"][0]), [0] * len(COUNTED))
    for index, count in enumerate(change.counts):
        day[index] += count
    if change.counts[0]:
        for name in _OF_POSTS:
            series, bucket = document.setdefault(name, {}), str(change.at // SERIES[name][0])
            series[bucket] = series.get(bucket, 0) + change.counts[0]


def prune(document: Document) -> None:
    """Drop the buckets that no window reaches, as seen from the newest one."""
    for name, (_, buckets) in SERIES.items():
        series: dict[str, int] | dict[str, list[int]] = document.get(name, {})
        if len(series) > buckets:
            oldest = max(map(int, series)) - buckets - LATE
            for bucket in [bucket for bucket in series if int(bucket) < oldest]:
                del series[bucket]


def windows_at(at: int) -> dict[Series, list[str]]:
    """Per series, the names of the buckets that its window reaches at a time."""
    return {
        name: [str(bucket) for bucket in range(at // width - buckets, at // width + 1)]
        for name, (width, buckets) in SERIES.items()
    }


def measure(
    document: str | None, at: int, windows: Mapping[Series, Sequence[str]], names: Sequence[str]
) -> dict[str, float]:
    """What is known of an author or a community at a time.

    Args:
        document: JSON, or None where nothing is kept: all features are 0.
        at: seconds since 1970.
        windows: at that time.
        names: `AUTHOR_FEATURES` or `COMMUNITY_FEATURES`.

    Returns:
        A number, at least 0, a name.
    """
    if document is None:
        return dict.fromkeys(names, 0.0)
    held: Document = json.loads(document)
    days = _within(held.get("d", {}), windows["d"])
    values = [
        max(0, at - held.get("f", at)) / 86_400,
        sum(_within(held.get("m", {}), windows["m"])),
        sum(_within(held.get("h", {}), windows["h"])),
        *([sum(counts) for counts in zip(*days, strict=True)] or [0] * len(COUNTED)),
    ]
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _within(series: Mapping[str, Count], window: Sequence[str]) -> list[Count]:
    return [series[bucket] for bucket in window if bucket in series]
