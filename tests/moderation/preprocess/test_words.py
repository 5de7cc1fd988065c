"""The words that people can read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.words import words_of
from tests.moderation.properties import any_text, few, tricky_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("a an the", {"the"}),
        ("You GRUBNIK, you! 你好吗", {"you", "grubnik", "你好", "好吗"}),
        ("gru\u200bbnik Grubnik GRUBNIK", {"grubnik"}),
        ("greeeeeat", {"greeat"}),
        ("don't", {"don"}),
        ("你", set()),
        ("你好", {"你好"}),
        ("ありがとう", {"あり", "りが", "がと", "とう"}),
        ("안녕", {"안녕"}),
        ("2020 covid19", {"2020", "covid19"}),
        ("дурак, дурак", {"дурак"}),
    ],
)
def test_words_are_distinct_and_normalised(text: str, expected: set[str]) -> None:
    assert words_of(text) == expected


@few
@given(st.one_of(any_text, tricky_text))
def test_words_of_any_text_are_short_pairs_or_three_characters_long(text: str) -> None:
    for word in words_of(text):
        assert len(word) >= 2
        assert not any(character.isspace() for character in word)
        assert len(word) >= 3 or any(ord(character) >= 0x3040 for character in word)
