"""Copies of a text: what many people post word for word is one thing to learn from, and one to judge by.

A row of evidence is worth what it adds. Four hundred accounts that post one sentence add one sentence, so wherever
models are fitted, held against a threshold or compared, a text counts once, and is taken for its first author's.

Authors who share a text are not joined into one cluster beyond that: talk is full of small phrases that join nearly
everybody (in the simulated traffic of `make loop` a third of all posts), and then no interval could say anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from moderation.metrics import Floats
from moderation.preprocess.text import normalise

_WORD = re.compile(r"[^\W_]+")


def key_of(text: str) -> str:
    """What copies of a text have in common: its words, normalised, whatever punctuation or emoji go with them.

    A text without a word is a copy only of what is normalised alike.

    Example:
        >>> key_of("You are an IDIOT!!! 🙄 @ann") == key_of("you are an 1d10t, @bob")
        True
    """
    normalised = normalise(text)
    return " ".join(_WORD.findall(normalised)) or normalised


def shares(keys: Sequence[str]) -> Floats:
    """How much each row counts, so that each text counts once: 1 by the number of its copies; shape (rows,)."""
    if not keys:
        return np.empty(0)
    _, inverse, counts = np.unique(np.asarray(keys, dtype=object), return_inverse=True, return_counts=True)
    shared: Floats = 1 / counts[inverse]
    return shared


def first_authors(keys: Sequence[str], authors: Sequence[str]) -> list[str]:
    """The author each row is counted with: of copies, who comes first among the rows."""
    first: dict[str, str] = {}
    return [first.setdefault(key, author) for key, author in zip(keys, authors, strict=True)]
