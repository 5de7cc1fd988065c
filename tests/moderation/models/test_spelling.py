"""`moderation.models.spelling`: tables of languages, beside a model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer

from moderation.errors import ModelError
from moderation.models.base import Prepared, check_shapes
from moderation.models.card import Card
from moderation.models.spelling import Spelling, SpellingConfig, Table, counts, shapes_of, tf_idf
from moderation.preprocess import ngrams
from moderation.preprocess.ngrams import NgramConfig
from tests.moderation.models.making import a_card

NGRAMS = NgramConfig(buckets=2**10)
CONFIG = SpellingConfig(languages=("de", "ru"), ngrams=NGRAMS)
TEXTS = ["du bist ein Idiot", "einen schönen Tag euch allen", "", "ja ja ja ja ja", "что за день"]


def a_table(seed: int, labels: int = 2) -> Table:
    chance = torch.Generator().manual_seed(seed)
    return Table(
        1 + torch.rand(NGRAMS.buckets, generator=chance).to(torch.float16),
        torch.randn(NGRAMS.buckets, labels, generator=chance).to(torch.float16),
        torch.randn(labels, generator=chance).to(torch.float16),
    )


def a_spelling() -> Spelling:
    return Spelling(CONFIG, {"de": a_table(1), "ru": a_table(2)})


def logits(texts: list[str], languages: list[str]) -> npt.NDArray[np.float32]:
    return a_spelling().logits(Prepared.of(texts, [{"language": code} for code in languages]), 2)


def test_it_is_scikit_learn_s_sublinear_tf_idf() -> None:
    folded = Prepared.of(TEXTS).folded
    found = counts(folded, NGRAMS)
    transformer = TfidfTransformer(sublinear_tf=True).fit(found)
    expected = transformer.transform(found.copy()).toarray()
    assert np.allclose(tf_idf(found, transformer.idf_.astype(np.float32)).toarray(), expected, atol=1e-6)


def test_each_language_has_a_table_of_its_own() -> None:
    assert not np.allclose(logits(["was soll das"], ["de"]), logits(["was soll das"], ["ru"]))


@pytest.mark.parametrize("language", ["en", "*", "und", "DE"])
def test_a_language_without_a_table_gets_nothing_added(language: str) -> None:
    assert not logits(["was soll das"], [language]).any()


def test_of_a_text_whose_language_is_not_known_nothing_is_said() -> None:
    assert not a_spelling().logits(Prepared.of(["was soll das"]), 2).any()


def test_a_text_depends_on_itself_alone() -> None:
    languages = ["de", "en", "de", "ru", "ru"]
    together = logits(TEXTS, languages)
    alone = [logits([text], [code])[0] for text, code in zip(TEXTS, languages, strict=True)]
    assert np.allclose(together, alone, atol=1e-5)


def test_no_text_is_no_row() -> None:
    assert logits([], []).shape == (0, 2)


@pytest.mark.parametrize("text", ["", " ", "a", "x" * 20_000])
def test_whatever_the_text_the_logits_are_numbers(text: str) -> None:
    assert np.isfinite(logits([text], ["de"])).all()


def test_a_longer_text_of_the_same_is_no_other() -> None:
    once, often = logits(["so ist das", "so ist das " * 50], ["de", "de"])
    assert np.abs(once - often).max() < 1.0


def test_what_is_stored_is_what_comes_back() -> None:
    tensors = a_spelling().tensors()
    check_shapes(tensors, shapes_of(CONFIG, 2))
    known = Prepared.of(TEXTS, [{"language": "de"}] * len(TEXTS))
    assert np.array_equal(Spelling.from_tensors(CONFIG, tensors).logits(known, 2), a_spelling().logits(known, 2))


def test_a_table_that_is_missing_is_named() -> None:
    tensors = a_spelling().tensors()
    del tensors["spelling.ru.idf"]
    with pytest.raises(ModelError, match=r"no tensor 'spelling\.ru\.idf'"):
        check_shapes(tensors, shapes_of(CONFIG, 2))


def test_without_a_configuration_there_is_no_table() -> None:
    assert shapes_of(None, 2) == {}


def test_an_encoder_of_before_there_were_spellings_has_none() -> None:
    from moderation.models.encoder import EncoderConfig, _config_of

    before = {"base": "bundled", "frozen_layers": 6, "rank": 16, "max_tokens": 128}
    assert _config_of(a_card(architecture="encoder", config=before)) == EncoderConfig()


def test_an_encoder_s_card_names_the_languages_and_n_grams() -> None:
    from moderation.models.encoder import EncoderConfig, _config_of

    config = EncoderConfig(spelling=CONFIG)
    card = Card.from_json(a_card(architecture="encoder", config=asdict(config)).to_json())
    assert _config_of(card) == config


def test_a_batch_that_is_cut_into_chunks_is_judged_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    languages = ["de", "en", "de", "ru", "de"]
    whole = logits(TEXTS, languages)
    monkeypatch.setattr(ngrams, "CHUNK_CHARACTERS", 7)
    assert np.allclose(logits(TEXTS, languages), whole, atol=1e-6)


def test_tables_read_no_numbers() -> None:
    with pytest.raises(ValueError, match="inputs"):
        SpellingConfig(languages=("de",), ngrams=NgramConfig(inputs=("author_posts",)))
