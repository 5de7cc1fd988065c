"""What the tests of the rooms share: a context without a cluster, on a real ledger and a real registry."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from moderation.context import Context
from moderation.models.card import CARD, Card
from moderation.posts import (
    Decision,
    ExperimentArm,
    LabelDecision,
    LabelIn,
    LanguageDecision,
    PostIn,
    ReviewDecision,
)
from moderation.preprocess.features import observe, scored_features
from moderation.preprocess.language import Language
from moderation.registry import Registry
from moderation.settings import DEPLOYMENTS, Settings
from moderation.storage import labelling
from moderation.storage.ledger import Entry, Ledger, Scoring
from moderation.topology import Topology
from serve.rollout import promotion

VARIANT = "text-multi"
TOPOLOGY = DEPLOYMENTS / "light.yaml"
"""One variant, on n-grams: fast."""
SHIPPED = DEPLOYMENTS / "models" / "text-ngram"
"""What `VARIANT` ships with there."""
DAY = datetime(2026, 11, 24, tzinfo=UTC)

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result], within_s: float = 120) -> Result:
    """Run to the end; what waits for ever fails instead. The bound is only there to tell that."""
    return asyncio.run(asyncio.wait_for(work, within_s))


def shipped_card() -> Card:
    return Card.from_json((SHIPPED / CARD).read_text(encoding="utf-8"))


def settings_in(home: Path) -> Settings:
    return Settings(home, f"sqlite:///{home / 'ledger.db'}", f"sqlite:///{home / 'mlflow.db'}")


def empty_registry(base: Path) -> Path:
    """A home whose MLflow database has its tables and no model; made once, because that takes seconds."""
    home = base / "empty-registry"
    if not home.exists():
        Registry(settings_in(home)).alias(VARIANT, "champion")
    return home


def new_home(base: Path, home: Path) -> Settings:
    """A home of one's own, with an empty registry."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_registry(base) / "mlflow.db", home / "mlflow.db")
    return settings_in(home)


def challenged_context(base: Path, home: Path) -> Context:
    """A Seawall of one's own: version 1 shipped and is champion, version 2 passed the gate and challenges it."""
    made = base / "challenged"
    if not made.exists():
        context = context_in(new_home(base, made))
        promotion.ship(context, VARIANT)
        context.registry.register(VARIANT, SHIPPED, evidence={"gate": {"passed": True}})
        context.registry.move_alias(VARIANT, "challenger", 2, expected=None)
        context.ledger.close()
    home.mkdir(parents=True, exist_ok=True)
    for name in ("mlflow.db", "ledger.db"):
        shutil.copy(made / name, home / name)
    return context_in(settings_in(home))


def context_in(settings: Settings) -> Context:
    return Context.open(settings, Topology.load(TOPOLOGY))


def a_post(text: str = "the tomatoes are ripe", *, minute: int = 0, **changes: Any) -> PostIn:
    return PostIn.model_validate(
        {
            "author_id": "u-1",
            "community": "gardening",
            "region": "US",
            "created_at": DAY + timedelta(minutes=minute),
            "text": text,
        }
        | changes
    )


def an_entry(
    post_id: str,
    post: PostIn,
    *,
    scores: Mapping[str, float],
    unseen: float = 0.0,
    flagged: bool = False,
    version: int | None = 1,
    experiment: tuple[str, str] | None = None,
) -> Entry:
    """A post with its decision, as the moderator would record it; no version: the model failed."""
    labels = {
        name: LabelDecision(status="failed")
        if version is None
        else LabelDecision(status="scored", score=score, flagged=flagged)
        for name, score in scores.items()
    }
    arm = None if experiment is None else ExperimentArm.model_validate({"name": experiment[0], "arm": experiment[1]})
    decision = Decision(
        post_id=post_id,
        content_version=1,
        decision="remove" if flagged else "allow",
        mode="reactive",
        degraded=version is None,
        labels=labels,
        language=LanguageDecision(code="en", confidence=1.0, in_training=True),
        links=[],
        review=ReviewDecision(queued=False),
        experiments={} if arm is None else {"text": arm},
        policy_version="test",
        models={},
        decided_at=post.created_at,
        latency_ms=1.0,
    )
    features = {} if version is None else scored_features(scores, unseen)
    name, side = experiment or (None, "champion")
    return Entry(
        post=post,
        content_hash=post.content_hash(),
        decision=decision,
        features=observe(post.text, Language("en", 1.0)),
        scorings=(Scoring("text", VARIANT, version, name, side, features),),
        received_at=post.created_at,
    )


def a_label(post_id: str, harmful: bool, *, probability: float | None = 1.0, **changes: Any) -> LabelIn:
    return LabelIn.model_validate(
        {
            "id": f"label-{post_id}",
            "post_id": post_id,
            "labels": {"abuse": harmful},
            "source": "audit",
            "labelled_at": DAY + timedelta(hours=1),
            "sampling_probability": probability,
        }
        | changes
    )


def judged_traffic(
    ledger: Ledger, experiment: str, *, champion_recall: float, challenger_recall: float, authors: int = 40
) -> None:
    """Labelled posts of an experiment: in each arm, half of the authors harmful and one harmless post flagged."""
    entries: list[Entry] = []
    labels: list[LabelIn] = []
    for arm, version, recall in (("champion", 1, champion_recall), ("challenger", 2, challenger_recall)):
        for number in range(authors):
            harmful = number < authors // 2
            flagged = number < recall * (authors // 2) or number == authors - 1
            post_id = f"{experiment}-{arm}-{number}"
            post = a_post(f"post {post_id}", author_id=f"{arm}-{number}")
            scores = {"abuse": 0.9 if flagged else 0.1}
            tried = (experiment, arm)
            entries.append(an_entry(post_id, post, scores=scores, flagged=flagged, version=version, experiment=tried))
            labels.append(a_label(post_id, harmful))
    ledger.record(entries)
    assert labelling.add(ledger, dict(enumerate(labels, start=1))).accepted == 2 * authors
