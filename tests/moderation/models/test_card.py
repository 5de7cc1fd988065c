"""The card beside the weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from moderation.errors import ModelError
from moderation.models.card import CARD, Card
from moderation.models.operating import Objective
from moderation.settings import DEPLOYMENTS
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
    assert again.calibration == {"abuse": {"*": (1.25, -0.5)}, "hate": {"*": (0.75, 0.0)}}


def test_the_curves_of_a_card_give_the_same_thresholds_as_before() -> None:
    curve = a_card().curves["abuse"]["*"]
    again = Card.from_json(a_card().to_json()).curves["abuse"]["*"]
    for bound in (0.3, 0.5, 0.9):
        objective = Objective("recall", bound)
        threshold = again.threshold_for(objective, prevalence=0.3)
        assert threshold is not None
        assert threshold == curve.threshold_for(objective, prevalence=0.3)


def test_a_language_has_its_own_curve_or_that_of_all_rows() -> None:
    of_all, german = a_curve(), a_curve()
    card = a_card(curves={"abuse": {"*": of_all, "de": german}})
    assert card.curve("abuse", "de") is german
    assert card.curve("abuse", "en") is of_all
    assert card.curve("abuse") is of_all
    assert card.curve("hate", "de") is None


def test_the_file_has_one_key_for_label_and_language() -> None:
    """As registries have it already."""
    card = a_card(
        calibration={"abuse": {"*": (1.0, 0.0), "de": (2.0, 1.0)}},
        curves={"abuse": {"*": a_curve()}, "hate": {"en": a_curve()}},
        rows={"abuse": {"de": (40, 41), "en": (1, 2)}},
    )
    stored = json.loads(card.to_json())
    assert stored["calibration"] == {"abuse": [1.0, 0.0], "abuse/de": [2.0, 1.0]}
    assert set(stored["operating_curves"]) == {"abuse", "hate/en"}
    assert stored["rows"] == {"abuse/de": [40, 41], "abuse/en": [1, 2]}
    assert "curves" not in stored
    assert Card.from_json(card.to_json()).rows == card.rows


@pytest.mark.parametrize("model", sorted(path.name for path in (DEPLOYMENTS / "models").iterdir()))
def test_a_card_that_ships_is_written_as_it_was_read(model: str) -> None:
    text = (DEPLOYMENTS / "models" / model / CARD).read_text(encoding="utf-8")
    assert Card.from_json(text).to_json() == text


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


def test_a_label_is_learned_and_shown_by_the_rows_of_a_language() -> None:
    rows = {"abuse": {"de": (40, 40), "en": (39, 4000)}, "hate": {"en": (400, 40), "de": (0, 700)}}
    card = a_card(rows=rows)
    assert card.languages_of("abuse") == ("de", "en")
    assert card.languages_of("hate") == ("en",)
    assert [card.is_proven("abuse", code) for code in ("de", "en", "ru", "und", "*")] == [True, *[False] * 4]
    assert (card.is_proven("hate", "en"), card.is_proven("hate", "de")) == (True, False)
    assert (card.is_learned("hate", "en"), card.is_learned("hate", "de"), card.is_learned("abuse", "und")) == (
        True,
        False,
        False,
    )
    assert Card.from_json(card.to_json()).rows == rows


def test_a_card_that_counts_no_rows_shows_what_its_own_curves_show() -> None:
    card = Card.from_json(changed(rows=MISSING))
    assert card.rows == {}
    assert not card.is_proven("abuse", "de")
    card = a_card(curves={"abuse": {"*": a_curve(), "de": a_curve()}})
    assert [card.is_proven("abuse", code) for code in ("de", "en", "*")] == [True, False, False]


def test_a_model_that_reads_no_text_needs_no_language() -> None:
    card = a_card(languages=())
    assert card.is_learned("abuse", "*")
    assert card.is_proven("abuse", "*")


@pytest.mark.parametrize("model", ["text-multi", "text-ngram", "misinformation"])
def test_the_cards_that_ship_count_the_rows_that_calibrated_them(model: str) -> None:
    card = Card.from_json((DEPLOYMENTS / "models" / model / CARD).read_text(encoding="utf-8"))
    for label in card.labels:
        counted = card.rows[label].values()
        curve = card.curves[label]["*"]
        assert (sum(harmful for harmful, _ in counted), sum(harmless for _, harmless in counted)) == (
            curve.positives,
            curve.negatives,
        )
        for language, own in card.curves[label].items():
            if language != "*":
                assert card.rows[label][language] == (own.positives, own.negatives)


@pytest.mark.parametrize("model", ["text-multi", "text-ngram"])
def test_hate_is_shown_to_work_in_english_alone(model: str) -> None:
    card = Card.from_json((DEPLOYMENTS / "models" / model / CARD).read_text(encoding="utf-8"))
    assert [code for code in (*card.languages, "und", "es") if card.is_proven("hate", code)] == ["en"]
    assert card.languages_of("hate") == ("en", "pt")
