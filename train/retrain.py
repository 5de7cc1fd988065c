"""From a retrain request to a challenger, or to an honest no."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ray.data import Dataset
from ray.data.expressions import col

from moderation.context import Context
from moderation.errors import ConfigError, ConflictError, NotEnoughDataError
from moderation.learning import Loss, judged_label, learns_from_labels
from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.settings import DEPLOYMENTS
from moderation.storage import experiments, retraining
from moderation.storage.lake import Lake
from moderation.storage.ledger import now
from moderation.storage.retraining import RetrainRequest
from train.evaluate import anchors, pair, score_both, threshold
from train.fit import encode, fit
from train.gate import GateConfig, Verdict, judge
from train.learner import FitConfig, Plan
from train.rows import from_lake, once_a_text, unit_hash, weighted

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainConfig:
    """How a variant is retrained."""

    ngram: FitConfig = field(default_factory=lambda: FitConfig(epochs=8, learning_rate=0.02, anchor_strength=6e-4))
    """Training an n-gram champion further."""
    encoder: FitConfig = field(
        default_factory=lambda: FitConfig(epochs=4, batch_size=32, learning_rate=3e-4, anchor_strength=1e-3)
    )
    """Training an encoder champion further."""
    loss: Loss | None = None
    """In place of theirs."""
    gate: GateConfig = field(default_factory=GateConfig)
    """Bounds of the gate."""
    holdout_authors: float = 0.4
    """Share of authors of whom training never sees a row."""
    holdout_time: float = 0.25
    """Share of the labelled texts, the newest ones, of which training never sees any."""
    validation_authors: float = 0.3
    """Share of the training authors whose rows calibrate, and set thresholds, instead of training."""

    def fit_of(self, architecture: str) -> FitConfig:
        """How a champion of an architecture is trained further."""
        fit = self.encoder if architecture == "encoder" else self.ngram
        return fit if self.loss is None else replace(fit, loss=self.loss)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a retraining.

    Attributes:
        request: that it answered.
        version: registered in MLflow, also when refused.
        verdict: of the gate.
        rows: per part of the split.
    """

    request: RetrainRequest
    version: int
    verdict: Verdict
    rows: dict[str, int]


def retrain(
    context: Context,
    variant: str,
    *,
    label: str,
    until: datetime | None,
    config: RetrainConfig,
    progress: Progress,
) -> Outcome:
    """Retrain a variant from its champion on the lake's labels, and let the gate decide whether it may challenge.

    Ray must be initialised. The variant's open retrain request is answered, or a manual one is recorded.

    Args:
        context: of its topology, the policy's objective and the variant's labels; where the version, the request and
            the outcome go.
        variant: what to retrain.
        label: on which the gate judges.
        until: labels of posts created later are left out; None: all.
        config: how.
        progress: told what is being done.

    Raises:
        ConfigError: there is no such variant, or it cannot be judged on the label.
        ConflictError: a retraining or an experiment of the variant is running, or this one was taken for dead.
        ModelError: the variant judges images or videos.
        NotEnoughDataError: too few labels to train or to calibrate.
    """
    ledger = context.ledger
    learns_from_labels(context.topology, variant)
    judged_label(context.topology, variant, label)
    running = experiments.running(ledger, variant)
    if running is not None:
        raise ConflictError(
            f"experiment {running.name!r} on version {running.challenger_version} is running; stop it or promote first"
        )
    request = retraining.begin_request(ledger, variant, reason="asked for by hand")
    try:
        with retraining.heartbeat(ledger, request.request_id):
            outcome = _retrain(context, request, label, until, config, progress)
    except BaseException as error:
        retraining.end_request(ledger, request.request_id, "failed", {"error": f"{type(error).__name__}: {error}"})
        raise
    result = {"version": outcome.version, "gate": outcome.verdict.as_dict()}
    retraining.end_request(ledger, request.request_id, "done" if outcome.verdict.passed else "refused", result)
    return outcome


