"""Counting what a JSON text holds, without making it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.http import shape
from serve.http.shape import holds_more

TEXTS = st.text(alphabet='\\"[{,:a\n\u00e9\U0001f600', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def values_of(told: Any) -> int:
    items = list(told.values()) if isinstance(told, dict) else told if isinstance(told, list) else None
    return 1 if items is None else 1 + (sum(map(values_of, items)) or 1)


@given(told=JSON, ascii_only=st.booleans(), piece=st.integers(1, 9) | st.just(1 << 16))
def test_values_are_counted_whatever_stands_in_strings_and_wherever_a_piece_ends(
    told: Any, ascii_only: bool, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, "_PIECE", piece)
        raw = json.dumps(told, ensure_ascii=ascii_only).encode()
        count = values_of(told)
        assert not holds_more(raw, count)
        assert holds_more(raw, count - 1)


@pytest.mark.parametrize("raw", [b"", b'"', b'"\\', b"[1,2", b"\xff\xfe", b"\\" * 9, b'{"a": "b'])
def test_what_is_no_json_is_counted_somehow_and_is_no_error(raw: bytes) -> None:
    assert not holds_more(raw, 9)


def test_what_stands_before_the_first_error_is_counted_right() -> None:
    # A parser gives up at the backslash: until then it has made ten values.
    assert holds_more(b"[1,2,3,4,5,6,7,8,9" + b'\\",', 9)
    assert holds_more(b"[" + b"{}," * 9 + b"oops", 9)
