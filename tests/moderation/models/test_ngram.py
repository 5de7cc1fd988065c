"""The n-gram model: what it reckons, and that a text is scored alike whoever is beside it."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moderation.models.base import Prepared, TextClassifier, TextScores
from moderation.models.load import load_text_classifier
from moderation.models.ngram import NgramClassifier, NgramModule, numbers_for
from moderation.models.seen import no_words
from moderation.preprocess import ngrams
from moderation.preprocess.ngrams import hash_ngrams
from moderation.settings import DEPLOYMENTS
from tests.moderation.models.making import CONFIG, a_card, a_model
from tests.moderation.properties import any_text, few, tricky_text

INSULT = "you are such a stupid bitch, shut the fuck up you worthless piece of trash"
KIND = "the tomatoes are ripe and the bees are back"
MIXED = [KIND, INSULT, "", "你好吗 🍅", "x" * 3000, " \n", INSULT.upper(), "a\u0000b", "Привет, как дела?"]


@pytest.fixture(scope="module")
def shipped() -> TextClassifier:
    return load_text_classifier(DEPLOYMENTS / "models" / "text-ngram")


def same(first: TextScores, second: TextScores) -> bool:
    return np.array_equal(first.confidence, second.confidence) and np.array_equal(
        first.unseen_word_share, second.unseen_word_share
    )


def test_a_logit_is_the_sum_of_a_bag_s_weights_over_the_root_of_its_size() -> None:
    model = a_model()
    texts = ["ab", "hello world", "你好"]
    logits, _ = model.logits(Prepared.of(texts))
    table, bias = model.module.table.weight.detach().numpy(), model.module.bias.detach().numpy()
    for text, logit in zip(texts, logits, strict=True):
        ids = hash_ngrams([text], CONFIG).ids
        assert logit == pytest.approx(table[ids].sum(axis=0) / np.sqrt(len(ids)) + bias, abs=1e-4)


def test_a_new_module_knows_nothing_yet() -> None:
    module = NgramModule(16, 3)
    logits = module(torch.tensor([1, 2, 3]), torch.tensor([0, 2, 2]), torch.zeros(3, 0))
    assert logits.tolist() == [[0.0] * 3] * 3


def test_an_empty_bag_has_the_bias_alone() -> None:
    module = NgramModule(16, 2)
    with torch.no_grad():
        module.table.weight.fill_(3.0)
        module.bias.copy_(torch.tensor([0.5, -0.5]))
    logits = module(torch.tensor([1, 2, 3, 4]), torch.tensor([0, 0, 4]), torch.zeros(3, 0))
    assert logits.tolist() == [[0.5, -0.5], [6.5, 5.5], [0.5, -0.5]]


def test_a_number_that_is_known_adds_its_term_and_one_that_is_not_adds_nothing() -> None:
    config = replace(CONFIG, inputs=("author_removed_month", "author_age_days"))
    module = NgramModule(config.buckets, 2, 2)
    with torch.no_grad():
        module.inputs.copy_(torch.tensor([[2.0, 0.0], [-1.0, 0.5]]))
    model = NgramClassifier(a_card(config=asdict(config)), module, no_words())
    known: list[dict[str, float]] = [{}, {"author_removed_month": 3.0}, {"author_age_days": 1.0, "other": 9.0}]
    logits, _ = model.logits(Prepared.of(["a"] * 3, known))
    assert logits[0].tolist() == [0.0, 0.0]
    assert logits[1] == pytest.approx([2 * np.log(4), 0.0])
    assert logits[2] == pytest.approx([-np.log(2), 0.5 * np.log(2)])
    again = NgramClassifier.from_tensors(model.card, model.tensors())
    assert np.array_equal(again.logits(Prepared.of(["a"] * 3, known))[0], logits)


def test_numbers_are_log_scaled_and_never_negative() -> None:
    assert numbers_for(("a", "b"), [{"a": np.e - 1}, {"b": -5.0}]).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert numbers_for((), [{"a": 1.0}]).shape == (1, 0)


@few
@given(st.lists(st.one_of(any_text, tricky_text), min_size=1, max_size=6))
def test_any_text_is_scored_alike_alone_and_among_others(texts: list[str]) -> None:
    model = a_model(seen=("a b you",))
    together = model.score(texts)
    assert together.confidence.shape == (len(texts), 2)
    assert together.unseen_word_share.shape == (len(texts),)
    for place, text in enumerate(texts):
        alone = model.score([text])
        assert np.array_equal(alone.confidence[0], together.confidence[place])
        assert alone.unseen_word_share[0] == together.unseen_word_share[place]


def test_scores_follow_the_order_of_the_texts() -> None:
    model = a_model()
    order = np.random.default_rng(0).permutation(len(MIXED))
    forward, shuffled = model.score(MIXED), model.score([MIXED[place] for place in order])
    assert np.array_equal(shuffled.confidence, forward.confidence[order])
    assert np.array_equal(shuffled.unseen_word_share, forward.unseen_word_share[order])


@pytest.mark.parametrize("characters", [1, 7, 60, 4000])
def test_a_batch_that_is_cut_into_chunks_is_scored_as_in_one(monkeypatch: pytest.MonkeyPatch, characters: int) -> None:
    whole = a_model().score(MIXED)
    monkeypatch.setattr(ngrams, "CHUNK_CHARACTERS", characters)
    assert same(a_model().score(MIXED), whole)


def test_no_texts_have_no_scores() -> None:
    scores = a_model().score([])
    assert scores.confidence.shape == (0, 2)
    assert scores.unseen_word_share.shape == (0,)


def test_an_empty_text_is_scored_and_has_no_unseen_words() -> None:
    scores = a_model().score(["", " \u200b"])
    assert scores.confidence[0].tolist() == scores.confidence[1].tolist()
    assert scores.unseen_word_share.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "share"),
    [("you are", 0.0), ("YOU   are", 0.0), ("you grubnik", 0.5), ("grubnik snorf blarg you", 0.75), ("你 you", 0.5)],
)
def test_words_that_training_never_showed_are_counted(text: str, share: float) -> None:
    assert a_model(seen=("you are",)).score([text]).unseen_word_share.tolist() == [share]


def test_the_model_that_ships_tells_an_insult_from_a_garden(shipped: TextClassifier) -> None:
    abuse = shipped.score([KIND, INSULT]).confidence[:, shipped.card.labels.index("abuse")]
    assert abuse[0] < 0.5 < abuse[1]


def test_the_model_that_ships_scores_a_text_alike_in_any_company(shipped: TextClassifier) -> None:
    together = shipped.score(MIXED * 8)
    for place, text in enumerate(MIXED):
        alone = shipped.score([text])
        for again in range(place, len(MIXED) * 8, len(MIXED)):
            assert np.array_equal(alone.confidence[0], together.confidence[again])
            assert alone.unseen_word_share[0] == together.unseen_word_share[again]


def test_the_model_that_ships_scores_every_label_within_bounds(shipped: TextClassifier) -> None:
    scores = shipped.score(MIXED)
    assert scores.confidence.shape == (len(MIXED), len(shipped.card.labels))
    assert scores.confidence.min() >= 0
    assert scores.confidence.max() <= 1
    assert scores.unseen_word_share.min() >= 0
    assert scores.unseen_word_share.max() <= 1


def test_the_model_that_ships_hides_nothing_behind_invisible_characters(shipped: TextClassifier) -> None:
    hidden = "\u200b".join(INSULT)
    assert same(shipped.score([hidden]), shipped.score([INSULT]))


def test_the_card_that_ships_is_calibrated_and_measured_for_each_label(shipped: TextClassifier) -> None:
    card = shipped.card
    assert set(card.labels) >= {"abuse", "hate"}
    expected = {"abuse": {"*", "zh"}, "hate": {"*"}}  # a thousand rows each
    assert {label: set(own) for label, own in card.calibration.items()} == expected
    assert {label: set(own) for label, own in card.curves.items()} == expected
    for slope, _ in (pair for own in card.calibration.values() for pair in own.values()):
        assert slope > 0
    for curve in (curve for own in card.curves.values() for curve in own.values()):
        assert list(curve.thresholds) == sorted(curve.thresholds)
        assert len(curve.thresholds) == len(curve.recall) == len(curve.false_positive_rate)


def test_a_claim_is_judged_as_a_whole_however_long() -> None:
    model = load_text_classifier(DEPLOYMENTS / "models" / "misinformation")
    texts = ["the ministry says that the vaccine is safe. " * 12, "garlic cures it. " + "I read that somewhere. " * 20]
    known = [{"language": "en"}] * len(texts)
    prepared = Prepared.of(texts, known)
    whole = model.calibrate(model.logits(prepared)[0], prepared.languages)
    assert np.array_equal(model.score(texts, known).confidence, whole)
