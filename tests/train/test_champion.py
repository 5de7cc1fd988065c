"""Recipes of the models that ship; that they train is told by their cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from train.champion import OWN, RECIPES, _plan, _recipe, _without, main


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
    lines = [json.loads(line) for line in OWN.read_text(encoding="utf-8").splitlines()]
    assert len({line["id"] for line in lines}) == len({line["text"] for line in lines}) == len(lines) == 1400
    assert {line["language"] for line in lines} == set(RECIPES["text-multi"].languages)
    assert all(line["labels"]["abuse"] == (line["kind"] in ("direct", "hidden")) for line in lines)
    for language in RECIPES["text-multi"].languages:
        harmful = [line["labels"]["abuse"] for line in lines if line["language"] == language]
        assert 0.4 < sum(harmful) / len(harmful) < 0.6
