"""What is written in a picture: PP-OCRv4 (Baidu 2023) as rapidocr-onnxruntime carries it, for Chinese and English.

    find       a detector looks for boxes of text, first at a modest size, which is all that most pictures ever cost;
               where it sees any, once more at the picture's own
    recognise  each box is cut out upright and read; what is unsure is read upside down too, and the surer one holds
    judge      lines that are unsure, or of a script that was not trained, are told as boxes and never as words: a
               model would take look-alike Latin for harmless gibberish
    order      rows from top to bottom, each from left to right, as the text is turned

The recogniser knows few accents: `für` is read `fur`, `cabeça` `cabeca`, `groß` `groB`. Text that is written in columns
from top to bottom is not read. Nothing here is drawn at random, and a reader keeps no state between calls: threads may
share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rapidocr_onnxruntime import RapidOCR

from moderation.media import Box, OcrRules, Reading, Words, Written
from moderation.preprocess.ocr_lines import (
    Alphabet,
    Decoded,
    Floats,
    Line,
    in_company,
    in_order,
    joined,
    legible,
    sides,
)

Picture = npt.NDArray[np.uint8]

_LEAST_ALONE = 0.7
"""Certainty that a line must have of its own, whatever company it is in."""
_LEAST_RATIO = 2.0
"""Length over height of a box that counts as unreadable: what is nearly square is a pattern of cloth far more often."""
_LEAST_LETTERS = 2
"""Letters and digits of a picture that are worth a judgement."""
_BATCH = 6
_NARROWEST = 320 / 48
"""Widths over heights to which crops are filled up at least: what the recogniser was trained on."""
_SPACE = 0.015
"""Probability of a space that makes one: between words it is above 0.02 in the fonts tried, within them below 0.005."""
_LONGEST = 40.0
"""Width over height of a crop, at most: longer ones are squeezed."""


class TextReader:
    """Reads the text in a medium's pictures; one may serve several threads.

    Args:
        rules: bounds; see `OcrRules`.
        threads: that one call may use.
    """

    def __init__(self, rules: OcrRules | None = None, *, threads: int = 1) -> None:
        self.rules = rules or OcrRules()
        models = RapidOCR(intra_op_num_threads=threads, inter_op_num_threads=1)
        self._detector, self._recogniser = models.text_det, models.text_rec
        self._alphabet = Alphabet(models.text_rec.postprocess_op.character)

    def read(self, reading: Reading, *, samples: int) -> Written:
        """Read what is written in a medium.

        Args:
            reading: decoded.
            samples: pictures to read, at most, evenly spread over the reading's; at least 1.

        Returns:
            Nothing at all where reading is switched off.
        """
        if samples < 1:
            raise ValueError(f"samples is {samples}, below 1")
        words: list[Words] = []
        unreadable: list[Box] = []
        seen: list[str] = []
        room = self.rules.most_characters
        count = len(reading.pictures) if self.rules.enabled else 0
        for place in np.unique(np.linspace(0, count - 1, min(count, samples)).round().astype(int)):
            height, width = reading.pictures[place].shape[:2]
            good, bad = self._judged(self.lines(reading.pictures[place]), max(height, width))
            for line in bad:
                box = around([line], width, height)
                if not any(overlap(box, other) > 0.5 for other in unreadable):
                    unreadable.append(box)
            rows = [row for row in in_order(good) if not _shown(joined(row), seen)]
            text = "\n".join(joined(row) for row in rows)[:room]
            if sum(map(str.isalnum, text)) >= _LEAST_LETTERS:
                room -= len(text)
                seen += text.split("\n")
                t = None if reading.seconds is None else float(reading.times[place])
                lines = [line for row in rows for line in row]
                confidence = np.average([line.certainty for line in lines], weights=[len(line.text) for line in lines])
                words.append(Words(text, float(confidence), around(lines, width, height), t))
        return Written(tuple(words), tuple(unreadable))

    def lines(self, picture: Picture) -> list[Line]:
        """Every box of one picture, read as well as it can be, whether or not that is well enough."""
        found = self._find(picture)
        crops = [cut(picture, quad) for quad, _ in found]
        decoded = self._recognise(crops)
        unsure = [place for place, read in enumerate(decoded) if read.certainty < 0.97]
        turned = self._recognise([np.ascontiguousarray(crops[place][::-1, ::-1]) for place in unsure])
        flipped = {
            place for place, read in zip(unsure, turned, strict=True) if read.certainty > decoded[place].certainty
        }
        for place, read in zip(unsure, turned, strict=True):
            if place in flipped:
                decoded[place] = read
        return [
            Line(read.text, read.certainty, quad, along(quad, flipped=place in flipped), score)
            for place, (read, (quad, score)) in enumerate(zip(decoded, found, strict=True))
        ]

    def _judged(self, lines: Sequence[Line], side: int) -> tuple[list[Line], list[Line]]:
        """Lines that can be read, and those that cannot though there is text; `side` is the picture's longer one."""
        good, bad = [], []
        for line, certainty in zip(lines, in_company(lines), strict=True):
            if line.certainty >= _LEAST_ALONE and certainty >= self.rules.least_confidence and legible(line):
                good.append(line)
            elif line.found >= self.rules.least_found and line.length >= max(
                _LEAST_RATIO * line.height, self.rules.least_share * side
            ):
                bad.append(line)
        return good, bad

    def _find(self, picture: Picture) -> list[tuple[Floats, float]]:
        """Boxes of text, and how sure the detector is of each."""
        height, width = picture.shape[:2]
        if min(height, width) < self.rules.least_height:
            return []
        found = self._detect(picture, self.rules.first_side)
        if found and max(height, width) > self.rules.first_side:
            found = self._detect(picture, min(max(height, width), self.rules.second_side))
        found.sort(key=lambda pair: -float(np.prod(sides(pair[0]))))
        return found[: self.rules.most_boxes]

    def _detect(self, picture: Picture, side: int) -> list[tuple[Floats, float]]:
        height, width = picture.shape[:2]
        # A small picture is made no more than twice as large: there is nothing more in it.
        scale = min(side / max(height, width), 2.0)
        size = [max(32, round(length * scale / 32) * 32) for length in (width, height)]
        small = cv2.resize(picture[:, :, ::-1], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        tensor = (small.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[None]
        boxes, scores = self._detector.postprocess_op(self._detector.infer(tensor)[0], (height, width))
        quads = [np.clip(ordered(box), 0, [width, height]).astype(np.float32) for box in boxes]
        return [
            (quad, float(score))
            for quad, score in zip(quads, scores, strict=True)
            if min(sides(quad)) >= self.rules.least_height
        ]

    def _recognise(self, crops: Sequence[Picture]) -> list[Decoded]:
        """The text of each crop; crops of like width share a batch."""
        widths = np.array([min(crop.shape[1] / crop.shape[0], _LONGEST) for crop in crops])
        found = [Decoded("", 0.0)] * len(crops)
        order = np.argsort(widths, kind="stable")
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            widest = max(_NARROWEST, float(widths[batch].max()))
            tensors = np.stack([self._recogniser.resize_norm_img(crops[place], widest) for place in batch])
            for place, columns in zip(batch, self._recogniser.session(tensors)[0], strict=True):
                found[place] = self._alphabet.decode(columns, space=_SPACE)
        return found


def ordered(box: npt.NDArray[Any]) -> Floats:
    """Corners, clockwise from the top left."""
    by_x = box[np.argsort(box[:, 0], kind="stable")].astype(np.float32)
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:]))
    return np.stack([left[0], right[0], right[1], left[1]])


