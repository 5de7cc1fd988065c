"""The image and video models that ship: `python -m train.champion image-multi --data DIR`, and `video-multi`.

DIR holds `image/benign/` (photos with nothing harmful in them) and `video/` (clips, `labels.jsonl` saying of each
whether it shows violence, and which source video it is from). Both are read, and seen by the backbones, as serving does
it: some minutes for 210 clips.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from moderation.errors import NotEnoughDataError
from moderation.metrics import Bools, Floats, cluster_bootstrap, roc_auc
from moderation.models.backbone import Backbone
from moderation.models.backbones import open_backbone
from moderation.models.base import confidence
from moderation.models.card import ALL_ROWS, Card
from moderation.models.operating import OperatingCurve
from moderation.models.pictures import (
    PICTURE_VERSION,
    ImageClassifier,
    ImageConfig,
    PictureClassifier,
    VideoClassifier,
    VideoConfig,
    width_of,
)
from moderation.policy import Policy, is_met, threshold_of
from moderation.settings import DEPLOYMENTS, Settings
from train.pictures import (
    FLOORS,
    HeadRecipe,
    Watched,
    folds_of,
    lessons,
    loudness,
    nudity_head,
    out_of_fold,
    platt,
    prior_curve,
    taught,
    watch,
    windows,
)

BACKBONES = ("efficientnet-lite0", "open-nsfw")
FOLDS = 10
SEED = 0

NUDITY = (
    "Judged by open_nsfw (Mahadeokar and Pesavento, Yahoo, 2016; weights BSD-2), unchanged: the confidence is its own"
    " score, not calibrated anew. No labelled nudity was at hand: apart from false positives on photos that hold none,"
    " this label has no honest benchmark here, and how much it finds is unknown. Its operating curve is a stated prior:"
    f" thresholds from {FLOORS[0]} up, above which its authors call a picture highly probably not safe; a recall of a"
    " half at each, which is Jeffreys' prior without a row and promises nothing; and as false-positive rate the upper"
    " end of a one-sided 95 % interval on harmless media."
)

VIOLENCE = (
    "Fights, as far as two-second clips of 30 source videos show them: a weak judge, fit to queue posts for people,"
    " not to remove them. It goes by how things move: what is in the pictures adds nothing that is certain. Figures"
    " are out of fold by source video, but its few settings were chosen on the same clips, so expect somewhat less."
    " Sports, dance and shaken cameras are not among what it learned from, neither are blood, weapons or gore"
    " without motion, nor longer or cut videos. A long video is as violent as its surest window, so false positives"
    " grow with length, by how much is not measured. Still images carry no violence label: single frames of these"
    " clips tell fights little better than the size of the file does."
)

CLIPS_AND_NUDITY = (
    " Here these are the clips that violence is learned from, mostly of surveillance cameras. They are not labelled for"
    " nudity; the six that score highest were looked at, and hold none."
)


@dataclass(frozen=True, slots=True)
class Clips:
    """Labelled clips, in the order of their list.

    Attributes:
        paths: of each.
        violent: whether each shows violence.
        groups: the source video of each.
    """

    paths: list[Path]
    violent: Bools
    groups: list[str]

    @classmethod
    def of(cls, folder: Path) -> Clips:
        """The clips that `labels.jsonl` of a folder tells of.

        Raises:
            NotEnoughDataError: there is no list.
        """
        try:
            lines = (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise NotEnoughDataError(f"{folder} has no clips: {error}") from error
        rows = [json.loads(line) for line in lines]
        violent = np.array([row["labels"]["violence"] for row in rows], dtype=bool)
        return cls([folder / row["file"] for row in rows], violent, [row["group"] for row in rows])


def photos_of(folder: Path) -> list[Path]:
    """Photos with nothing harmful in them.

    Raises:
        NotEnoughDataError: there are none.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix in (".jpg", ".png", ".webp"))
    if not found:
        raise NotEnoughDataError(f"{folder} holds no photos")
    return found


