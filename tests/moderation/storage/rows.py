"""Posts, decisions and labels as they would come from the gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from moderation.posts import (
    Decision,
    ExperimentArm,
    LabelDecision,
    LabelIn,
    LabelsOut,
    LanguageDecision,
    PostIn,
    ReviewDecision,
)
from moderation.preprocess.features import Features
from moderation.storage import labelling
from moderation.storage.ledger import Entry, Ledger, Recorded, Scoring

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


def an_entry(
    post_id: str = "p-1",
    text: str = "the tomatoes are ripe",
    *,
    minutes: float = 0,
    author: str = "u-1",
    region: str = "US",
    flagged: Mapping[str, bool | None] | None = None,
    variant: str | None = "text-multi",
    model_version: int | None = 1,
    experiment: str | None = None,
    arm: Literal["champion", "challenger"] = "champion",
) -> Entry:
    """A decision on a post created `minutes` after `BEGIN`; `flagged` per label, None: it failed to score."""
    post = PostIn(
        author_id=author,
        community="gardening",
        region=region,
        created_at=at(minutes),
        text=text,
        author={"age_days": 7.0},
    )
    labels = {
        name: LabelDecision(status="failed", reason="timed out")
        if flag is None
        else LabelDecision(status="scored", score=0.9 if flag else 0.1, threshold=0.5, flagged=flag)
        for name, flag in ({"abuse": False} if flagged is None else flagged).items()
    }
    decision = Decision(
        post_id=post_id,
        content_version=1,
        decision="allow",
        mode="reactive",
        degraded=False,
        labels=labels,
        language=LanguageDecision(code="en", confidence=0.9, in_training=True),
        links=[],
        review=ReviewDecision(queued=False),
        experiments={} if experiment is None else {"text": ExperimentArm(name=experiment, arm=arm)},
        policy_version="v1+00000000",
        models={"text": f"{variant}@{model_version}"},
        decided_at=at(minutes),
        latency_ms=1.5,
    )
    features: Features = {"characters": float(len(text)), "language": "en"}
    scorings = (
        () if variant is None else (Scoring("text", variant, model_version, experiment, arm, {"score_abuse": 0.1}),)
    )
    return Entry(post, post.content_hash(), decision, features, scorings, at(minutes))


def record(ledger: Ledger, entry: Entry) -> Recorded:
    (result,) = ledger.record([entry])
    assert isinstance(result, Recorded)
    return result


def a_label(label_id: str = "l-1", post_id: str = "p-1", *, minutes: float = 60, **changes: Any) -> LabelIn:
    raw = {"id": label_id, "post_id": post_id, "labels": {"abuse": True}, "source": "review"}
    return LabelIn.model_validate_json(json.dumps(raw | {"labelled_at": at(minutes).isoformat()} | changes))


def say(ledger: Ledger, *labels: LabelIn) -> LabelsOut:
    """Send labels as lines 1, 2, ..."""
    return labelling.add(ledger, dict(enumerate(labels, start=1)))


def say_as_verdict(ledger: Ledger, label: LabelIn) -> None:
    """Add a label as a verdict does, with an id that no platform may send."""
    with ledger.write() as connection:
        labelling.insert(connection, [label.model_copy(update={"content_version": label.content_version or 1})])


def versions_of(ledger: Ledger, post_id: str) -> Sequence[int]:
    return [recorded.content_version for recorded in ledger.history(post_id)]
