"""`train.spelling`: what is learned of a language's spellings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import typer

from moderation.errors import NotEnoughDataError
from moderation.models.base import Prepared
from moderation.models.spelling import Spelling, SpellingConfig
from moderation.preprocess.ngrams import NgramConfig
from train.champion import RECIPES, _without, main
from train.spelling import fit_spelling

NAN = float("nan")
CONFIG = SpellingConfig(languages=("de", "ru"), ngrams=NgramConfig(buckets=2**12))
HARMLESS = ["guten Morgen euch allen", "schönes Wetter heute", "danke für den Kuchen", "bis morgen im Garten"]
HARMFUL = ["du bist ein Schwachkopf", "halt die Klappe Schwachkopf", "so ein Vollpfosten", "Vollpfosten seid ihr alle"]


def rows(second: float = NAN, languages: tuple[str, ...] = ("de", "ru")) -> pd.DataFrame:
    """Each language's rows: on the first label both classes, on the second what is told."""
    return pd.DataFrame(
        [
            {"text": text, "language": language, "truth": [float(harmful), second], "weight": [1.0, 1.0]}
            for language in languages
            for harmful, texts in ((False, HARMLESS), (True, HARMFUL))
            for text in texts
        ]
    )


def said(spelling: Spelling, text: str, language: str = "de") -> npt.NDArray[np.float32]:
    added: npt.NDArray[np.float32] = spelling.logits(Prepared.of([text], [{"language": language}]), 2)[0]
    return added


def test_a_word_of_the_harmful_speaks_against_a_text_that_was_not_seen() -> None:
    spelling = fit_spelling(rows(), 2, CONFIG)
    assert said(spelling, "was für ein Schwachkopf")[0] > 0.2
    assert said(spelling, "was für ein Schwwachkopf")[0] > said(spelling, "was für ein schönes Wetter")[0]


@pytest.mark.parametrize("second", [NAN, 0.0, 1.0])
def test_a_label_that_lacks_a_class_gets_nothing_added(second: float) -> None:
    assert said(fit_spelling(rows(second), 2, CONFIG), "was für ein Schwachkopf")[1] == 0


def test_a_language_learns_from_its_own_rows_alone() -> None:
    other = rows()
    other.loc[other["language"] == "ru", "text"] = "совсем другое"
    text = "was für ein Schwachkopf"
    assert np.array_equal(said(fit_spelling(other, 2, CONFIG), text), said(fit_spelling(rows(), 2, CONFIG), text))


def test_rows_that_count_for_nothing_teach_nothing() -> None:
    heavy = rows()
    wrong = pd.DataFrame(
        [{"text": "was für ein Schwachkopf", "language": "de", "truth": [0.0, NAN], "weight": [1e-9, 1.0]}] * 20
    )
    kept = fit_spelling(pd.concat([heavy, wrong]), 2, CONFIG)
    assert said(kept, "was für ein Schwachkopf")[0] > 0.2


def test_fitting_twice_gives_the_same() -> None:
    first, second = (fit_spelling(rows(), 2, CONFIG).tensors() for _ in range(2))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_language_without_rows_is_named() -> None:
    with pytest.raises(NotEnoughDataError, match="'ru'"):
        fit_spelling(rows(languages=("de",)), 2, CONFIG)


def test_a_language_whose_corpus_is_left_out_has_no_table() -> None:
    recipe = _without(RECIPES["text-multi"], "de-germeval2018-train")
    assert "de-germeval2018-train" not in recipe.corpora
    assert recipe.spelling is not None
    assert recipe.spelling.languages == ("pt", "ru")


def test_a_corpus_that_is_not_there_is_not_left_out() -> None:
    with pytest.raises(typer.BadParameter, match="en-davidson"):
        _without(RECIPES["text-multi"], "klingon")


@pytest.mark.parametrize("options", [{"rows": 100}, {"without": "en-davidson"}])
@pytest.mark.parametrize("name", ["text-multi", "image-multi"])
def test_what_does_not_ship_overwrites_nothing_that_does(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter, match="need --out"):
        main(name, Path("nowhere"), **(dict.fromkeys(("out", "trained", "kept")) | options))