def _retrain(
    context: Context,
    request: RetrainRequest,
    label: str,
    until: datetime | None,
    config: RetrainConfig,
    progress: Progress,
) -> Outcome:
    variant = request.variant
    progress("exporting the ledger's labels to the lake")
    lake = Lake(context.settings.lake_url)
    lake.export(context.ledger)
    champion = context.registry.champion(variant)
    champion_folder = context.registry.fetch(variant, champion)
    parent = load_text_classifier(champion_folder)
    labels = parent.card.labels
    if label not in labels:
        raise ConfigError(
            f"{context.topology.path.name}: variants.{variant}.labels",
            f"has {label!r}; the champion, {variant}@{champion}, scores {', '.join(labels)}",
        )

    progress("reading and preprocessing the labels with Ray Data")
    rows = from_lake(lake.files("labels"), labels, variant=variant, filesystem=lake.filesystem)
    if until is not None:
        rows = rows.filter(expr=col("created") < int(until.timestamp() * 1_000_000))
    rows = once_a_text(rows).materialize()  # the split reads them twice
    split = _Split(config, salt=f"{variant}@{champion}")
    rows = weighted(split.assign(rows).materialize(), balance=config.fit_of(parent.architecture).balance)
    rows = encode(rows, parent.config).materialize()
    parts = {name: rows.filter(expr=col("part") == name).materialize() for name in _Split.PARTS}
    counts = {name: part.count() for name, part in parts.items()}
    for name, count in counts.items():
        if not count:
            raise NotEnoughDataError(f"no labelled row falls into the {name} part; rows a part: {counts}")

    progress(f"training with Ray Train on {counts['training']} rows")
    about = {"rows": counts, "split": split.describe(), "request": request.request_id}
    plan = _plan(parent, (variant, champion), config, about)
    name = f"{variant}-{request.request_id}-{os.getpid()}"
    folder, metrics = fit(
        parts["training"], parts["validation"], plan, storage=context.settings.home / "runs", name=name
    )

    progress("comparing with the champion on the holdout")
    rule = context.topology.policy.rules("*")[label]
    folders = (champion_folder, folder)
    new_words = frozenset(found["word"] for found in request.evidence.get("new_words", []))
    scored = score_both(parts["holdout"], *folders, labels, new_words)
    verdict = judge(
        pair(scored, labels, label, rule, folders),
        anchors(DEPLOYMENTS / "anchors" / "text.jsonl", label, rule, folders),
        threshold=threshold(folder, label, rule),
        has_new_words=bool(new_words),
        config=config.gate,
    )
    progress("registering the version and its evidence")
    retraining.beat(context.ledger, request.request_id)  # who was taken for dead meanwhile brings no challenger
    version = _register(context, request, champion, folder, verdict, metrics, counts, config)
    return Outcome(request, version, verdict, counts)


def _plan(parent: TextClassifier, version: tuple[str, int], config: RetrainConfig, about: dict[str, Any]) -> Plan:
    """How a champion, of that variant and version, is trained further; `about` goes to the card."""
    told = {"data": "labels of the platform's own stream, from the lake", "parent": f"{version[0]}@{version[1]}"}
    return Plan(
        labels=parent.card.labels,
        languages=parent.card.languages,
        model=parent.config,
        fit=config.fit_of(parent.architecture),
        parent=version,
        about=told | about,
    )


def _register(
    context: Context,
    request: RetrainRequest,
    champion: int,
    folder: Path,
    verdict: Verdict,
    metrics: dict[str, Any],
    counts: dict[str, int],
    config: RetrainConfig,
) -> int:
    variant = request.variant
    evidence = {
        "request": {"id": request.request_id, "reason": request.reason, "alert": request.alert_id},
        "parent": champion,
        "rows": counts,
        "config": asdict(config),
        "gate": verdict.as_dict(),
        "registered_at": now().isoformat(),
    }
    version = context.registry.register(
        variant,
        folder,
        evidence=evidence,
        metrics={name: float(value) for name, value in metrics.items() if isinstance(value, int | float)},
        tags={"gate": "passed" if verdict.passed else "refused", "parent": str(champion)},
    ).version
    if verdict.passed:
        with context.ledger.lock(f"champion:{variant}"):
            before = context.registry.alias(variant, "challenger")
            context.registry.move_alias(variant, "challenger", version, expected=before)
    return version


class _Split:
    """Who learns, who calibrates, who judges: by author and by time, so that neither leaks.

    Nor does a text: what several people posted is one row by now, of who posted it first (`train.rows.once_a_text`).

    holdout     authors of the holdout share, after the cut-off
    training    the other authors, before the cut-off, but for
    validation  a share of these authors
    unused      what is left: a holdout author's early rows, a training author's late ones
    """

    PARTS = ("training", "validation", "holdout")

    def __init__(self, config: RetrainConfig, *, salt: str) -> None:
        self._config = config
        self._salt = salt

    def assign(self, rows: Dataset) -> Dataset:
        """Add the column `part`."""
        created = np.array([row["created"] for row in rows.select_columns(["created"]).take_all()])
        if not len(created):
            raise NotEnoughDataError("the lake holds no label on a post that this variant judged")
        cutoff = int(np.quantile(created, 1 - self._config.holdout_time))
        config, salt = self._config, self._salt

        def part(batch: pd.DataFrame) -> pd.DataFrame:
            judge = batch["unit"].map(lambda unit: unit_hash(unit, f"{salt}/holdout")) < config.holdout_authors
            check = batch["unit"].map(lambda unit: unit_hash(unit, f"{salt}/validation")) < config.validation_authors
            late = batch["created"] >= cutoff
            batch["part"] = np.select(
                [judge & late, judge | late, check], ["holdout", "unused", "validation"], default="training"
            )
            return batch

        return rows.map_batches(part, batch_format="pandas")

    def describe(self) -> str:
        """For the model card."""
        config = self._config
        return (
            f"holdout: {config.holdout_authors:.0%} of authors, newest {config.holdout_time:.0%} of rows; validation:"
            f" {config.validation_authors:.0%} of the other authors, earlier rows; a text counts once, as its first"
            f" author's; hashed with {self._salt!r}"
        )
