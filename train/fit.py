"""Training as a Ray Train worker runs it: rows in, a calibrated model folder out.

From a champion's weights the loss adds `anchor_strength * ||w - w_champion||^2` (L2-SP: Li, Grandvalet and Davoine,
"Explicit Inductive Bias for Transfer Learning", ICML 2018): what the new labels do not speak about stays as it was.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.train
import ray.train.torch
import torch
from ray.data import Dataset
from ray.train import Checkpoint, DataConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from sklearn.linear_model import LogisticRegression

from moderation.errors import NotEnoughDataError
from moderation.models.card import Card
from moderation.models.ngram import SEEN_BITS, NgramClassifier, NgramModule, new_card_config, remember_words
from moderation.models.operating import OperatingCurve
from moderation.preprocess.ngrams import NgramConfig
from moderation.preprocess.text import TEXT_VERSION
from moderation.registry import Registry
from moderation.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a model is trained."""

    epochs: int = 4
    """Passes over the training rows."""
    batch_size: int = 256
    """Rows a step and worker."""
    learning_rate: float = 0.02
    """Of Adam, at the start; falls linearly to a fiftieth, step by step."""
    anchor_strength: float = 0.0
    """Pull towards the parent's weights; 0 where there is no parent."""
    workers: int = 1
    """Ray Train workers; more share the rows and average their gradients."""
    use_gpu: bool = False
    """A GPU for each worker."""
    seed: int = 0
    """Of the order of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is trained, as the workers are told."""

    labels: tuple[str, ...]
    languages: tuple[str, ...]
    ngrams: NgramConfig
    fit: FitConfig
    about: dict[str, Any]
    parent: tuple[str, int] | None = None
    """Variant and version whose weights are the start."""


def fit(training: Dataset, validation: Dataset, plan: Plan, *, storage: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Train a model with Ray Train.

    Args:
        training: rows with `ids`, `words` and `truth` (see `train.rows`).
        validation: likewise, of other units; calibration and operating curves are measured on them.
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
    parent = _parent(plan)
    module = NgramModule(plan.ngrams.buckets, len(plan.labels))
    seen = np.zeros(SEEN_BITS // 8, dtype=np.uint8)
    if parent is not None:
        module.load_state_dict(parent.module.state_dict())
        seen = parent.seen.copy()
    prepared = ray.train.torch.prepare_model(module)
    steps = plan.fit.epochs * math.ceil(config["rows"] / plan.fit.workers / plan.fit.batch_size)
    loss = _optimise(prepared, seen, plan, ray.train.get_dataset_shard("training"), steps)
    _share(seen)
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report({"loss": loss})
        return
    rows = list(_batches(ray.train.get_dataset_shard("validation"), 1024, len(plan.labels)))
    model = finish(module.cpu(), seen, plan, rows, parent)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        ray.train.report(
            {"loss": loss, "validation_rows": sum(len(truth) for _, _, _, truth in rows)},
            checkpoint=Checkpoint.from_directory(folder),
        )


def _parent(plan: Plan) -> NgramClassifier | None:
    if plan.parent is None:
        return None
    from moderation.models.load import load_text_classifier

    loaded = load_text_classifier(Registry(Settings.from_environment()).fetch(*plan.parent))
    if not isinstance(loaded, NgramClassifier) or loaded.card.labels != plan.labels or loaded.config != plan.ngrams:
        raise ValueError(f"{plan.parent[0]}@{plan.parent[1]} has another architecture, other labels or other n-grams")
    return loaded


def _optimise(prepared: torch.nn.Module, seen: npt.NDArray[np.uint8], plan: Plan, shard: Any, steps: int) -> float:
    """Train in place; mark words in `seen`; return the mean loss of the last epoch."""
    fit = plan.fit
    device = ray.train.torch.get_device()
    parameters = list(prepared.parameters())
    anchors = [parameter.detach().clone() for parameter in parameters] if fit.anchor_strength else []
    optimizer = torch.optim.Adam(parameters, lr=fit.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=max(steps, 1))
    losses: list[float] = []
    for epoch in range(fit.epochs):
        losses = []
        batches = _batches(shard, fit.batch_size, len(plan.labels), shuffle_seed=fit.seed + epoch)
        for ids, offsets, words, truth in batches:
            if epoch == 0:
                remember_words(seen, words)
            known = ~torch.isnan(truth)
            if not known.any():
                continue
            logits = prepared(ids.to(device), offsets.to(device)).cpu()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], truth[known])
            losses.append(float(loss.detach()))
            for parameter, anchor in zip(parameters, anchors, strict=False):
                loss = loss + fit.anchor_strength * (parameter - anchor).square().sum().cpu()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
    return float(np.mean(losses)) if losses else float("nan")


