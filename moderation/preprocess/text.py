"""Text as a model sees it: `normalise` turns what people type into what a model learns from.

Deterministic, and versioned: a model names the version that it was trained with, and refuses to score under another.
What it does, in order: HTML entities, NFKC, zero-width and bidirectional controls removed, links and mentions folded
into one token each, case folded, letters stretched beyond two shortened to two, white space folded. Emoji stay.
"""

from __future__ import annotations

import html
import re
import unicodedata

TEXT_VERSION = "text-1"
"""Changes whenever `normalise` gives any text another form."""

URL_TOKEN = "\u241furl"  # noqa: S105  # a token of text, not a secret
MENTION_TOKEN = "\u241fuser"  # noqa: S105

URL = re.compile(r"(?:https?://|www\.)[^\s<>\"']+", re.IGNORECASE)
MENTION = re.compile(r"(?<![\w@])(?:@\w{1,64}|\[id\d+\|[^\]]{1,64}\]|/?u/[A-Za-z0-9_-]{3,32}\b)")

_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_STRETCHED = re.compile(r"([^\W\d_])\1{2,}")
_SPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    r"""Return `text` in the form that models are trained on and scored with.

    Idempotent for text without entities; never raises, whatever the code points.

    Example:
        >>> normalise("  You\u200b are SOOOO  great, @ann! https://example.org/x ")
        'you are soo great, ␟user! ␟url'
    """
    text = unicodedata.normalize("NFKC", html.unescape(text))
    text = _INVISIBLE.sub("", text)
    text = URL.sub(URL_TOKEN, text)
    text = MENTION.sub(MENTION_TOKEN, text)
    text = _STRETCHED.sub(r"\1\1", text.casefold())
    return _SPACE.sub(" ", text).strip()
