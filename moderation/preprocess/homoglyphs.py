"""Homoglyphs, characters that stand for others because they look alike: read as the letters that they stand for.

Two tricks, undone where a word shows that they are meant, so that honest text of any script stays as it is:

    homoglyphs  Cyrillic or Greek letters inside a Latin word, or Latin ones inside a Cyrillic word. Letters that look
                like nothing in the other script say which script a word is meant in; a word without any such letter
                follows the rest of the text. The pairs are those of Unicode's confusables (UTS 39) that a reader takes
                for each other at text size.
    leet        digits and signs between letters: `sh1t`, `a$$hole`, `пи3дец`. A digit at a word's end stays one
                (`covid19`, `mp3`), and so does one at its begin (`4chan`), unless the word hides another between
                letters (`1d10t`, `b1tch35`). A `$` at either edge of three or more small letters is an s. Who hid one
                in a word that is no name means it in all words (`you 1d10t, 3ven 7hat`), but for numbers with a unit,
                sums of money and names in capitals or of a letter or two (`10am`, `$5`, `GPT4`, `mp3`).
"""

from __future__ import annotations

import re

_CYRILLIC = "аеорсухіѕјԁһԛԝкАВЕКМНОРСТУХІЅЈ"
_CYRILLIC_AS_LATIN = "aeopcyxisjdhqwkABEKMHOPCTYXISJ"
_GREEK = "οανιρκχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"
_GREEK_AS_LATIN = "oavipkxABEZHIKMNOPTYX"
_SMALL_CAPITALS = str.maketrans("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz")
_TO_LATIN = str.maketrans(_CYRILLIC + _GREEK, _CYRILLIC_AS_LATIN + _GREEK_AS_LATIN)
_TO_CYRILLIC = str.maketrans(_CYRILLIC_AS_LATIN, _CYRILLIC)


def _class(ranges: str, without: str) -> re.Pattern[str]:
    """A character of `ranges`, but none of `without`."""
    return re.compile(f"(?![{without}])[{ranges}]")


_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_OTHER = re.compile("[\u0370-\u03ff\u0400-\u052f]")
_CLEARLY_LATIN = _class("A-Za-z\u00c0-\u024f", _CYRILLIC_AS_LATIN + _GREEK_AS_LATIN)
_CLEARLY_CYRILLIC = _class("\u0400-\u052f", _CYRILLIC)
_CLEARLY_GREEK = _class("\u0370-\u03ff", _GREEK)
_WORD = re.compile(r"[^\W\d_]+")

_LATIN_LEET = str.maketrans("013457@$!8", "oieastasib")
_CYRILLIC_LEET = str.maketrans("0346@$", "озчбас")
_LATIN_LEET_WORD = re.compile(
    # No mail address; `!` only near a word's begin, since between words it is more often a missing space.
    "(?<![\\w@$!])(?![\\w.+-]{1,64}@[\\w-]{1,63}\\.)[013457$]{0,3}(?:[A-Za-z]{1,2}!)?"
    "(?:[A-Za-z\u00c0-\u024f]+[013457@$8]{1,3})*[A-Za-z\u00c0-\u024f]+[013457$]{0,3}(?![\\w$])"
)
_CYRILLIC_LEET_WORD = re.compile(
    "(?<![\\w@$])[0346$]{0,3}(?:[\u0400-\u052f]+[0346@$]{1,3})*[\u0400-\u052f]+[0346$]{0,3}(?![\\w$])"
)
_HIDES = re.compile(
    r"[^\W\d_](?:[013456789@$!]{1,3}[^\W\d_]|\${2})"  # a sign between letters, or two at the end
    # At an edge of nothing but small letters, `$` is an s: `$AAPL`, `US$`, `R$` and `50eur$` are money.
    r"|(?<!\w)\$[a-zа-яё]{3}|(?<!\w)[a-zа-яё]{3,40}\$|[a-zа-яё][013457]{2}\$"
)

