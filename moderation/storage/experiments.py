"""Experiments in the ledger: who is compared with whom, and which share of units goes where."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal  # Any: of a decision's JSON, json knows no type

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from moderation.copies import key_of
from moderation.errors import ConflictError, NotFoundError
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.tables import decisions, experiments, labels, posts, same_version, scorings

BUCKETS = 10_000
"""Into which units are hashed; a share is a number of them."""
NAME_LENGTH = 47
"""Of an experiment, at most: with the 17 characters of the salt it fills that column."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Two versions of a variant on live traffic.

    Attributes:
        name: chosen by its owner.
        variant: whose versions are compared.
        champion_version: at the time it began.
        challenger_version: likewise.
        salt: hashed with the unit, so that experiments split independently.
        buckets: of `BUCKETS`, how many go to the challenger; units in them stay there when it grows.
        status: `running` or `stopped`.
        created_at: begin.
        stopped_at: end, or None.
    """

    name: str
    variant: str
    champion_version: int
    challenger_version: int
    salt: str
    buckets: int
    status: Literal["running", "stopped"]
    created_at: datetime
    stopped_at: datetime | None

    @property
    def share(self) -> float:
        """Share of units in the challenger's arm, in [0, 1]."""
        return self.buckets / BUCKETS


@dataclass(frozen=True, slots=True)
class JudgedPost:
    """A post of an experiment with what people said of it.

    Attributes:
        arm: `champion` or `challenger`.
        model_version: that judged it; None: it failed.
        author_id: the unit of the split.
        flagged: per label, whether what the experiment's service judges of the post reached the threshold; labels that
            failed are absent.
        labels: what people said, the newest word on each label; empty: nobody did. Where a text is judged and the post
            has media, without the harms: they may be in the media alone.
        sampling_probability: with which it was drawn for labelling; None: not drawn at random.
        key: what copies of what is judged have in common (`moderation.copies`); None: nobody spoke of the post.
    """

    arm: str
    model_version: int | None
    author_id: str
    flagged: dict[str, bool]
    labels: dict[str, bool]
    sampling_probability: float | None
    key: str | None = None


_OF_MEDIA = ("image", "video")
"""Services that judge a post's media; the others judge its text."""

_COLUMNS = [experiments.c[name] for name in Experiment.__dataclass_fields__]


def create(
    ledger: Ledger, name: str, *, variant: str, champion_version: int, challenger_version: int, share: float
) -> Experiment:
    """Begin an experiment.

    Args:
        ledger: where it is recorded.
        name: new; at most `NAME_LENGTH` characters.
        variant: whose versions are compared.
        champion_version: at this time.
        challenger_version: likewise.
        share: of units that go to the challenger, in [0, 1].

    Raises:
        ConflictError: the name is taken, or the variant has a running experiment.
        ValueError: the name or the share is out of bounds.
    """
    if not 1 <= len(name) <= NAME_LENGTH:
        raise ValueError(f"the experiment's name has {len(name)} characters; it must have 1 to {NAME_LENGTH}")
    buckets = buckets_of(share)
    at = now()
    try:
        with ledger.write() as connection:
            connection.execute(
                insert(experiments).values(
                    name=name,
                    variant=variant,
                    champion_version=champion_version,
                    challenger_version=challenger_version,
                    salt=f"{name}:{secrets.token_hex(8)}",
                    buckets=buckets,
                    history=[{"at": at.isoformat(), "buckets": buckets}],
                    status="running",
                    created_at=at,
                )
            )
    except IntegrityError:
        other = running(ledger, variant)
        if other is not None:
            raise ConflictError(f"variant {variant!r} has a running experiment already: {other.name!r}") from None
        raise ConflictError(f"an experiment named {name!r} is recorded already; choose another name") from None
    return get(ledger, name)


def ramp(ledger: Ledger, name: str, share: float) -> Experiment:
    """Give the challenger a larger share; units already there stay.

    Raises:
        ConflictError: it is stopped, or the share is smaller than it was.
        NotFoundError: there is none of that name.
        ValueError: the share is out of bounds.
    """
    buckets = buckets_of(share)
    with ledger.write() as connection:
        claim(connection, "experiment", [name])
        row = connection.execute(
            select(experiments.c.status, experiments.c.buckets, experiments.c.history).where(experiments.c.name == name)
        ).first()
        if row is None:
            raise NotFoundError(f"there is no experiment named {name!r}")
        status, before, history = row
        if status != "running":
            raise ConflictError(f"experiment {name!r} is stopped")
        if buckets < before:
            raise ConflictError(
                f"share {share:g} is below the {before / BUCKETS:g} of experiment {name!r};"
                " a ramp only ever adds units: stop it and create another to give fewer"
            )
        history = [*history, {"at": now().isoformat(), "buckets": buckets}]
        connection.execute(
            update(experiments).where(experiments.c.name == name).values(buckets=buckets, history=history)
        )
    return get(ledger, name)


