"""What is written in a picture: PP-OCRv4 (Baidu 2023) as rapidocr-onnxruntime carries it, for Chinese and English.

    find       a detector looks for boxes of text, first at a modest size, which is all that most pictures ever cost;
               where it sees any, once more at the picture's own
    recognise  each box is cut out upright and read; what is unsure is read upside down too, and the surer one holds
    judge      lines that are unsure, or of a script that was not trained, are told as boxes and never as words: a
               model would take Latin homoglyphs for harmless gibberish
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
from moderation.preprocess.stills import ALIKE, farthest_first, thumbnail, unlike
from serve.media.ocr_lines import (
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
_ALL_OF_AN_ANIMATION = 8
"""Pictures of an animated image, up to which all are read."""
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_EDGE = 0.005
"""Share of a tile's side, within which a line is taken to be cut."""
_LIKE = 0.85
"""Of two rows, from which one is the other again."""
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
            samples: pictures of a video to read in any case, evenly spread over the reading's; at least 1. Others are
                read where they differ, up to `OcrRules.more_samples`. Of a still image every picture is read, its tiles
                from top to bottom, and of an animation every one of up to 8.

        Returns:
            Nothing at all where reading is switched off.
        """
        if samples < 1:
            raise ValueError(f"samples is {samples}, below 1")
        words: list[Words] = []
        base, more, unread = self._places(reading, samples)
        unreadable: list[Box] = []
        clear: list[Box] = []
        seen: list[tuple[str, Box | None]] = []
        room = self.rules.most_characters
        for place in sorted({*base, *more}):
            picture, region = reading.pictures[place], _WHOLE if reading.regions is None else reading.regions[place]
            height, width = picture.shape[:2]
            found, left_out = self._find(picture, self.rules.more_side if place in more else self.rules.first_side)
            good, bad = self._judged(self._read(picture, found), max(height, width))
            if reading.regions is not None:
                good, bad = (_uncut(lines, picture, region, reading.regions, clear) for lines in (good, bad))
            doubtful = [on_whole(around([line], width, height), region) for line in bad]
            rows = []
            for row in in_order(good):
                where = on_whole(around(row, width, height), region) if reading.seconds is None else None
                if not _seen_before(joined(row), where, seen):
                    rows.append((joined(row), where, row))
            text = "\n".join(row_text for row_text, _, _ in rows)
            if sum(map(str.isalnum, text)) >= _LEAST_LETTERS:
                lines = [line for _, _, row in rows for line in row]
                box = on_whole(around(lines, width, height), region)
                if len(text) > room:
                    doubtful.append(box)
                text = text[:room]
                room -= len(text)
                seen += [(row_text, where) for row_text, where, _ in rows]
                if text:
                    t = None if reading.seconds is None else float(reading.times[place])
                    weights = [len(line.text) for line in lines]
                    confidence = np.average([line.certainty for line in lines], weights=weights)
                    words.append(Words(text, float(confidence), box, t))
            if left_out:
                doubtful.append(on_whole(around_all(left_out, width, height), region))
            clear += [on_whole(around([line], width, height), region) for line in good]
            for box in doubtful:
                if not any(overlap(box, other) > 0.5 for other in unreadable):
                    unreadable.append(box)
        if reading.seconds is None and len(reading.pictures) > 1:  # what one picture blurs, another shows
            unreadable = [box for box in unreadable if not any(within(box, other) > 0.5 for other in clear)]
        times = tuple(round(float(reading.times[place]), 3) for place in unread)
        return Written(tuple(words), tuple(unreadable), times, 1 - len(unread) / len(reading.pictures))

    def _places(self, reading: Reading, samples: int) -> tuple[list[int], list[int], list[int]]:
        """Which pictures are read in any case; which others, as they differ; and which differ and are not read."""
        count = len(reading.pictures)
        if not self.rules.enabled:
            return [], [], []
        if reading.seconds is None or (reading.kind == "image" and count <= _ALL_OF_AN_ANIMATION):
            return list(range(count)), [], []
        base = [int(at) for at in np.unique(np.linspace(0, count - 1, min(count, samples)).round())]
        thumbnails = np.stack([thumbnail(picture) for picture in reading.pictures])
        distances = np.min([unlike(thumbnails, thumbnails[place]) for place in base], axis=0)
        more = farthest_first(thumbnails, distances, ALIKE, self.rules.more_samples)
        return base, more, [int(place) for place in np.flatnonzero(distances > ALIKE)]

    def lines(self, picture: Picture) -> list[Line]:
        """Every box of one picture, read as well as it can be, whether or not that is well enough."""
        return self._read(picture, self._find(picture)[0])

    def _read(self, picture: Picture, found: Sequence[tuple[Floats, float]]) -> list[Line]:
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

    def _find(self, picture: Picture, first_side: int | None = None) -> tuple[list[tuple[Floats, float]], list[Floats]]:
        """Boxes of text, and how sure the detector is of each; and those that are text and too many to be read."""
        height, width = picture.shape[:2]
        if min(height, width) < self.rules.least_height:
            return [], []
        first_side = first_side or self.rules.first_side
        found = self._detect(picture, first_side)
        if found and max(height, width) > first_side:
            found = self._detect(picture, min(max(height, width), self.rules.second_side))
        found.sort(key=lambda pair: -float(np.prod(sides(pair[0]))))
        most = self.rules.most_boxes
        return found[:most], [quad for quad, score in found[most:] if score >= self.rules.least_found]

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
    return around_all([line.quad for line in lines], width, height)


def around_all(quads: Sequence[Floats], width: int, height: int) -> Box:
    """The box around boxes, as shares of a picture of that size."""
    points = np.concatenate(quads) / [width, height]
    left, top = points.min(axis=0).clip(0, 1)
    right, bottom = points.max(axis=0).clip(0, 1)
    return float(left), float(top), float(right), float(bottom)


def on_whole(box: Box, region: Box) -> Box:
    """A box of a picture as one of the whole, of which the picture shows a region."""
    wide, high = region[2] - region[0], region[3] - region[1]
    corners = (
        region[0] + box[0] * wide,
        region[1] + box[1] * high,
        region[0] + box[2] * wide,
        region[1] + box[3] * high,
    )
    left, top, right, bottom = (min(1.0, max(0.0, corner)) for corner in corners)
    return left, top, right, bottom


def within(box: Box, other: Box) -> float:
    """Share of a box that lies in another one, in [0, 1]; 0 for a box without extent."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return width * height / area if width > 0 and height > 0 and area > 0 else 0.0


