"""Letters in boxes, circles and flags, read as the letters that they are.

What Unicode calls compatible (`Ⓐ`, `🄰`, `ａ`, `𝓪`) NFKC reads; these it does not:

    negative      `🅘`, `🅸`: white on black
    parenthesised two and more in a row, `⒤⒟⒤⒪⒯`; NFKC would leave the parentheses; a single one begins an item
    emoji words   `🆔iot`: of two letters, beside a Latin one; alone they are signs
    indicators    `🇮` and `🇩` apart are letters, together the flag of Indonesia. A row of nothing but flags of countries
                  stays; in one that is anything else, all are letters
"""

from __future__ import annotations

import re

_COUNTRIES = (
    "AC AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY "
    "BZ CA CC CD CF CG CH CI CK CL CM CN CO CP CQ CR CU CV CW CX CY CZ DE DG DJ DK DM DO DZ EA EC EE EG EH ER ES ET "
    "EU FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU IC ID IE IL IM "
    "IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF "
    "MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK "
    "PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC "
    "TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM UN US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW "
)
_FLAGS = frozenset(_COUNTRIES.split())
"""Unicode's own (UTS 51, of ISO 3166); other pairs are shown as two letters in boxes."""

_INDICATOR = "\U0001f1e6-\U0001f1ff"
_LETTERS = {
    first + place: ord("A") + place for first in (0x1F110, 0x1F150, 0x1F170, 0x1F1E6) for place in range(26)
} | {0x249C + place: ord("a") + place for place in range(26)}
_WORDS = str.maketrans(
    {"\U0001f18e": "AB", "\U0001f191": "CL", "\U0001f194": "ID", "\U0001f196": "NG", "\U0001f197": "OK"}
)

_BOXED = re.compile("[\u249c-\u24b5\U0001f110-\U0001f1ff]")
_NEGATIVE = re.compile("[\U0001f150-\U0001f169\U0001f170-\U0001f189]+")
_BRACKETED = re.compile("[\u249c-\u24b5\U0001f110-\U0001f129]{2,}")
_EMOJI_WORD = re.compile(
    "(?<=[A-Za-z])[\U0001f18e\U0001f191\U0001f194\U0001f196\U0001f197]"
    "|[\U0001f18e\U0001f191\U0001f194\U0001f196\U0001f197](?=[A-Za-z])"
)


def unboxed(text: str, invisible: str) -> str:
    """Read letters in boxes.

    Args:
        text: any; invisible characters are still in it, since what they keep apart is no flag.
        invisible: a regular expression's class of these, without its brackets.
    """
    if not _BOXED.search(text):
        return text
    text = re.sub(f"[{_INDICATOR}](?:[{invisible}]*[{_INDICATOR}])*", lambda row: _row(row.group(), invisible), text)
    text = _NEGATIVE.sub(_letters, text)
    return _BRACKETED.sub(_letters, text)


def words_beside_letters(text: str) -> str:
    """Read emoji that are words where a letter is beside them; the text is composed, without invisible characters."""
    return _EMOJI_WORD.sub(lambda found: found.group().translate(_WORDS), text) if _BOXED.search(text) else text


def spelled_flags(text: str) -> str:
    """Rows of two flags and more as the letters that they are made of, as systems without flags show them."""
    return re.sub(f"[{_INDICATOR}]{{4,}}", _letters, text)


def _letters(found: re.Match[str]) -> str:
    return found.group().translate(_LETTERS)


def _row(row: str, invisible: str) -> str:
    read = row.translate(_LETTERS)
    flags = all(
        len(part) % 2 == 0 and all(part[place : place + 2] in _FLAGS for place in range(0, len(part), 2))
        for part in re.split(f"[{invisible}]+", read)
    )
    return row if flags else read
