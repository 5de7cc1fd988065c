"""The ways in which a text is judged: in each language that it may be in, as posted, and without what it quotes."""

from __future__ import annotations

from dataclasses import dataclass

from moderation.preprocess.language import UNDETERMINED, Language, detect_language, names_a_language
from serve.posts.quotation import own_words


@dataclass(frozen=True, slots=True)
class TextReading:
    """One way to read a text.

    Attributes:
        text: as posted, or a part of it.
        language: in which it is judged.
        quotes: whether some of the words are quoted.
        own: whether these are an author's own words, without what is quoted beside them.
    """

    text: str
    language: str
    quotes: bool = False
    own: bool = False


def language_of(text: str, told: str | None, region: str | None = None) -> Language:
    """The language of a text: as told, where that names one, and else as detected.

    Args:
        text: as posted.
        told: ISO 639, or None.
        region: ISO 3166-1 alpha-2, whose usual language counts where the text says too little; None: none does.
    """
    return Language(told, 1.0) if told and names_a_language(told) else detect_language(text, region=region)


def readings_of(text: str, language: Language, told: str | None, region: str | None = None) -> tuple[TextReading, ...]:
    """The ways in which a post's text is judged, each once, that as posted in its language first.

    Where its language is unsure, each in every language that it is likely in: a detector that errs must not decide.

    Args:
        text: as posted.
        language: of it.
        told: as of `language_of`.
        region: likewise.
    """
    own = own_words(text)
    readings = [TextReading(text, code, quotes=own is not None) for code in language.codes]
    if own:
        found = language_of(own, told, region)
        # The words beside a quotation may be few: what the whole is in, they may be in, too.
        codes = found.codes if found.code != UNDETERMINED else (*found.codes, *language.codes)
        readings += [TextReading(own, code, own=True) for code in codes]
    return tuple(dict.fromkeys(readings))
