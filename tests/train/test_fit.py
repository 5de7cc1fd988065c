"""The end of a training, on tiny n-gram models: what is stored, calibrated and measured. Without Ray."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moderation.errors import NotEnoughDataError
from moderation.models.base import Prepared, TextClassifier, confidence
from moderation.models.card import Card
from moderation.models.load import load_text_classifier
from moderation.models.ngram import NgramClassifier, NgramModule
from moderation.models.operating import OperatingCurve
from moderation.models.seen import no_words, remember_words
from moderation.preprocess.ngrams import NgramConfig, hash_ngrams
from moderation.preprocess.text import TEXT_VERSION, normalise
from moderation.settings import DEPLOYMENTS
from train import fit as fit_module
from train.fit import (
    ValidationRows,
    _parent,
    calibrated,
    finish,
    languages_of_their_own,
    learner_of,
    measured_curves,
    platt,
)
from train.learner import FitConfig, Plan, anchored, loss_of
from train.ngram import NgramLearner

NAN = float("nan")
NGRAMS = NgramConfig(buckets=64, char_lengths=(1, 2), word_lengths=(1,))
PLAN = Plan(labels=("abuse", "hate"), languages=("en",), model=NGRAMS, fit=FitConfig(epochs=3), about={"data": "tiny"})
TEXTS = ["you idiot", "you fool", "good day", "my garden", "an idiot", "a fool", "fine words", "ripe fruit"]
ABUSE = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
HATE = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]


def a_parent(seed: int, weight: float | None = None, word: str = "") -> NgramClassifier:
    """A model with weights of its own; it has seen one word."""
    torch.manual_seed(seed)
    module = NgramModule(NGRAMS.buckets, 2)
    torch.nn.init.normal_(module.table.weight)
    if weight is not None:
        with torch.no_grad():
            module.table.weight[0, 0] = weight
    card = finish(NgramLearner(PLAN, None), PLAN, rows(HATE), None).card
    seen = no_words()
    if word:
        remember_words(seen, hash_ngrams([word], NGRAMS).words)
    return NgramClassifier(card, module, seen)


def rows(hate: Sequence[float], *, weights: Sequence[float] = (1.0,) * 8) -> ValidationRows:
    return ValidationRows(
        texts=TEXTS,
        known=[{}] * 8,
        languages=["en"] * 4 + ["de"] * 4,
        truth=np.array([ABUSE, hate], dtype=np.float64).T,
        weights=np.array([weights, weights], dtype=np.float64).T,
    )


def finished(
    seed: int = 0, hate: Sequence[float] = HATE, parent: TextClassifier | None = None, **changes: Any
) -> TextClassifier:
    """A model that begins, and ends, at the weights of `a_parent(seed)`."""
    return finish(NgramLearner(PLAN, a_parent(seed, **changes)), PLAN, rows(hate), parent)


def test_the_card_says_what_was_trained_and_how() -> None:
    card = finished().card
    assert (card.architecture, card.labels, card.languages, card.preprocessing) == (
        "ngram",
        ("abuse", "hate"),
        ("en",),
        TEXT_VERSION,
    )
    assert card.config == {"buckets": 64, "char_lengths": (1, 2), "word_lengths": (1,), "inputs": ()}
    assert card.about["data"] == "tiny"
    assert card.about["fit"]["epochs"] == 3
    assert set(card.calibration) == set(card.curves) == {"abuse", "hate"}
    assert {*card.calibration["abuse"], *card.curves["abuse"]} == {"*"}


def test_the_curve_counts_the_rows_whose_label_is_known() -> None:
    curves = finished(hate=[1.0, NAN, 0.0, NAN, 0.0, NAN, NAN, 1.0]).card.curves
    assert (curves["abuse"]["*"].positives, curves["abuse"]["*"].negatives) == (4, 4)
    assert (curves["hate"]["*"].positives, curves["hate"]["*"].negatives) == (2, 2)


def test_calibration_and_curve_are_those_of_the_weights_that_are_stored(tmp_path: Path) -> None:
    model = finished()
    model.save(tmp_path)
    loaded = load_text_classifier(tmp_path)
    np.testing.assert_array_equal(loaded.score(TEXTS).confidence, model.score(TEXTS).confidence)
    served = loaded.score(TEXTS).confidence[:, 0].astype(np.float64)
    measured = OperatingCurve.measure(np.array(ABUSE) == 1, served)
    stored = loaded.card.curves["abuse"]["*"]
    assert (stored.thresholds, stored.recall, stored.false_positive_rate) == (
        measured.thresholds,
        measured.recall,
        measured.false_positive_rate,
    )


@pytest.mark.parametrize("weight", [1 / 3, 1e-9])
def test_weights_are_rounded_to_what_is_stored_before_anything_is_measured(weight: float) -> None:
    stored = float(finished(weight=weight).tensors()["table"][0, 0])
    assert stored == float(np.float16(weight)) != float(np.float32(weight))


def test_words_that_training_showed_are_kept() -> None:
    model = finished(word="garden")
    assert model.score(["garden", "my garden", "words"]).unseen_word_share.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("hate", "found"),
    [
        ([0.0] * 8, "0 harmful of 8"),
        ([1.0] * 8, "8 harmful of 8"),
        ([NAN] * 8, "0 harmful of 0"),
        ([1.0] + [NAN] * 7, "1 harmful of 1"),
    ],
)
def test_both_classes_are_needed_where_there_is_no_parent(hate: list[float], found: str) -> None:
    with pytest.raises(NotEnoughDataError, match=f"label 'hate' has {found} validation rows; both classes are needed"):
        finish(NgramLearner(PLAN, None), PLAN, rows(hate), None)


@pytest.mark.parametrize("hate", [[0.0] * 8, [1.0] * 8, [NAN] * 8])
def test_a_label_that_lacks_a_class_keeps_its_parent_s_calibration_and_curves(hate: list[float]) -> None:
    parent = finished(1)
    of_all = parent.card.curves["hate"]["*"]
    german = replace(of_all)
    parent.card = replace(parent.card, curves=parent.card.curves | {"hate": {"*": of_all, "de": german}})
    child = finished(2, hate, parent).card
    assert child.calibration["hate"] == parent.card.calibration["hate"]
    assert child.curves["hate"]["*"] is of_all
    assert child.curves["hate"]["de"] is german
    assert child.calibration["abuse"] != parent.card.calibration["abuse"]
    assert child.curves["abuse"]["*"] is not parent.card.curves["abuse"]["*"]


def test_a_label_with_both_classes_is_calibrated_anew_whatever_the_parent_had() -> None:
    assert finished(2, parent=finished(1)).card.calibration == finished(2).card.calibration


def test_calibration_recovers_the_slope_and_intercept_that_made_the_labels() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, 20_000)
    harmful = generator.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    slope, intercept = platt(logits, harmful, np.ones(20_000))
    assert slope == pytest.approx(0.5, abs=0.05)
    assert intercept == pytest.approx(-1, abs=0.1)


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    logits = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 0.5])
    harmful = np.array([False, False, True, False, True, True])
    twice = [0, 1, 2, 3, 4, 5, 3, 4]
    weighted = platt(logits, harmful, np.array([1.0, 1.0, 1.0, 2.0, 2.0, 1.0]))
    assert weighted == pytest.approx(platt(logits[twice], harmful[twice], np.ones(8)), rel=1e-4)
    assert weighted != pytest.approx(platt(logits, harmful, np.ones(6)), rel=1e-2)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_confidences_stay_within_bounds_however_large_the_logits(scale: float) -> None:
    logits = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]) * scale
    pair = platt(logits, logits > 0, np.ones(6))
    assert pair[0] > 0
    assert np.isfinite(pair).all()
    scores = confidence(logits, pair)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores) >= 0).all()


@pytest.mark.parametrize(
    ("harmful", "harmless", "own"),
    [
        (40, 40, True),
        (39, 500, False),
        (500, 39, False),
    ],
)
def test_a_language_with_rows_enough_gets_a_curve_of_its_own(harmful: int, harmless: int, own: bool) -> None:
    truth = np.array([True] * harmful + [False] * harmless + [True, False])
    scores = np.linspace(0.9, 0.1, len(truth))
    languages = ["de"] * (harmful + harmless) + ["en"] * 2
    curves = measured_curves(truth, scores, languages_of_their_own(truth, languages, 40))
    assert set(curves) == ({"*", "de"} if own else {"*"})
    assert (curves["*"].positives, curves["*"].negatives) == (harmful + 1, harmless + 1)
    if own:
        assert (curves["de"].positives, curves["de"].negatives) == (harmful, harmless)


LOGITS = torch.tensor([[2.0, -1.0], [0.0, 3.0]])


def bce(logit: float, truth: float) -> float:
    probability = 1 / (1 + np.exp(-logit))
    return float(-np.log(probability if truth else 1 - probability))


def loss(truth: list[list[float]], weights: list[list[float]], **changes: Any) -> float | None:
    found = loss_of(LOGITS, torch.tensor(truth), torch.tensor(weights), FitConfig(**changes))
    return None if found is None else float(found)


ONES = [[1.0, 1.0], [1.0, 1.0]]


def test_the_loss_is_the_mean_over_what_people_spoke_of() -> None:
    expected = (bce(2.0, 1) + bce(3.0, 0)) / 2
    assert loss([[1.0, NAN], [NAN, 0.0]], ONES) == pytest.approx(expected, rel=1e-5)
    assert loss([[NAN, NAN], [NAN, NAN]], ONES) is None


def test_a_row_counts_by_its_weight_on_each_label() -> None:
    expected = (3 * bce(2.0, 1) + 1 * bce(3.0, 0)) / 4
    assert loss([[1.0, NAN], [NAN, 0.0]], [[3.0, 9.0], [9.0, 1.0]]) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_discounts_what_is_judged_rightly() -> None:
    right, wrong = bce(2.0, 1), bce(3.0, 0)
    p_right, p_wrong = np.exp(-right), np.exp(-wrong)
    expected = (right * (1 - p_right) ** 2 + wrong * (1 - p_wrong) ** 2) / 2
    truth = [[1.0, NAN], [NAN, 0.0]]
    assert loss(truth, ONES, loss="focal") == pytest.approx(expected, rel=1e-5)
    assert loss(truth, ONES, loss="focal", focal_gamma=0.0) == pytest.approx(loss(truth, ONES), rel=1e-6)


def test_the_pull_towards_the_parent_is_the_squared_distance() -> None:
    parameters = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    same = [parameter.clone() for parameter in parameters]
    assert float(anchored(torch.tensor(0.5), parameters, same, 0.1)) == 0.5
    moved = [torch.tensor([0.0, 0.0]), torch.tensor([[1.0]])]
    assert float(anchored(torch.tensor(0.5), parameters, moved, 0.1)) == pytest.approx(0.5 + 0.1 * (1 + 4 + 4))


def test_the_columns_that_learning_reads_are_those_that_serving_scores() -> None:
    texts = ["You IDIOT", "", "my garden is ripe"]
    columns = NgramLearner.encode(Prepared.of(texts), NGRAMS)
    assert [len(row) for row in columns["words"].to_pylist()] == [2, 0, 4]
    for text, row in zip(texts, columns["ids"].to_pylist(), strict=True):
        assert row == hash_ngrams([normalise(text)], NGRAMS).ids.tolist()


def test_a_learner_begins_at_its_parent_s_weights_and_leaves_the_parent_as_it_was() -> None:
    parent = a_parent(1, word="garden")
    before = {name: tensor.clone() for name, tensor in parent.tensors().items()}
    learner = NgramLearner(PLAN, parent)
    with torch.no_grad():
        learner._module.table.weight.add_(1)
    learner._seen[:] = 255
    for name, tensor in parent.tensors().items():
        assert torch.equal(tensor, before[name])


def test_a_parent_with_other_ngrams_is_refused() -> None:
    assert learner_of(NGRAMS) is NgramLearner
    other = replace(PLAN, model=NgramConfig(buckets=128, char_lengths=(1, 2), word_lengths=(1,)))
    with pytest.raises(ValueError, match="the parent has another architecture or other n-grams than"):
        NgramLearner(other, a_parent(1))


@pytest.fixture
def shipped_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan that starts from the shipped model, which lies in the home as a local copy."""
    monkeypatch.setenv("SEAWALL_HOME", str(tmp_path))
    shutil.copytree(DEPLOYMENTS / "models" / "text-ngram", tmp_path / "models" / "text-multi" / "1")
    card = load_text_classifier(DEPLOYMENTS / "models" / "text-ngram").card
    return replace(PLAN, labels=card.labels, parent=("text-multi", 1))


