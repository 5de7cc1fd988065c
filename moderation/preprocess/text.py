"""Text as a model sees it: what people type, and what they type to get past a filter, turned into what a model learns.

Deterministic, and versioned: a model names the version that it was trained with, and refuses to score under another.

    clean      HTML entities, letters in boxes read as letters, NFKC, invisible characters and floods of combining marks
               removed, links and mentions folded into one token each, letters that were spaced out joined, homoglyphs
               and leet read as the letters that they stand for, letters stretched beyond two shortened to two, white
               space folded. Case and emoji stay.
    normalise  the same, and case folded: what n-gram models read.
"""

from __future__ import annotations

import html
import re

from moderation.preprocess.boxed import unboxed, words_beside_letters
from moderation.preprocess.homoglyphs import unmask
from moderation.preprocess.marks import composed
from moderation.preprocess.spaced import joined

TEXT_VERSION = "text-6"
"""Changes whenever `clean` or `normalise` gives any text another form."""

URL_TOKEN = "\u241furl"  # noqa: S105  # a token of text, not a secret
MENTION_TOKEN = "\u241fuser"  # noqa: S105  # a token of text, not a secret

# Scripts that put no space between words: what stands right behind a link or a name may be the text itself.
SOLID = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
)
URL = re.compile(rf"(?:https?://|(?<![^\W_{SOLID}])www\d{{0,2}}\.(?=\w))[^\s<>\"'{SOLID}]+", re.IGNORECASE)
MENTION = re.compile(rf"(?<![\w@])(?:@[^\W{SOLID}]{{1,64}}|\[id\d+\|[^\]]{{1,64}}\]|/?u/[A-Za-z0-9_-]{{3,32}}\b)")

# As the standard library reads them, but of so many digits only as a character has: it fails on some thousand, also of
# zeros before them.
_ENTITY = re.compile(r"&(?:#0*\d{1,7}|#[xX]0*[0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")
_ZEROS = re.compile("(?<=#)([xX]?)0+(?=[0-9a-fA-F])")
INVISIBLE = (
    "\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
"""Characters that show nothing, as a regular expression's class without its brackets."""
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_LONG_LIGATURE = re.compile("[\ufdfa\ufdfb]")
"""One character that NFKC reads as up to 18: a text of nothing else would exceed its bound so many times."""
_STRETCHED = re.compile(r"([^\W\d_])\1{2,}", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    r"""Return `text` in the form that encoders are trained on and scored with; never raises, whatever the code points.

    Example:
        >>> clean("  You\u200b 1d10t, y0u are so s t u p i d, @ann! https://example.org/x ")
        'You idiot, you are so stupid, ␟user! ␟url'
    """
    text = unboxed(unescaped(text), INVISIBLE)
    # Invisible characters first: one between a letter and its mark would keep them from being joined.
    text = words_beside_letters(composed(_LONG_LIGATURE.sub(" ", _INVISIBLE.sub("", text))))
    text = joined(MENTION.sub(MENTION_TOKEN, URL.sub(URL_TOKEN, text)))
    text = _STRETCHED.sub(r"\1\1", unmask(text))
    return _SPACE.sub(" ", text).strip()


def unescaped(text: str) -> str:
    """Read HTML entities, once."""
    return _ENTITY.sub(lambda found: html.unescape(_ZEROS.sub(r"\1", found.group())), text)


def fold(cleaned: str) -> str:
    """Fold the case of a cleaned text, as `normalise` does."""
    return _STRETCHED.sub(r"\1\1", cleaned.casefold())


def normalise(text: str) -> str:
    r"""Return `text` in the form that n-gram models are trained on and scored with: cleaned, and case folded.

    Example:
        >>> normalise("  You\u200b are SOOOO  great, @ann! https://example.org/x ")
        'you are soo great, ␟user! ␟url'
    """
    return fold(clean(text))
