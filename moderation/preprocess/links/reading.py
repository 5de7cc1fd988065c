"""A text as its links are read: entities, invisible and fullwidth characters and defanged forms undone.

Where each character came from is kept, so that a link can be shown as it was written.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from moderation.preprocess.links.hosts import INVISIBLE

SPOKEN_SUFFIXES = (
    "com|org|net|info|biz|io|xyz|icu|top|club|online|site|shop|vip|tk|ml|cf|gq|ga|cfd|sbs|cyou|gdn|app|tv|cc|eu|"
    "ru|su|рф|ua|kz|cn|hk|tw|br|pt|uk|de|ch|fr|pl|nl|cz|hu"
)
"""What may follow a spoken ` dot `: no words that follow a polka dot. `net` only in a longer name or before a path,
since people speak of dot net."""

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});")
# Blocks whose characters NFKC reads as ASCII; what a host or a scheme can be spelt with is taken from them.
_FOLDED_RANGES = (
    *((0x2024, 0x2024), (0x2070, 0x209F), (0x2100, 0x218F), (0x2460, 0x24FF), (0xFB00, 0xFB06), (0xFE50, 0xFE6F)),
    *((0xFF01, 0xFF5E), (0x1D400, 0x1D7FF), (0x1F100, 0x1F1FF)),
)
_SIGNS_OF_LINKS = frozenset("./:?#@%&=_~+-\\")


def _folded_table() -> dict[str, str]:
    """A fullwidth comma or bracket stays: in Chinese and Japanese it ends a link."""
    table = dict.fromkeys(map(chr, _points(INVISIBLE)), "")
    for first, last in _FOLDED_RANGES:
        for character in map(chr, range(first, last + 1)):
            read = unicodedata.normalize("NFKC", character)
            if read != character and read.isascii() and (read.isalnum() or read in _SIGNS_OF_LINKS):
                table[character] = read
    return table


def _points(ranges: str) -> list[int]:
    """The code points of a character class of single characters and `a-z` ranges."""
    found = re.findall("(.)(?:-(.))?", ranges, re.DOTALL)
    return [point for first, last in found for point in range(ord(first), ord(last or first) + 1)]


_FOLDED = _folded_table()

_DEFANGED = re.compile(
    r"(?<=\w)\s{0,2}[\[({]\s?(?P<dot>\.|dot|ponto|punkt|точка|点)\s?[\])}]\s{0,2}(?=\w)"
    r"|(?<=\w)\\\.(?=\w)"
    r"|[\[({](?P<mark>:?//|[:/])[\])}]",
    re.IGNORECASE,
)
_SPOKEN = re.compile(
    r"(?<![\w.-])(?P<names>[\w-]{1,63}(?:\sdot\s[\w-]{1,63}){0,4}?)\sdot\s"
    rf"(?P<suffix>{SPOKEN_SUFFIXES})(?![\w-]|\sdot\s)(?P<path>/?)",
    re.IGNORECASE,
)
_ANY_SPOKEN = re.compile(r"\sdot\s", re.IGNORECASE)
_ANY_DEFANGED = re.compile(r"[\[({\\]\s?[.:/dpтп点]", re.IGNORECASE)
_PROSE = """
a an the this that these those my your our their his her its of in and or as for with from during since every each some
any one no old new big early late first last pre post whole entire is was what polka
"""
_NO_NAMES = frozenset(_PROSE.split())
"""Words before `dot com` in prose: the dot com bubble."""


@dataclass(slots=True)
class LinkText:
    """A text in the form in which its links are looked for.

    Attributes:
        written: the text itself.
        text: what is read.
        begins: where in `written` each character of `text` begins.
        ends: where it ends.
        defanged: where in `text` a dot stands that was written so that nobody follows the link: `[.]`, `(dot)`.
    """

    written: str
    text: str
    begins: Sequence[int]
    ends: Sequence[int]
    defanged: list[int] = field(default_factory=list)

    def as_written(self, start: int, end: int) -> str:
        """The part of the text that `text[start:end]` was read from; not empty."""
        return self.written[self.begins[start] : self.ends[end - 1]]

    def is_defanged(self, start: int, end: int) -> bool:
        """Whether a dot in `text[start:end]` was written to keep people from following the link."""
        index = bisect_left(self.defanged, start)
        return index < len(self.defanged) and self.defanged[index] < end


def read(text: str) -> LinkText:
    """Read a text; takes time in proportion to its length."""
    reading = LinkText(text, text, range(len(text)), range(1, len(text) + 1))
    if "&" in text:
        _rewrite(reading, ((*found.span(), html.unescape(found.group())) for found in _ENTITY.finditer(text)))
    if not _FOLDED.keys().isdisjoint(reading.text):
        _rewrite(reading, ((at, at + 1, _FOLDED[sign]) for at, sign in enumerate(reading.text) if sign in _FOLDED))
    if _ANY_SPOKEN.search(reading.text):
        _rewrite(reading, ((*found.span(), _joined(found)) for found in _SPOKEN.finditer(reading.text)))
    if _ANY_DEFANGED.search(reading.text):
        matches = list(_DEFANGED.finditer(reading.text))
        starts = _rewrite(reading, ((*found.span(), found["mark"] or ".") for found in matches))
        reading.defanged = [start for start, found in zip(starts, matches, strict=True) if _is_deliberate(found)]
    return reading


def _rewrite(reading: LinkText, changes: Iterable[tuple[int, int, str]]) -> list[int]:
    """Replace parts of the text: start, end, what is read there; gives where each replacement begins then."""
    text, pieces, length, last = reading.text, [], 0, 0
    begins: list[int] = []
    ends: list[int] = []
    starts: list[int] = []
    for start, end, new in changes:
        pieces += [text[last:start], new]
        begins += reading.begins[last:start]
        ends += reading.ends[last:start]
        starts.append(length + start - last)
        begins += [reading.begins[start]] * len(new)
        ends += [reading.ends[end - 1]] * len(new)
        length = starts[-1] + len(new)
        last = end
    if pieces:
        reading.text = "".join(pieces) + text[last:]
        reading.begins = begins + list(reading.begins[last:])
        reading.ends = ends + list(reading.ends[last:])
    return starts


def _joined(found: re.Match[str]) -> str:
    names = re.split(r"\sdot\s", found["names"], flags=re.IGNORECASE)
    prose = names[0].lower() in _NO_NAMES or (found["suffix"].lower() == "net" and len(names) < 2 and not found["path"])
    return found.group() if prose else ".".join([*names, found["suffix"]]) + found["path"]


def _is_deliberate(found: re.Match[str]) -> bool:
    """A word in round brackets, with space around it, may be prose: a yellow (dot) in the sky."""
    dot, piece = found["dot"], found.group()
    return dot is not None and (dot == "." or "(" not in piece or len(piece) == len(dot) + 2)