def test_training_starts_from_the_parent_that_the_plan_names(shipped_plan: Plan) -> None:
    assert _parent(PLAN) is None
    parent = _parent(shipped_plan)
    assert parent is not None
    assert parent.card.labels == shipped_plan.labels


@pytest.mark.parametrize("labels", [("abuse",), ("hate", "abuse")])
def test_a_parent_with_other_labels_is_refused(shipped_plan: Plan, labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"text-multi@1 scores .*, asked for is"):
        _parent(replace(shipped_plan, labels=labels))


class German(NgramClassifier):
    """A model that says more of German, on a scale of its own."""

    @property
    def own_languages(self) -> tuple[str, ...]:
        return ("de",)

    def logits(self, texts: Prepared) -> Any:
        found, unseen = super().logits(texts)
        german = np.array([[language == "de"] for language in texts.languages])
        return found + np.where(german, np.float32(7), np.float32(0)), unseen


def calibrated_german(least: int, monkeypatch: pytest.MonkeyPatch, parent: TextClassifier | None = None) -> Card:
    monkeypatch.setattr(fit_module, "_FEW", least)
    plain = a_parent(1)
    known = [{"language": language} for language in rows(HATE).languages]
    given = replace(rows(HATE), known=known)
    return calibrated(German(plain.card, plain.module, plain.seen), given, parent, language_rows=100).card


