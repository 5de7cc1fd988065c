"""Training as a Ray Train worker runs it: rows in, a calibrated model folder out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import torch
from ray.data import Dataset
from ray.train import Checkpoint, DataConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from sklearn.linear_model import LogisticRegression

from moderation.errors import NotEnoughDataError
from moderation.metrics import Bools, Floats
from moderation.models.base import Prepared, TextClassifier, confidence
from moderation.models.card import ALL_ROWS, PROVEN_ROWS, Card
from moderation.models.load import load_text_classifier
from moderation.models.operating import OperatingCurve
from moderation.preprocess.features import Features
from moderation.preprocess.language import UNDETERMINED
from moderation.preprocess.ngrams import NgramConfig
from moderation.preprocess.text import TEXT_VERSION
from moderation.registry import Registry
from moderation.settings import Settings
from train.learner import Learner, ModelConfig, Plan
from train.rows import matrix_of, prepared_of

_FEW = 20
"""Rows of each class from which a language whose logits are on a scale of their own is calibrated by itself."""


def learner_of(model: ModelConfig) -> type[Learner]:
    """The learner of an architecture; imported only now, because transformers takes seconds."""
    if isinstance(model, NgramConfig):
        from train.ngram import NgramLearner

        return NgramLearner
    from train.encoder import EncoderLearner

    return EncoderLearner


def encode(dataset: Dataset, model: ModelConfig) -> Dataset:
    """Add the columns that the architecture's learner reads, by the preprocessing that serving runs."""
    learner = learner_of(model)

    def add(batch: pa.Table) -> pa.Table:
        for name, column in learner.encode(prepared_of(batch), model).items():
            batch = batch.append_column(name, column)
        return batch

    return dataset.map_batches(add, batch_format="pyarrow", batch_size=4096)


