"""New words: what traffic says now that nobody said in the reference.

A new slang, a new product, a new rumour shows in the words long before any score moves: a model that has never seen
a word has no opinion of it. A word is known to a post if another author used it in the reference window;
`novel_word_share` is the share of a post's words that are not known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.preprocess.words import words_of

COLUMN = "novel_word_share"


@dataclass(frozen=True, slots=True)
class NewWord:
    """A word that the reference does not hold.

    Attributes:
        word: normalised.
        authors: who used it in the window.
    """

    word: str
    authors: int


class Vocabulary:
    """Which words were used in the reference, and by whom if by one author only.

    Args:
        texts: raw texts of the reference window.
        authors: of each text.

    Example:
        >>> reference = Vocabulary(["good morning", "good evening"], ["ann", "bob"])
        >>> reference.novel_share(["good gruzzle"], ["cem"]).tolist()
        [0.5]
    """

    def __init__(self, texts: Sequence[str], authors: Sequence[str]) -> None:
        self._users: dict[str, str | None] = {}
        for text, author in zip(texts, authors, strict=True):
            for word in words_of(text):
                self._users[word] = author if self._users.get(word, author) == author else None

    def novel_share(self, texts: Sequence[str], authors: Sequence[str]) -> npt.NDArray[np.float64]:
        """Share of each text's words that no other author used in the reference; 0 for a text without words."""
        shares = np.zeros(len(texts))
        for index, (text, author) in enumerate(zip(texts, authors, strict=True)):
            words = words_of(text)
            if words:
                shares[index] = sum(self._users.get(word, author) == author for word in words) / len(words)
        return shares

    def new_words(
        self, texts: Sequence[str], authors: Sequence[str], *, minimum_authors: int, most: int
    ) -> list[NewWord]:
        """Words that are absent from the reference and that several authors use now, the most used first."""
        users: dict[str, set[str]] = defaultdict(set)
        for text, author in zip(texts, authors, strict=True):
            for word in words_of(text):
                if word not in self._users:
                    users[word].add(author)
        counted = [NewWord(word, len(names)) for word, names in users.items() if len(names) >= minimum_authors]
        return sorted(counted, key=lambda found: (-found.authors, found.word))[:most]