def test_what_languages_share_is_calibrated_without_what_one_has_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    card = calibrated_german(1, monkeypatch)
    shared = calibrated(a_parent(1), rows(HATE), None, language_rows=100).card.calibration
    assert set(card.calibration) == {"abuse", "hate"}
    for label in ("abuse", "hate"):
        assert set(card.calibration[label]) == {"*", "de"}
        assert card.calibration[label]["*"] == pytest.approx(shared[label]["*"], abs=1e-5)
        assert card.calibration[label]["de"] != pytest.approx(shared[label]["*"], abs=0.1)
        assert set(card.curves[label]) == {"*"}  # 4 rows are no curve


def test_a_language_on_its_own_scale_with_too_few_rows_keeps_its_parent_s_calibration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = a_parent(2)
    abuse = parent.card.calibration.get("abuse", {}) | {"de": (0.5, -3.0)}
    parent.card = replace(parent.card, calibration=parent.card.calibration | {"abuse": abuse})
    card = calibrated_german(20, monkeypatch, parent)
    assert card.calibration["abuse"]["de"] == (0.5, -3.0)
    assert "de" not in card.calibration["hate"]


def test_a_card_counts_the_rows_that_calibrated_it_and_those_of_its_parent_where_they_were_more() -> None:
    given = rows(HATE)
    card = calibrated(a_parent(1), given, None, language_rows=100).card
    told = np.array(given.languages)
    for column, label in enumerate(("abuse", "hate")):
        for code in set(given.languages):
            truth = given.truth[told == code, column]
            expected = (int((truth == 1).sum()), int((truth == 0).sum()))
            assert card.rows[label].get(code, (0, 0)) == expected
    parent = a_parent(2)
    parent.card = replace(parent.card, rows={"abuse": {"en": (500, 600), "de": (0, 9000)}, "hate": {"pt": (41, 40)}})
    child = calibrated(a_parent(1), given, parent, language_rows=100).card
    assert child.rows == {
        "abuse": card.rows["abuse"] | {"en": (500, 600)},
        "hate": card.rows["hate"] | {"pt": (41, 40)},
    }
    assert (card.languages, child.languages) == (("en",), ("en", "pt"))  # what rows enough speak of was learned
