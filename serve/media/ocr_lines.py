"""Lines of text in a picture: from a recogniser's columns to characters, from boxes to reading order.

A recogniser trained on Chinese and English gives some characters to any script, and rather surely: Cyrillic comes out
as Latin homoglyphs at a mean probability of 0.8, where English has 0.99. Three things tell them apart:

    certainty   the geometric mean of what the recogniser gives to a character *and its kin* (the other case, the bare
                letter of an accented one, `0` for `o`): doubt between kin costs a reader nothing, doubt between
                strangers is what another script looks like
    company     lines of one picture are mostly of one script: a line's certainty is drawn towards that of the others
    coverage    Japanese syllables and Korean are left out in silence, between Chinese characters that are read well:
                what was read is then too short for the box
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_LOOK_ALIKES = {"|": "l", "i": "l", "1": "l", "0": "o", "ß": "b", "8": "b", "5": "s", "$": "s", "2": "z"}
_SHARP_S = re.compile(r"(?<=[a-zäöü][aeiouäöü])B(?=[a-zäöü]|\b)")
"""What the recogniser makes of `ß`, which it does not know: a capital after a vowel, where no word has one."""
_SURE_SPACE = 0.3
"""Probability of a space that makes one wherever it is."""
_APART = 1.1
"""Columns from one character to the next, in those of the line's median, that make a suspected space one."""
_BODY = 0.75
"""Of a box's height, the letters' own."""
_MOST_FOREIGN = 0.1
_LEAST_COVERED = (0.25, 0.55)
"""Of a box, by its letters; of one with mostly Chinese characters, which are all as wide as high."""
_COMPANY = 10.0
"""Characters that the rest of the picture weighs, in the certainty of a line."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a recogniser read in one crop.

    Attributes:
        text: with its spaces, none at the ends.
        certainty: geometric mean of its letters' and digits' probabilities, kin counted in; 0.0 without a character.
    """

    text: str
    certainty: float


@dataclass(frozen=True, slots=True)
class Line:
    """A box of text, read.

    Attributes:
        text: with its spaces, none at the ends.
        certainty: see `Decoded`; in [0, 1].
        quad: corners in pixels, clockwise from the top left of the box as it stands in the picture; shape (4, 2).
        direction: unit vector along which it is read; shape (2,).
        found: the detector's own certainty that there is text, in [0, 1].
    """

    text: str
    certainty: float
    quad: Floats
    direction: Floats
    found: float

    @property
    def length(self) -> float:
        """Pixels along the longer side."""
        return max(sides(self.quad))

    @property
    def height(self) -> float:
        """Pixels along the shorter side."""
        return min(sides(self.quad))


class Alphabet:
    """The characters that a recogniser knows, by label; label 0 is no character."""

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = tuple(characters)
        self.space = self.characters.index(" ")
        kin: dict[str, list[int]] = {}
        folded = [_folded(character) for character in self.characters]
        for label, form in enumerate(folded):
            if label not in (0, self.space):
                kin.setdefault(form, []).append(label)
        self._kin = [np.array(kin.get(form, [label])) for label, form in enumerate(folded)]

    def decode(self, columns: Floats, *, space: float) -> Decoded:
        """The most likely label of each column, repeats taken together (CTC, Graves et al. 2006), and spaces.

        Args:
            columns: probabilities, shape (columns, labels).
            space: a space stands between two characters that are far apart where any column between gives it that
                much, though no character be likelier still: the recogniser knows of more than it dares to say.
        """
        best = columns.argmax(axis=1)
        starts = np.flatnonzero((best != 0) & (best != self.space) & np.r_[True, best[1:] != best[:-1]])
        usual = float(np.median(np.diff(starts))) if len(starts) > 1 else 0.0
        text: list[str] = []
        logarithms: list[float] = []
        began = ended = -1
        for start in starts.tolist():
            label = best[start]
            end = start
            while end + 1 < len(best) and best[end + 1] == label:
                end += 1
            character = self.characters[label]
            between = columns[ended + 1 : start, self.space] if text else columns[:0, self.space]
            # Letters of one width stand apart inside words, too; and full stops from their words.
            apart = character not in ".,;:!?" and start - began >= _APART * usual
            if between.size and between.max() >= (space if apart else _SURE_SPACE):
                text.append(" ")
            text.append(character)
            if character.isalnum():
                kin = float(columns[start : end + 1][:, self._kin[label]].sum(axis=1).max())
                logarithms.append(math.log(max(kin, 1e-6)))
            began, ended = start, end
        certainty = math.exp(sum(logarithms) / len(logarithms)) if logarithms else 0.0
        return Decoded(_SHARP_S.sub("ß", "".join(text).strip()), min(1.0, certainty))