def image_multi(data: Path, backbones: Sequence[Backbone], kept: Path | None = None) -> PictureClassifier:
    """Nudity in images."""
    photos = watch(photos_of(data / "image" / "benign"), "image", backbones, kept)
    head = nn.Linear(width_of(backbones), 1).requires_grad_(False)
    head.weight[0], bias = nudity_head(backbones)
    head.bias.fill_(bias)
    harmless = surest_pictures(head, photos)
    config = ImageConfig(backbones=_names(backbones), fingerprints=_fingerprints(backbones))
    about = {
        "nudity": NUDITY,
        "harmless": f"{len(harmless)} phone photos of garments (clothing-dataset-small, CC0)",
        "test": {"nudity": {"harmless": len(harmless), "scores": _quantiles(harmless)}},
        "licence": "Apache-2.0; the backbones' weights: Apache-2.0 (EfficientNet-Lite0), BSD-2 (open_nsfw)",
        "command": "python -m train.champion image-multi",
    }
    card = _card("image", ("nudity",), asdict(config))
    card = replace(card, curves={"nudity": {ALL_ROWS: prior_curve(harmless)}}, about=about)
    return ImageClassifier(card, backbones, head)


def video_multi(data: Path, backbones: Sequence[Backbone], kept: Path | None = None) -> PictureClassifier:
    """Violence and nudity in videos."""
    clips = Clips.of(data / "video")
    return taught_video(clips, watch(clips.paths, "video", backbones, kept), backbones)


def taught_video(
    clips: Clips, watched: Watched, backbones: Sequence[Backbone], recipe: HeadRecipe | None = None
) -> VideoClassifier:
    """The video model that clips teach.

    Raises:
        NotEnoughDataError: a class, or a second source video, is missing.
    """
    recipe = recipe or HeadRecipe()
    groups = len(set(clips.groups))
    if not clips.violent.any() or clips.violent.all() or groups < 2:
        raise NotEnoughDataError(
            f"{int(clips.violent.sum())} of {len(clips.violent)} clips of {groups} sources are violent; both classes"
            " and two sources are needed"
        )
    taken, judged, loud = lessons(watched, recipe), windows(watched, recipe), loudness(watched, recipe)
    folds = folds_of(clips.violent, clips.groups, min(FOLDS, groups), SEED)
    logits = out_of_fold(taken, judged, clips.violent, folds, recipe.strength, loud)
    pair = platt(logits, clips.violent)
    scores = confidence(logits, pair)
    learned = taught(taken, clips.violent, recipe.strength, loud)
    head = nn.Linear(width_of(backbones), 2).requires_grad_(False)
    head.weight.zero_()
    head.bias.zero_()
    head.weight[1], bias = nudity_head(backbones)
    head.bias[1] = bias
    window = nn.Linear(learned.in_features, 2).requires_grad_(False)
    window.weight.copy_(torch.stack([learned.weight[0], torch.zeros(learned.in_features)]))
    window.bias.copy_(torch.stack([learned.bias[0], torch.zeros(())]))
    nude = surest_pictures(_column(head, 1), watched)
    config = VideoConfig(
        backbones=_names(backbones),
        fingerprints=_fingerprints(backbones),
        surest=("nudity",),
        window_s=recipe.window_s,
        statistics=recipe.statistics,
    )
    about = _about_video(clips, recipe, logits, nude)
    curve = OperatingCurve.measure(clips.violent, scores)
    about["test"]["violence"]["policies"] = at_policies("violence", curve, clips.violent, scores)
    card = replace(
        _card("video", ("violence", "nudity"), asdict(config)),
        calibration={"violence": {ALL_ROWS: pair}},
        curves={"violence": {ALL_ROWS: curve}, "nudity": {ALL_ROWS: prior_curve(nude)}},
        about=about,
    )
    return VideoClassifier(card, backbones, head, window)


