"""What every text model is to the rest of the house: labels, calibrated scores, a card, a folder on disk.

A folder holds `model.safetensors` (the weights) and `model.json` (everything else: `Card`). Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from moderation.errors import ModelError
from moderation.models.card import CARD, Card
from moderation.preprocess.text import TEXT_VERSION, normalise

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class TextScores:
    """A batch, scored.

    Attributes:
        confidence: calibrated probability per label, each in [0, 1]; shape (texts, labels), the card's label order.
        unseen_word_share: share of words that training never showed the model, in [0, 1]; shape (texts,).
    """

    confidence: npt.NDArray[np.float32]
    unseen_word_share: npt.NDArray[np.float32]


class TextClassifier(ABC):
    """A multi-label text model. Scoring is thread-safe: nothing changes after construction."""

    architecture: ClassVar[str]

    def __init__(self, card: Card) -> None:
        if card.preprocessing != TEXT_VERSION:
            raise ModelError(
                f"the model was trained with preprocessing {card.preprocessing!r}, this Seawall has {TEXT_VERSION!r};"
                " retrain it, or run the release that it came with"
            )
        self.card = card

    @classmethod
    @abstractmethod
    def from_tensors(cls, card: Card, tensors: Mapping[str, torch.Tensor]) -> TextClassifier:
        """Build from what `tensors` returned."""

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights as they are stored."""

    @abstractmethod
    def logits(self, normalised: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Uncalibrated outputs (texts, labels) and unseen-word shares (texts,) of normalised texts."""

    def score(self, texts: Sequence[str]) -> TextScores:
        """Score raw texts; each row depends on its own text alone."""
        logits, unseen = self.logits([normalise(text) for text in texts])
        return TextScores(self.calibrate(logits), unseen)

    def calibrate(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn logits (rows, labels) into confidences."""
        pairs = np.array([self.card.calibration.get(label, (1.0, 0.0)) for label in self.card.labels])
        scaled = logits * pairs[:, 0] + pairs[:, 1]
        return (1.0 / (1.0 + np.exp(-np.clip(scaled, -60, 60)))).astype(np.float32)

    def save(self, folder: Path) -> Card:
        """Write the folder; the card that is returned carries the checksum of the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / WEIGHTS
        save_file(self.tensors(), str(weights))
        card = replace(self.card, weights_sha256=_sha256(weights))
        (folder / CARD).write_text(card.to_json(), encoding="utf-8")
        self.card = card
        return card


def read_folder(folder: Path) -> tuple[Card, dict[str, torch.Tensor]]:
    """Read a model folder and check that the weights are the ones that the card was written with.

    Raises:
        ModelError: a file is missing or broken, or the weights are others.
    """
    try:
        card = Card.from_json((folder / CARD).read_text(encoding="utf-8"))
        found = _sha256(folder / WEIGHTS)
        if found != card.weights_sha256:
            raise ModelError(f"{folder / WEIGHTS} has SHA-256 {found}, its card says {card.weights_sha256}")
        return card, load_file(str(folder / WEIGHTS))
    except OSError as error:
        raise ModelError(f"{folder} is not a model folder: {error}") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