def _share(seen: npt.NDArray[np.uint8]) -> None:
    """Bring together the words that the workers saw."""
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and ray.train.get_context().get_world_size() > 1
    ):
        bits = torch.from_numpy(np.unpackbits(seen))
        torch.distributed.all_reduce(bits, op=torch.distributed.ReduceOp.MAX)
        seen[:] = np.packbits(bits.numpy())


Batch = tuple[torch.Tensor, torch.Tensor, npt.NDArray[np.uint64], torch.Tensor]


def _batches(shard: Any, size: int, labels: int, shuffle_seed: int | None = None) -> Iterator[Batch]:
    """Batches of (ids, offsets, word hashes, truth (rows, labels))."""
    shuffle = (
        {} if shuffle_seed is None else {"local_shuffle_buffer_size": 20 * size, "local_shuffle_seed": shuffle_seed}
    )
    table: pa.Table
    for table in shard.iter_batches(batch_size=size, batch_format="pyarrow", **shuffle):
        ids = table["ids"].combine_chunks()
        words = table["words"].combine_chunks()
        truth = np.array(table["truth"].to_pylist(), dtype=np.float32).reshape(-1, labels)
        lengths = np.array(ids.value_lengths())
        yield (
            torch.from_numpy(ids.flatten().to_numpy().astype(np.int64)),
            torch.from_numpy(np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)),
            words.flatten().to_numpy(),
            torch.from_numpy(truth),
        )


def finish(
    module: NgramModule,
    seen: npt.NDArray[np.uint8],
    plan: Plan,
    validation: Sequence[Batch],
    parent: NgramClassifier | None,
) -> NgramClassifier:
    """Round, calibrate and measure operating curves: on the weights that will be stored, not on finer ones.

    A label of which the validation rows lack a class keeps its parent's calibration and curve.

    Raises:
        NotEnoughDataError: a label lacks a class and there is no parent.
    """
    card = Card(
        architecture=NgramClassifier.architecture,
        labels=plan.labels,
        languages=plan.languages,
        preprocessing=TEXT_VERSION,
        config=dict(new_card_config(plan.ngrams)),
        about=plan.about | {"fit": asdict(plan.fit)},
    )
    stored = NgramClassifier.from_tensors(card, NgramClassifier(card, module, seen).tensors())
    with torch.inference_mode():
        logits = np.concatenate([stored.module(ids, offsets).numpy() for ids, offsets, _, _ in validation])
    truth = np.concatenate([batch[3].numpy() for batch in validation])
    calibration: dict[str, tuple[float, float]] = {}
    curves: dict[str, OperatingCurve] = {}
    for column, label in enumerate(plan.labels):
        known = ~np.isnan(truth[:, column])
        harmful = truth[known, column] == 1
        if harmful.any() and not harmful.all():
            calibration[label], curves[label] = _calibrate(logits[known, column].astype(np.float64), harmful)
        elif parent is not None:
            calibration[label] = parent.card.calibration[label]
            curves[label] = parent.card.operating_curves[label]
        else:
            raise NotEnoughDataError(
                f"label {label!r} has {int(harmful.sum())} harmful of {len(harmful)} validation rows;"
                " both classes are needed"
            )
    stored.card = replace(card, calibration=calibration, operating_curves=curves)
    return stored


def _calibrate(
    logits: npt.NDArray[np.float64], harmful: npt.NDArray[np.bool_]
) -> tuple[tuple[float, float], OperatingCurve]:
    scaler = LogisticRegression().fit(logits[:, None], harmful)
    slope, intercept = float(scaler.coef_[0, 0]), float(scaler.intercept_[0])
    confidence = (1.0 / (1.0 + np.exp(-np.clip(logits * slope + intercept, -60, 60)))).astype(np.float32)
    return (slope, intercept), OperatingCurve.measure(harmful, confidence.astype(np.float64))
