"""Recipes of the models that ship; that they train is told by their cards."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import typer

from moderation.preprocess.text import normalise
from tests.benchmarks.quality import HERE
from train.champion import OWN, RECIPES, _plan, _recipe, _without, main, not_ours_alone
from train.rows import lines_of

NAN = float("nan")


def test_without_a_corpus_nothing_is_left_of_its_language() -> None:
    recipe = _without(RECIPES["text-multi"], "de-germeval2018-train")
    assert recipe.corpora == ("en-davidson", "zh-cold-train", "pt-told-br-train", "ru-vk-train")
    assert recipe.languages == ("en", "pt", "ru", "zh")
    assert recipe.spelling is not None
    assert recipe.spelling.languages == ("pt", "ru")


def test_a_corpus_that_the_recipe_lacks_is_told() -> None:
    with pytest.raises(typer.BadParameter, match="--without takes one of en-davidson"):
        _without(RECIPES["text-ngram"], "de")


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_that_is_asked_for_is_the_plan_s(name: str) -> None:
    assert _plan(name, _recipe(name, "", 0, "focal"), "salt").fit.loss == "focal"
    assert _recipe(name, "", 0, None) == RECIPES[name]


@pytest.mark.parametrize(("name", "trained"), [("video-multi", None), ("misinformation", Path("folder"))])
def test_a_loss_where_nothing_is_trained_by_it_is_refused(name: str, trained: Path | None, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="--loss is of texts, and of weights that are trained"):
        main(name, tmp_path, trained=trained, loss="focal")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("misinformation", "text/en-covid-misinformation-train.jsonl.gz is missing"),
        ("image-multi", "image/benign holds"),
    ],
)
def test_data_that_are_missing_are_told_in_a_line(
    name: str, missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(name, tmp_path)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: NotEnoughDataError: {tmp_path}/{missing}")


def test_our_own_texts_are_distinct_and_half_of_them_are_abuse_in_each_language() -> None:
    lines = [json.loads(line) for line in OWN[0].read_text(encoding="utf-8").splitlines()]
    assert len({line["id"] for line in lines}) == len({line["text"] for line in lines}) == len(lines) == 1400
    assert {line["language"] for line in lines} == set(RECIPES["text-multi"].languages)
    assert all(line["labels"]["abuse"] == (line["kind"] in ("direct", "hidden")) for line in lines)
    for language in RECIPES["text-multi"].languages:
        harmful = [line["labels"]["abuse"] for line in lines if line["language"] == language]
        assert 0.4 < sum(harmful) / len(harmful) < 0.6


def test_contrasts_are_distinct_and_have_both_sides_of_names_and_of_groups_in_each_language() -> None:
    lines = list(lines_of(OWN[1]))
    assert len({line["id"] for line in lines}) == len({normalise(line["text"]) for line in lines}) == len(lines)
    sides = {"name": "insult", "identity": "hate"}
    for language in RECIPES["text-multi"].languages:
        kinds = Counter(line["kind"] for line in lines if line["language"] == language)
        assert all(min(kinds[harmless], kinds[harmful]) >= 20 for harmless, harmful in sides.items())
    for line in lines:
        assert line["labels"] == {"abuse": line["kind"] in sides.values(), "hate": line["kind"] == "hate"}


def test_no_contrast_that_measures_is_one_that_teaches() -> None:
    taught = {normalise(line["text"]) for path in OWN for line in lines_of(path)}
    lines = list(lines_of(HERE / "contrasts.jsonl"))
    assert not taught & {normalise(line["text"]) for line in lines}
    assert len({line["id"] for line in lines}) == len({normalise(line["text"]) for line in lines}) == len(lines)


def test_what_a_language_has_to_itself_is_not_learned_of_our_own_texts_alone() -> None:
    rows = pd.DataFrame(
        [("corpus", "de", [1.0, NAN]), ("ours", "de", [0.0, 1.0]), ("told", "pt", [0.0, 0.0]), ("o", "pt", [1.0, 1.0])],
        columns=["unit", "language", "truth"],
    )
    kept = not_ours_alone(rows, {"ours", "o"})
    assert str(kept["truth"].tolist()) == str([[1.0, NAN], [0.0, NAN], [0.0, 0.0], [1.0, 1.0]])