def stop(ledger: Ledger, name: str) -> Experiment:
    """End an experiment; a stopped one stays as it is."""
    get(ledger, name)
    with ledger.write() as connection:
        claim(connection, "experiment", [name])
        connection.execute(
            update(experiments)
            .where(experiments.c.name == name, experiments.c.status == "running")
            .values(status="stopped", stopped_at=now())
        )
    return get(ledger, name)


def get(ledger: Ledger, name: str) -> Experiment:
    """An experiment by name.

    Raises:
        NotFoundError: there is none.
    """
    with ledger.read() as connection:
        row = connection.execute(select(*_COLUMNS).where(experiments.c.name == name)).first()
    if row is None:
        raise NotFoundError(f"there is no experiment named {name!r}")
    return Experiment(*row)


def running(ledger: Ledger, variant: str) -> Experiment | None:
    """The running experiment of a variant, if any."""
    with ledger.read() as connection:
        row = connection.execute(
            select(*_COLUMNS).where(experiments.c.variant == variant, experiments.c.status == "running")
        ).first()
    return None if row is None else Experiment(*row)


def latest(ledger: Ledger, variant: str, challenger_version: int) -> Experiment | None:
    """The newest experiment on a version, running or stopped."""
    with ledger.read() as connection:
        row = connection.execute(
            select(*_COLUMNS)
            .where(experiments.c.variant == variant, experiments.c.challenger_version == challenger_version)
            .order_by(experiments.c.created_at.desc())
        ).first()
    return None if row is None else Experiment(*row)


def judged_posts(ledger: Ledger, name: str) -> list[JudgedPost]:
    """Every post that the experiment judged, each once, in order of decision."""
    query = (
        select(
            decisions.c.decision_id,
            scorings.c.arm,
            scorings.c.model_version,
            scorings.c.service,
            posts.c.author_id,
            posts.c.text,
            decisions.c.body,
            labels.c.labels,
            labels.c.sampling_probability,
        )
        .join(posts, same_version(posts, decisions))
        .join(scorings, same_version(scorings, decisions))
        .outerjoin(labels, same_version(labels, decisions))
        .where(scorings.c.experiment == name)
        .order_by(decisions.c.decision_id, labels.c.labelled_at, labels.c.label_seq)
    )
    judged: dict[int, JudgedPost] = {}
    unclear: set[int] = set()
    with ledger.read() as connection:
        for decision_id, arm, version, service, author_id, text, body, said, probability in connection.execute(query):
            post = judged.get(decision_id)
            if post is None:
                decision = json.loads(body)
                post = JudgedPost(arm, version, author_id, _flags(decision, service), {}, None)
                if decision.get("media") and service not in _OF_MEDIA:
                    unclear.add(decision_id)
            if said is not None and post.key is None:
                post = replace(post, key=_key(text, json.loads(body), service))
            drawn = [p for p in (post.sampling_probability, probability) if p is not None]
            judged[decision_id] = replace(
                post, labels=post.labels | (said or {}), sampling_probability=max(drawn, default=None)
            )
    for decision_id in unclear:
        post = judged[decision_id]
        harmless = {label: False for label, harmful in post.labels.items() if not harmful}
        judged[decision_id] = replace(post, labels=harmless)
    return list(judged.values())


def buckets_of(share: float) -> int:
    """A share as a number of buckets.

    Raises:
        ValueError: it is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share:g}; it must lie in [0, 1]")
    return round(share * BUCKETS)


def _key(text: str, decision: Mapping[str, Any], service: str) -> str:
    """What copies of what a service judges have in common: its words, or its media's bytes."""
    if service in _OF_MEDIA:
        return " ".join(sorted(medium["sha256"] for medium in decision.get("media", [])))
    return key_of(text)


def _flags(decision: Mapping[str, Any], service: str) -> dict[str, bool]:
    """Per label that a service scored, whether it flagged its own part of the post.

    A post without media has one part. Of another, what is written in a picture is left out of a text's experiment, as
    it is of the scorings.
    """
    found: dict[str, bool] = {}
    for name, label in decision["labels"].items():
        parts = label.get("parts") or []
        own = [part for part in parts if part["service"] == service]
        if service not in _OF_MEDIA:
            own = [part for part in own if part["media"] is None]
        flags = [bool(part["flagged"]) for part in (own if parts else [label]) if part["status"] == "scored"]
        if flags:
            found[name] = any(flags)
    return found
