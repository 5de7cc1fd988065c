"""Combining marks that no orthography writes: a text is read without them.

Looked for in the decomposed text, since composing hides them: an `i` with a diaeresis is one character, and a word of
five letters with one each would look like five ordinary letters. Removed are

    strokes    through letters, and signs around them (`i̵`, `a⃝`)
    stacks     of three marks and more of which two stay over when the letter is composed (`i̴̖̎`)
    strangers  marks of another script (an Arabic vowel sign on a Latin letter, an accent on a Chinese character)
    floods     one on every letter of a text, or of a word of four letters and more if some alphabet does not have them

What orthographies write stays: Vietnamese has two marks on a letter, Greek three, Yoruba marks half of its letters,
Czech now and then all of a word (`říší`), Turkish five of six letters (`çöküşü`). Letters with a bar through them (`đ`)
count as marked ones.
"""

from __future__ import annotations

import re
import unicodedata

_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
"""Of no script in particular, and those of Cyrillic."""
_FOREIGN = "".join(
    chr(code)
    for code in (*range(0x0590, 0x1AB0), 0x3099, 0x309A, *range(0xA66F, 0xAC00))
    if unicodedata.category(chr(code)) == "Mn"
)
"""Of a script that is none of Latin, Greek and Cyrillic."""
_EUROPEAN = "A-Za-z\u00c0-\u024f\u0250-\u02af\u0370-\u03ff\u0400-\u052f\u1e00-\u1fff"
# Syriac and the letters of Taiwanese, which are written with marks of no script in particular, are not among these.
_OTHERS = "\u05d0-\u05f2\u0620-\u06d3\u0900-\u0dff\u0e00-\u0eff\u1100-\u11ff\u3041-\u30ff\u3400-\u9fff"

_BARRED = "ƀɓȼƈđɖɗɇɠǥħɦɨɉƙłƚɫɬɱɲŋøɵƥʠɍɽʂŧƭʈʉʋɏƶȥʐȺɃȻĐƉɆǤĦƗɈŁØɌŦȾɄɎƵⱥⱦ"
_UNBARRED = "bbccdddegghhijkllllmnnoopqrrstttuvyzzzABCDDEGHIJLORTTUYZat"
_BARE = str.maketrans(_BARRED, _UNBARRED)

_USUAL = frozenset(
    "áàâãäåāăąǎạảấầẩẫậắằẳẵặćĉċčçďđéèêëēĕėęěẹẻẽếềểễệĝğġģǧĥħíìîïĩīĭįǐịỉĵķǩĺļľłńñņňǹóòôõöøōŏőơọỏốồổỗộớờởỡợŕŗřśŝşšșţťțŧ"
    "úùûüũūŭůűųưụủứừửữựẃŵẅẁýỳŷÿỹỷỵźżžйёїўѓќӣӯ"
)
"""Of alphabets in which a whole word may be of such letters."""
_SHORT_I = re.compile(f"([иИ])[{_MARKS}]*\u0306[{_MARKS}]*")
_BREVE_ELSEWHERE = re.compile(f"[^иИ{_MARKS}][{_MARKS}]*\u0306")

_ANY = re.compile(f"[{_MARKS}{_FOREIGN}{_BARRED}]")
_STROKES = re.compile(f"[\u0334-\u0337\u0488\u0489\u20d0-\u20ff]|(?<=[\\w{_MARKS}])\u0338")  # one of `≠` is its own
_STACK = re.compile(f"[^\\W\\d_][{_MARKS}]{{3,}}")
_STRANGERS = re.compile(f"(?<=[{_EUROPEAN}{_MARKS}])[{_FOREIGN}]+"), re.compile(f"(?<=[{_OTHERS}])[{_MARKS}]+")
_WORD = re.compile(f"[^\\W\\d_][^\\W\\d_{_MARKS}]*(?:[{_MARKS}]+[^\\W\\d_]*)*")
_MARK = re.compile(f"[{_MARKS}]+")
_AGAIN = re.compile(f"([^\\W\\d_][{_MARKS}]?)\\1+", re.IGNORECASE)
_MARKED = re.compile(f"[^\\W\\d_](?=[{_MARKS}])|[{_BARRED}]")
_LEFT_OVER = re.compile("[\u0334-\u0338\u0489\u20d0-\u20ff]|[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff]{2,}")


def composed(text: str, *, bare: bool = False) -> str:
    """NFKC, less the marks that no orthography writes.

    Args:
        text: any.
        bare: read words of which half the letters are marked, three or more, without marks as well.
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKD", text)
    if _ANY.search(text):
        text = _STROKES.sub("", text)
        for strangers in _STRANGERS:
            text = strangers.sub("", text)
        text = _without_floods(_STACK.sub(_unstacked, text), bare=bare)
    return _LEFT_OVER.sub("", unicodedata.normalize("NFC", text))


def _unstacked(found: re.Match[str]) -> str:
    letter = found.group()
    return _unmarked(letter) if len(unicodedata.normalize("NFC", letter)) > 2 else letter


def _without_floods(text: str, *, bare: bool) -> str:
    letters = marked = 0

    def read(found: re.Match[str]) -> str:
        nonlocal letters, marked
        word = found.group()
        if not _ANY.search(word):
            letters += len(word)
            return word
        once = _AGAIN.sub(r"\1", word)  # as if no letter were stretched
        own, of_it = len(_MARK.sub("", once)), len(_MARKED.findall(once))
        letters += own
        marked += of_it
        flooded = (own >= 4 and 8 * of_it >= 7 * own and not _spelled(once)) or (
            bare and of_it >= 3 and 2 * of_it >= own
        )
        return _unmarked(word) if flooded else word

    read_text = _WORD.sub(read, text)
    if letters >= 8 and 10 * marked >= 9 * letters:
        return _unmarked(text)
    return read_text


def _spelled(word: str) -> bool:
    """Whether all its marks and bars are those of alphabets in which a whole word may have them."""
    return all(
        letter in _USUAL or not _ANY.search(unicodedata.normalize("NFD", letter))
        for letter in unicodedata.normalize("NFC", word).lower()
    )


def _unmarked(word: str) -> str:
    if "\u0306" in word and not _BREVE_ELSEWHERE.search(word):
        word = _SHORT_I.sub("\\1\0", word)  # `й` is a letter, whatever else stands on it
    return _MARK.sub("", word).translate(_BARE).replace("\0", "\u0306")
