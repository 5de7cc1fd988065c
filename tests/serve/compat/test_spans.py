"""Sentences and where they stand, in UTF-16 code units."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.compat.spans import Span, sentences, utf16_length, whole


def cut(text: str, span: Span) -> str:
    """What a client that counts in UTF-16 finds there."""
    return text.encode("utf-16-le", "surrogatepass")[2 * span.begin : 2 * span.end].decode("utf-16-le")


def test_perspective_s_own_example() -> None:
    text = "What kind of idiot name is foo? Sorry, I like your name."
    assert [(span.begin, span.end) for span in sentences(text, 64)] == [(0, 31), (32, 56)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \n\t ", []),
        ("one", ["one"]),
        ("  one.  ", ["one."]),
        ("One. Two! Three? Four\u2026 Five", ["One.", "Two!", "Three?", "Four\u2026", "Five"]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("3.5 of example.org/a.b?c=d e.", ["3.5 of example.org/a.b?c=d e."]),
        ("line one\nline two\r\n\r\nline three", ["line one", "line two", "line three"]),
        ("你好。你是谁？走开！", ["你好。", "你是谁？", "走开！"]),
        ("「滚！」他说。", ["「滚！」", "他说。"]),
        ("Привет. Как дела?", ["Привет.", "Как дела?"]),
        ("مرحبا؟ كيف حالك", ["مرحبا؟", "كيف حالك"]),
        ("नमस्ते। कैसे हो।", ["नमस्ते।", "कैसे हो।"]),
        ("\U0001f345. \U0001f345!", ["\U0001f345.", "\U0001f345!"]),
        ("...", ["..."]),
        ("." * 40_000, ["." * 40_000]),
        (".)" * 20_000, [".)" * 20_000]),
        (". " * 3, [".", ".", "."]),
    ],
)
def test_a_text_is_cut_into_sentences(text: str, parts: list[str]) -> None:
    found = sentences(text, 64)
    assert [span.text for span in found] == parts
    assert [cut(text, span) for span in found] == parts


def test_offsets_count_utf_16_units_not_characters() -> None:
    text = "\U0001f600\U0001f600 hi. \U0001f468\u200d\U0001f469\u200d\U0001f467 ok! \u4f60\u597d\u3002bye"
    first, second, third, fourth = sentences(text, 64)
    assert (first.begin, first.end) == (0, 8)  # two units an emoji
    assert (second.begin, second.end) == (9, 21)  # 2 + 1 + 2 + 1 + 2 and four more
    assert (third.begin, third.end) == (22, 25)
    assert (fourth.begin, fourth.end) == (25, 28)
    assert whole(text) == Span(0, 28, text)
    assert utf16_length(text) == 28 > len(text)


def test_neighbours_share_a_span_where_there_are_too_many() -> None:
    text = " ".join(f"Sentence {number}." for number in range(10))
    found = sentences(text, 4)
    assert [span.text.count(".") for span in found] == [2, 3, 2, 3]
    assert " ".join(span.text for span in found) == text
    assert sentences(text, 10) == sentences(text, 64)
    assert [span.text for span in sentences(text, 1)] == [text]


@given(st.text(alphabet=st.sampled_from("ab.!? \n\u3002\u2029\U0001f600\u0301\u200d)"), max_size=60), st.integers(1, 5))
def test_spans_are_in_order_cover_all_that_is_not_space_and_say_where_they_stand(text: str, most: int) -> None:
    found = sentences(text, most)
    assert len(found) <= most
    assert [cut(text, span) for span in found] == [span.text for span in found]
    assert all(before.end <= after.begin for before, after in pairwise(found))
    assert all(span.text == span.text.strip() and span.text for span in found)
    assert "".join("".join(span.text.split()) for span in found) == "".join(text.split())
