"""All of a model that is not weights: what it scores, how it was calibrated, where it came from. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter

from moderation.errors import ModelError
from moderation.models.operating import OperatingCurve

CARD = "model.json"


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
            missing = {item.name for item in fields(cls)} - set(json.loads(text))
            if missing:
                raise KeyError(min(missing))
            return TypeAdapter(cls).validate_json(text, strict=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{CARD} cannot be read: {type(error).__name__}: {error}") from error
