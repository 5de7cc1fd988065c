"""A long text in windows: a few words that say something among many that do not are judged by themselves.

A model takes the mean over a text: what an insult says is a tenth of it with ten times as many harmless words around.
So windows of a dozen words are judged beside the whole. Each ends with the last sentence that ends in it, and the next
begins there; where none does, they overlap by half, so that what is as long as that is in one of them as a whole.

Width is what is counted: a letter 1, a character of a script without spaces between words 3. The longer a text, the
less windows overlap and the longer they are, so that the work stays bounded; what exceeds even that is not read, and
told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from moderation.preprocess.text import SOLID

LONG = 180
"""Up to this width, some 30 words, a text is no longer than what is judged as one."""
MOST = 64
"""Windows of one text."""
_STEPS = ((72, 36), (120, 60), (120, 100), (240, 192), (480, 400))
"""Width of a window, and from the begin of one to that of the next; the first of which `MOST` hold the text."""
MOST_CHARACTERS = MOST * _STEPS[-1][0]
"""Of all windows of one text together."""

_SOLID_WIDTH = 3
_SOLID = re.compile(f"[{SOLID}]")
_PIECE = re.compile(rf"[{SOLID}]|[^\s{SOLID}]{{1,40}}")
_SENTENCE_END = re.compile("[.!?\u2026\u3002\uff01\uff1f\u061f\u0964][\"'\u201d\u00bb)]?$")


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a text.

    Attributes:
        parts: in order; none of a text that is no longer than one.
        everything: whether all of the text is in one of them.
    """

    parts: tuple[str, ...]
    everything: bool


def windows(cleaned: str, *, longest: int = LONG) -> Windows:
    """Cut a cleaned text.

    Args:
        cleaned: as `preprocess.text.clean` returned it.
        longest: width up to which there are none.
    """
    if len(cleaned) * _SOLID_WIDTH <= longest:
        return Windows((), True)
    pieces = [found.span() for found in _PIECE.finditer(cleaned)]
    at, ends = [0], []  # where each piece begins, counted in width; whether a sentence ends with it
    for begin, end in pieces:
        at.append(at[-1] + (_SOLID_WIDTH if _SOLID.match(cleaned, begin) else end - begin + 1))
        ends.append(bool(_SENTENCE_END.search(cleaned, begin, end)))
    if at[-1] <= longest:
        return Windows((), True)
    return next(
        (found for size, step in _STEPS if (found := _cut(cleaned, pieces, at, ends, size, step)).everything),
        _cut(cleaned, pieces, at, ends, *_STEPS[-1]),
    )


def _cut(cleaned: str, pieces: list[tuple[int, int]], at: list[int], ends: list[bool], size: int, step: int) -> Windows:
    parts: list[str] = []
    first = 0
    while len(parts) < MOST:
        last, sentence = _last(at, ends, first, size)
        parts.append(cleaned[pieces[first][0] : pieces[last - 1][1]])
        if last == len(pieces):
            return Windows(tuple(parts), True)
        first = last if sentence else _next(at, first, last, step)
    return Windows(tuple(parts), False)


def _last(at: list[int], ends: list[bool], first: int, size: int) -> tuple[int, bool]:
    """Behind the last piece of a window, and whether that is the end of the last sentence that ends in it."""
    last = first + 1
    sentence = 0
    while last < len(ends) and at[last + 1] - at[first] <= size:
        last += 1
        if ends[last - 1] and 3 * (at[last] - at[first]) >= size:
            sentence = last
    return (sentence, True) if sentence and last < len(ends) else (last, False)


def _next(at: list[int], first: int, last: int, step: int) -> int:
    """Where the next window begins: a step on, but leaving no gap."""
    begin = first + 1
    while begin < last and at[begin] - at[first] < step:
        begin += 1
    return begin
