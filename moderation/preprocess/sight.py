"""What a reader sees, where that is not what is stored: further readings of a text, for the surest of them to decide.

Only texts with something odd about them have any, so ordinary ones cost nothing more:

    order    bidirectional controls (Boucher and Anderson, "Trojan Source", 2021): overrides, embeddings, isolates and
             marks show letters in another order than they are stored in. What is shown is brought to the order in which
             it is read, Latin from the left and Hebrew from the right; most Arabic and Hebrew is then as it is stored
    turned   letters upside down (`ʇoıpı`), which are written backwards as well
    bare     words of which half the letters carry marks, without these; some languages write so, so both are read
    flags    two flags and more in a row: systems that have none show the letters
"""

from __future__ import annotations

import re

from bidi import get_base_level, get_display

from moderation.preprocess.boxed import spelled_flags
from moderation.preprocess.marks import composed
from moderation.preprocess.text import INVISIBLE, unescaped

_CONTROL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_WORD = re.compile(r"[^\W\d_]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_TURNED = str.maketrans(
    "ɐqɔpǝɟƃɓɥᴉıɾʞןʅɯudbɹʇnʌʍʎ∀ƆƎℲſ˥WMԀ┴∩Λ⅄¡¿",
    "abcdefgghiijkllmnpqrtuvwyACEFJLMWPTUVY!?",
)
_TELLING = "ɐǝɟƃɥᴉɾʞɯɹʇʌʍʎ"
_UPSIDE_DOWN = re.compile(f"\\S*[{_TELLING}](?:.*[{_TELLING}])?\\S*")
_OFTEN = re.compile(f"[{_TELLING}ıɔ]")


def readings(text: str) -> list[str]:
    """What a reader may see in a raw text beside what it stores; mostly nothing.

    Example:
        >>> readings("\u202etoidi"), readings("idiot")
        (['idiot'], [])
    """
    text = unescaped(text)
    if text.isascii():
        return []
    text = _LONE_SURROGATE.sub("\ufffd", text)
    plain = composed(_INVISIBLE.sub("", text))
    found = [_in_order(text, base) for base in ("L", None)] if _CONTROL.search(text) else []
    if len(_OFTEN.findall(plain)) > 1:
        found.append(_UPSIDE_DOWN.sub(lambda odd: odd.group()[::-1].translate(_TURNED), plain))
    found += [composed(_INVISIBLE.sub("", text), bare=True), spelled_flags(plain)]
    stored = _words(plain)
    return [each for each in dict.fromkeys(found) if _words(each) != stored]


def _words(text: str) -> list[str]:
    """In any order: that of words which read one way changes where others read the other, and nothing is hidden."""
    return sorted(_WORD.findall(text))


def _in_order(text: str, base: str | None) -> str:
    """Lines as they are read where they are shown; paragraphs run to the left, or (None) as their first letters do."""
    return "\n".join(_line(line, base) if _CONTROL.search(line) else line for line in text.split("\n"))


def _line(line: str, base: str | None) -> str:
    line = composed(line)  # a mark goes with its letter
    base = base or ("R" if get_base_level(line) else "L")
    shown = _INVISIBLE.sub("", get_display(line, base_dir=base))
    return str(get_display(shown, base_dir=base))  # what is shown so is read so: the order is its own inverse
