"""The features of a post that are logged with its decision, and that drift is measured on.

Logged at request time, so that what training and monitoring read later is what the model saw then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from moderation.preprocess.language import Language
from moderation.preprocess.text import MENTION, URL

Features: TypeAlias = dict[str, float | str]

NUMERIC = ("characters", "words", "uppercase_share", "urls", "mentions", "language_confidence", "unseen_word_share")
CATEGORICAL = ("language",)


def observe(text: str, language: Language) -> Features:
    """The logged features of one post that no model has a part in.

    A model's own (`score_LABEL` for every label, and `unseen_word_share`) are logged with what it scored.

    Args:
        text: as posted.
        language: what was detected or told.
    """
    letters = sum(character.isalpha() for character in text)
    uppercase = sum(character.isupper() and character.isalpha() for character in text)
    return {
        "characters": float(len(text)),
        "words": float(len(text.split())),
        "uppercase_share": uppercase / letters if letters else 0.0,
        "urls": float(len(URL.findall(text))),
        "mentions": float(len(MENTION.findall(text))),
        "language": language.code,
        "language_confidence": language.confidence,
    }


def scored_features(scores: Mapping[str, float], unseen_word_share: float) -> Features:
    """The logged features of one post that belong to the model that scored it.

    Args:
        scores: confidence per label, each in [0, 1].
        unseen_word_share: share of words that the model never saw in training, in [0, 1].

    Returns:
        `unseen_word_share`, and `score_LABEL` for every label.
    """
    features: Features = {f"score_{label}": float(score) for label, score in scores.items()}
    return features | {"unseen_word_share": float(unseen_word_share)}
