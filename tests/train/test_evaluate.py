"""Champion and challenger on the same rows, with the shipped model and the shipped anchor texts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moderation.labels import BY_NAME
from moderation.models.load import load_text_classifier
from moderation.models.operating import OperatingCurve
from moderation.policy import Policy, Rule, threshold_of
from moderation.preprocess.text import normalise
from moderation.settings import DEPLOYMENTS
from train.evaluate import Paired, anchors, flagged, pair, threshold

SHIPPED = DEPLOYMENTS / "models" / "text-ngram"
ANCHORS = DEPLOYMENTS / "anchors" / "text.jsonl"
LABELS = ("abuse", "hate")
NAN = float("nan")
LINES: list[dict[str, Any]] = [json.loads(line) for line in ANCHORS.read_text(encoding="utf-8").splitlines()]

SCORED = pd.DataFrame(
    {
        "unit": ["a", "b", "c", "d"],
        "language": ["en", "en", "de", "de"],
        "truth": [[1.0, 0.0], [0.0, NAN], [NAN, 1.0], [1.0, 1.0]],
        "drifted": [True, False, True, False],
        "champion_abuse": [0.9, 0.2, 0.9, 0.5],
        "challenger_abuse": [0.4, 0.6, 0.9, 0.8],
        "champion_hate": [0.1, 0.9, 0.7, 0.2],
        "challenger_hate": [0.1, 0.9, 0.3, 0.9],
    }
)


def rule(**changes: Any) -> Rule:
    base = Policy.load(DEPLOYMENTS / "policies" / "default.yaml").rules("*")["abuse"]
    return Rule(**(base.model_dump() | {"objective": "recall>=0.5"} | changes))


def a_model(folder: Path, **thresholds: float) -> Path:
    """The shipped model, where `recall>=0.5` comes to these thresholds, by label and, after `_in_`, language."""
    model = load_text_classifier(SHIPPED)
    curves: dict[str, dict[str, OperatingCurve]] = {}
    for name, value in thresholds.items():
        label, _, language = name.partition("_in_")
        curve = OperatingCurve((value / 2, value), (0.9, 0.6), (0.1, 0.01), 100, 100)
        curves.setdefault(label, {})[language or "*"] = curve
    model.card = replace(model.card, curves=curves)
    model.save(folder)
    return folder


def as_lists(found: Paired) -> tuple[list[bool], list[bool], list[bool], list[str], list[bool]]:
    return (
        found.truth.tolist(),
        found.champion.tolist(),
        found.challenger.tolist(),
        found.units,
        found.drifted.tolist(),
    )


def test_rows_are_paired_on_the_label_that_people_spoke_of(tmp_path: Path) -> None:
    folders = (a_model(tmp_path / "1", abuse=0.5, hate=0.5), a_model(tmp_path / "2", abuse=0.6, hate=0.5))
    assert as_lists(pair(SCORED, LABELS, "abuse", rule(), folders)) == (
        [True, False, True],
        [True, False, True],  # a score at the threshold is flagged
        [False, True, True],
        ["a", "b", "d"],
        [True, False, False],
    )
    assert as_lists(pair(SCORED, LABELS, "hate", rule(), folders)) == (
        [False, True, True],
        [False, True, False],
        [False, False, True],
        ["a", "c", "d"],
        [True, True, False],
    )


def test_a_model_without_a_curve_or_without_a_threshold_flags_nothing(tmp_path: Path) -> None:
    folders = (a_model(tmp_path / "1", hate=0.1), a_model(tmp_path / "2", abuse=0.1))
    found = pair(SCORED, LABELS, "abuse", rule(), folders)
    assert (found.champion.tolist(), found.challenger.tolist()) == ([False] * 3, [True] * 3)
    found = pair(SCORED, LABELS, "abuse", rule(objective="precision>=0.999"), folders)
    assert (found.champion.tolist(), found.challenger.tolist()) == ([False] * 3, [False] * 3)


def test_what_a_rule_removes_is_flagged_though_its_objective_asks_for_more(tmp_path: Path) -> None:
    folder = a_model(tmp_path, abuse=0.5)
    removing = rule(objective="precision>=0.999", action="review", remove_objective=rule().objective)
    assert flagged(folder, "abuse", removing, np.array([0.49, 0.5]), ["en", "en"]).tolist() == [False, True]


def test_no_rows_are_no_pairs(tmp_path: Path) -> None:
    folder = a_model(tmp_path, abuse=0.5)
    found = pair(SCORED.iloc[:0], LABELS, "abuse", rule(), (folder, folder))
    assert as_lists(found) == ([], [], [], [], [])
    assert found.truth.dtype == bool


def test_some_of_the_rows_keep_what_belongs_to_them() -> None:
    yes, no = np.array([True, False, True]), np.array([False, True, False])
    found = Paired(truth=yes, champion=no, challenger=yes, units=["a", "b", "c"], drifted=no)
    assert as_lists(found.where(yes)) == ([True, True], [False, False], [True, True], ["a", "c"], [False, False])
    assert as_lists(found.where(np.zeros(3, dtype=bool))) == ([], [], [], [], [])


def test_a_language_is_judged_at_its_own_threshold_where_it_has_one(tmp_path: Path) -> None:
    folder = a_model(tmp_path, abuse=0.5, abuse_in_de=0.8)
    confidence = np.array([0.5, 0.79, 0.8, 0.49, 0.5])
    languages = ["en", "de", "de", "ru", "und"]
    assert flagged(folder, "abuse", rule(), confidence, languages).tolist() == [True, False, True, False, True]
    assert threshold(folder, "abuse", rule()) == 0.5
    assert flagged(folder, "abuse", rule(), np.zeros(0), []).tolist() == []


def test_a_rule_comes_to_a_threshold_on_each_model_s_own_curve(tmp_path: Path) -> None:
    folder = a_model(tmp_path, abuse=0.5)
    assert threshold(folder, "abuse", rule(objective="recall>=0.8")) == 0.25
    assert threshold(folder, "abuse", rule(objective="recall>=0.95")) is None
    assert threshold(folder, "hate", rule()) is None
    shipped = rule(objective="precision>=0.9")
    expected = threshold_of(load_text_classifier(SHIPPED).card.curve("abuse"), "precision>=0.9", shipped.prevalence)
    assert threshold(SHIPPED, "abuse", shipped) == expected is not None


def test_anchor_texts_are_judged_by_both_models_at_their_own_thresholds(tmp_path: Path) -> None:
    folders = (a_model(tmp_path / "1", abuse=0.5), a_model(tmp_path / "2", abuse=0.999))
    found = anchors(ANCHORS, "abuse", rule(), folders)
    confidence = load_text_classifier(SHIPPED).score([line["text"] for line in LINES]).confidence[:, 0]
    assert found.units == [line["id"] for line in LINES]
    assert found.truth.tolist() == [line["labels"]["abuse"] for line in LINES]
    assert found.champion.tolist() == (confidence >= 0.5).tolist()
    assert found.challenger.tolist() == (confidence.astype(np.float64) >= 0.999).tolist()
    assert found.champion.sum() > found.challenger.sum()
    assert not found.drifted.any()


def test_an_anchor_text_is_judged_at_the_threshold_of_its_language(tmp_path: Path) -> None:
    folder = a_model(tmp_path, abuse=2.0, abuse_in_ru=1e-9)  # nothing reaches the one, everything the other
    found = anchors(ANCHORS, "abuse", rule(), (folder, folder))
    assert found.champion.tolist() == [line["language"] == "ru" for line in LINES]


def test_a_label_that_no_anchor_carries_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "anchors.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES if "hate" not in line["labels"]) + "\n")
    found = anchors(path, "hate", rule(), (SHIPPED, SHIPPED))
    assert as_lists(found) == ([], [], [], [], [])


def test_the_shipped_champion_knows_abuse_from_kindness_on_the_anchors() -> None:
    found = anchors(ANCHORS, "abuse", rule(objective="precision>=0.9"), (SHIPPED, SHIPPED))
    assert found.champion.tolist() == found.challenger.tolist()
    assert found.champion[found.truth].mean() > 5 * found.champion[~found.truth].mean()


def test_each_anchor_text_is_well_formed() -> None:
    for line in LINES:
        assert set(line) == {"id", "language", "text", "labels"}
        assert line["id"].startswith(f"{line['language']}-")
        assert line["labels"]
        assert set(line["labels"]) <= set(BY_NAME)
        assert {type(value) for value in line["labels"].values()} == {bool}
        assert line["text"].strip() == line["text"] != ""


def test_no_anchor_text_stands_twice() -> None:
    assert len({line["id"] for line in LINES}) == len(LINES) >= 100
    assert len({normalise(line["text"]) for line in LINES}) == len(LINES)


def test_every_language_of_the_shipped_model_has_anchors_of_both_kinds() -> None:
    counts = Counter((line["language"], line["labels"]["abuse"]) for line in LINES)
    languages = set(load_text_classifier(SHIPPED).card.languages)
    assert {language for language, _ in counts} >= languages
    assert min(counts[language, harmful] for language in languages for harmful in (True, False)) >= 5
