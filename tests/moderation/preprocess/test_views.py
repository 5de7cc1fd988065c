"""All that is judged of one text."""

from __future__ import annotations

import pytest
from hypothesis import given

from moderation.preprocess.text import clean
from moderation.preprocess.views import discount, views
from moderation.preprocess.windows import MOST, windows
from tests.moderation.properties import any_text, many

LONG_TEXT = "we bought apples and bread on the market this morning. " * 8


def of(text: str, most: int = 1000) -> tuple[list[str], bool]:
    found = views(text, clean(text), lambda cleaned: len(cleaned) <= most)
    return [part for part, _ in found.further], found.everything


@pytest.mark.parametrize("text", ["", "hello there", "Сегодня прекрасный день", "今天天气很好", "a" * 150, "🇩🇪 hallo"])
def test_of_most_texts_nothing_is_judged_but_the_whole(text: str) -> None:
    assert of(text) == ([], True)


def test_a_long_text_is_judged_by_its_windows_at_a_discount() -> None:
    found = views(LONG_TEXT, clean(LONG_TEXT), lambda _: True)
    parts = windows(clean(LONG_TEXT)).parts
    assert found.further == tuple((part, discount(len(parts))) for part in parts)
    assert len(parts) > 4


def test_what_a_text_says_as_a_whole_is_not_looked_for_in_windows_unless_it_is_not_read_whole() -> None:
    cleaned = clean(LONG_TEXT)
    assert views(LONG_TEXT, cleaned, lambda _: True, by_windows=False).further == ()
    in_part = views(LONG_TEXT, cleaned, lambda view: len(view) < 200, by_windows=False)
    assert [part for part, _ in in_part.further] == list(windows(cleaned).parts)
    assert [part for part, _ in views("\u202etoidi", "toidi", lambda _: True, by_windows=False).further] == ["idiot"]


def test_what_a_reader_sees_is_judged_at_none() -> None:
    assert views("\u202etoidi", "toidi", lambda _: True).further == (("idiot", 0.0),)


def test_what_a_reader_sees_is_cut_as_well() -> None:
    text = "\u202e" + (LONG_TEXT + "you are an idiot")[::-1]
    found, everything = of(text)
    assert clean(LONG_TEXT + "you are an idiot") in found
    assert any(part.endswith("you are an idiot") and len(part) < 200 for part in found)
    assert everything


def test_more_windows_count_for_less_each() -> None:
    assert discount(0) == discount(1) == 0
    assert 0 < discount(2) < discount(8) < discount(MOST)


def test_a_short_text_that_the_model_reads_in_part_is_cut_and_read_whole() -> None:
    parts, everything = of("xy" * 85, most=125)
    assert len(parts) > 1
    assert everything
    assert of("xy" * 85, most=30) == (parts, False)


@many
@given(any_text)
def test_any_text_has_bounded_views(text: str) -> None:
    found = views(text, clean(text), lambda _: True)
    assert len(found.further) <= 4 * (MOST + 1)
    assert all(less >= 0 for _, less in found.further)
