"""From a model folder to a model: the one place that knows every architecture."""

from __future__ import annotations

from pathlib import Path

from moderation.errors import ModelError
from moderation.models.base import TextClassifier, read_folder

ARCHITECTURES = ("encoder", "ngram")


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
    raise ModelError(f"architecture is {name!r}; known are {', '.join(ARCHITECTURES)}")


def load_text_classifier(folder: Path) -> TextClassifier:
    """Load a model folder.

    Raises:
        ModelError: the folder is broken, its architecture unknown, or its preprocessing another.
    """
    card, tensors = read_folder(folder)
    return architecture_of(card.architecture).from_tensors(card, tensors)
