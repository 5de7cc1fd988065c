"""JSON as clients send it, made readable: a byte order mark goes, what is no character becomes U+FFFD, and is counted.

A text that was cut in the middle of an emoji ends in half of it. Half a character is none, and no parser takes it; but
that is no reason to leave a post unjudged.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

_MARK = b"\xef\xbb\xbf"
# Both halves of a pair, or one alone. It begins with what is looked for fast: while it is, no other thread runs.
_SURROGATES = re.compile(
    rb"\\u(?:[dD][89aAbB][0-9a-fA-F]{2}(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[dD][c-fC-F][0-9a-fA-F]{2})"
)
_BACKSLASH = ord("\\")


@dataclass(slots=True)
class Replaced:
    """How many characters of a request's body were replaced so far."""

    characters: int = 0


_REPLACED: ContextVar[Replaced | None] = ContextVar("replaced", default=None)


def begin() -> Replaced:
    """Count from now on, for the request whose context this is."""
    counted = Replaced()
    _REPLACED.set(counted)
    return counted


def unmarked(raw: bytes) -> bytes:
    """A text without the byte order mark that it may begin with."""
    return raw.removeprefix(_MARK)


def readable(raw: bytes) -> bytes:
    r"""A JSON text, or what shall be one, without what no parser takes for a character.

    Example:
        >>> readable(b'"a \\ud83d b \\ud83d\\ude00"')
        b'"a \\ufffd b \\ud83d\\ude00"'
    """
    raw = unmarked(raw)
    count = 0
    if not _is_utf8(raw):
        text = raw.decode(errors="replace")
        count = text.count("\ufffd") - raw.count("\ufffd".encode())
        raw = text.encode()
    raw, halves = _whole(raw)
    count += halves
    counted = _REPLACED.get()
    if counted is not None:
        counted.characters += count
    return raw


def _whole(raw: bytes) -> tuple[bytes, int]:
    """A text with each half of a character replaced, and how many there were."""
    parts: list[bytes] = []
    begin = at = 0
    while (found := _SURROGATES.search(raw, at)) is not None:
        start, at = found.span()
        if not _is_escape(raw, start):
            at = start + 2  # a backslash that is written, and letters
        elif found["low"] is None:
            parts += (raw[begin:start], rb"\ufffd")
            begin = at
    return b"".join((*parts, raw[begin:])) if parts else raw, len(parts) // 2


def _is_escape(raw: bytes, at: int) -> bool:
    """Whether a backslash stands behind an even number of others."""
    first = at
    while first and raw[first - 1] == _BACKSLASH:
        first -= 1
    return (at - first) % 2 == 0


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