def _uncut(
    lines: Sequence[Line], picture: Picture, region: Box, regions: Sequence[Box], clear: Sequence[Box]
) -> list[Line]:
    """Lines of a tile without those that its edge cuts, where another tile has them whole or they were read before."""
    height, width = picture.shape[:2]
    kept = []
    for line in lines:
        box = on_whole(around([line], width, height), region)
        edge = _EDGE * (region[2] - region[0]), _EDGE * (region[3] - region[1])
        if not _inside(box, region, edge) and (
            any(within(box, other) > 0.8 for other in clear)
            or any(_inside(box, other, edge) for other in regions if _is_tile(other))
        ):
            continue
        kept.append(line)
    return kept


def _is_tile(region: Box) -> bool:
    return region[2] - region[0] < 1 or region[3] - region[1] < 1


def _inside(box: Box, region: Box, edge: tuple[float, float]) -> bool:
    """Whether a region has all of a box, and none of it at an edge that is not the whole's own."""
    return all(region[side] <= 0 or box[side] > region[side] + edge[side] for side in (0, 1)) and all(
        region[side] >= 1 or box[side] < region[side] - edge[side - 2] for side in (2, 3)
    )


def overlap(first: Box, second: Box) -> float:
    """Intersection over union, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def _seen_before(text: str, where: Box | None, seen: Sequence[tuple[str, Box | None]]) -> bool:
    """Whether a row was shown before; a frame's noise may change a character or two of it.

    In a still picture (`where` is a box) it is the same row only in the same place: a list has rows that are alike.
    """
    return any(
        (text == other or (min(len(text), len(other)) >= 8 and _alike(text, other)))
        and (where is None or place is None or within(where, place) > 0.5)
        for other, place in seen
    )


def _alike(text: str, other: str) -> bool:
    matcher = SequenceMatcher(None, text, other)  # its two quick answers are bounds from above of the slow one
    return matcher.real_quick_ratio() >= _LIKE and matcher.quick_ratio() >= _LIKE and matcher.ratio() >= _LIKE