def at_policies(label: str, curve: OperatingCurve, truth: Bools, scores: Floats) -> dict[str, dict[str, Any]]:
    """What a label's rows come to at the threshold that each policy which ships asks for, by the policy's file.

    The threshold is chosen on the same rows, so expect somewhat less of others.

    Args:
        label: which a policy has a rule for, or is left out.
        curve: of the label.
        truth: of each row.
        scores: confidences, in [0, 1].

    Returns:
        a policy: `objective`, `threshold` (four digits; None: none meets it), `found` of the harmful rows, `recall`
        (four digits) and `false_positives` among the harmless rows.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((DEPLOYMENTS / "policies").glob("*.yaml")):
        rule = Policy.load(path).rules("*").get(label)
        if rule is None:
            continue
        asked = curve, rule.objective, rule.prevalence
        threshold = threshold_of(*asked) if is_met(*asked) else None
        flagged = np.zeros(len(scores), dtype=bool) if threshold is None else scores >= threshold
        found[path.stem] = {
            "objective": rule.objective,
            "threshold": None if threshold is None else round(threshold, 4),
            "found": int((flagged & truth).sum()),
            "recall": round(float(flagged[truth].mean()), 4),
            "false_positives": int((flagged & ~truth).sum()),
        }
    return found


def surest_pictures(head: nn.Linear, watched: Watched) -> Floats:
    """Per medium, the highest score of a picture by a head of one label, in [0, 1]; shape (media,)."""
    weight, bias = head.weight[0].detach().numpy(), float(head.bias[0].detach())
    logits = np.array([float((features @ weight).max()) + bias for features in watched.features])
    return confidence(logits, (1.0, 0.0))


def _about_video(clips: Clips, recipe: HeadRecipe, logits: Floats, nude: Floats) -> dict[str, Any]:
    auc = cluster_bootstrap(lambda rows: roc_auc(clips.violent[rows], logits[rows]), clips.groups)
    return {
        "violence": VIOLENCE,
        "nudity": NUDITY + CLIPS_AND_NUDITY,
        "data": f"{len(clips.violent)} clips of two seconds, fights and what is none (Akti et al. 2019, MIT)",
        "split": f"{FOLDS} folds by source video; figures, calibration and curve are out of fold",
        "head": asdict(recipe),
        "test": {
            "violence": {
                "clips": len(clips.violent),
                "violent": int(clips.violent.sum()),
                "sources": len(set(clips.groups)),
                "roc_auc": auc.as_dict(),
            },
            "nudity": {"clips": len(nude), "scores": _quantiles(nude)},
        },
        "licence": "Apache-2.0; the backbones' weights: Apache-2.0 (EfficientNet-Lite0), BSD-2 (open_nsfw)",
        "command": "python -m train.champion video-multi",
    }


def _card(architecture: str, labels: tuple[str, ...], config: dict[str, Any]) -> Card:
    return Card(architecture=architecture, labels=labels, languages=(), preprocessing=PICTURE_VERSION, config=config)


def _column(head: nn.Linear, row: int) -> nn.Linear:
    single = nn.Linear(head.in_features, 1).requires_grad_(False)
    single.weight.copy_(head.weight[row : row + 1])
    single.bias.copy_(head.bias[row : row + 1])
    return single


def _quantiles(scores: Floats) -> dict[str, float]:
    """The median and the highest scores, four digits, and how many reach the lowest threshold of the prior curve."""
    named = {"median": 0.5, "99 %": 0.99, "highest": 1.0}
    found = {name: round(float(np.quantile(scores, share)), 4) for name, share in named.items()}
    return found | {f"at {FLOORS[0]} or above": float((scores >= FLOORS[0]).sum())}


def _names(backbones: Sequence[Backbone]) -> tuple[str, ...]:
    return tuple(backbone.name for backbone in backbones)


def _fingerprints(backbones: Sequence[Backbone]) -> tuple[str, ...]:
    return tuple(backbone.fingerprint() for backbone in backbones)


PICTURE_MODELS: dict[str, Callable[[Path, Sequence[Backbone], Path | None], PictureClassifier]] = {
    "image-multi": image_multi,
    "video-multi": video_multi,
}
"""What makes each, of the data folder, the backbones, and where what they see is kept."""


def make(name: str, data: Path, kept: Path | None = None) -> PictureClassifier:
    """Train and test a model of `PICTURE_MODELS`, on the backbones that ship."""
    bases = Settings.from_environment().bases
    return PICTURE_MODELS[name](data, [open_backbone(backbone, bases) for backbone in BACKBONES], kept)
