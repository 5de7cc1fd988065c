"""All of a model that is not weights: what it scores, how it was calibrated, where it came from. Needs no torch.

What is told by label and language is `card.curves[label][language]` here, with `*` for all rows. The file has one key
for both, `label` or `label/language`, and its own name for the curves: it stays as it is, for registries are full of
it, and only this module knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar  # Any: a configuration and a card's figures are JSON of any kind

from pydantic import TypeAdapter

from moderation.errors import ModelError
from moderation.models.operating import OperatingCurve

CARD = "model.json"
ALL_ROWS = "*"
"""In place of a language: what is told of all rows, and what holds for a language of which nothing else is told."""

PROVEN_ROWS = 40
"""Rows of each class on which it shows in a language whether a label works there."""
_SINCE = {"rows"}
"""Fields that cards of earlier releases lack."""
_CELLS = {"calibration": "calibration", "curves": "operating_curves", "rows": "rows"}
"""Fields that are told by label and language, and what the file calls them."""

Value = TypeVar("Value")


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
    calibration: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """Platt scaling (Platt, 1999) by label and language, of languages that had validation rows enough, and of all rows:
    confidence = sigmoid(slope * logit + intercept)."""
    curves: dict[str, dict[str, OperatingCurve]] = field(default_factory=dict)
    """Operating curves by label and language, likewise, measured on validation rows after calibration."""
    rows: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """Harmful and harmless validation rows by label and language: of its own training or, where that had fewer, of the
    version that it was retrained from. Empty: nobody counted, as earlier releases did not."""
    about: dict[str, Any] = field(default_factory=dict)
    """The model card for people: data, split, metrics, licence, parent version."""
    weights_sha256: str = ""
    """Of the weights file; checked when it is loaded."""

    def calibration_of(self, label: str, language: str = "*") -> tuple[float, float]:
        """Slope and intercept of a label in a language: the language's own or, without them, those of all rows."""
        pairs = self.calibration.get(label, {})
        return pairs.get(language, pairs.get(ALL_ROWS, (1.0, 0.0)))

    def curve(self, label: str, language: str = "*") -> OperatingCurve | None:
        """The operating curve of a label in a language: the language's own or, without one, that of all rows."""
        curves = self.curves.get(label, {})
        return curves.get(language, curves.get(ALL_ROWS))

    def languages_of(self, label: str) -> tuple[str, ...]:
        """The languages in which a label was learned, which may be fewer than those that the model was trained on.

        Without `rows`, told by where a figure or a curve of the language's own is; without either, all of them.
        """
        found = self.evidence_of(label)
        return tuple(code for code in self.languages if code in found or not (found or self.rows))

    def evidence_of(self, label: str) -> set[str]:
        """The languages in which something on the card shows that a label was learned."""
        if self.rows:
            return {language for language, (harmful, _) in self.rows.get(label, {}).items() if harmful}
        figures = self.about.get("test")
        tested = _by_language(figures) if isinstance(figures, dict) else {}
        return {*self.curves.get(label, {}), *tested.get(label, {})} - {ALL_ROWS}

    def is_learned(self, label: str, language: str) -> bool:
        """Whether a label was learned in a language. A model that reads no text needs none."""
        return not self.languages or language in self.languages_of(label)

    def is_proven(self, label: str, language: str) -> bool:
        """Whether rows enough show how well a label works in a language: only then may it act without a person.

        Without `rows`, where the language has a curve of its own, of as many. A model that reads no text needs none.
        """
        if not self.languages:
            return True
        own = None if language == ALL_ROWS else self.curves.get(label, {}).get(language)
        counted = (0, 0) if own is None or self.rows else (own.positives, own.negatives)
        return min(self.rows.get(label, {}).get(language, counted)) >= PROVEN_ROWS

    def to_json(self) -> str:
        """As stored, one field a line."""
        stored = asdict(self)
        for name, in_file in _CELLS.items():
            cells = stored.pop(name)
            stored[in_file] = {
                cell_of(label, language): value for label, own in cells.items() for language, value in own.items()
            }
        return json.dumps(stored, ensure_ascii=False, sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read what `to_json` wrote.

        Raises:
            ModelError: a field is missing or of another kind.
        """
        try:
            stored = json.loads(text)
            missing = {_CELLS.get(item.name, item.name) for item in fields(cls)} - set(stored) - _SINCE
            if missing:
                raise KeyError(min(missing))
            for name, in_file in _CELLS.items():
                if in_file in stored:
                    stored[name] = _by_language(stored.pop(in_file))
            return TypeAdapter(cls).validate_json(json.dumps(stored), strict=True)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{CARD} cannot be read: {type(error).__name__}: {error}") from error


def cell_of(label: str, language: str) -> str:
    """What the file, and people, call what is told of a label in a language: `label/language`; of all rows, `label`."""
    return label if language == ALL_ROWS else f"{label}/{language}"


def _by_language(cells: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """What stands under `label` and `label/language`, by label and language."""
    found: dict[str, dict[str, Value]] = {}
    for cell, value in cells.items():
        label, _, language = cell.partition("/")
        found.setdefault(label, {})[language or ALL_ROWS] = value
    return found
