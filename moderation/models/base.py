"""What every text model is to the rest of the house: labels, calibrated scores, a card, a folder on disk.

A folder holds `model.safetensors` (the weights) and `model.json` (everything else: `Card`). Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar  # Any: an architecture's own dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from moderation.errors import ModelError
from moderation.labels import BY_NAME
from moderation.models.card import CARD, Card
from moderation.models.seen import Bits
from moderation.preprocess.text import TEXT_VERSION, clean, fold
from moderation.preprocess.views import views

WEIGHTS = "model.safetensors"

Config = TypeVar("Config", bound="DataclassInstance")
Known: TypeAlias = Mapping[str, float | str]

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class TextScores:
    """A batch, scored.

    Attributes:
        confidence: calibrated probability per label, each in [0, 1]; shape (texts, labels), the card's label order.
        unseen_word_share: share of words that training never showed the model, in [0, 1]; shape (texts,).
        partly_read: whether something of a text was not read, since it is too long; shape (texts,).
    """

    confidence: npt.NDArray[np.float32]
    unseen_word_share: npt.NDArray[np.float32]
    partly_read: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch, preprocessed.

    Attributes:
        cleaned: as `preprocess.text.clean` returned them.
        folded: the same texts, as `preprocess.text.fold` returned them.
        known: features of each, by name; what is absent is not known.
    """

    cleaned: list[str]
    folded: list[str]
    known: Sequence[Known]

    @classmethod
    def of(cls, texts: Sequence[str], known: Sequence[Known] | None = None) -> Prepared:
        """Preprocess raw texts."""
        cleaned = [clean(text) for text in texts]
        return cls(cleaned, [fold(text) for text in cleaned], [{}] * len(cleaned) if known is None else known)

    @property
    def languages(self) -> list[str]:
        """ISO code of each; `*` where it is not known."""
        return [str(features.get("language", "*")) for features in self.known]


class TextClassifier(ABC):
    """A multi-label text model. Scoring is thread-safe: nothing changes after construction.

    Args:
        card: all of it that is not weights.
        seen: the words that training showed it (see `models.seen`).
    """

    architecture: ClassVar[str]

    def __init__(self, card: Card, seen: Bits) -> None:
        if card.preprocessing != TEXT_VERSION:
            raise ModelError(
                f"the model was trained with preprocessing {card.preprocessing!r}, this Seawall has {TEXT_VERSION!r};"
                " run the release that it came with, or `seawall up`, which puts what ships in its place or says how"
            )
        self.card = card
        self.seen = seen

    @property
    @abstractmethod
    def config(self) -> Any:
        """The architecture's own configuration, as a dataclass."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, card: Card, tensors: Mapping[str, torch.Tensor]) -> TextClassifier:
        """Build from what `tensors` returned."""

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights as they are stored."""

    @abstractmethod
    def logits(self, texts: Prepared) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Uncalibrated outputs (texts, labels) and unseen-word shares (texts,)."""

    def on_gpu(self) -> TextClassifier:
        """Itself, computing on the GPU where this process has one, and it gains by that."""
        return self

    @property
    def own_languages(self) -> tuple[str, ...]:
        """The languages that have a part of the model to themselves: spellings, a head.

        In these, logits are on a scale of their own, so each is calibrated by itself. A text whose language is not
        known is judged by what all share.
        """
        return ()

    def score(self, texts: Sequence[str], known: Sequence[Known] | None = None) -> TextScores:
        """Score raw texts; each row depends on its own text and what is known of it alone.

        A long text is judged as a whole and by windows, and one that a reader sees otherwise than it is stored is
        judged both ways: the surest decides. `logits` are of whole texts as they are stored, and of most texts that is
        all there is. A model of labels that a text carries as a whole alone cuts only what it does not read whole.

        Args:
            texts: as posted.
            known: features of each post, by name: its `language`, in which it is calibrated, and numbers, for models
                that read some; None: nothing is known.
        """
        prepared = Prepared.of(texts, known)
        logits, unseen = self.logits(prepared)
        found = self.calibrate(logits, prepared.languages)
        by_windows = not all(BY_NAME[label].of_the_whole for label in self.card.labels)
        looks = [
            views(text, cleaned, self.reads_whole, by_windows=by_windows)
            for text, cleaned in zip(texts, prepared.cleaned, strict=True)
        ]
        if any(look.further for look in looks):
            owners = [row for row, look in enumerate(looks) for _ in look.further]
            again, discounts = zip(*(each for look in looks for each in look.further), strict=True)
            also = Prepared(list(again), [fold(each) for each in again], [prepared.known[row] for row in owners])
            seen = self.calibrate(self.logits(also)[0], also.languages, np.array(discounts))
            np.maximum.at(found, owners, seen)
        return TextScores(found, unseen, np.array([not look.everything for look in looks], dtype=np.bool_))

    def reads_whole(self, cleaned: str) -> bool:
        """Whether `logits` reads all of a cleaned text, and not its ends alone."""
        del cleaned
        return True

    def calibrate(
        self,
        logits: npt.NDArray[np.float32],
        languages: Sequence[str],
        discounts: npt.NDArray[np.float64] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Turn logits (rows, labels) into confidences, each row by its language's calibration where there is one.

        Args:
            logits: as `logits` returned them.
            languages: of each row; `*` where it is not known.
            discounts: taken off each row's calibrated logits; None: nothing is.
        """
        out = np.zeros(logits.shape, dtype=np.float32)
        codes = np.array(languages, dtype=str)
        less = np.zeros(len(logits)) if discounts is None else discounts
        for column, label in enumerate(self.card.labels):
            for language in set(languages):
                rows = codes == language
                pair = self.card.calibration_of(label, language)
                out[rows, column] = confidence(logits[rows, column], pair, less[rows])
        return out

    def save(self, folder: Path) -> Card:
        """Write the folder; the card that is returned carries the checksum of the weights."""
        self.card = write_folder(self.card, self.tensors(), folder)
        return self.card


