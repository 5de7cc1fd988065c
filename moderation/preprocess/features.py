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


def observe(text: str, language: Language, *, unseen_word_share: float, scores: Mapping[str, float]) -> Features:
    """The logged features of one post.

    Args:
        text: as posted.
        language: what was detected or told.
        unseen_word_share: share of words that the scoring model never saw in training, in [0, 1].
        scores: the model's confidence per label, each in [0, 1].

    Returns:
        The `NUMERIC` and `CATEGORICAL` features, and `score_LABEL` for every label.
    """
    letters = sum(character.isalpha() for character in text)
    uppercase = sum(character.isupper() for character in text)
    features: Features = {
        "characters": float(len(text)),
        "words": float(len(text.split())),
        "uppercase_share": uppercase / letters if letters else 0.0,
        "urls": float(len(URL.findall(text))),
        "mentions": float(len(MENTION.findall(text))),
        "language": language.code,
        "language_confidence": language.confidence,
        "unseen_word_share": float(unseen_word_share),
    }
    features.update({f"score_{label}": float(score) for label, score in scores.items()})
    return features
