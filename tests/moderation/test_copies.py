"""What counts as a copy of a text, and how much a copy counts."""

from __future__ import annotations

import pytest
from hypothesis import given

from moderation.copies import first_authors, key_of, shares
from tests.moderation.properties import any_text, many, tricky_text

SENTENCE = "You are a worthless drumvik and everyone knows it"


@pytest.mark.parametrize(
    "copy",
    [
        SENTENCE,
        SENTENCE.upper() + "!!!",
        f"  {SENTENCE} 🙄🙄 ",
        "You are a w0rthless drumvik -- and everyone knows it...",
        "You are a worth\u200bless drumvik\nand everyone knows it",
        "“You are a worthless drumvik”, and everyone knows it?",
        "You are a worthless druuuumvik and everyone knows it".replace("uuuu", "u"),
    ],
)
def test_what_differs_in_dress_alone_is_a_copy(copy: str) -> None:
    assert key_of(copy) == key_of(SENTENCE)


def test_whom_a_copy_names_and_where_it_leads_makes_no_difference() -> None:
    assert key_of("@ann look at https://a.example/1") == key_of("@bob look at https://b.example/2")


@pytest.mark.parametrize("other", ["", SENTENCE + " too", SENTENCE.replace("worthless", "lovely"), "drumvik", "🙄"])
def test_other_words_are_another_text(other: str) -> None:
    assert key_of(other) != key_of(SENTENCE)


def test_texts_without_a_word_are_copies_only_where_they_are_alike() -> None:
    assert key_of("🙄") == key_of(" 🙄 ")
    assert len({key_of(text) for text in ("🙄", "👍", "?!", "")}) == 4
    assert key_of("room 17") != key_of("room 18")
    assert key_of("你好吗") == key_of("你好吗？") != key_of("你好")


@many
@given(any_text | tricky_text)
def test_any_text_has_a_key(text: str) -> None:
    assert key_of(text) == key_of(text)


def test_copies_share_what_one_text_counts() -> None:
    keys = ["a", "b", "a", "a", "c"]
    assert shares(keys).tolist() == [1 / 3, 1, 1 / 3, 1 / 3, 1]
    assert shares(keys).sum() == pytest.approx(3)
    assert shares([]).tolist() == []


def test_copies_are_counted_with_who_comes_first() -> None:
    assert first_authors(["a", "b", "a", "c"], ["u-2", "u-3", "u-1", "u-1"]) == ["u-2", "u-3", "u-2", "u-1"]
    assert first_authors([], []) == []
