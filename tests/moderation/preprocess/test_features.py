"""The features that are logged with a decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.features import CATEGORICAL, NUMERIC, Features, observe, scored_features
from moderation.preprocess.language import Language
from tests.moderation.properties import any_text, few, tricky_text

ENGLISH = Language("en", 0.875)


def features_of(text: str) -> Features:
    return observe(text, ENGLISH) | scored_features({"abuse": 0.5, "hate": 0.0}, 0.25)


def test_a_post_has_each_feature_and_a_score_for_each_label() -> None:
    assert features_of("HI @ann see https://a.example and www.b.example") == {
        "characters": 47.0,
        "words": 6.0,
        "uppercase_share": 2 / 35,
        "urls": 2.0,
        "mentions": 1.0,
        "language": "en",
        "language_confidence": 0.875,
        "unseen_word_share": 0.25,
        "score_abuse": 0.5,
        "score_hate": 0.0,
    }


def test_an_empty_post_has_zeros_and_no_division_by_zero() -> None:
    features = features_of("")
    assert [features[name] for name in ("characters", "words", "uppercase_share", "urls", "mentions")] == [0.0] * 5


def test_what_no_model_has_a_part_in_and_what_a_model_sees_make_up_all_features() -> None:
    assert set(observe("a", ENGLISH)) == {*NUMERIC, *CATEGORICAL} - {"unseen_word_share"}
    assert scored_features({}, 0.0) == {"unseen_word_share": 0.0}


@pytest.mark.parametrize(("text", "share"), [("abCD", 0.5), ("ABCD", 1.0), ("1 2 !", 0.0), ("你好", 0.0), ("ЁЖ", 1.0)])
def test_the_share_of_upper_case_is_of_letters(text: str, share: float) -> None:
    assert features_of(text)["uppercase_share"] == share


@pytest.mark.parametrize("text", ["a🅰🅱", "aⒶⒷⒸ", "ⅣⅤa"])
def test_a_share_is_at_most_one_even_with_signs_that_have_a_case(text: str) -> None:
    assert 0 <= float(features_of(text)["uppercase_share"]) <= 1


@few
@given(st.one_of(any_text, tricky_text))
def test_numbers_are_numbers_and_categories_are_text(text: str) -> None:
    features = features_of(text)
    assert all(isinstance(features[name], float) for name in NUMERIC)
    assert all(isinstance(features[name], str) for name in CATEGORICAL)
    assert float(features["characters"]) == len(text)
    assert 0 <= float(features["words"]) <= len(text)