_MONEY = re.compile(r"[A-Z]{1,3}\$\d")
_UNITS = (
    "am|pm|st|nd|rd|th|[kmgt]b|[kcm]m|m?g|kg|ml|ms|kw|mw|bn|mi[on]|mrd|mins?|secs?|hrs?|hours?|days?|weeks?|months?|years?|yrs?"
    "|std|uhr|mal|tage?n?|jahre?n?|jährig\\w*|eur|euros?|usd|reais|anos?|dias?|meses|horas?|vezes|mil"
    "|мин|сек|час\\w*|дн\\w*|лет|год\\w*|руб\\w*|тыс|млн|млрд|км|кг|см|мм|мл|раз|ти|го|ый|ой|ая|ое"
)
_STAYS = re.compile(
    rf"\d{{1,3}}(?:[^\W\d_]|(?i:{_UNITS}))\$?|\d{{1,2}}(?i:h|v|x|х|on)\d{{1,2}}"  # 10am, 3x, 5k$, 100usd$, 14h30, 4x4
    r"|\$\d{1,3}(?i:[bkmt]|[bmt]n|mio?|usd)|[A-Z]{1,3}\$(?:\d.*)?|\$[A-Z]{1,5}"  # $1bn, US$, US$5bn, $AAPL
    r"|[^\W\d_]{1,2}\d|[^\W\d_]\d{2,3}|[A-ZА-ЯЁ]{2,}\d{1,3}"  # mp3, B12, GPT4
)
"""What digits and signs are meant in, even beside leet."""
_MEANT = re.compile(r"(?=.{4})(?=.*[^\W\d_A-ZА-ЯЁ]).*[^\W\d_][013457$]{1,3}[^\W\d_]")
"""A word that shows that its writer hides letters: `b1tch`, but neither `H1N1` nor `W3C`, which are names."""


def unmask(text: str) -> str:
    """Read homoglyphs and leet as the letters that they stand for; length and order of characters stay.

    Example:
        >>> unmask("you 1d10t, pаthetic сlown, covid19")  # with Cyrillic а and с
        'you idiot, pathetic clown, covid19'
    """
    text = text.translate(_SMALL_CAPITALS)
    if _OTHER.search(text):
        text = _in_one_script(text)
    if _HIDES.search(text):
        text = _without_leet(text, _LATIN_LEET_WORD, _LATIN_LEET)
        text = _without_leet(text, _CYRILLIC_LEET_WORD, _CYRILLIC_LEET)
    return text


def _without_leet(text: str, words: re.Pattern[str], signs: dict[int, int]) -> str:
    meant = False

    def sure(found: re.Match[str]) -> str:
        nonlocal meant
        word = found.group()
        if not _HIDES.search(word) or _MONEY.match(word):
            return word
        meant = meant or (bool(_MEANT.match(word)) and text[found.start() - 1 : found.start()] != "#")
        return word.translate(signs)

    def likely(found: re.Match[str]) -> str:
        word = found.group()
        return word if _STAYS.fullmatch(word) else word.translate(signs)

    read = words.sub(sure, text)
    return words.sub(likely, read) if meant else read


def _in_one_script(text: str) -> str:
    latin = bool(_CLEARLY_LATIN.search(text))
    other = bool(_CLEARLY_CYRILLIC.search(text) or _CLEARLY_GREEK.search(text))

    def fold(found: re.Match[str]) -> str:
        word = found.group()
        mixed = bool(_LATIN.search(word) and _OTHER.search(word))
        if _CLEARLY_LATIN.search(word):
            other_letters = _CLEARLY_CYRILLIC.search(word) or _CLEARLY_GREEK.search(word)
            return word.translate(_TO_LATIN) if mixed and not other_letters else word
        if _CLEARLY_CYRILLIC.search(word):
            return word.translate(_TO_CYRILLIC) if mixed else word
        if latin and not other:
            return word.translate(_TO_LATIN)
        if not mixed:
            return word
        return word.translate(_TO_CYRILLIC if other and not latin else _TO_LATIN)

    return _WORD.sub(fold, text)
