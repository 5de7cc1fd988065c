"""How the image and video models learn: linear heads on the features of frozen networks.

There are few labelled clips, so nothing but heads is trained, and every figure is out of fold: clips of one source
video stand in one fold, and a clip is judged by a head that saw none of its source. Calibration and operating curves
come from those judgements as well; the head that is stored has seen all clips.

Nothing here labels nudity. Its head begins as open_nsfw's own, its confidence is open_nsfw's own score, and its curve
is a stated prior (see `prior_curve`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn

from moderation.errors import NotEnoughDataError
from moderation.media import MediaKind, Reading, ReadRules, Refused
from moderation.metrics import Bools, Floats
from moderation.models.backbone import Backbone
from moderation.models.open_nsfw import OpenNsfw
from moderation.models.operating import OperatingCurve
from moderation.models.pictures import (
    PICTURE_VERSION,
    Rows,
    Statistic,
    features_of,
    motion_rows,
    width_of,
    windows_of,
)
from moderation.preprocess.media import read

FLOORS = (0.8, 0.85, 0.9, 0.95, 0.98)
"""Thresholds of the prior curve: open_nsfw's authors call a picture that scores above .8 highly probably not safe."""

_MEDIA_AT_A_TIME = 8
_THINNED = (4, 2, 1)
_PARTS = ("features", "motion", "times")


