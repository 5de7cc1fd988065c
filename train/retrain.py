"""From a retrain request to a challenger, or to an honest no."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ray.data import Dataset
from ray.data.expressions import col

from moderation.context import Context
from moderation.errors import ConfigError, ConflictError, NotEnoughDataError
from moderation.learning import judged_label, learns_from_labels
from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.sections import Loss, RetrainRules
from moderation.settings import DEPLOYMENTS
from moderation.storage import experiments, retraining
from moderation.storage.lake import Lake
from moderation.storage.ledger import now
from moderation.storage.retraining import RetrainRequest
from train.evaluate import anchors, pair, score_both, threshold
from train.fit import encode, fit
from train.gate import GateVerdict, judge
from train.learner import FitConfig, Plan
from train.rows import from_lake, once_a_text, unit_hash, weighted

Progress = Callable[[str], None]


FITS = {
    "ngram": FitConfig(epochs=8, learning_rate=0.02, anchor_strength=6e-4),
    "encoder": FitConfig(epochs=4, batch_size=32, learning_rate=3e-4, anchor_strength=1e-3),
}
"""How a champion of an architecture is trained further; `retrain` of the topology says which rows, and the loss."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """What came of a retraining.

    Attributes:
        request: that it answered.
        version: registered in MLflow, also when refused.
        verdict: of the gate.
        rows: per part of the split.
    """

    request: RetrainRequest
    version: int
    verdict: GateVerdict
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Champion:
    """Whose weights are the start, and who is judged beside the result."""

    variant: str
    version: int
    folder: Path
    model: TextClassifier


@dataclass(frozen=True, slots=True)
class _Trained:
    """What came of training, in a folder: a model with its card, and Ray Train's metrics."""

    folder: Path
    metrics: dict[str, Any]
    rows: dict[str, int]


def retrain(context: Context, variant: str, *, label: str, until: datetime | None, progress: Progress) -> Retrained:
    """Retrain a variant from its champion on the lake's labels, and let the gate decide whether it may challenge.

    Ray must be initialised. The variant's open retrain request is answered, or a manual one is recorded.

    Args:
        context: of its topology, the rules of retraining and gate, the policy's objective and the variant's labels;
            where the version, the request and the outcome go.
        variant: what to retrain.
        label: on which the gate judges.
        until: labels of posts created later are left out; None: all.
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
            outcome = _retrain(context, request, label, until, progress)
    except BaseException as error:
        retraining.end_request(ledger, request.request_id, "failed", {"error": f"{type(error).__name__}: {error}"})
        raise
    result = {"version": outcome.version, "gate": outcome.verdict.as_dict()}
    retraining.end_request(ledger, request.request_id, "done" if outcome.verdict.passed else "refused", result)
    return outcome


def _retrain(
    context: Context, request: RetrainRequest, label: str, until: datetime | None, progress: Progress
) -> Retrained:
    rules = context.topology.retrain
    progress("exporting the ledger's labels to the lake")
    lake = Lake(context.settings.lake_url)
    lake.export(context.ledger)
    champion = _champion(context, request.variant, label)

    progress("reading and preprocessing the labels with Ray Data")
    split = _Split(rules, salt=f"{champion.variant}@{champion.version}")
    parts = _parts(lake, champion, split, until)
    counts = {name: part.count() for name, part in parts.items()}
    for name, count in counts.items():
        if not count:
            raise NotEnoughDataError(f"no labelled row falls into the {name} part; rows a part: {counts}")

    progress(f"training with Ray Train on {counts['training']} rows")
    about = {"rows": counts, "split": split.describe(), "request": request.request_id}
    folder, metrics = fit(
        parts["training"],
        parts["validation"],
        _plan(champion, rules.loss, about),
        storage=context.settings.home / "runs",
        name=f"{champion.variant}-{request.request_id}-{os.getpid()}",
    )

    progress("comparing with the champion on the holdout")
    verdict = _judged(context, request, label, parts["holdout"], (champion, folder))

    progress("registering the version and its evidence")
    retraining.beat(context.ledger, request.request_id)  # who was taken for dead meanwhile brings no challenger
    trained = _Trained(folder, metrics, counts)
    version = _register(context, request, champion, trained, verdict)
    return Retrained(request, version, verdict, counts)


def _champion(context: Context, variant: str, label: str) -> _Champion:
    version = context.registry.champion(variant)
    folder = context.registry.fetch(variant, version)
    model = load_text_classifier(folder)
    if label not in model.card.labels:
        raise ConfigError(
            f"{context.topology.path.name}: variants.{variant}.labels",
            f"has {label!r}; the champion, {variant}@{version}, scores {', '.join(model.card.labels)}",
        )
    return _Champion(variant, version, folder, model)


def _parts(lake: Lake, champion: _Champion, split: _Split, until: datetime | None) -> dict[str, Dataset]:
    """The labelled rows that a champion's variant judged, weighted and encoded, by part of the split."""
    model = champion.model
    rows = from_lake(lake.files("labels"), model.card.labels, variant=champion.variant, filesystem=lake.filesystem)
    if until is not None:
        rows = rows.filter(expr=col("created") < int(until.timestamp() * 1_000_000))
    rows = once_a_text(rows).materialize()  # the split reads them twice
    rows = weighted(split.assign(rows).materialize(), balance=_fit_config(model.architecture, None).balance)
    rows = encode(rows, model.config).materialize()
    return {name: rows.filter(expr=col("part") == name).materialize() for name in _Split.PARTS}


