"""Which words of a text are its author's own, and which it quotes.

A quotation is context: who quotes an insult to object to it has said none. What counts as quoted:

    lines behind `>`     as Markdown and mail have them, nested too, escaped too (`&gt;`), with the lines that continue
                         such a paragraph without the sign (CommonMark's lazy continuation); not a spoiler (`>!`)
    [quote], <blockquote>, <q>    up to the end that belongs to it, also nested; without an end it is none
    `@ann wrote:`        and what follows on that line or, where nothing does, up to the next blank line
    “…”, "…", «…», 「…」  of two words or more, within a paragraph; one word in such marks is the author's own

Anybody can put these signs around words of one's own, so what is quoted is no less harmful for it: only a person can
tell (see `policy.Scored.quotes`).
"""

from __future__ import annotations

import re

from moderation.preprocess.text import INVISIBLE, unescaped

_BREAK = re.compile("\r\n?|[\u2028\u2029\u0085\v\f]")
_TAG = re.compile(
    r"\[(?P<end>/?)(?P<bb>quote)(?:[=\s][^\[\]\n]{0,200})?\]|<(?P<close>/?)(?P<html>blockquote|q)(?:\s[^<>]{0,200})?>",
    re.IGNORECASE,
)
_MARKER = re.compile(rf"[ \t{INVISIBLE}]*[>\uff1e](?!!)")
_MARKERS = re.compile(rf"[ \t{INVISIBLE}>\uff1e]*")
# What begins a block of its own, and so continues no quotation: CommonMark 0.31, section 5.1.
_BLOCK = re.compile(r"[ \t]{0,3}(?:[-+*][ \t]|\d{1,9}[.)][ \t]|#{1,6}(?:[ \t]|$)|```|~~~|(?:[-_*][ \t]*){3,}$)")
_NAME = r"(?:@|/?u/)[\w.\-]{1,64}|[^\W\d_][\w.'\u2019\-]{0,40}(?: [\w.'\u2019\-]{1,40}){0,3}"
_DATED = r"(?:On|Am|Em|В|Le|El)\s[^\n:]{4,120}?(?::\d\d[^\n:]{0,120}?)?"
_WROTE = "wrote|writes|said|says|schrieb|schreibt|sagte|sagt|escreveu|disse|diz|написала?|пишет|сказала?|escribió|dijo"
_ATTRIBUTION = re.compile(
    rf"[ \t]*(?!(?:I|ich|eu|я|yo|je)\b)(?:(?:{_DATED}|{_NAME})[ \t]+(?:{_WROTE})"
    r"|[^\s:\uff1a]{1,40}[ \t]?(?:写道|说|說))[ \t]?[:\uff1a](?!//)[ \t]*(?P<said>.*)",
    re.IGNORECASE,
)
_MARKS = [
    re.compile(pattern)
    for pattern in (
        "[“„]([^“”„\n]{1,2000})[”“]",
        "«([^«»\n]{1,2000})»",
        "»([^«»\n]{1,2000})«",
        "「([^「」\n]{1,2000})」",
        "『([^『』\n]{1,2000})』",
        r"(?<![\w\"])\"(?=\S)([^\"\n]{1,2000})(?<=\S)\"(?![\w\"])",
        r"(?<!\w)‘(?=\S)([^‘\n]{1,2000}?)(?<=\S)’(?!\w)",
    )
]
_WORD = re.compile(r"[^\W_]+(?:['\u2019\-][^\W_]+)*")
_SOLID = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]{3}")
"""Three letters of a script that puts no space between words are two words, more or less."""


def own_words(text: str) -> str | None:
    r"""The text without what it quotes; None: it quotes nothing; empty: it is nothing but quotation.

    Args:
        text: as posted, in lines; takes time in proportion to its length.

    Example:
        >>> own_words("> you are an idiot\n\nPlease be kind.")
        'Please be kind.'
    """
    text = _BREAK.sub("\n", unescaped(text))
    kept = "\n".join(_unquoted_lines(_without_tagged(text).split("\n")))
    for pattern in _MARKS:
        kept = pattern.sub(lambda found: " " if _is_said(found[1]) else found[0], kept)
    return None if kept == text else kept.strip()


def _without_tagged(text: str) -> str:
    """The text without what stands between tags that quote. A blank line takes its place: nothing continues across."""
    opened: dict[str, list[int]] = {}
    spans: list[tuple[int, int]] = []
    for tag in _TAG.finditer(text):
        name = (tag["bb"] or tag["html"]).lower()
        if not (tag["end"] or tag["close"]):
            opened.setdefault(name, []).append(tag.start())
        elif opened.get(name):
            spans.append((opened[name].pop(), tag.end()))
    kept, at = [], 0
    for begin, end in sorted(spans):
        if begin >= at:
            kept.append(text[at:begin])
        at = max(at, end)
    return "\n\n".join([*kept, text[at:]])


def _unquoted_lines(lines: list[str]) -> list[str]:
    kept = []
    continues = lazily = False  # whether a line that says nothing else belongs to what is quoted above it
    for line in lines:
        marker = _MARKER.match(line)
        attribution = None if marker else _ATTRIBUTION.match(line)
        if marker:
            rest = line[_MARKERS.match(line).end() :]  # type: ignore[union-attr]  # it matches everywhere
            continues = lazily = bool(rest.strip()) and not _BLOCK.match(rest)
        elif attribution:
            continues, lazily = not attribution["said"], False
        elif not line.strip() or not continues or (lazily and _BLOCK.match(line)):
            continues = False
            kept.append(line)
    return kept


def _is_said(words: str) -> bool:
    """Whether somebody said this, and it is not one word in quotation marks."""
    return len(_WORD.findall(words)) > 1 or _SOLID.search(words) is not None
