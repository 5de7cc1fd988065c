"""Marks that no orthography writes are read past, and those of every orthography stay."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.marks import composed
from moderation.preprocess.text import clean, normalise
from tests.moderation.properties import any_text, many

INSULTS = ("you are an idiot", "du bist ein Arschloch", "vai tomar no cu", "ты полный идиот", "εισαι ηλιθιος")
FLOODS = {
    "grave": "\u0300",
    "acute": "\u0301",
    "tilde": "\u0303",
    "macron": "\u0304",
    "dot above": "\u0307",
    "diaeresis": "\u0308",
    "ring": "\u030a",
    "dot below": "\u0323",
    "cedilla": "\u0327",
    "line below": "\u0332",
    "x above": "\u033d",
    "stroke": "\u0336",
    "enclosing circle": "\u20dd",
    "half mark": "\ufe20",
    "Cyrillic": "\u0484",
    "Hebrew": "\u05b8",
    "Arabic": "\u064e",
    "Devanagari": "\u0902",
    "Thai": "\u0e34",
    "voiced kana": "\u3099",
    "two that do not compose": "\u0308\u0331",
    "three": "\u0316\u0334\u030e",
    "many": "\u0300\u0316\u031f\u0334\u0360\u0489" * 3,
}


def on_every_letter(text: str, marks: str) -> str:
    return "".join(character + marks if character.isalpha() else character for character in text)


@pytest.mark.parametrize("text", INSULTS)
@pytest.mark.parametrize("marks", FLOODS.values(), ids=FLOODS)
def test_marks_on_every_letter_are_read_past(text: str, marks: str) -> None:
    assert normalise(on_every_letter(text, marks)) == normalise(text)
    assert normalise(unicodedata.normalize("NFC", on_every_letter(text, marks))) == normalise(text)


@pytest.mark.parametrize(
    "hidden",
    ["ïḋïöṫ", "ịḍịọṭ", "i\u0332d\u0332i\u0332o\u0332t\u0332", "ɨđɨøŧ", "i\u0301d\u0301i\u0301o\u0301t\u0301", "įḑįǫţ"],
)
def test_so_they_are_in_a_single_word_of_a_plain_text(hidden: str) -> None:
    assert normalise(f"you are an {hidden}, my friend") == "you are an idiot, my friend"


def test_another_alphabet_s_marks_are_read_past_wherever_they_are() -> None:
    assert composed("id\u064biot, 你\u0308好\u0301, สวย\u0301") == "idiot, 你好, สวย"


@pytest.mark.parametrize(
    "honest",
    [
        "Tiếng Việt: người ấy được ướt, ừ ờ ở ẩm ướt",
        "příliš žluťoučký kůň v říši, říší, šíř, žížň",
        "żółć, źdźbło, łódź i żółw",
        "çöküşü, güçlü öğüt, üçüncü",
        "Žąsų įęąš ūžė šešių",
        "été, élève préféré, Noël, façade",
        "Zürich, Ärger, über, Öl, größer",
        "Çok güzel, coração, ação, não, avô",
        "Ẹ̀ kọ́ mi ní èdè Yorùbá, ọ̀ṣọ́, ẹ̀ṣẹ̀",
        "ǹjẹ́ ọ́ gbọ́ ǹkan",
        "ą́ą́ʼ, Diné bizaad, łį́į́ʼ",
        "ἄνδρα μοι ἔννεπε, Μοῦσα, ᾧ, ὅς",
        "Καλημέρα, ο καφές είναι έτοιμος",
        "йод, ёлка, её, моё, полный",
        "її, їй, їжа, ґанок",
        "қазақ тілі, ғылым, ұлт, ң",
        "за́мок и замо́к",
        "שָׁלוֹם עֲלֵיכֶם",
        "السَّلَامُ عَلَيْكُمْ",
        "สวัสดีครับ ที่นี่ น้ำ",
        "नमस्ते, हिन्दी में क्या है",
        "বাংলা ভাষা",
        "தமிழ் மொழி",
        "မြန်မာစာ",
        "ភាសាខ្មែរ",
        "がぎぐげご、パピプペポ",
        "한국어",
        "ܫܠܡܐ ܥܠܝ̈ܟܘܢ",
        "x̄ ≠ ŷ, a ≰ b, ∄",
    ],
)
def test_what_orthographies_write_stays(honest: str) -> None:
    assert composed(honest) == unicodedata.normalize("NFKC", honest)
    assert composed(unicodedata.normalize("NFD", honest)) == unicodedata.normalize("NFKC", honest)


@many
@given(any_text)
def test_composing_is_idempotent_and_adds_no_marks(text: str) -> None:
    once = composed(text)
    assert composed(once) == once
    assert once == unicodedata.normalize("NFKC", once)


@many
@given(st.text("aeioйńёđ\u0301\u0308\u0323\u0336\u064b", max_size=30))
def test_bare_words_have_fewer_marks(text: str) -> None:
    assert len(unicodedata.normalize("NFD", composed(text, bare=True))) <= len(unicodedata.normalize("NFD", text))


def test_half_of_a_word_s_letters_marked_is_read_bare_where_that_is_asked_for() -> None:
    assert composed("ïdïöt, íďíóť, été") == "ïdïöt, íďíóť, été"
    assert composed("ïdïöt, íďíóť, été", bare=True) == "idiot, idiot, été"


def test_many_marks_take_no_time() -> None:
    # Each would take minutes if a pattern went back over what it has read.
    for text in ("i" + "\u0301" * 50_000, "\u0301" * 50_000, "i\u0301" * 25_000, "и\u0306\u0323" * 16_000):
        assert len(clean(text)) <= 200_000
    assert clean("đ" * 200_000) == "đđ"
    assert clean("é" * 200_000) == "éé"
