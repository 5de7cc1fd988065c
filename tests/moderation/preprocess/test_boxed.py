"""Letters in boxes and flags are letters; flags of countries are flags."""

from __future__ import annotations

import pytest

from moderation.preprocess.text import clean


def indicators(text: str, between: str = "") -> str:
    """Regional indicators for letters."""
    return between.join(chr(0x1F1E6 + ord(letter) - ord("a")) if letter.isalpha() else letter for letter in text)


@pytest.mark.parametrize("between", ["\u200b", "\u200d", "\u2060", "\ufe0f", "\u202d", "\u200c\u200b"])
@pytest.mark.parametrize("text", ["idiot", "shit", "you are an idiot", "vai tomar no cu"])
def test_indicators_that_are_kept_apart_are_letters(text: str, between: str) -> None:
    assert clean(indicators(text, between)) == text.upper()


def test_a_row_that_is_not_all_flags_is_letters() -> None:
    assert clean(indicators("idiot")) == "IDIOT"  # of Indonesia, of the Indian Ocean, and a T
    assert clean(indicators("stupid")) == "STUPID"  # UP is no country
    assert clean(" ".join(indicators(letter) for letter in "idiot")) == "IDIOT"


@pytest.mark.parametrize("flags", ["🇺🇸", "🇩🇪🇫🇷🇮🇹", "go 🇧🇷! 🇵🇹", "🇪🇺", "🇺🇸\u200b🇬🇧", "🇽🇰🇺🇳", "GO🇺🇸"])
def test_flags_stay(flags: str) -> None:
    assert clean(flags) == flags.replace("\u200b", "")


@pytest.mark.parametrize(
    "boxed",
    ["🅘🅓🅘🅞🅣", "🅸🅳🅸🅾🆃", "🄸🄳🄸🄾🅃", "ⒾⒹⒾⓄⓉ", "⒤⒟⒤⒪⒯", "🄘🄓🄘🄞🄣", "ｉｄｉｏｔ", "𝓲𝓭𝓲𝓸𝓽", "𝕀𝔻𝕀𝕆𝕋",
     "ⁱᵈⁱᵒᵗ", "ᴵᴰᴵᴼᵀ", "ɪᴅɪᴏᴛ", "🆔iot", "🅸\ufe0fd🅸ot"],
)  # fmt: skip
def test_letters_in_boxes_are_letters(boxed: str) -> None:
    assert clean(f"you {boxed}").casefold() == "you idiot"


@pytest.mark.parametrize("sign", ["🆔", "🆗", "🆘", "see you 🆗", "你好🆗", "new 🆕!", "nice✌"])
def test_signs_that_are_no_part_of_a_word_stay(sign: str) -> None:
    assert clean(sign) == sign


def test_an_item_s_letter_stays_one() -> None:
    assert clean("⒜ tomatoes ⒝ bees") == "(a) tomatoes (b) bees"


def test_many_indicators_take_no_time() -> None:
    # Each would take minutes if a pattern went back over what it has read.
    assert len(clean("🇺🇸" * 50_000)) == 100_000
    assert clean("🇺" * 100_001) == "UU"
    assert clean("🇺\u200b" * 50_000) == "UU"