@dataclass(frozen=True, slots=True)
class Watched:
    """Media as the heads see them.

    Attributes:
        features: of the pictures of each, shape (pictures, width).
        motion: at the pictures of each, shape (pictures, len(MOTION)).
        times: when the pictures of each are shown, in seconds, shape (pictures,).
    """

    features: list[Rows]
    motion: list[Rows]
    times: list[npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRecipe:
    """How a head over windows learns."""

    statistics: tuple[Statistic, ...] = ("mean", "std")
    """Over a window."""
    window_s: float = 2.0
    """Seconds before and after a picture that its window takes in."""
    strength: float = 0.1
    """Inverse of the ridge's weight (scikit-learn's C), on standardised inputs."""
    frames: float = 0.1
    """How much louder, or softer, what is in the pictures is told: thousands of numbers, that would drown the few of
    motion. 0: not at all."""
    motion: float = 1.0
    """The same of what moves."""


def watch(paths: Sequence[Path], kind: MediaKind, backbones: Sequence[Backbone], kept: Path | None = None) -> Watched:
    """Read media as serving does, and see them through the backbones.

    Args:
        paths: files.
        kind: what they are.
        backbones: in the order in which their features stand side by side.
        kept: a folder where what is seen is kept, and read from when the same is asked again.

    Raises:
        NotEnoughDataError: one of them cannot be read.
    """
    store = None if kept is None else kept / f"{_key(paths, kind, backbones)}.npz"
    if store is not None and store.exists():
        with np.load(store) as found:
            return Watched(*([found[f"{part}{row}"] for row in range(len(paths))] for part in _PARTS))
    rules = ReadRules(scan_pixels=0)  # what sampling chooses alone, as its windows are learned
    watched = Watched([], [], [])
    for begin in range(0, len(paths), _MEDIA_AT_A_TIME):
        readings = [_read(path, kind, rules) for path in paths[begin : begin + _MEDIA_AT_A_TIME]]
        watched.features.extend(features_of(readings, backbones))
        watched.motion.extend(motion_rows(reading) for reading in readings)
        watched.times.extend(reading.times for reading in readings)
    if store is not None:
        store.parent.mkdir(parents=True, exist_ok=True)
        rows = {f"{part}{row}": array for part in _PARTS for row, array in enumerate(getattr(watched, part))}
        np.savez(store, allow_pickle=False, **rows)
    return watched


def _key(paths: Sequence[Path], kind: MediaKind, backbones: Sequence[Backbone]) -> str:
    """Of all that what is seen depends on: files by name and size, networks by their weights, the preprocessing."""
    files = [f"{path.name}:{path.stat().st_size}" for path in paths]
    known = [PICTURE_VERSION, kind, *(backbone.fingerprint() for backbone in backbones), *files]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def _read(path: Path, kind: MediaKind, rules: ReadRules) -> Reading:
    found = read(path, kind, rules)
    if isinstance(found, Refused):
        raise NotEnoughDataError(f"{path} cannot be trained on: {found.detail}")
    return found


def windows(watched: Watched, recipe: HeadRecipe) -> list[Rows]:
    """Every medium's windows, pooled, shape (pictures, pooled)."""
    return [
        windows_of(np.concatenate([features, motion], axis=1), times, recipe.window_s, recipe.statistics)
        for features, motion, times in zip(watched.features, watched.motion, watched.times, strict=True)
    ]


def thinned(watched: Watched, pictures: int) -> Watched:
    """The media as if they had been looked at less often: at most that many pictures of each, evenly spread."""
    places = [
        np.unique(((np.arange(min(pictures, len(times))) + 0.5) * len(times) / min(pictures, len(times))).astype(int))
        for times in watched.times
    ]
    return Watched(
        [rows[chosen] for rows, chosen in zip(watched.features, places, strict=True)],
        [rows[chosen] for rows, chosen in zip(watched.motion, places, strict=True)],
        [times[chosen] for times, chosen in zip(watched.times, places, strict=True)],
    )


def lessons(watched: Watched, recipe: HeadRecipe) -> list[Rows]:
    """What a head is taught of each medium: its middle window, and the same of fewer pictures, down to one.

    A long video is looked at once in two seconds, a short clip many times in one: the head must know both.
    """
    taken = [windows(watched, recipe), *(windows(thinned(watched, pictures), recipe) for pictures in _THINNED)]
    return [np.stack([rows[len(rows) // 2] for rows in parts]) for parts in zip(*taken, strict=True)]


def loudness(watched: Watched, recipe: HeadRecipe) -> Rows:
    """How loud each pooled input is told, shape (pooled,)."""
    frames, motion = watched.features[0].shape[1], watched.motion[0].shape[1]
    once = np.concatenate([np.full(frames, recipe.frames), np.full(motion, recipe.motion)])
    return np.tile(once, len(recipe.statistics)).astype(np.float32)


def fitted_head(rows: Rows, truth: Bools, weights: Floats, strength: float, loud: Rows | None = None) -> nn.Linear:
    """Ridge logistic regression on standardised inputs, as a linear layer that takes them as they are.

    Args:
        rows: inputs, shape (rows, width).
        truth: of each.
        weights: of each.
        strength: inverse of the ridge's weight.
        loud: standard deviation of each input, once standardised, shape (width,); None: all 1.
    """
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.divide(1.0 if loud is None else loud, spread, out=np.zeros_like(spread), where=spread > 1e-6)
    used = scale > 0
    model = LogisticRegression(C=strength, max_iter=2000)
    model.fit((rows[:, used] - centre[used]) * scale[used], truth, sample_weight=weights)
    weight = np.zeros(rows.shape[1])
    weight[used] = model.coef_[0] * scale[used]
    head = nn.Linear(rows.shape[1], 1).requires_grad_(False)
    head.weight.copy_(torch.from_numpy(weight)[None])
    head.bias.fill_(float(model.intercept_[0] - weight @ centre))
    return head


def taught(pooled: Sequence[Rows], truth: Bools, strength: float, loud: Rows | None = None) -> nn.Linear:
    """A head from the rows of labelled media: both classes weigh the same, and so do the media of a class."""
    weights = [
        np.full(len(rows), 1.0 / (len(rows) * max(1, (truth == harmful).sum())))
        for rows, harmful in zip(pooled, truth, strict=True)
    ]
    every = np.repeat(truth, [len(rows) for rows in pooled])
    total = np.concatenate(weights)
    return fitted_head(np.concatenate(pooled), every, total * len(truth) / 2, strength, loud)


def surest(head: nn.Linear, pooled: Sequence[Rows]) -> Floats:
    """Per medium, the logit of its surest window; shape (media,)."""
    weight, bias = head.weight[0].detach().numpy(), float(head.bias[0].detach())
    return np.array([float((rows @ weight).max()) + bias for rows in pooled])


def folds_of(truth: Bools, groups: Sequence[str], parts: int, seed: int) -> npt.NDArray[np.int64]:
    """Which fold each row is judged in: groups whole, classes as even as they can be."""
    found = np.zeros(len(truth), dtype=np.int64)
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    for part, (_, inside) in enumerate(splitter.split(np.zeros(len(truth)), truth, groups)):
        found[inside] = part
    return found


def out_of_fold(
    taken: Sequence[Rows],
    judged: Sequence[Rows],
    truth: Bools,
    folds: npt.NDArray[np.int64],
    strength: float,
    loud: Rows | None = None,
) -> Floats:
    """Per medium, the logit of a head that was taught the other folds; shape (media,).

    Args:
        taken: what a head is taught of each medium, shape (rows, width).
        judged: what a medium is judged by, its surest row, shape (rows, width).
        truth: of each medium.
        folds: as `folds_of` returned them.
        strength: see `fitted_head`.
        loud: see `fitted_head`.
    """
    logits = np.zeros(len(truth))
    for part in np.unique(folds):
        inside = folds == part
        others = [rows for rows, held in zip(taken, inside, strict=True) if not held]
        head = taught(others, truth[~inside], strength, loud)
        logits[inside] = surest(head, [rows for rows, held in zip(judged, inside, strict=True) if held])
    return logits


def platt(logits: Floats, truth: Bools) -> tuple[float, float]:
    """Slope and intercept of Platt scaling (Platt 1999), both classes weighing the same."""
    scaler = LogisticRegression(class_weight="balanced").fit(logits[:, None], truth)
    return float(scaler.coef_[0, 0]), float(scaler.intercept_[0])


def nudity_head(backbones: Sequence[Backbone]) -> tuple[torch.Tensor, float]:
    """Weights (width,) and bias of a head that says what open_nsfw says; zero on the other backbones' features.

    Raises:
        NotEnoughDataError: open_nsfw is none of the backbones: nothing else here knows of nudity.
    """
    weight, bias, at = torch.zeros(width_of(backbones)), None, 0
    for backbone in backbones:
        if isinstance(backbone, OpenNsfw):
            weight[at : at + backbone.width], bias = backbone.own_head()
        at += backbone.width
    if bias is None:
        raise NotEnoughDataError(f"no backbone of {[item.name for item in backbones]} has a head for nudity")
    return weight, bias


def prior_curve(harmless: Floats) -> OperatingCurve:
    """A curve for a label of which there is no harmful row: what can be said, and no more.

    Recall is a half at every threshold: Jeffreys' prior without a row, which is how `OperatingCurve` smooths. The
    false-positive rate is the upper end of a one-sided 95 % interval on the harmless rows (Clopper and Pearson, 1934):
    3 / n where none is flagged. So a policy can ask for precision and gets a threshold that the harmless rows do not
    contradict; a recall cannot be promised, and `recall>=R` above a half meets no threshold.

    Args:
        harmless: confidences of rows that hold nothing harmful.
    """
    count = len(harmless)
    flagged = [int((harmless >= floor).sum()) for floor in FLOORS]
    return OperatingCurve(
        thresholds=FLOORS,
        recall=(0.5,) * len(FLOORS),
        false_positive_rate=tuple(upper_bound(number, count) for number in flagged),
        positives=0,
        negatives=count,
    )


def upper_bound(flagged: int, rows: int, confidence: float = 0.95) -> float:
    """Upper end of the one-sided exact interval of a rate."""
    return 1.0 if flagged >= rows else float(betaincinv(flagged + 1, rows - flagged, confidence))