def _judged(
    context: Context, request: RetrainRequest, label: str, holdout: Dataset, models: tuple[_Champion, Path]
) -> GateVerdict:
    """The gate's word on champion and challenger, by the rows of the holdout."""
    champion, challenger = models
    folders = (champion.folder, challenger)
    labels = champion.model.card.labels
    rule = context.topology.policy.rules("*")[label]
    new_words = frozenset(found["word"] for found in request.evidence.get("new_words", []))
    scored = score_both(holdout, *folders, labels, new_words)
    return judge(
        pair(scored, labels, label, rule, folders),
        anchors(DEPLOYMENTS / "anchors" / "text.jsonl", label, rule, folders),
        threshold=threshold(challenger, label, rule),
        has_new_words=bool(new_words),
        rules=context.topology.retrain.gate,
    )


def _fit_config(architecture: str, loss: Loss | None) -> FitConfig:
    """How a champion of an architecture is trained further; None: with its own loss."""
    config = FITS["encoder" if architecture == "encoder" else "ngram"]
    return config if loss is None else replace(config, loss=loss)


def _plan(champion: _Champion, loss: Loss | None, about: dict[str, Any]) -> Plan:
    """How a champion is trained further; `about` goes to the card."""
    version = (champion.variant, champion.version)
    told = {"data": "labels of the platform's own stream, from the lake", "parent": f"{version[0]}@{version[1]}"}
    return Plan(
        labels=champion.model.card.labels,
        languages=champion.model.card.languages,
        model=champion.model.config,
        fit=_fit_config(champion.model.architecture, loss),
        parent=version,
        about=told | about,
    )


def _register(
    context: Context, request: RetrainRequest, champion: _Champion, trained: _Trained, verdict: GateVerdict
) -> int:
    variant = champion.variant
    evidence = {
        "request": {"id": request.request_id, "reason": request.reason, "alert": request.alert_id},
        "parent": champion.version,
        "rows": trained.rows,
        "config": {name: asdict(config) for name, config in FITS.items()} | context.topology.retrain.model_dump(),
        "gate": verdict.as_dict(),
        "registered_at": now().isoformat(),
    }
    version = context.registry.register(
        variant,
        trained.folder,
        evidence=evidence,
        metrics={name: float(value) for name, value in trained.metrics.items() if isinstance(value, int | float)},
        tags={"gate": "passed" if verdict.passed else "refused", "parent": str(champion.version)},
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

    def __init__(self, rules: RetrainRules, *, salt: str) -> None:
        self._rules = rules
        self._salt = salt

    def assign(self, rows: Dataset) -> Dataset:
        """Add the column `part`."""
        created = np.array([row["created"] for row in rows.select_columns(["created"]).take_all()])
        if not len(created):
            raise NotEnoughDataError("the lake holds no label on a post that this variant judged")
        cutoff = int(np.quantile(created, 1 - self._rules.holdout_time))
        rules, salt = self._rules, self._salt

        def part(batch: pd.DataFrame) -> pd.DataFrame:
            judge = batch["unit"].map(lambda unit: unit_hash(unit, f"{salt}/holdout")) < rules.holdout_authors
            check = batch["unit"].map(lambda unit: unit_hash(unit, f"{salt}/validation")) < rules.validation_authors
            late = batch["created"] >= cutoff
            batch["part"] = np.select(
                [judge & late, judge | late, check], ["holdout", "unused", "validation"], default="training"
            )
            return batch

        return rows.map_batches(part, batch_format="pandas")

    def describe(self) -> str:
        """For the model card."""
        rules = self._rules
        return (
            f"holdout: {rules.holdout_authors:.0%} of authors, newest {rules.holdout_time:.0%} of rows; validation:"
            f" {rules.validation_authors:.0%} of the other authors, earlier rows; a text counts once, as its first"
            f" author's; hashed with {self._salt!r}"
        )
