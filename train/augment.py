"""Obfuscated copies: what people do to a word so that a filter does not know it, done to training rows.

Preprocessing undoes what it can; these copies teach a model the rest (masks, swapped and dropped letters), and that
harmless people misspell too: rows of every class are treated alike.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from ray.data import Dataset

from train.rows import unit_hash

_WORD = re.compile(r"[^\W\d_]{4,}")
_LEET = {"o": "0", "i": "1", "e": "3", "a": "4", "s": "5", "t": "7", "о": "0", "з": "3", "ч": "4", "а": "@"}
_HOMOGLYPHS = dict(zip("aeopcyx" + "аеорсух", "аеорсух" + "aeopcyx", strict=True))


def obfuscate(text: str, generator: random.Random) -> str:
    """Rewrite one or two longer words of a text; scripts without such words stay as they are.

    Args:
        text: raw.
        generator: of the choices.
    """
    words = list(_WORD.finditer(text))
    chosen = generator.sample(words, min(len(words), generator.choice((1, 1, 2))))
    for found in sorted(chosen, key=lambda word: -word.start()):
        trick = generator.choice(_TRICKS)
        text = text[: found.start()] + trick(found.group(), generator) + text[found.end() :]
    return text


def obfuscated(dataset: Dataset, *, share: float, salt: str) -> Dataset:
    """Rewrite the texts of a share of rows, the same ones every time."""

    def rewrite(batch: pd.DataFrame) -> pd.DataFrame:
        chosen = batch["unit"].map(lambda unit: unit_hash(unit, f"{salt}/obfuscated") < share)
        new = [obfuscate(text, random.Random(text)) for text in batch["text"]]  # noqa: S311  # no secret
        batch["text"] = np.where(chosen, new, batch["text"])
        return batch

    return dataset.map_batches(rewrite, batch_format="pandas")


def _mask(word: str, generator: random.Random) -> str:
    place = generator.randrange(1, len(word) - 1)
    count = generator.choice((1, 1, 2)) if place + 2 < len(word) else 1
    return word[:place] + generator.choice("*#_-.") * count + word[place + count :]


def _leet(word: str, _generator: random.Random) -> str:
    return "".join(_LEET.get(letter.lower(), letter) for letter in word)


def _homoglyphs(word: str, generator: random.Random) -> str:
    return "".join(_HOMOGLYPHS.get(letter, letter) if generator.random() < 0.7 else letter for letter in word)


def _space(word: str, generator: random.Random) -> str:
    return generator.choice((" ", ".", "-", "*")).join(word)


def _stretch(word: str, generator: random.Random) -> str:
    place = generator.randrange(len(word))
    return word[:place] + word[place] * generator.randint(2, 5) + word[place + 1 :]


def _swap(word: str, generator: random.Random) -> str:
    place = generator.randrange(1, len(word) - 2)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _drop(word: str, generator: random.Random) -> str:
    place = generator.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1 :]


_TRICKS: tuple[Callable[[str, random.Random], str], ...] = (
    _mask,
    _mask,
    _leet,
    _homoglyphs,
    _space,
    _stretch,
    _swap,
    _drop,
)
