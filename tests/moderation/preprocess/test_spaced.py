"""Words whose letters are kept apart are joined, and letters that stand for themselves are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.spaced import joined
from moderation.preprocess.text import clean
from tests.moderation.properties import any_text, many, tricky_text


@pytest.mark.parametrize(
    "between",
    [
        " ", "  ", "   ", "\n", "\r\n", "\n\n", " \n ", "\t", "\u2028", "\u3000", "\u2800",
        ".", "-", "_", "*", "·", "|", "~", ",", "/", "\\", "+", "'", ":", ";", "=", "^", "…", "°",
        "--", "...", ". ", ", ", " - ", " . ", "🔥", " 🔥 ", "❤\ufe0f", "👏🏽", "👨\u200d👩\u200d👧",
    ],
    ids=ascii,
)  # fmt: skip
@pytest.mark.parametrize("word", ["idiot", "дурак", "babaca", "μαλακας", "你是傻逼"])
def test_a_word_is_joined_whatever_keeps_its_letters_apart(word: str, between: str) -> None:
    assert clean(f"oh {between.join(word)}!") == f"oh {word}!"
    assert clean(between.join(word)) == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i.d-i o_t", "idiot"),
        ("i🔥d🎉i😂o👍t", "idiot"),
        ("y o u  a r e  a n  i d i o t", "you are an idiot"),
        ("y\no\nu\n\nf\no\no\nl", "you fool"),
        ("y.o.u a.r.e i.d.i.o.t", "you are idiot"),
        ("t h a t i.d.i.o.t", "that idiot"),
        ("s h 1 t and i.d.1.o.t", "shit and idiot"),
        ("(i)(d)(i)(o)(t)", "(idiot)"),
        ("С У К А", "СУКА"),
    ],
)
def test_words_end_where_the_gap_is_wider(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    "honest",
    [
        "A B C",
        "I'm a b c",
        "J. R. R. Tolkien",
        "p. s. I a",
        "e.g. a, b & c",
        "U.S. and U.K.",
        "a = 1, b = 0, c = 3",
        "f(a)<g(a)",
        "a + b = c + d",
        "4 x 4 x 2",
        "1 0 1 0 1",
        "A 1 B 2 C 3",
        "placar 1 a 0, e 2 a 1",
        ":P :P :P :P",
        "(h)(h)(h)(h)",
        "[爱][爱][爱][爱]",
        "है कि वो मैं ये जो तो",
        "ที่นี่ มี ปู",
        "b-day, t-shirt, x-ray, e-mail",
        "d'un, l'eau, s'il, n'est",
        "rock'n'roll",
        "3-y-o son",
        "9 a.m. to 5 p.m.",
    ],
)
def test_letters_that_stand_for_themselves_stay(honest: str) -> None:
    assert joined(honest) == honest


@many
@given(st.one_of(any_text, tricky_text, st.text("ab1 .-_'\n🔥क\u093f", max_size=40)))
def test_only_what_is_between_letters_goes(text: str) -> None:
    read = joined(text)
    assert [character for character in text if character.isalnum()] == [
        character for character in read if character.isalnum()
    ]
    assert len(read) <= len(text)


def test_many_letters_that_stand_alone_take_no_time() -> None:
    # Each would take minutes if a pattern went back over what it has read.
    assert joined("ab." * 10_000) == "ab." * 10_000
    assert joined("a b " * 10_000) == "ab" * 10_000 + " "
    assert joined("a. b " * 10_000) == "a. b " * 10_000
    assert joined("a'" * 10_000) == "a'" * 10_000
    assert joined("a 1 " * 10_000) == "a 1 " * 10_000
    assert joined("a b c " * 7_000 + "b-c").endswith("bc b-c")
    assert joined("a\u0301 " * 10_000) == "a\u0301 " * 10_000
