"""A text in sentences, each with where it stands, counted in UTF-16 code units as Perspective counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

# A sentence ends after its marks and whatever closes with them. Marks that languages with spaces use must be followed
# by one, so that `3.5` and `example.org` stay whole; Chinese and Japanese write on without. A line ends one anyway.
_MARKS = ".!?\u2026\u203c\u2047-\u2049\u061f\u06d4\u0964\u0965"
_CLOSING = "[\"'\u2019\u201d\u00bb\u203a)\\]}\u300d\u300f\uff09\u3011\ufe0f]*+"
# A run of marks is tried once, at its first, and nothing is given back: a flood costs its length, not its square.
_END = re.compile(
    rf"(?<![{_MARKS}])[{_MARKS}]++{_CLOSING}(?=\s)|[\u3002\uff01\uff1f\uff61]++{_CLOSING}|[\r\n\u2028\u2029]++"
)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, without white space around it.

    Attributes:
        begin: first UTF-16 code unit, counted from 0.
        end: the UTF-16 code unit after its last.
        text: what stands there.
    """

    begin: int
    end: int
    text: str


def utf16_length(text: str) -> int:
    """UTF-16 code units of a text: two for a character beyond U+FFFF, such as most emoji, one for any other."""
    return len(text) + sum(character > "\uffff" for character in text)


def whole(text: str) -> Span:
    """All of a text as one span."""
    return Span(0, utf16_length(text), text)


def sentences(text: str, most: int) -> list[Span]:
    """The sentences of a text, in order; none for a text of white space.

    Args:
        text: as posted.
        most: spans at most; where there are more sentences, neighbours share a span, about as many in each.
    """
    cuts = [0, *(match.end() for match in _END.finditer(text)), len(text)]
    found = [_trimmed(text, begin, end) for begin, end in pairwise(cuts)]
    kept = [(begin, end) for begin, end in found if begin < end]
    shares = min(most, len(kept))
    bounds = [index * len(kept) // shares for index in range(shares + 1)] if shares else [0]
    spans: list[Span] = []
    at = units = 0
    for first, after in pairwise(bounds):
        begin, end = kept[first][0], kept[after - 1][1]
        units += utf16_length(text[at:begin])
        part = text[begin:end]
        spans.append(Span(units, units + utf16_length(part), part))
        at, units = end, spans[-1].end
    return spans


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return begin, end
