"""What a reader sees is read where it is not what is stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.sight import readings
from moderation.preprocess.text import clean
from tests.moderation.properties import any_text, many

RLO, LRO, RLE, PDF, RLI, LRI, PDI, RLM = "\u202e", "\u202d", "\u202b", "\u202c", "\u2067", "\u2066", "\u2069", "\u200f"


def seen(text: str) -> set[str]:
    return {clean(reading) for reading in readings(text)}


@pytest.mark.parametrize("insult", ["you are an idiot", "du bist ein Arschloch", "ты полный идиот", "你是个大傻逼"])
@pytest.mark.parametrize("begin", [RLO, RLE + RLO, RLI + RLO, "&#x202e;", "&#8238;"], ids=ascii)
def test_an_override_shows_what_is_written_backwards(insult: str, begin: str) -> None:
    assert insult in seen(begin + insult[::-1])
    assert f"hello {insult} friend" in seen(f"hello {RLO}{insult[::-1]}{PDF} friend")


def test_isolates_and_marks_of_direction_turn_single_letters_about() -> None:
    assert "idiot" in seen(RLI + "".join(LRI + letter + PDI for letter in "toidi") + PDI)
    assert "idiot" in seen("".join(RLM + letter for letter in "toidi"))
    assert "idiot" in seen("ט".replace("ט", RLM) + RLM.join("toidi"))


def test_hebrew_that_an_override_shows_backwards_is_read_from_the_right() -> None:
    word = "טמבל"
    assert word in seen(LRO + word[::-1] + PDF)
    assert not readings(RLO + word)


@pytest.mark.parametrize(
    "honest",
    [
        "مرحبا كيف حالك اليوم",
        "שלום עולם, מה שלומך",
        f"مرحبا {RLM}كيف حالك @ahmed{RLM}! {RLE}hello{PDF} 123",
        f"שלום {RLI}עולם (טוב){PDI} abc 12",
        f"{LRI}Ann{PDI} said {RLI}שלום{PDI}",
        f"\u200eHello world!{RLM} 😀",
        "می‌خواهم",
        "toidi era uoy",
        "plain",
        "",
        "Tiếng Việt",
        "café, préféré, élève, été",
        "🇺🇸 and 🇬🇧",
        "/kəˈmjuːnɪti/",
        "ısı, ıslak",
    ],
    ids=ascii,
)
def test_honest_text_has_no_other_reading(honest: str) -> None:
    assert readings(honest) == []


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        ("ʇoıpı uɐ ǝɹɐ noʎ", "you are an idiot"),
        ("hello ʇoıpı", "hello idiot"),
        ("ɹǝʞɔnɟ", "fucker"),
        ("ɥɔʇıq", "bitch"),
    ],
)
def test_letters_upside_down_are_read_from_the_end(turned: str, expected: str) -> None:
    assert expected in seen(turned)


def test_words_of_which_half_the_letters_are_marked_are_read_without_too() -> None:
    assert seen("you ïdïöt, íďíóť") == {"you idiot, idiot"}


def test_flags_are_letters_where_there_are_no_flags() -> None:
    assert seen("🇸🇭🇮🇹") == {"SHIT"}


@many
@given(st.one_of(any_text, st.text(f"ab ש1(){RLO}{LRO}{RLE}{PDF}{RLI}{LRI}{PDI}{RLM}\n\u0301\ud800", max_size=30)))
def test_any_code_points_at_all_have_readings_of_the_same_letters(text: str) -> None:
    for reading in readings(text):
        assert "\u202e" not in reading
        clean(reading)


def test_many_controls_take_no_time() -> None:
    # Each would take minutes if a level of nesting cost a pass over the text.
    for text in (RLO * 40_000 + "toidi", (RLO + "a" + PDF) * 13_000, (RLI + "ab") * 13_000, (RLO + "ab\n") * 10_000):
        assert all(len(reading) <= len(text) for reading in readings(text))
    assert readings("ʇ" * 40_000) == ["t" * 40_000]
