"""How much a JSON text holds, before anything is made of it.

A parser makes an object of each value, and pydantic an error of each wrong one, before any is told: millions of empty
items take gigabytes. Counting them takes no memory and, beside parsing, hardly any time.
"""

from __future__ import annotations

from collections.abc import Iterator

_PIECE = 1 << 16
"""Bytes that are counted at a time: other threads run in between."""
_IRRELEVANT = bytes(set(range(256)) - set(b'",[{'))


def holds_more(raw: bytes, bound: int) -> bool:
    """Whether a JSON text holds more values than a bound: itself, items and members, at any depth.

    An empty container counts as if it held one. Of a text that is no JSON, what stands before its first error is
    counted right.

    Args:
        raw: the text, in UTF-8.
        bound: values.
    """
    # Each value opens its container or follows a comma. Most texts have so few of these that no string need be told.
    if 1 + _openings(raw) <= bound:
        return False
    values = 1
    for piece in _outside_strings(raw):
        values += _openings(piece)
        if values > bound:
            return True
    return False


def _openings(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _outside_strings(raw: bytes) -> Iterator[bytes]:
    """What of commas and opening brackets stands outside of strings, piece by piece."""
    inside = False
    left = b""
    for start in range(0, len(raw), _PIECE):
        piece = (left + raw[start : start + _PIECE]).replace(rb"\\", b"")
        left = b"\\" if piece.endswith(b"\\") else b""  # its other half is in the next piece
        parts = piece.replace(rb"\"", b"").translate(None, _IRRELEVANT).split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
