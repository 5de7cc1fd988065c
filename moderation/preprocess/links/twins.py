"""Names that pass for others: the letters, digits and spellings that a reader takes for the ones they expect.

The skeleton is that of UTS 39 (Unicode Security Mechanisms), with the pairs that occur in host names: two names that
look alike have the same one. The rule about scripts is its "highly restrictive" level.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_ALIKE = {
    **dict(zip("асԁеһіјӏорԛѕԝхуѵ", "acdehijlopqswxyv", strict=True)),  # Cyrillic
    **dict(zip("ανορικχυ", "avopikxu", strict=True)),  # Greek
    **dict(zip("օոսհյլ", "onuhjl", strict=True)),  # Armenian
    **dict(zip("ıɩɪɑɡɢɴʀʏ", "iiiaggnry", strict=True)),  # Latin, beside ASCII
    **dict(zip("ᴀʙᴄᴅᴇꜰʜᴊᴋʟᴍᴏᴘꜱᴛᴜᴠᴡᴢ", "abcdefhjklmopstuvwz", strict=True)),
}
"""Characters that look like an ASCII letter in themselves."""
_IN_DISGUISE = {
    **dict(zip("бвгиклмнптьѡфґҝ", "bbruklmhntbwqrk", strict=True)),
    **dict(zip("βγεηκστω", "byenkotw", strict=True)),
    **dict(zip("ցզքգ", "gqpq", strict=True)),
    **dict(zip("łøđħŧƙĸƅ", "lodhtkkb", strict=True)),
}
"""Characters that pass for an ASCII letter inside a name that a reader expects."""
_AS_ASCII = str.maketrans(_ALIKE)
_AS_EXPECTED = str.maketrans(_IN_DISGUISE)
_ASCII_TWINS = str.maketrans("0134578", "oleastb")
_SEQUENCES = (("rn", "m"), ("vv", "w"), ("cl", "d"))

_WRITTEN_TOGETHER = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)


def as_ascii(label: str) -> str:
    """A label with the ASCII letters that its own look like; `label` is lower case. Marks above letters are dropped."""
    if label.isascii():
        return label
    read = unicodedata.normalize("NFD", label)
    return "".join(character for character in read if not unicodedata.combining(character)).translate(_AS_ASCII)


@lru_cache(maxsize=4096)
def skeleton(label: str) -> str:
    """What labels that look alike have in common; hyphens do not count.

    Example:
        >>> skeleton("pаypa1") == skeleton("paypal")  # with Cyrillic а
        True
    """
    shape = as_ascii(label).translate(_AS_EXPECTED).replace("-", "").translate(_ASCII_TWINS)
    for sequence, twin in _SEQUENCES:
        shape = shape.replace(sequence, twin)
    return shape.replace("i", "l")


def scripts(label: str) -> frozenset[str]:
    """The scripts of a label's letters, as the names of their characters begin."""
    names = (unicodedata.name(character, "?") for character in label if character.isalpha())
    return frozenset(name.replace("-", " ").split(" ", 1)[0] for name in names)


def mixes(found: frozenset[str]) -> bool:
    """Whether no language writes these scripts in one word."""
    return len(found) > 1 and not any(found <= together for together in _WRITTEN_TOGETHER)


def shortened(name: str) -> Iterator[str]:
    """The name, and the name without each one of its characters: names one edit apart have one of these in common."""
    yield name
    for place in range(len(name)):
        yield name[:place] + name[place + 1 :]


def one_edit_apart(first: str, second: str) -> bool:
    """Whether one insertion, deletion, change or swap of neighbours (Damerau 1964) makes one of the other."""
    if first == second or abs(len(first) - len(second)) > 1:
        return False
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    left, right = first[start:], second[start:]
    if left[1:] == right[1:] or left[1:] == right or left == right[1:]:
        return True
    return left[:2] == right[1::-1] and left[2:] == right[2:]
