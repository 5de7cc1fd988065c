"""From a model folder to a model: the one place that knows every architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moderation.errors import ModelError
from moderation.learning import PICTURE_SERVICES, TRAINED_ELSEWHERE
from moderation.models.base import TextClassifier, read_folder

if TYPE_CHECKING:
    from moderation.models.pictures import PictureClassifier

ARCHITECTURES = ("encoder", "ngram")
"""Of texts."""


def architecture_of(name: str) -> type[TextClassifier]:
    """The class that reads an architecture's weights, imported only now: transformers takes seconds to import.

    Raises:
        ModelError: there is none.
    """
    if name == "encoder":
        from moderation.models.encoder import EncoderClassifier

        return EncoderClassifier
    if name == "ngram":
        from moderation.models.ngram import NgramClassifier

        return NgramClassifier
    if name in PICTURE_SERVICES:
        raise ModelError(f"architecture is {name!r}: {TRAINED_ELSEWHERE}")
    raise ModelError(f"architecture is {name!r}; known are {', '.join(ARCHITECTURES)}")


def load_text_classifier(folder: Path) -> TextClassifier:
    """Load a model folder.

    Raises:
        ModelError: the folder is broken, its architecture unknown, or its preprocessing another.
    """
    card, tensors = read_folder(folder)
    return architecture_of(card.architecture).from_tensors(card, tensors)


def load_picture_classifier(folder: Path, bases: Path) -> PictureClassifier:
    """Load a model folder of images or videos.

    Args:
        folder: with `model.json` and `model.safetensors`.
        bases: where the weights of pretrained networks are kept, and unpacked to (`Settings.bases`).

    Raises:
        ModelError: the folder is broken, its architecture unknown, its preprocessing another, or a network that it
            stands on cannot be had, or has other weights.
    """
    from moderation.models.pictures import ImageClassifier, VideoClassifier

    card, tensors = read_folder(folder)
    kinds: dict[str, type[PictureClassifier]] = {"image": ImageClassifier, "video": VideoClassifier}
    if card.architecture not in kinds:
        raise ModelError(f"architecture is {card.architecture!r}; known are {', '.join(kinds)}")
    return kinds[card.architecture].from_tensors(card, tensors, bases)
