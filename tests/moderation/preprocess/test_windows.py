"""A long text is read in windows that leave nothing out, and says where it is too long for that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.text import clean
from moderation.preprocess.windows import LONG, MOST, windows
from tests.moderation.properties import any_text, many

HARMLESS = "we bought apples and bread on the market this morning"
INSULT = "you are an utter idiot, get lost"


def width(text: str) -> int:
    return sum(3 if "\u2e80" <= character <= "\uffff" else 1 for character in text)


@pytest.mark.parametrize("text", ["", "a", "you idiot", " ".join(["word"] * 36), "傻" * 60, "x" * 170])
def test_a_text_no_longer_than_what_is_judged_as_one_has_no_windows(text: str) -> None:
    assert windows(text).parts == ()
    assert windows(text).everything


@pytest.mark.parametrize("before", range(0, 120, 7))
@pytest.mark.parametrize("end", [" ", ". "])
def test_what_is_as_long_as_half_a_window_is_whole_in_one(before: int, end: str) -> None:
    words = HARMLESS.split() * 12
    text = end.join([" ".join(words[:before]), INSULT, " ".join(words[before:])]).strip()
    found = windows(text)
    assert any(INSULT in part for part in found.parts)
    assert found.everything


def test_windows_begin_and_end_with_sentences_where_these_end_near() -> None:
    text = " ".join(f"{HARMLESS}." for _ in range(20))
    assert {part[:2] for part in windows(text).parts} == {"we"}
    assert {part[-1] for part in windows(text).parts} == {"."}


def test_scripts_without_spaces_have_windows_of_fewer_characters() -> None:
    text = "今天天气很好我们去公园散步。" * 20
    found = windows(text)
    assert found.everything
    assert all(len(part) <= 24 for part in found.parts)
    assert "".join(part[:1] for part in found.parts)


@many
@given(
    st.lists(any_text | st.sampled_from([HARMLESS, "今天天气很好。", "Ж" * 30, "🍅" * 9]), max_size=30),
    st.integers(0, LONG),
)
def test_every_word_is_in_a_window_and_windows_are_bounded(texts: list[str], longest: int) -> None:
    cleaned = clean(" ".join(texts))
    found = windows(cleaned, longest=longest)
    assert len(found.parts) <= MOST
    place = 0
    for part in found.parts:
        begin = cleaned.find(part)
        assert begin >= 0
        assert not cleaned[place:begin].strip() or cleaned.find(part, place) <= place
        assert width(part) <= 480
        place = max(place, begin + len(part))
    if found.parts and found.everything:
        assert cleaned.endswith(found.parts[-1])


@pytest.mark.parametrize("characters", [1_000, 4_000, 8_000, 16_000, 24_000])
def test_the_longer_a_text_the_longer_its_windows(characters: int) -> None:
    text = (HARMLESS + " ") * (characters // len(HARMLESS))
    found = windows(text.strip())
    assert found.everything
    assert len(found.parts) <= MOST


@pytest.mark.parametrize(
    "text", ["你好 " * 13_000, "a" * 40_000, HARMLESS * 700, "a b " * 10_000], ids=["zh", "a", "en", "ab"]
)
def test_what_is_too_long_to_be_read_is_told(text: str) -> None:
    found = windows(text)
    assert len(found.parts) == MOST
    assert not found.everything


def test_a_text_that_a_model_reads_in_part_is_cut_however_short_it_is() -> None:
    assert windows("x" * 150, longest=0).parts
    assert windows("傻" * 20, longest=0).parts == ("傻" * 20,)
    assert windows("", longest=0).parts == ()
