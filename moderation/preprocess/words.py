"""The words of a text as sets, for asking which words are new: not what a model sees, but what people can read."""

from __future__ import annotations

import re

from moderation.preprocess.text import normalise

_TOKEN = re.compile(r"\w+")
_CJK = re.compile("[\u3040-\u9fff\uac00-\ud7af]")


def words_of(text: str) -> frozenset[str]:
    """The distinct words of a raw text, normalised; three characters or more, CJK runs as pairs of characters.

    Example:
        >>> sorted(words_of("You GRUBNIK, you! 你好吗"))
        ['grubnik', 'you', '你好', '好吗']
    """
    words: set[str] = set()
    for token in _TOKEN.findall(normalise(text)):
        if _CJK.search(token):
            words.update(token[index : index + 2] for index in range(len(token) - 1))
        elif len(token) >= 3:
            words.add(token)
    return frozenset(words)
