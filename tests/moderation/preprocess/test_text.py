"""Text as a model sees it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.text import MENTION_TOKEN, URL_TOKEN, clean, fold, normalise
from tests.moderation.properties import any_text, many, tricky_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\u00a0\u3000\n", ""),
        ("  a \n\n b\u2003c ", "a b c"),
        ("HELLO World", "hello world"),
        ("STRASSE straße", "strasse strasse"),
        ("ÇA VA Ё", "ça va ё"),
        ("Fish &amp; chips &#65;&lt;3", "fish & chips a<3"),
        ("&#0000000105;diot &#x00000069;diot &#X069;diot &x00;", "idiot idiot idiot &x00;"),
        (f"&#{'0' * 9000}105;diot", "idiot"),
        ("ｆｕｌｌ ﬁne ①", "full fine 1"),
        ("e\u0301", "\u00e9"),
        ("so 🍅🍅🍅🍅!!!!", "so 🍅🍅🍅🍅!!!!"),
        ("你好吗", "你好吗"),
    ],
)
def test_text_is_brought_to_one_form(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    "invisible",
    [
        "\u00ad", "\u034f", "\u061c", "\u180e", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f",
        "\u202a", "\u202e", "\u2060", "\u2064", "\u2066", "\u2069", "\u206f", "\ufeff",
        "\u180b", "\u3164", "\uffa0", "\U000e0041", "\U000e0100",
    ],
    ids=lambda character: f"U+{ord(character):04X}",
)  # fmt: skip
def test_an_invisible_character_does_not_hide_a_word(invisible: str) -> None:
    assert normalise(f"{invisible}id{invisible}{invisible}iot{invisible}") == "idiot"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("soooo", "soo"),
        ("SoOoO", "soo"),
        ("so", "so"),
        ("soo", "soo"),
        ("aaabbbccc", "aabbcc"),
        ("неееет", "неет"),
        ("1000000", "1000000"),
        ("a___b", "a___b"),
        ("....!!!", "....!!!"),
        ("ａａａａ", "aa"),
        ("o\u200bo\u200bo\u200bo", "oo"),
    ],
)
def test_stretched_letters_are_shortened_to_two_and_nothing_else_is(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.org/a?b=c#d", "{url}"),
        ("HTTP://EXAMPLE.ORG", "{url}"),
        ("www.example.org", "{url}"),
        ("see https://a.example, https://b.example", "see {url} {url}"),
        ('<a href="https://a.example/">here</a>', '<a href="{url}">here</a>'),
        ("https://a.example/?x=1&amp;y=2", "{url}"),
        ("ht\u200btps://a.example", "{url}"),
        ("ｈｔｔｐｓ：／／ａ．ｅｘａｍｐｌｅ", "{url}"),
        ("example.org", "example.org"),
        ("http://a.cn，你这个傻逼", "{url}你这个傻逼"),
        ("看https://t.cn/abc你好", "看{url}你好"),
        ("请访问www.example.cn看看", "请访问{url}看看"),
        ("Awww... so cute", "aww... so cute"),
        ("ewww.example", "eww.example"),
        ("https:// a", "https:// a"),
    ],
)
def test_links_become_one_token(text: str, expected: str) -> None:
    assert normalise(text) == expected.format(url=URL_TOKEN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ann", "{user}"),
        ("hi @Ann_7, @bob!", "hi {user}, {user}!"),
        ("(@ann)", "({user})"),
        ("@Маша", "{user}"),
        ("@张三你好", "@张三你好"),
        ("@ann你好", "{user}你好"),
        ("/u/some-one u/some_one", "{user} {user}"),
        ("[id123|Ann Lee], hi", "{user}, hi"),
        ("ann@example.org", "ann@example.org"),
        ("@@ann", "@@ann"),
        ("@", "@"),
        ("menu/ann", "menu/ann"),
        ("u/ab", "u/ab"),
    ],
)
def test_mentions_become_one_token_and_mail_addresses_do_not(text: str, expected: str) -> None:
    assert normalise(text) == expected.format(user=MENTION_TOKEN)


def test_the_documentation_s_example_holds() -> None:
    text = "  You\u200b are SOOOO  great, @ann! https://example.org/x "
    assert normalise(text) == "you are soo great, ␟user! ␟url"


@pytest.mark.parametrize("text", ["Arschlo\u200b\u0308cher", "Arschlo\u0308\u200bcher", "Arschl\u200b\u00f6cher"])
def test_an_invisible_character_does_not_hide_an_accent(text: str) -> None:
    assert normalise(text) == "arschl\u00f6cher"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You are SOOOO  great, @Ann!", "You are SOO great, ␟user!"),
        ("you 1d10t", "you idiot"),
        ("s t u p i d and d.u.m.b", "stupid and dumb"),
        ("t h a t b.i.t.c.h", "that bitch"),
        ("b.o.t.a.r e-s-s-e b_a_b_a_c_a", "botar esse babaca"),
        ("I'm s o r r y", "I'm sorry"),
        ("'s t u p i d'", "'stupid'"),
        ("i d i o t's, i.d.i.o.t's", "idiot's, idiot's"),
        ("f.u.c.k.ing i|d|i|o|t-like", "fuck.ing idiot-like"),
        ("m y n e x t b-day", "mynext b-day"),
        ("i\u0335d\u0338i\u0334o\u0337t\u0336", "idiot"),
        ("p\u0430thetic", "pathetic"),
        ("A B C", "A B C"),
        ("i am a no one", "i am a no one"),
        ("Tiếng Việt", "Tiếng Việt"),
        ("❤\ufe0f", "❤"),
    ],
)
def test_cleaning_undoes_tricks_and_keeps_case_and_emoji(text: str, expected: str) -> None:
    assert clean(text) == expected


@many
@given(st.one_of(any_text, tricky_text))
def test_normalising_is_cleaning_and_folding(text: str) -> None:
    assert normalise(text) == fold(clean(text))
    assert not re.search(r"\s\s|[^\S ]", clean(text))


@many
@given(st.one_of(any_text, tricky_text))
def test_any_code_points_at_all_are_normalised(text: str) -> None:
    clean = normalise(text)
    assert clean == clean.strip()
    assert not re.search(r"\s\s|[^\S ]", clean)
    assert not re.search("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]", clean)
    assert not re.search(r"([a-z])\1\1", clean)
    assert clean == normalise(text)


@many
@given(tricky_text, tricky_text)
def test_space_around_and_between_words_does_not_matter(left: str, right: str) -> None:
    assert normalise(f"\n {left}\t \n{right}  ") == normalise(f"{left} {right}")


def test_many_stretched_letters_and_brackets_take_no_time() -> None:
    # Each would take minutes if a pattern went back over what it has read.
    assert normalise("a" * 200_000) == "aa"
    assert normalise("@" * 200_000) == "@" * 200_000
    assert normalise("[id1|" * 20_000).startswith("[id1|[id1|")
    assert normalise("u/" * 50_000) == "u/" * 50_000
    assert normalise("a.b." * 20_000 + "cd") == "ab" * 20_000 + ".cd"
    assert normalise("a b " * 20_000 + "cd") == "ab" * 20_000 + " cd"
    assert normalise("a b " * 20_000 + "b-c") == "ab" * 20_000 + " b-c"


@pytest.mark.parametrize(
    "text", ["&#" + "9" * 5000 + ";", "&#x" + "f" * 5000, "&#0;", "&#xd800;", "&#1114112;", "&" * 5000, "&amp" * 5000]
)
def test_an_entity_of_any_length_is_read_or_stays(text: str) -> None:
    assert len(normalise(text)) <= len(text)


def test_one_character_that_stands_for_many_does_not_blow_a_text_up() -> None:
    assert normalise("\ufdfa" * 10_000 + "idiot") == "idiot"
