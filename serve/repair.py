"""JSON as clients send it, made readable: a byte order mark goes, what is no character becomes U+FFFD, and is counted.

A text that was cut in the middle of an emoji ends in half of it. Half a character is none, and no parser takes it; but
that is no reason to leave a post unjudged.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

_MARK = b"\xef\xbb\xbf"
# Both halves of a pair, or one alone. What stands behind an odd number of backslashes is an escape.
_SURROGATES = re.compile(
    rb"(?<!\\)(?P<before>(?:\\\\)*)\\u(?:[dD][89aAbB][0-9a-fA-F]{2}(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    rb"|[dD][c-fC-F][0-9a-fA-F]{2})"
)


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
    halves = 0

    def whole(found: re.Match[bytes]) -> bytes:
        nonlocal halves
        if found["low"] is not None:
            return found.group()
        halves += 1
        return found["before"] + rb"\ufffd"

    raw = _SURROGATES.sub(whole, raw)
    count += halves
    counted = _REPLACED.get()
    if counted is not None:
        counted.characters += count
    return raw


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
