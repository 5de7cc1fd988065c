"""`image` and `video`: linear heads over the features of pretrained networks, and one logit a label and picture.

Both judge picture by picture, and a medium is as harmful as its surest picture: so the evidence (which second) is the
score itself, a long video is not excused by its harmless minutes, and a picture more never lowers a score.

What a picture of a video is judged by depends on the label. `surest` labels (nudity) are seen in a single picture, by
the same head as an image's. The others (violence) are seen in what goes on: a window of some seconds around the
picture, its features and its motion pooled over time.

Only the heads are stored, some kilobytes. The networks come from packages or hubs, are read once a process and shared;
a head refuses a network with other weights than those that it was trained on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from moderation.errors import ModelError
from moderation.media import Reading
from moderation.models.backbone import Backbone
from moderation.models.backbones import open_backbone
from moderation.models.base import check_shapes, confidence, config_of, write_folder
from moderation.models.card import Card
from moderation.preprocess.motion import MOTION, motion_of

PICTURE_VERSION = "picture-1"
"""How media are read, pictures are prepared, and motion is told in numbers. A model of another version is refused."""

Statistic = Literal["mean", "std", "max"]
Rows: TypeAlias = npt.NDArray[np.float32]

_STATISTICS: dict[Statistic, Callable[..., Rows]] = {"mean": np.mean, "std": np.std, "max": np.max}


@dataclass(frozen=True, slots=True)
class PictureScores:
    """A batch of media, scored.

    Attributes:
        confidence: calibrated probability per label, each in [0, 1]; shape (media, labels), the card's label order.
        frames: of each medium, the same for every picture of its reading; shape (pictures, labels). Their maximum is
            the medium's confidence.
    """

    confidence: Rows
    frames: tuple[Rows, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image model is built from."""

    backbones: tuple[str, ...]
    """Names as `open_backbone` knows them; their features stand side by side in this order."""
    fingerprints: tuple[str, ...]
    """Of the weights of each (`Backbone.fingerprint`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConfig:
    """What a video model is built from."""

    backbones: tuple[str, ...]
    """Names as `open_backbone` knows them; their features stand side by side in this order."""
    fingerprints: tuple[str, ...]
    """Of the weights of each (`Backbone.fingerprint`)."""
    surest: tuple[str, ...]
    """Labels that are seen in a single picture; the others in windows."""
    window_s: float
    """A window holds the pictures at most that many seconds before or after its own."""
    statistics: tuple[Statistic, ...]
    """Over a window, of every feature and every number of motion."""


class PictureClassifier(ABC):
    """A multi-label model of images or videos. Scoring is thread-safe: nothing changes after construction.

    Args:
        card: all of it that is not weights.
        backbones: that its configuration names, in that order.

    Raises:
        ModelError: its preprocessing, or a backbone's weights, are others than it was trained with.
    """

    architecture: ClassVar[str]
    moves: ClassVar[bool]
    """Whether it looks at motion."""

    def __init__(self, card: Card, backbones: Sequence[Backbone]) -> None:
        if card.preprocessing != PICTURE_VERSION:
            raise ModelError(
                f"the model was trained with preprocessing {card.preprocessing!r}, this Seawall has"
                f" {PICTURE_VERSION!r}; retrain it, or run the release that it came with"
            )
        self.card = card
        self.backbones = tuple(backbones)
        for backbone, expected in zip(self.backbones, self.config.fingerprints, strict=True):
            found = backbone.fingerprint()
            if found != expected:
                raise ModelError(f"backbone {backbone.name!r} has weights {found}, the model was trained on {expected}")

    @property
    @abstractmethod
    def config(self) -> ImageConfig | VideoConfig:
        """The architecture's own configuration."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, card: Card, tensors: Mapping[str, torch.Tensor], bases: Path) -> PictureClassifier:
        """Build from what `tensors` returned; `bases` is where the backbones' weights are kept."""

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights as they are stored."""

    @abstractmethod
    def weights(self) -> npt.NDArray[np.float32]:
        """Everything that weighs a feature of the backbones, shape (any, width)."""

    @cached_property
    def _weighed(self) -> tuple[bool, ...]:
        """Which backbones count: one that nothing weighs yet, as before a first training, need not be asked."""
        ends = np.cumsum([backbone.width for backbone in self.backbones])
        parts = np.split(self.weights(), ends[:-1], axis=1)
        return tuple(bool(part.any()) for part in parts)

    @abstractmethod
    def logits_of(self, features: Rows, motion: Rows | None, times: Rows, added: Sequence[int] = ()) -> Rows:
        """Uncalibrated outputs of one medium's pictures, shape (pictures, labels).

        Args:
            features: shape (pictures, width).
            motion: shape (pictures, len(MOTION)); None for a model that does not look at it.
            times: when each is shown, in seconds, shape (pictures,).
            added: pictures that sampling did not choose: no window over time was trained with such.
        """

    def logits(self, readings: Sequence[Reading]) -> list[Rows]:
        """Uncalibrated outputs of every picture: per medium, shape (pictures, labels)."""
        return [
            self.logits_of(features, motion_rows(reading) if self.moves else None, reading.times, reading.added)
            for reading, features in zip(readings, features_of(readings, self.backbones, self._weighed), strict=True)
        ]

    def score(self, readings: Sequence[Reading]) -> PictureScores:
        """Score media; each row depends on its own reading alone, up to the last bits of float32.

        Args:
            readings: with one picture at least each.
        """
        frames = tuple(self.calibrate(logits) for logits in self.logits(readings))
        confidences = [frame.max(axis=0) for frame in frames]
        empty = np.zeros((0, len(self.card.labels)), dtype=np.float32)
        return PictureScores(np.stack(confidences) if confidences else empty, frames)

    def calibrate(self, logits: Rows) -> Rows:
        """Turn logits (rows, labels) into confidences."""
        columns = [
            confidence(logits[:, column], self.card.calibration_of(label))
            for column, label in enumerate(self.card.labels)
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def save(self, folder: Path) -> Card:
        """Write the folder; the card that is returned carries the checksum of the weights."""
        self.card = write_folder(self.card, self.tensors(), folder)
        return self.card


class ImageClassifier(PictureClassifier):
    """The `image` architecture: a linear head. An animated image is as harmful as its surest picture."""

    architecture = "image"
    moves = False

    def __init__(self, card: Card, backbones: Sequence[Backbone], head: nn.Linear) -> None:
        self._config = config_of(card, ImageConfig)
        super().__init__(card, backbones)
        self.head = head.eval()

    @property
    def config(self) -> ImageConfig:
        """See `PictureClassifier.config`."""
        return self._config

    @classmethod
    def from_tensors(cls, card: Card, tensors: Mapping[str, torch.Tensor], bases: Path) -> ImageClassifier:
        """Build from float32 `picture.weight` (labels, width) and `picture.bias` (labels,)."""
        backbones = [open_backbone(name, bases) for name in config_of(card, ImageConfig).backbones]
        head = nn.Linear(width_of(backbones), len(card.labels))
        check_shapes(tensors, _shapes(picture=head))
        return cls(card, backbones, _filled(head, tensors, "picture"))

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        return _stored(self.head, "picture")

    def weights(self) -> Rows:
        """See `PictureClassifier.weights`."""
        return self.head.weight.detach().numpy()

    def logits_of(
        self,
        features: Rows,
        motion: Rows | None,  # noqa: ARG002  # the base class's, for videos
        times: Rows,  # noqa: ARG002  # likewise
        added: Sequence[int] = (),  # noqa: ARG002  # likewise
    ) -> Rows:
        """See `PictureClassifier.logits_of`."""
        return _applied(self.head, features)


class VideoClassifier(PictureClassifier):
    """The `video` architecture: a head over single pictures, and one over windows."""

    architecture = "video"
    moves = True

    def __init__(self, card: Card, backbones: Sequence[Backbone], head: nn.Linear, window: nn.Linear) -> None:
        self._config = config_of(card, VideoConfig)
        super().__init__(card, backbones)
        self.head = head.eval()
        self.window = window.eval()
        self._surest = np.array([label in self._config.surest for label in card.labels], dtype=bool)

    @property
    def config(self) -> VideoConfig:
        """See `PictureClassifier.config`."""
        return self._config

    @classmethod
    def from_tensors(cls, card: Card, tensors: Mapping[str, torch.Tensor], bases: Path) -> VideoClassifier:
        """Build from float32 `picture.weight` (labels, width), `window.weight` (labels, pooled) and their biases."""
        config = config_of(card, VideoConfig)
        backbones = [open_backbone(name, bases) for name in config.backbones]
        width = width_of(backbones)
        head = nn.Linear(width, len(card.labels))
        window = nn.Linear((width + len(MOTION)) * len(config.statistics), len(card.labels))
        check_shapes(tensors, _shapes(picture=head, window=window))
        return cls(card, backbones, _filled(head, tensors, "picture"), _filled(window, tensors, "window"))

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        return _stored(self.head, "picture") | _stored(self.window, "window")

    def weights(self) -> Rows:
        """See `PictureClassifier.weights`."""
        pooled = self.window.weight.detach().numpy().reshape(-1, self.head.in_features + len(MOTION))
        return np.concatenate([self.head.weight.detach().numpy(), pooled[:, : self.head.in_features]])

    def logits_of(self, features: Rows, motion: Rows | None, times: Rows, added: Sequence[int] = ()) -> Rows:
        """See `PictureClassifier.logits_of`."""
        assert motion is not None
        sampled = np.ones(len(times), dtype=bool)
        sampled[list(added)] = False
        rows = np.concatenate([features, motion], axis=1)[sampled]
        pooled = windows_of(rows, times[sampled], self._config.window_s, self._config.statistics)
        windows = np.empty((len(times), len(self.card.labels)), dtype=np.float32)
        windows[sampled] = _applied(self.window, pooled)
        windows[~sampled] = windows[sampled].min(axis=0)  # an added picture makes no label of windows surer
        return np.where(self._surest, _applied(self.head, features), windows)


def features_of(
    readings: Sequence[Reading], backbones: Sequence[Backbone], asked: Sequence[bool] | None = None
) -> list[Rows]:
    """Per medium, its pictures' features, shape (pictures, width): each backbone sees all pictures together.

    Args:
        readings: media.
        backbones: whose features stand side by side.
        asked: which of them; the others' features are zeros. None: all.
    """
    pictures = [picture for reading in readings for picture in reading.pictures]
    columns = [
        backbone.features(pictures) if wanted else np.zeros((len(pictures), backbone.width), dtype=np.float32)
        for backbone, wanted in zip(backbones, asked or [True] * len(backbones), strict=True)
    ]
    together = np.concatenate(columns, axis=1)
    return np.split(together, np.cumsum([len(reading.pictures) for reading in readings])[:-1]) if readings else []


def motion_rows(reading: Reading) -> Rows:
    """What moves at each picture, shape (pictures, len(MOTION)); zeros where the reading holds no followers."""
    if reading.followers is None or reading.step is None:
        return np.zeros((len(reading.pictures), len(MOTION)), dtype=np.float32)
    pairs = zip(reading.pictures, reading.followers, reading.step, strict=True)
    return np.stack([motion_of(picture, follower, float(step)) for picture, follower, step in pairs])


def windows_of(rows: Rows, times: npt.NDArray[np.float32], reach: float, statistics: Sequence[Statistic]) -> Rows:
    """Every picture's window, pooled.

    Args:
        rows: what is known of each picture, shape (pictures, width).
        times: when each is shown, in seconds, shape (pictures,).
        reach: seconds before and after a picture that its window takes in.
        statistics: over the window.

    Returns:
        Shape (pictures, width * len(statistics)).
    """
    pooled = []
    for time in times:
        inside = rows[np.abs(times - time) <= reach]
        pooled.append(np.concatenate([_STATISTICS[statistic](inside, axis=0) for statistic in statistics]))
    return np.stack(pooled).astype(np.float32)


def width_of(backbones: Sequence[Backbone]) -> int:
    """Features of a picture by all of them."""
    return sum(backbone.width for backbone in backbones)


def _applied(head: nn.Linear, rows: Rows) -> Rows:
    with torch.inference_mode():
        return np.asarray(head(torch.from_numpy(rows)).numpy(), dtype=np.float32)


def _shapes(**heads: nn.Linear) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias")
    return {f"{name}.{part}": tuple(getattr(head, part).shape) for name, head in heads.items() for part in parts}


def _filled(head: nn.Linear, tensors: Mapping[str, torch.Tensor], name: str) -> nn.Linear:
    with torch.no_grad():
        head.weight.copy_(tensors[f"{name}.weight"])
        head.bias.copy_(tensors[f"{name}.bias"])
    return head


def _stored(head: nn.Linear, name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": head.weight.detach().clone(), f"{name}.bias": head.bias.detach().clone()}
