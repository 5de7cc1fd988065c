"""From a model folder to a model: the one place that knows every architecture."""

from __future__ import annotations

from pathlib import Path

from moderation.errors import ModelError
from moderation.models.base import TextClassifier, read_folder
from moderation.models.ngram import NgramClassifier

ARCHITECTURES: dict[str, type[TextClassifier]] = {NgramClassifier.architecture: NgramClassifier}


def load_text_classifier(folder: Path) -> TextClassifier:
    """Load a model folder.

    Raises:
        ModelError: the folder is broken, its architecture unknown, or its preprocessing another.
    """
    card, tensors = read_folder(folder)
    architecture = ARCHITECTURES.get(card.architecture)
    if architecture is None:
        raise ModelError(f"architecture is {card.architecture!r}; known are {', '.join(sorted(ARCHITECTURES))}")
    return architecture.from_tensors(card, tensors)