def _folded(character: str) -> str:
    """What a character and its kin have in common."""
    bare = unicodedata.normalize("NFKD", character.casefold())
    bare = "".join(part for part in bare if not unicodedata.combining(part)) or character
    return _LOOK_ALIKES.get(bare, bare)


def sides(quad: Floats) -> tuple[float, float]:
    """Width and height of a box, in pixels."""
    return float(np.linalg.norm(quad[0] - quad[1])), float(np.linalg.norm(quad[0] - quad[3]))


def coverage(line: Line) -> float:
    """How much of a line's box its characters would take, were they as wide as they usually are; around 1 is usual."""
    wide = sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.5 for c in line.text)
    return wide * line.height * _BODY / max(1.0, line.length)


def foreign(text: str) -> float:
    """Share of letters that are of a script of which the recogniser knows only a few: kana, Greek, Cyrillic."""
    letters = [c for c in text if c.isalpha()]
    strange = sum("\u0370" <= c <= "\u052f" or "\u3040" <= c <= "\u30ff" for c in letters)
    return strange / len(letters) if letters else 0.0


def legible(line: Line) -> bool:
    """Whether what was read is of a script that is known, and all that stands in the box."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line.text)
    least = _LEAST_COVERED[2 * wide > len(line.text)]
    return bool(line.text) and foreign(line.text) < _MOST_FOREIGN and coverage(line) >= least


def in_company(lines: Sequence[Line]) -> list[float]:
    """Each line's certainty, drawn towards that of all of the picture's, the more the shorter it is."""
    sizes = np.array([sum(map(str.isalnum, line.text)) for line in lines], dtype=np.float64)
    certain = np.array([line.certainty for line in lines], dtype=np.float64)
    if not sizes.sum():
        return [0.0] * len(lines)
    shared = float((sizes * certain).sum() / sizes.sum())
    return list((sizes * certain + _COMPANY * shared) / (sizes + _COMPANY) * (sizes > 0))


def in_order(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines as they are read: rows from top to bottom, each from left to right, as the text itself is turned."""
    if not lines:
        return []
    weights = np.array([line.length for line in lines])
    along = (np.stack([line.direction for line in lines]) * weights[:, None]).sum(axis=0)
    length = float(np.linalg.norm(along))
    along = along / length if length > 1e-6 else np.array([1.0, 0.0])
    down = np.array([-along[1], along[0]])
    middles = np.stack([line.quad.mean(axis=0) for line in lines])
    across, depth = middles @ along, middles @ down
    rows: list[list[int]] = []
    for place in np.argsort(depth, kind="stable"):
        line = lines[place]
        if rows:
            first = rows[-1][0]
            if depth[place] - depth[first] < 0.5 * min(line.height, lines[first].height):
                rows[-1].append(int(place))
                continue
        rows.append([int(place)])
    return [[lines[place] for place in sorted(row, key=lambda place: across[place])] for row in rows]


def joined(row: Sequence[Line]) -> str:
    """The text of a row: a space between two boxes, but not between two Chinese characters."""
    text = ""
    for line in row:
        dense = text and unicodedata.east_asian_width(text[-1]) == "W" == unicodedata.east_asian_width(line.text[0])
        text += line.text if dense or not text else f" {line.text}"
    return text
