"""The card beside the weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from moderation.errors import ModelError
from moderation.models.card import Card
from moderation.models.operating import Objective
from tests.moderation.models.making import a_card, a_curve

MISSING = object()


def changed(**changes: Any) -> str:
    raw = json.loads(a_card().to_json())
    for name, value in changes.items():
        if value is MISSING:
            del raw[name]
        else:
            raw[name] = value
    return json.dumps(raw)


def test_a_card_is_read_as_it_was_written() -> None:
    card = a_card(weights_sha256="0" * 64)
    again = Card.from_json(card.to_json())
    # JSON knows no tuples: what is inside `config` and `about` comes back as lists.
    expected = asdict(card) | {"config": json.loads(json.dumps(card.config))}
    assert asdict(again) == expected
    assert again.to_json() == card.to_json()
    assert again.labels == ("abuse", "hate")
    assert again.calibration == {"abuse": (1.25, -0.5), "hate": (0.75, 0.0)}


def test_the_curves_of_a_card_give_the_same_thresholds_as_before() -> None:
    curve = a_card().operating_curves["abuse"]
    again = Card.from_json(a_card().to_json()).operating_curves["abuse"]
    for bound in (0.3, 0.5, 0.9):
        objective = Objective("recall", bound)
        threshold = again.threshold_for(objective, prevalence=0.3)
        assert threshold is not None
        assert threshold == curve.threshold_for(objective, prevalence=0.3)


def test_a_language_has_its_own_curve_or_that_of_all_rows() -> None:
    of_all, german = a_curve(), a_curve()
    card = a_card(operating_curves={"abuse": of_all, "abuse/de": german})
    assert card.curve("abuse", "de") is german
    assert card.curve("abuse", "en") is of_all
    assert card.curve("abuse") is of_all
    assert card.curve("hate", "de") is None


def test_a_card_is_written_for_people_too() -> None:
    text = a_card().to_json()
    assert text.endswith("}\n")
    assert "Ж" in text
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_fields_of_a_later_release_are_left_out() -> None:
    assert asdict(Card.from_json(changed(colour="red"))) == asdict(Card.from_json(changed()))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"card"', "{}"], ids=lambda text: text or "nothing")
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"^model\.json cannot be read: "):
        Card.from_json(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": MISSING},
        {"labels": MISSING},
        {"languages": MISSING},
        {"preprocessing": MISSING},
        {"config": MISSING},
        {"calibration": MISSING},
        {"operating_curves": MISSING},
        {"labels": None},
        {"labels": 2},
        {"calibration": []},
        {"calibration": {"abuse": [1.0]}},
        {"calibration": {"abuse": 1.0}},
        {"operating_curves": {"abuse": {}}},
        {"operating_curves": {"abuse": {"thresholds": [0.5]}}},
    ],
    ids=lambda changes: "-".join(f"{name}={'?' if value is MISSING else value}" for name, value in changes.items()),
)
def test_a_field_that_is_missing_or_broken_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"^model\.json cannot be read: \w+Error: "):
        Card.from_json(changed(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"architecture": 7}, {"labels": "abuse"}, {"config": []}, {"calibration": {"abuse": ["a", "b"]}}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_field_of_another_kind_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"^model\.json cannot be read: "):
        Card.from_json(changed(**changes))
