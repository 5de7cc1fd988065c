"""Homoglyphs are read as the letters that they stand for, and honest text stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.homoglyphs import unmask
from tests.moderation.properties import any_text, many, tricky_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("you 1d10t, p\u0430thetic \u0441lown, covid19", "you idiot, pathetic clown, covid19"),
        ("sh1t", "shit"),
        ("a$$hole", "asshole"),
        ("b1tch3s", "bitches"),
        ("b1tch35 n1gh7", "bitches night"),
        ("such 455h0l35", "such assholes"),
        ("what $hit, what fool$", "what shit, what fools"),
        ("you 1d10t, 3ven 7hat d0g5 4re 15 b3tt3r", "you idiot, even that dogs are 15 better"),
        ("f1lho da pu74, tu é burr0, 70m4 no cu", "filho da puta, tu é burro, toma no cu"),
        ("e$$a merd4 f3de, 3$$3 b0$t4, $1ch", "essa merda fede, 3$$3 bosta, sich"),
        ("\u043f\u04383\u0434\u0430", "\u043f\u0438\u0437\u0434\u0430"),
        ("\u04453\u0440\u043d4", "\u0445\u0437\u0440\u043d\u0447"),
        ("\u043f\u04383\u0434\u0435\u0446", "\u043f\u0438\u0437\u0434\u0435\u0446"),
        ("id\u0456ot", "idiot"),
        ("\u0430\u0441\u0435 of spades", "ace of spades"),
        ("\u0434ypa\u043a", "\u0434\u0443\u0440\u0430\u043a"),
        ("ᴀʙ", "ab"),
    ],
)
def test_a_look_alike_is_read_as_what_it_looks_like(text: str, expected: str) -> None:
    assert unmask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "covid19",
        "mp3",
        "4chan",
        "What a lovely day it is in the garden!",
        "Сегодня прекрасный день в нашем саду",
        "Σήμερα είναι μια όμορφη μέρα",
        "Привет, это London и Berlin",
        "今天下班路上看到了很美的晚霞",
        "write to ann0b@example.org",
        "it costs $5, or 100$",
        "US$5, US$5bn, R$ 10, 20 USD$, 100usd$, 5$each, $AAPL, $1bn, 5k$, web3$",
        "1on1, 3v3, web3, win7, top10, 4ever, 1st, 7pm",
        "at 10:30 on 2020-01-01",
    ],
)
def test_honest_text_stays_as_it_is(text: str) -> None:
    assert unmask(text) == text


BESIDE = (
    "at 10am, 3rd, 5kg, 10min, 5 min, 30sec, 50euro, 10mal, 14h30, 3anos, 50reais, 30jährig, 30мин, 40лет, 400млн, 1v1,"
    " 4x4, mp3, ps5, GPT4, HTML5, US$, US$5bn, $1bn, $10usd, 5k$, 100usd$, $AAPL, $5, 100"
)


def test_numbers_money_and_names_stay_beside_leet() -> None:
    assert unmask(f"sh1t {BESIDE}") == f"shit {BESIDE}"


@pytest.mark.parametrize("name", ["H1N1", "W3C", "C3PO", "SW1A", "K8s", "#TNGSeason4Finale", "No!I", "b!g", "r4b"])
def test_a_name_with_a_digit_says_nothing_of_other_words(name: str) -> None:
    assert unmask(f"{name} python3, area51, 4chan").endswith(" python3, area51, 4chan")


@many
@given(st.one_of(any_text, tricky_text, st.text("aocABpyхаосеЖιο013$@! ", max_size=40)))
def test_length_and_order_of_characters_stay(text: str) -> None:
    unmasked = unmask(text)
    assert len(unmasked) == len(text)
    assert [character.isspace() for character in unmasked] == [character.isspace() for character in text]


def test_long_words_of_letters_and_digits_take_no_time() -> None:
    # Each would take minutes if a pattern went back over what it has read.
    assert unmask("a0" * 50_000 + "_") == "a0" * 50_000 + "_"
    assert unmask("a0" * 50_000 + "a") == "ao" * 50_000 + "a"
    assert len(unmask("a!" * 50_000)) == 100_000
    assert unmask("a.b+" * 25_000) == "a.b+" * 25_000
    assert unmask("\u0430" * 100_000 + "3") == "\u0430" * 100_000 + "3"
    assert unmask("\u04303" * 50_000 + "_") == "\u04303" * 50_000 + "_"
    assert unmask("$" * 100_000 + "a") == "$" * 100_000 + "a"