def confidence(
    logits: npt.NDArray[np.floating], calibration: tuple[float, float], less: npt.NDArray[np.float64] | float = 0.0
) -> npt.NDArray[np.float64]:
    """One label's confidences, rounded to float32 as they are served: sigmoid(slope * logit + intercept - less)."""
    scaled = logits.astype(np.float64) * calibration[0] + calibration[1] - less
    return (1.0 / (1.0 + np.exp(-np.clip(scaled, -60, 60)))).astype(np.float32).astype(np.float64)


def config_of(card: Card, kind: type[Config]) -> Config:
    """The card's configuration as the architecture's dataclass; every field must be there.

    Raises:
        ModelError: a field is missing, unknown or wrong.
    """
    odd = sorted({item.name for item in fields(kind)} ^ set(card.config))
    if odd:
        raise ModelError(f"the card's config and {kind.__name__} disagree on {', '.join(odd)}")
    try:
        return TypeAdapter(kind).validate_python(card.config)
    except ValueError as error:
        raise ModelError(f"the card's config is no {kind.__name__}: {error}") from error


def write_folder(card: Card, tensors: Mapping[str, torch.Tensor], folder: Path) -> Card:
    """Write a model folder; the card that is returned, and written, carries the checksum of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    save_file(dict(tensors), str(weights))
    card = replace(card, weights_sha256=_sha256(weights))
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
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
    except (OSError, UnicodeDecodeError, SafetensorError) as error:
        raise ModelError(f"{folder} is not a model folder: {error}") from error


def check_shapes(tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Make sure that exactly these tensors are there, in these shapes; `seen` in bytes, the others in numbers.

    Raises:
        ModelError: names the first that is missing, too many, or of another shape or kind.
    """
    unknown = sorted(set(tensors) - set(shapes))
    if unknown:
        raise ModelError(f"the weights have a tensor {unknown[0]!r}, which the card's configuration does not")
    for name, shape in shapes.items():
        if name not in tensors:
            raise ModelError(f"the weights have no tensor {name!r}")
        found = tensors[name]
        if tuple(found.shape) != shape or (found.dtype == torch.uint8) != (name == "seen"):
            raise ModelError(
                f"tensor {name!r} has shape {tuple(found.shape)} of {found.dtype}, the card says {shape}"
                f" of {'bytes' if name == 'seen' else 'numbers'}"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
