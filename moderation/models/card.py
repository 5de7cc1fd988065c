"""All of a model that is not weights: what it scores, how it was calibrated, where it came from. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter

from moderation.errors import ModelError
from moderation.models.operating import OperatingCurve

CARD = "model.json"

SHOWN_ROWS = 40
"""Rows of each class on which it shows in a language whether a label works there."""
_SINCE = {"rows"}
"""Fields that cards of earlier releases lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All of a model that is not weights. Stored as JSON beside them."""

    architecture: str
    """`ngram`, `image`, ...: which class reads the weights."""
    labels: tuple[str, ...]
    """What it scores, in the order of its outputs."""
    languages: tuple[str, ...]
    """ISO codes that it was trained on; others are scored, and marked. None: it reads no text."""
    preprocessing: str
    """Version of what is done before: `preprocess.text` of text, `models.pictures` of media; another one is refused."""
    config: dict[str, Any]
    """The architecture's own configuration."""
    calibration: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Platt scaling (Platt, 1999) per label, and per `label/language` where a language had validation rows enough:
    confidence = sigmoid(slope * logit + intercept)."""
    operating_curves: dict[str, OperatingCurve] = field(default_factory=dict)
    """Per label, measured on validation rows after calibration; `label/language` where a language had rows enough."""
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Harmful and harmless validation rows by `label/language`: of its own training or, where that had fewer, of the
    version that it was retrained from. Empty: nobody counted, as earlier releases did not."""
    about: dict[str, Any] = field(default_factory=dict)
    """The model card for people: data, split, metrics, licence, parent version."""
    weights_sha256: str = ""
    """Of the weights file; checked when it is loaded."""

    def calibration_of(self, label: str, language: str = "*") -> tuple[float, float]:
        """Slope and intercept of a label in a language: the language's own or, without them, those of all rows."""
        return self.calibration.get(f"{label}/{language}", self.calibration.get(label, (1.0, 0.0)))

    def curve(self, label: str, language: str = "*") -> OperatingCurve | None:
        """The operating curve of a label in a language: the language's own or, without one, that of all rows."""
        return self.operating_curves.get(f"{label}/{language}", self.operating_curves.get(label))

    def languages_of(self, label: str) -> tuple[str, ...]:
        """The languages in which a label was learned, which may be fewer than those that the model was trained on.

        Without `rows`, told by where a figure or a curve of the language's own is; without either, all of them.
        """
        found = self.evidence_of(label)
        return tuple(code for code in self.languages if code in found or not (found or self.rows))

    def evidence_of(self, label: str) -> set[str]:
        """The languages in which something on the card shows that a label was learned."""
        figures = self.about.get("test")
        cells = [*self.operating_curves, *(figures if isinstance(figures, dict) else ())]
        if self.rows:
            cells = [cell for cell, (harmful, _) in self.rows.items() if harmful]
        return {language for name, _, language in (cell.partition("/") for cell in cells) if name == label and language}

    def is_learned(self, label: str, language: str) -> bool:
        """Whether a label was learned in a language. A model that reads no text needs none."""
        return not self.languages or language in self.languages_of(label)

    def is_shown(self, label: str, language: str) -> bool:
        """Whether rows enough show how well a label works in a language: only then may it act without a person.

        Without `rows`, where the language has a curve of its own, of as many. A model that reads no text needs none.
        """
        curve = self.operating_curves.get(f"{label}/{language}")
        counted = (0, 0) if curve is None or self.rows else (curve.positives, curve.negatives)
        return not self.languages or min(self.rows.get(f"{label}/{language}", counted)) >= SHOWN_ROWS

    def to_json(self) -> str:
        """As stored, one field a line."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read what `to_json` wrote.

        Raises:
            ModelError: a field is missing or of another kind.
        """
        try:
            missing = {item.name for item in fields(cls)} - set(json.loads(text)) - _SINCE
            if missing:
                raise KeyError(min(missing))
            return TypeAdapter(cls).validate_json(text, strict=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{CARD} cannot be read: {type(error).__name__}: {error}") from error
