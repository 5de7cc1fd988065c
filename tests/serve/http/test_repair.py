"""JSON that no parser takes, made readable: every half of a character becomes one, and nothing else changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.http.repair import begin, readable, unmarked
from tests.moderation.properties import any_text, many

MARK = "\ufeff".encode()


@pytest.mark.parametrize(
    ("raw", "made", "count"),
    [
        (rb'"\ud83d"', rb'"\ufffd"', 1),
        (rb'"\uDC00"', rb'"\ufffd"', 1),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"', 0),
        (rb'"\uD83D\uDE00\uD83D"', rb'"\uD83D\uDE00\ufffd"', 1),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"', 1),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"', 2),
        (rb'"\ud83d\n\ude00"', rb'"\ufffd\n\ufffd"', 2),
        (rb'"\\ud83d"', rb'"\\ud83d"', 0),  # a backslash, and letters behind it
        (rb'"\\\ud83d"', rb'"\\\ufffd"', 1),
        (rb'"\\ud83d\ude00"', rb'"\\ud83d\ufffd"', 1),
        (rb'"\\\\ud83d"', rb'"\\\\ud83d"', 0),
        (rb'"\u00e9 \u0000 \uffff"', rb'"\u00e9 \u0000 \uffff"', 0),
        (rb'"\ud8"', rb'"\ud8"', 0),  # no escape at all: the parser says so
        (b'"caf\xe9"', '"caf\ufffd"'.encode(), 1),
        (b'"\xf0\x9f\x98"', '"\ufffd"'.encode(), 1),  # cut in the middle of its bytes
        ('"\ufffd"'.encode(), '"\ufffd"'.encode(), 0),  # told as it is
        ('"\ufffd'.encode() + b'\xff"', '"\ufffd\ufffd"'.encode(), 1),
        (MARK + b"{}", b"{}", 0),
        (b"", b"", 0),
    ],
)
def test_what_is_no_character_becomes_one_that_says_so(raw: bytes, made: bytes, count: int) -> None:
    counted = begin()
    assert readable(raw) == made
    assert counted.characters == count


@many
@given(any_text, st.booleans())
def test_every_text_can_be_read_and_what_was_whole_is_unchanged(text: str, ascii_only: bool) -> None:
    raw = json.dumps({"text": text}, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    read = json.loads(readable(raw))["text"]
    assert not any("\ud800" <= character <= "\udfff" for character in read)
    if ascii_only:  # the escapes of both halves, side by side, are a pair whoever wrote them
        assert read == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    elif not any("\ud800" <= character <= "\udfff" for character in text):
        assert read == text


def test_a_long_run_of_backslashes_is_read_in_one_go() -> None:
    raw = b'"' + b"\\" * 2_000_000 + rb'\ud83d"'
    assert readable(raw).endswith(rb'\ufffd"')


def test_a_mark_goes_only_where_a_text_begins() -> None:
    assert unmarked(MARK + b"a" + MARK) == b"a" + MARK
