"""Words whose letters are kept apart: joined.

Letters that stand alone, four or more in a row, with little between them: by one sign or string of signs over and over
(`i.d.i.o.t`, `i🔥d🔥i🔥o🔥t`, `i, d, i, o, t`), by white space (`i d i o t`, one a line), or by a bit of both. A wider
gap than usual, or white space where signs are usual, is where a word ends. Digits that stand for letters may be among
them. Letters that belong to a word are not alone: that of `I'm`, of `b-day`, one with a vowel sign.

Every text is gone over a fixed number of times, whatever is in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise

_ALONE = re.compile(r"(?<![^\W_])(?:[^\W\d_]|[013457])(?![^\W_])")
_LEAST = 4
_WIDEST = 6
_TIED = re.compile(r"(?<=\w['\u2019]).|.(?=['\u2019](?!s\b)[^\W\d_])|.(?=[.\-_*·][^\W\d_])|(?<=[^\W\d_][.\-_*·]).")
"""A letter that a sign ties to its neighbour: white space does not part it from that."""
_PART_OF_A_WORD = re.compile(r"(?<=\w['\u2019]).|.(?=['\u2019](?!s\b)[^\W\d_])|(?<=\w\w[.\-_*·]).|.(?=[.\-_*·]\w\w)")
_FEW = re.compile(r"[.,:;!?/|~*·•^_\-]{1,2}|\s*[\u2190-\u2bff\U0001f000-\U0001faff]{1,4}\s*")
"""Signs, none of them of formulas, or pictures with white space around them."""


def joined(text: str) -> str:
    """Join the letters of words that are spelled apart; a composed text without invisible characters."""
    for words in (_by_a_sign, _by_space, _by_anything):
        letters = [found.start() for found in _ALONE.finditer(text)]
        if len(letters) < _LEAST:
            return text
        text = _less(text, [pair for word in words(text, letters) for pair in pairwise(_trimmed(text, word))])
    return text


def _less(text: str, pairs: list[tuple[int, int]]) -> str:
    """The text without what is between the letters of each pair."""
    kept, place = [], 0
    for begin, end in pairs:
        kept.append(text[place : begin + 1])
        place = end
    return "".join(kept) + text[place:]


def _by_a_sign(text: str, letters: list[int]) -> Iterator[list[int]]:
    """Words with the same sign, or string of signs, between all letters."""
    yield from _runs(text, letters, lambda gap: None if gap.isspace() else gap)


def _by_space(text: str, letters: list[int]) -> Iterator[list[int]]:
    """Words with white space between letters, and wider space between words."""
    letters = [place for place in letters if not _TIED.match(text, place)]
    for run in _runs(text, letters, lambda gap: gap.isspace() or None):
        widths = [_width(text, pair) for pair in pairwise(run)]
        usual = min(widths)
        yield from _pieces(run, [width > usual for width in widths])


def _by_anything(text: str, letters: list[int]) -> Iterator[list[int]]:
    """Words with a bit of everything between letters; where it is one sign and white space, that parts words."""
    letters = [place for place in letters if not _PART_OF_A_WORD.match(text, place)]
    for run in _runs(text, letters, lambda gap: gap.isspace() or bool(_FEW.fullmatch(gap)) or None):
        gaps = [text[begin + 1 : end] for begin, end in pairwise(run)]
        one_sign = len({gap for gap in gaps if not gap.isspace()}) == 1
        yield from _pieces(run, [one_sign and gap.isspace() for gap in gaps])


def _runs(text: str, letters: list[int], kind: Callable[[str], object | None]) -> Iterator[list[int]]:
    """Four letters and more with gaps of one kind between them, none in two runs; `kind` of what is no gap is None."""
    kinds: dict[str, object | None] = {}

    def of(pair: tuple[int, int]) -> object | None:
        begin, end = pair
        if end - begin - 1 > _WIDEST:
            return None
        gap = text[begin + 1 : end]
        if gap not in kinds:
            kinds[gap] = None if any(map(_no_gap, gap)) else kind(gap)
        return kinds[gap]

    last = -1
    for found, grouped in groupby(pairwise(letters), of):
        pairs = list(grouped)
        run = [begin for begin, _ in pairs if begin > last] + [pairs[-1][1]]
        if found is not None and len(run) >= _LEAST:
            yield run
            last = run[-1]


def _no_gap(character: str) -> bool:
    """Letters and digits are none, and neither are marks: a consonant with a vowel sign does not stand alone."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def _width(text: str, pair: tuple[int, int]) -> tuple[int, int]:
    gap = text[pair[0] + 1 : pair[1]]
    return gap.count("\n"), len(gap)


def _pieces(run: list[int], ends: list[bool]) -> Iterator[list[int]]:
    """The run, parted where a word ends; nothing if no word is of three letters: these are no words."""
    pieces = [[run[0]]]
    for place, end in zip(run[1:], ends, strict=True):
        if end:
            pieces.append([])
        pieces[-1].append(place)
    if max(map(len, pieces)) >= 3:
        yield from pieces


def _trimmed(text: str, word: list[int]) -> list[int]:
    """Without digits at its edges; nothing if it holds more of them than letters, or one letter over and over."""
    places = [index for index, place in enumerate(word) if not text[place].isdigit()]
    word = word[places[0] : places[-1] + 1] if places else []
    letters = [text[place].casefold() for place in word if not text[place].isdigit()]
    digits = len(word) - len(letters)
    return word if len(set(letters)) > 1 and (digits == 0 or (len(letters) > digits and len(word) >= _LEAST)) else []
