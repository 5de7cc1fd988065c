"""How good the image and video models are: `python -m tests.benchmarks.pictures --data DIR [--kept DIR]`.

    violence   on the clips of DIR/video, cross-validated by source video, folds drawn several times. Beside the model:
               its frames alone, its motion alone, and what a file tells without being looked at (length, bytes, bytes a
               second, size), which it must beat: the interval is of the difference, on the same resamples of sources
    leaks      what black bars alone tell; motion, and with --crop (minutes) the whole model, on clips whose outer
               sixth is cut away on each side; and which share of pairs of a violent and a peaceful clip is told apart
               within a source video, where neither place, camera nor uploader can tell
    harmless   how many of the photos of DIR/image/benign each label of the shipped models flags, at the thresholds that
               the shipped policies choose, with exact intervals (Clopper and Pearson)

What the networks see of media takes minutes, and is kept in the folder `--kept`. The last line is one JSON document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import beta
from sklearn.metrics import average_precision_score

from moderation.console import errors_told
from moderation.media import Reading, ReadRules
from moderation.metrics import Bools, Floats, cluster_bootstrap, roc_auc
from moderation.models.backbone import Backbone
from moderation.models.backbones import open_backbone
from moderation.models.base import confidence
from moderation.models.load import load_picture_classifier
from moderation.models.pictures import PictureClassifier, features_of, motion_rows
from moderation.policy import Policy, threshold_of
from moderation.preprocess.media import read
from moderation.settings import DEPLOYMENTS, Settings
from train.champion import DataOption
from train.picture_models import BACKBONES, FOLDS, Clips, photos_of
from train.pictures import HeadRecipe, Watched, folds_of, lessons, loudness, out_of_fold, thinned, watch, windows

REPEATS = 5
RESAMPLES = 400
POLICIES = ("default", "precision-first")


def repeated(clips: Clips, taken: Sequence[Any], judged: Sequence[Any], strength: float, loud: Any = None) -> Floats:
    """Out-of-fold logits, folds drawn anew each time; shape (repeats, clips)."""
    draws = [folds_of(clips.violent, clips.groups, FOLDS, seed) for seed in range(REPEATS)]
    return np.stack([out_of_fold(taken, judged, clips.violent, folds, strength, loud) for folds in draws])


def by_recipe(clips: Clips, watched: Watched, recipe: HeadRecipe, judged: Watched | None = None) -> Floats:
    """The same of a recipe; `judged`: what clips are judged by, where it is other than what is taught."""
    rows = windows(watched if judged is None else judged, recipe)
    return repeated(clips, lessons(watched, recipe), rows, recipe.strength, loudness(watched, recipe))


def mean_auc(truth: Bools, scores: Floats) -> float:
    """ROC-AUC, the mean over repeats; scores (repeats, rows)."""
    return float(np.mean([roc_auc(truth, row) for row in scores]))


def mean_precision(truth: Bools, scores: Floats) -> float:
    """Average precision, the mean over repeats; NaN without a harmful row."""
    return float(np.mean([average_precision_score(truth, row) for row in scores])) if truth.any() else float("nan")


def within(clips: Clips, scores: Floats, rows: np.ndarray[Any, Any]) -> float:
    """Share of pairs of a violent and a peaceful clip of one source that are told apart, over all sources."""
    right = pairs = 0.0
    for group in np.unique(np.array(clips.groups)[rows]):
        inside = rows[np.array(clips.groups)[rows] == group]
        truth = clips.violent[inside]
        weight = float(truth.sum() * (~truth).sum())
        if weight:
            right += weight * mean_auc(truth, scores[:, inside])
            pairs += weight
    return right / pairs if pairs else float("nan")


def figures(clips: Clips, scores: Floats) -> dict[str, Any]:
    """Figures of one way to judge violence, each with a 95 % interval over sources."""
    truth = clips.violent

    def bounds(statistic: Callable[[Any], float]) -> dict[str, float | None]:
        return cluster_bootstrap(statistic, clips.groups, resamples=RESAMPLES).as_dict()

    return {
        "roc_auc": bounds(lambda rows: mean_auc(truth[rows], scores[:, rows])),
        "average_precision": bounds(lambda rows: mean_precision(truth[rows], scores[:, rows])),
        "within_source": bounds(lambda rows: within(clips, scores, rows)),
        "by_repeat": [round(roc_auc(truth, row), 4) for row in scores],
    }


def readings_of(clips: Clips) -> list[Reading]:
    """The clips, read."""
    readings = []
    for path in clips.paths:
        found = read(path, "video", ReadRules())
        assert isinstance(found, Reading), (path, found)
        readings.append(found)
    return readings


def metadata(clips: Clips, readings: Sequence[Reading]) -> list[Any]:
    """What a file tells without being looked at, one row a clip."""
    rows = []
    for path, reading in zip(clips.paths, readings, strict=True):
        size, seconds = path.stat().st_size, float(reading.seconds or 0)
        numbers = [seconds, reading.frames or 0, size, size / max(seconds, 0.1), reading.width, reading.height]
        rows.append(np.log1p(np.array([numbers], dtype=np.float32)))
    return rows


def bars(readings: Sequence[Reading]) -> list[Any]:
    """Width of the black bar at each edge, as a share of the picture, and whether there is any; one row a clip."""
    rows = []
    for reading in readings:
        brightest = reading.pictures.max(axis=(0, 3))
        edges = [brightest.max(axis=1), brightest.max(axis=1)[::-1], brightest.max(axis=0), brightest.max(axis=0)[::-1]]
        widths = [int(np.argmax(edge >= 24)) / len(edge) for edge in edges]
        rows.append(np.array([[*widths, float(max(widths) > 0.02)]], dtype=np.float32))
    return rows


def cropped(readings: Sequence[Reading], backbones: Sequence[Backbone]) -> Watched:
    """The clips without their outer sixth on each side; without backbones, only what moves in them."""
    watched = Watched([], [], [])
    for reading in readings:
        height, width = reading.pictures.shape[1:3]
        top, left = height // 6, width // 6
        assert reading.followers is not None
        above, beside = reading.followers.shape[1] // 6, reading.followers.shape[2] // 6
        inner = replace(
            reading,
            pictures=reading.pictures[:, top : height - top, left : width - left],
            followers=reading.followers[:, above:-above, beside:-beside],
        )
        unseen = [np.zeros((len(inner.pictures), 1), dtype=np.float32)]
        watched.features.extend(features_of([inner], backbones) if backbones else unseen)
        watched.motion.append(motion_rows(inner))
        watched.times.append(inner.times)
    return watched


def violence(clips: Clips, watched: Watched, inner: Watched | None) -> dict[str, Any]:
    """The model, its parts, and what it must beat."""
    recipe = HeadRecipe()
    readings = readings_of(clips)
    moving = cropped(readings, [])
    told_by_file, told_by_bars = metadata(clips, readings), bars(readings)
    logits = {
        "model": by_recipe(clips, watched, recipe),
        "frames_only": by_recipe(clips, watched, replace(recipe, motion=0.0)),
        "motion_only": by_recipe(clips, watched, replace(recipe, frames=0.0)),
        "one_picture_a_clip": by_recipe(clips, watched, recipe, thinned(watched, 1)),
        "one_frame": by_recipe(clips, watched, replace(recipe, motion=0.0), thinned(watched, 1)),
        "motion_only_cropped": by_recipe(clips, moving, replace(recipe, frames=0.0)),
        "metadata": repeated(clips, told_by_file, told_by_file, 1.0),
        "black_bars": repeated(clips, told_by_bars, told_by_bars, 1.0),
    }
    if inner is not None:
        logits["model_cropped"] = by_recipe(clips, inner, recipe)
    truth = clips.violent
    found: dict[str, Any] = {name: figures(clips, scores) for name, scores in logits.items()}
    for other in ("metadata", "frames_only", "motion_only"):
        gain = cluster_bootstrap(
            lambda rows, other=other: (
                mean_auc(truth[rows], logits["model"][:, rows]) - mean_auc(truth[rows], logits[other][:, rows])
            ),
            clips.groups,
            resamples=RESAMPLES,
        )
        found[f"model_minus_{other}"] = gain.as_dict()
    found["at_policy"] = at_policy(clips, logits["model"])
    return {"clips": len(truth), "violent": int(truth.sum()), "sources": len(set(clips.groups)), **found}


def at_policy(clips: Clips, logits: Floats) -> dict[str, Any]:
    """Recall and false-positive rate, out of fold, at the policies' thresholds; the first draw of folds."""
    card = load_picture_classifier(DEPLOYMENTS / "models" / "video-multi", Settings.from_environment().bases).card
    scores = confidence(logits[0], card.calibration_of("violence"))
    found = {}
    for name in POLICIES:
        rule = Policy.load(DEPLOYMENTS / "policies" / f"{name}.yaml").rules("*")["violence"]
        threshold = threshold_of(card.curve("violence"), rule.objective, rule.prevalence)
        flagged = scores >= (np.inf if threshold is None else threshold)
        hits, alarms = flagged[clips.violent], flagged[~clips.violent]
        rates = {"recall": exact(int(hits.sum()), len(hits)), "false_positives": exact(int(alarms.sum()), len(alarms))}
        found[name] = {"threshold": threshold, **rates}
    return found


