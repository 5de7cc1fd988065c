"""What is written in a picture: PP-OCRv4 (Baidu 2023) as rapidocr-onnxruntime carries it, for Chinese and English.

Thin first version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from rapidocr_onnxruntime import RapidOCR

from moderation.media import Box, Reading, Words, Written

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class OcrRules(BaseModel):
    """How text in pictures is read: section `media.ocr` of a topology."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    enabled: bool = True
    """Whether it is read at all."""
    samples: int = Field(default=4, ge=1, le=64)
    """Pictures of a video or an animation that are read, evenly spread over those that were sampled."""
    detector_side: int = Field(default=736, ge=64, le=4096)
    """Pixels of the longer side at which text is first looked for."""
    least_height: float = Field(default=8.0, ge=1)
    """Pixels, as sampled: lower text is left alone."""
    least_confidence: float = Field(default=0.85, ge=0, le=1)
    """Of a line, below which it is unreadable."""
    most_boxes: int = Field(default=100, ge=1)
    """Of one picture; the largest come first."""
    most_characters: int = Field(default=10_000, ge=1)
    """Of one medium."""


@dataclass(frozen=True, slots=True)
class Line:
    """A box that the detector found, read."""

    text: str
    confidence: float
    quad: Floats
    least: float = 0.0
    score: float = 0.0
    chars: tuple[float, ...] = ()


class TextReader:
    """Reads the text in a medium's pictures."""

    def __init__(self, rules: OcrRules = OcrRules(), *, threads: int = 1) -> None:
        self.rules = rules
        self._models = RapidOCR(intra_op_num_threads=threads, inter_op_num_threads=1)
        self._characters: list[str] = self._models.text_rec.postprocess_op.character

    def read(self, reading: Reading, *, samples: int) -> Written:
        """Read what is written in a medium."""
        count = len(reading.pictures)
        places = np.unique(np.linspace(0, count - 1, min(count, samples)).round().astype(int))
        words: list[Words] = []
        unreadable: list[Box] = []
        for place in places:
            lines = self.lines(reading.pictures[place])
            good = [line for line in lines if line.confidence >= self.rules.least_confidence]
            height, width = reading.pictures[place].shape[:2]
            if good:
                t = None if reading.seconds is None else float(reading.times[place])
                text = "\n".join(line.text for line in good)
                confidence = float(np.mean([line.confidence for line in good]))
                words.append(Words(text, confidence, around([line.quad for line in good], width, height), t))
            unreadable += [around([line.quad], width, height) for line in lines if line not in good]
        return Written(tuple(words), tuple(unreadable))

    def lines(self, picture: Picture) -> list[Line]:
        """Every box of one picture, read."""
        quads, scores = self.find(picture)
        if not len(quads):
            return []
        crops = [cut(picture, quad) for quad in quads]
        upright, _, _ = self._models.text_cls(crops)
        read = self.recognise(upright)
        return [
            Line(text, float(np.mean(chars)) if chars else 0.0, quad, min(chars, default=0.0), score, tuple(chars))
            for (text, chars), quad, score in zip(read, quads, scores, strict=True)
        ]

    def find(self, picture: Picture, side: int | None = None) -> tuple[list[Floats], list[float]]:
        """Boxes of text, as four corners each, clockwise from the top left."""
        height, width = picture.shape[:2]
        if min(height, width) < self.rules.least_height:
            return [], []
        scale = min((side or self.rules.detector_side) / max(height, width), 2.0)
        size = tuple(max(32, round(length * scale / 32) * 32) for length in (width, height))
        small = cv2.resize(picture[:, :, ::-1], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        tensor = ((small.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
        detector = self._models.text_det
        boxes, scores = detector.postprocess_op(detector.infer(tensor)[0], (height, width))
        quads = [np.clip(ordered(box), 0, [width - 1, height - 1]).astype(np.float32) for box in boxes]
        kept = [place for place, quad in enumerate(quads) if min(sides(quad)) >= self.rules.least_height]
        return [quads[place] for place in kept], [float(scores[place]) for place in kept]

    def recognise(self, crops: list[Picture]) -> list[tuple[str, list[float]]]:
        """The text of each crop and the probability of each of its characters but spaces."""
        widths = np.array([crop.shape[1] / crop.shape[0] for crop in crops])
        found: list[tuple[str, list[float]]] = [("", [])] * len(crops)
        order = np.argsort(widths, kind="stable")
        for start in range(0, len(order), 6):
            batch = order[start : start + 6]
            widest = max(320 / 48, float(widths[batch].max()))
            tensors = np.stack([self._models.text_rec.resize_norm_img(crops[place], widest) for place in batch])
            for place, probabilities in zip(batch, self._models.text_rec.session(tensors)[0], strict=True):
                found[place] = self.decode(probabilities)
        return found

    def decode(self, probabilities: Floats) -> tuple[str, list[float]]:
        """The best path of CTC."""
        best = probabilities.argmax(axis=1)
        changed = np.r_[True, best[1:] != best[:-1]] & (best != 0)
        text = "".join(self._characters[label] for label in best[changed])
        return text.strip(), [
            float(probabilities[t, best[t]]) for t in np.flatnonzero(changed) if self._characters[best[t]] != " "
        ]


def ordered(box: npt.NDArray[Any]) -> Floats:
    """Corners, clockwise from the top left."""
    by_x = box[np.argsort(box[:, 0], kind="stable")].astype(np.float32)
    left, right = by_x[:2], by_x[2:]
    left, right = left[np.argsort(left[:, 1])], right[np.argsort(right[:, 1])]
    return np.stack([left[0], right[0], right[1], left[1]])


def sides(quad: Floats) -> tuple[float, float]:
    """Width and height."""
    return float(np.linalg.norm(quad[0] - quad[1])), float(np.linalg.norm(quad[0] - quad[3]))


def cut(picture: Picture, quad: Floats) -> Picture:
    """The box upright, in blue, green, red, as the models expect."""
    width, height = (max(1, round(side)) for side in sides(quad))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    turn = cv2.getPerspectiveTransform(quad, target)
    crop = cv2.warpPerspective(
        picture[:, :, ::-1], turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.ascontiguousarray(np.rot90(crop)) if height >= 1.5 * width else crop


def around(quads: list[Floats], width: int, height: int) -> Box:
    """The box around quads, in shares."""
    points = np.concatenate(quads) / [width, height]
    left, top = points.min(axis=0).clip(0, 1)
    right, bottom = points.max(axis=0).clip(0, 1)
    return float(left), float(top), float(right), float(bottom)