def stands(quad: Floats) -> bool:
    """Whether a box is so tall that its text must run up or down."""
    width, height = sides(quad)
    return height >= 1.5 * width


def along(quad: Floats, *, flipped: bool) -> Floats:
    """The unit vector along which a box is read: to the right, or down; the other way when flipped."""
    vector = quad[3] - quad[0] if stands(quad) else quad[1] - quad[0]
    return (vector / max(1e-6, float(np.linalg.norm(vector))) * (-1 if flipped else 1)).astype(np.float32)


def cut(picture: Picture, quad: Floats) -> Picture:
    """The box, lying, in blue, green and red, as the models expect."""
    width, height = (max(1, round(side)) for side in sides(quad))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    turn = cv2.getPerspectiveTransform(quad, target)
    crop = cv2.warpPerspective(
        picture[:, :, ::-1], turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.ascontiguousarray(np.rot90(crop)) if stands(quad) else crop


def around(lines: Sequence[Line], width: int, height: int) -> Box:
    """The box around lines, as shares of a picture of that size."""
    points = np.concatenate([line.quad for line in lines]) / [width, height]
    left, top = points.min(axis=0).clip(0, 1)
    right, bottom = points.max(axis=0).clip(0, 1)
    return float(left), float(top), float(right), float(bottom)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def _shown(text: str, seen: Sequence[str]) -> bool:
    """Whether a row was shown before; a frame's noise may change a character or two of it."""
    return any(
        text == other or (min(len(text), len(other)) >= 8 and SequenceMatcher(None, text, other).ratio() >= 0.85)
        for other in seen
    )