def exact(flagged: int, rows: int) -> dict[str, Any]:
    """A rate with its exact 95 % interval."""
    low = beta.ppf(0.025, flagged, rows - flagged + 1) if flagged else 0.0
    high = beta.ppf(0.975, flagged + 1, rows - flagged) if flagged < rows else 1.0
    return {"flagged": flagged, "rows": rows, "rate": [round(float(end), 4) for end in (flagged / rows, low, high)]}


def harmless(model: PictureClassifier, watched: Watched) -> dict[str, Any]:
    """How many of harmless media each label flags, by each policy; seen as a reading of its own each."""
    seen = zip(watched.features, watched.motion, watched.times, strict=True)
    scores = np.stack([model.calibrate(model.logits_of(*parts)).max(axis=0) for parts in seen])
    found: dict[str, Any] = {}
    for name in POLICIES:
        rules = Policy.load(DEPLOYMENTS / "policies" / f"{name}.yaml").rules("*")
        for column, label in enumerate(model.card.labels):
            rule = rules.get(label)
            if rule is None:
                continue
            threshold = threshold_of(model.card.curve(label), rule.objective, rule.prevalence)
            flagged = 0 if threshold is None else int((scores[:, column] >= threshold).sum())
            found[f"{label}, {name}"] = {"threshold": threshold, **exact(flagged, len(scores))}
    highest = scores.max(axis=0)
    return found | {"highest": {label: round(float(highest[i]), 4) for i, label in enumerate(model.card.labels)}}


def main(
    data: DataOption,
    kept: Annotated[Path | None, typer.Option(help="Folder where what the networks see is kept.")] = None,
    crop: Annotated[bool, typer.Option(help="Also judge clips whose border is cut away.")] = False,
) -> None:
    """Measure; the last line is one JSON document."""
    with errors_told():
        clips, photos = Clips.of(data / "video"), photos_of(data / "image" / "benign")
    bases = Settings.from_environment().bases
    backbones = [open_backbone(name, bases) for name in BACKBONES]
    result: dict[str, Any] = {"benchmark": "pictures", "repeats": REPEATS, "folds": FOLDS}
    watched = watch(clips.paths, "video", backbones, kept)
    inner = cropped(readings_of(clips), backbones) if crop else None
    result["violence"] = violence(clips, watched, inner)
    for name, figures in result["violence"].items():
        print(f"{name}: {figures}", file=sys.stderr)
    seen = watch(photos, "image", backbones, kept)
    result["harmless_photos"] = {
        name: harmless(load_picture_classifier(DEPLOYMENTS / "models" / name, bases), seen)
        for name in ("image-multi", "video-multi")
    }
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
