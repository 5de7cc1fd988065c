"""`train.own`: what is learned of a language's spellings, and its head."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
import typer
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import BertConfig, BertModel

from moderation.errors import NotEnoughDataError
from moderation.models.base import Prepared
from moderation.models.encoder import EncoderClassifier, EncoderConfig, EncoderModule
from moderation.models.seen import no_words
from moderation.models.spelling import Spelling, SpellingConfig
from moderation.preprocess.ngrams import NgramConfig
from tests.moderation.models.making import a_card
from train.champion import RECIPES, _without, main, repeated
from train.own import fit_heads, fit_spelling

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


def test_what_a_share_of_people_called_harmful_counts_for_as_much() -> None:
    text = "was für ein Schwachkopf"
    found = []
    for share in (1.0, 2 / 3, 1 / 3, 0.0):
        softer = rows()
        softer["truth"] = [
            [share * truth[0], NAN] if "Schw" in said else truth
            for said, truth in zip(softer["text"], softer["truth"], strict=True)
        ]
        found.append(said(fit_spelling(softer, 2, CONFIG), text)[0])
    assert found == sorted(found, reverse=True)
    assert found[0] - found[1] > 0.1


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


@pytest.fixture(scope="module")
def encoder() -> EncoderClassifier:
    """Of BERT's build, tiny, at random, the same one every time; of other words than those above it reads letters."""
    torch.manual_seed(3)
    tiny = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32)
    config = EncoderConfig(base="tiny", frozen_layers=1, rank=2)
    module = EncoderModule(BertModel(tiny, add_pooling_layer=False).eval(), 2, config)
    letters = {letter: place for place, letter in enumerate(["[UNK]", *"abcdefghijklmnopqrstuvwxyzäöüß SVBGWT"])}
    tokenizer = Tokenizer(WordLevel(letters, unk_token="[UNK]"))  # a token of text, not a secret
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    return EncoderClassifier(a_card(architecture="encoder", config=asdict(config)), module, tokenizer, no_words())


def test_a_head_learns_what_its_language_s_rows_call_harmful_and_keeps_the_shared_one_otherwise(
    encoder: EncoderClassifier,
) -> None:
    [(code, head)] = fit_heads(encoder, rows(0.0), ["de"]).items()
    assert code == "de"
    states = torch.from_numpy(encoder.states(Prepared.of(HARMLESS + HARMFUL)))
    with torch.no_grad():
        logits = head(states)
        torch.testing.assert_close(logits[:, 1], encoder.module.head(states[:, -16:])[:, 1], atol=1e-4, rtol=1e-4)
    assert logits[4:, 0].min() > logits[:4, 0].max()
    assert not torch.allclose(logits[:, 0], encoder.module.head(states[:, -16:])[:, 0], atol=0.1)
    with pytest.raises(NotEnoughDataError, match="'zh'"):
        fit_heads(encoder, rows(), ["zh"])


def test_a_text_in_several_languages_that_share_a_head_goes_through_the_network_once(
    encoder: EncoderClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    below, seen = encoder.module.below, []

    def noting(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append(len(ids))
        return below(ids, mask)

    monkeypatch.setattr(encoder.module, "below", noting)
    texts = ["du wicht", "guten tag", "du wicht", "du wicht"]
    together = encoder.score(texts, [{"language": code} for code in ("und", "en", "en", "fr")]).confidence
    assert sum(seen) == 2
    alone = np.concatenate(
        [encoder.score([text], [{"language": code}]).confidence for text, code in zip(texts, "xyzw", strict=True)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert encoder.score([]).confidence.shape == (0, 2)


def test_what_an_epoch_shows_more_often_is_repeated_and_nothing_else() -> None:
    units = pd.DataFrame({"unit": ["a", "b", "c"], "language": ["de", "en", "en"]})
    recipe = replace(RECIPES["text-multi"], times={"de": 2}, own=3)
    shown = repeated(units, recipe, {"b"})
    assert shown["unit"].tolist() == ["a", "a", "b", "b", "b", "c"]


def test_a_language_whose_corpus_is_left_out_has_no_table() -> None:
    recipe = _without(RECIPES["text-multi"], "de-germeval2018-train")
    assert "de-germeval2018-train" not in recipe.corpora
    assert recipe.spelling is not None
    assert recipe.spelling.languages == ("pt", "ru")
    assert recipe.heads == ("ru",)


def test_a_corpus_that_is_not_there_is_not_left_out() -> None:
    with pytest.raises(typer.BadParameter, match="en-davidson"):
        _without(RECIPES["text-multi"], "klingon")


@pytest.mark.parametrize("options", [{"rows": 100}, {"without": "en-davidson"}])
@pytest.mark.parametrize("name", ["text-multi", "image-multi"])
def test_what_does_not_ship_overwrites_nothing_that_does(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter, match="need --out"):
        main(name, Path("nowhere"), **(dict.fromkeys(("out", "trained", "kept")) | options))