def fit(training: Dataset, validation: Dataset, plan: Plan, *, storage: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Train a model with Ray Train.

    Args:
        training: rows with `truth`, `weight` and the columns of `encode` (see `train.rows`).
        validation: rows with `text`, `language`, `truth` and `weight`, of other units; calibration and operating curves
            are measured on them.
        plan: what and how.
        storage: a folder that every worker reaches; the run is kept below it.
        name: of the run.

    Returns:
        The model's folder, and the last reported metrics.
    """
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"plan": plan, "rows": training.count()},
        scaling_config=ScalingConfig(num_workers=plan.fit.workers, use_gpu=plan.fit.use_gpu),
        run_config=RunConfig(storage_path=str(storage), name=name),
        datasets={"training": training, "validation": validation},
        # Every worker shuffles its own share; rank 0 sees all of the validation rows.
        dataset_config=DataConfig(datasets_to_split=["training"]),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise NotEnoughDataError("training reported no model")
    return Path(result.checkpoint.path), dict(result.metrics or {})


def _worker(config: dict[str, Any]) -> None:
    plan: Plan = config["plan"]
    torch.manual_seed(plan.fit.seed)
    torch.set_num_threads(plan.fit.threads)
    parent = _parent(plan)
    learner = learner_of(plan.model)(plan, parent)
    loss = learner.learn(ray.train.get_dataset_shard("training"), config["rows"])
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report({"loss": loss})
        return
    rows = validation_rows(ray.train.get_dataset_shard("validation"), len(plan.labels))
    model = finish(learner, plan, rows, parent)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        ray.train.report(
            {"loss": loss, "validation_rows": len(rows.texts)}, checkpoint=Checkpoint.from_directory(folder)
        )


def _parent(plan: Plan) -> TextClassifier | None:
    if plan.parent is None:
        return None
    loaded = load_text_classifier(Registry(Settings.from_environment()).fetch(*plan.parent))
    if loaded.card.labels != plan.labels:
        raise ValueError(f"{plan.parent[0]}@{plan.parent[1]} scores {loaded.card.labels}, asked for is {plan.labels}")
    return loaded


@dataclass(frozen=True, slots=True)
class ValidationRows:
    """Rows that calibrate.

    Attributes:
        texts: raw.
        known: features of each.
        languages: of each.
        truth: 1, 0 or NaN; (rows, labels).
        weights: (rows, labels).
    """

    texts: list[str]
    known: list[Features]
    languages: list[str]
    truth: Floats
    weights: Floats


def validation_rows(shard: Any, labels: int) -> ValidationRows:
    """All rows of a shard with `text`, `language`, `truth` and `weight`."""
    tables: list[pa.Table] = list(shard.iter_batches(batch_size=4096, batch_format="pyarrow"))
    return ValidationRows(
        texts=[text for table in tables for text in table["text"].to_pylist()],
        known=[json.loads(line) for table in tables for line in table["known"].to_pylist()],
        languages=[code for table in tables for code in table["language"].to_pylist()],
        truth=np.concatenate([matrix_of(table["truth"], labels) for table in tables]).astype(np.float64),
        weights=np.concatenate([matrix_of(table["weight"], labels) for table in tables]).astype(np.float64),
    )


def finish(learner: Learner, plan: Plan, rows: ValidationRows, parent: TextClassifier | None) -> TextClassifier:
    """Round what was learned, and calibrate that: the weights that will be stored, not finer ones."""
    card = Card(
        architecture=learner.architecture,
        labels=plan.labels,
        languages=plan.languages,
        preprocessing=TEXT_VERSION,
        config=asdict(plan.model),
        about=plan.about | {"fit": asdict(plan.fit)},
    )
    return calibrated(learner.model(card), rows, parent, language_rows=plan.fit.language_rows)


def calibrated(
    model: TextClassifier, rows: ValidationRows, parent: TextClassifier | None, *, language_rows: int
) -> TextClassifier:
    """The model, calibrated and its operating curves measured on these rows.

    A label of which the rows lack a class keeps its parent's calibration and curves. Its card counts the rows by label
    and language, those of the parent where these were more: it has moved little from that, and the gate compares them.
    A language with rows enough is one that the model was trained on.

    Args:
        model: whose calibration is replaced.
        rows: that it was not trained on.
        parent: or None.
        language_rows: see `FitConfig`.

    Raises:
        NotEnoughDataError: a label lacks a class and there is no parent.
    """
    logits, bare = _logits(model, rows)
    calibration: dict[str, dict[str, tuple[float, float]]] = {}
    curves: dict[str, dict[str, OperatingCurve]] = {}
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    for column, label in enumerate(model.card.labels):
        at = ~np.isnan(rows.truth[:, column])
        known = _Known(
            harmful=rows.truth[at, column] == 1,
            languages=[code for code, keep in zip(rows.languages, at, strict=True) if keep],
            logits=logits[at, column],
            bare=bare[at, column],
            weights=rows.weights[at, column],
        )
        before = {} if parent is None else parent.card.calibration.get(label, {})
        if known.harmful.any() and not known.harmful.all():
            counts[label] = counted(known.harmful, known.languages)
            calibration[label], curves[label] = _measured(known, model.own_languages, before, language_rows)
        elif parent is not None:
            calibration[label] = before
            curves[label] = parent.card.curves.get(label, {})
        else:
            raise NotEnoughDataError(
                f"label {label!r} has {int(known.harmful.sum())} harmful of {len(known.harmful)} validation rows;"
                " both classes are needed"
            )
    counts = _larger(counts, {} if parent is None else parent.card.rows)
    enough = {code for own in counts.values() for code, pair in own.items() if min(pair) >= PROVEN_ROWS} - {
        UNDETERMINED
    }
    model.card = replace(
        model.card,
        languages=tuple(sorted({*model.card.languages, *enough})),
        calibration=calibration,
        curves=curves,
        rows=counts,
    )
    return model


@dataclass(frozen=True, slots=True)
class _Known:
    """The validation rows of which a label is known.

    Attributes:
        harmful: what people said; as all arrays here, of shape (rows,).
        languages: of each row.
        logits: as the model gives them.
        bare: without what only some languages have: what all rows share is for the languages that lack it.
        weights: of each row.
    """

    harmful: Bools
    languages: list[str]
    logits: Floats
    bare: Floats
    weights: Floats


def _logits(model: TextClassifier, rows: ValidationRows) -> tuple[Floats, Floats]:
    """The model's logits, and those by what all languages share alone; both of shape (rows, labels)."""
    prepared = Prepared.of(rows.texts, rows.known)
    logits = model.logits(prepared)[0].astype(np.float64)
    bare = logits.copy()
    apart = [row for row, code in enumerate(prepared.languages) if code in model.own_languages]
    if apart:
        bare[apart] = model.logits(
            Prepared(
                cleaned=[prepared.cleaned[row] for row in apart],
                folded=[prepared.folded[row] for row in apart],
                known=[{**prepared.known[row], "language": "*"} for row in apart],
            )
        )[0]
    return logits, bare


def _measured(
    known: _Known, own_languages: Sequence[str], before: Mapping[str, tuple[float, float]], language_rows: int
) -> tuple[dict[str, tuple[float, float]], dict[str, OperatingCurve]]:
    """A label's calibration and curves by language; `before` is its parent's calibration.

    Languages on a scale of their own, `own_languages`, are calibrated from fewer rows, and with still fewer they keep
    their parent's.
    """
    own = languages_of_their_own(known.harmful, known.languages, language_rows)
    few = languages_of_their_own(known.harmful, known.languages, min(language_rows, _FEW))
    scaled = own | {code: at for code, at in few.items() if code in own_languages}
    pairs = {code: before[code] for code in own_languages if code in before} | _fitted(known, scaled)
    scores = np.array(
        [
            confidence(logit, pairs.get(code, pairs[ALL_ROWS]))
            for logit, code in zip(known.logits, known.languages, strict=True)
        ]
    )
    return pairs, measured_curves(known.harmful, scores, own)


def _larger(
    counts: Mapping[str, Mapping[str, tuple[int, int]]], before: Mapping[str, Mapping[str, tuple[int, int]]]
) -> dict[str, dict[str, tuple[int, int]]]:
    """Of each label and language the count whose rarer class has more rows; sorted."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for label in sorted({*counts, *before}):
        new, old = counts.get(label, {}), before.get(label, {})
        found[label] = {
            code: max(new.get(code, (0, 0)), old.get(code, (0, 0)), key=min) for code in sorted({*new, *old})
        }
    return found


def counted(harmful: Bools, languages: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Harmful and harmless rows of each language that has any."""
    codes = np.array(languages, dtype=str)
    return {
        code: (int(harmful[codes == code].sum()), int((~harmful[codes == code]).sum()))
        for code in sorted(set(languages))
    }


def platt(logits: Floats, harmful: Bools, weights: Floats) -> tuple[float, float]:
    """Slope and intercept of Platt scaling (Platt 1999) on weighted rows; arrays of shape (rows,)."""
    scaler = LogisticRegression().fit(logits[:, None], harmful, sample_weight=weights)
    return float(scaler.coef_[0, 0]), float(scaler.intercept_[0])


def _fitted(known: _Known, own: Mapping[str, Bools]) -> dict[str, tuple[float, float]]:
    """A label's calibration by language: on all rows, as `ALL_ROWS`, and on those of each language of `own`."""
    pairs = {ALL_ROWS: platt(known.bare, known.harmful, known.weights)}
    for language, rows in own.items():
        pairs[language] = platt(known.logits[rows], known.harmful[rows], known.weights[rows])
    return pairs


def measured_curves(harmful: Bools, scores: Floats, own: Mapping[str, Bools]) -> dict[str, OperatingCurve]:
    """A label's curves by language: over all rows, as `ALL_ROWS`, and for each of `languages_of_their_own`."""
    curves = {ALL_ROWS: OperatingCurve.measure(harmful, scores)}
    for language, rows in own.items():
        curves[language] = OperatingCurve.measure(harmful[rows], scores[rows])
    return curves


def languages_of_their_own(harmful: Bools, languages: Sequence[str], minimum: int) -> dict[str, Bools]:
    """Languages with `minimum` rows of each class, and which rows are theirs."""
    codes = np.array(languages, dtype=str)
    rows = {language: codes == language for language in sorted(set(languages))}
    return {
        language: own
        for language, own in rows.items()
        if min(int(harmful[own].sum()), int((~harmful[own]).sum())) >= minimum
    }
