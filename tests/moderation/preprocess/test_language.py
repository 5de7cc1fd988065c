"""Which language a text is in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.language import Language, detect_language, names_a_language, usual_language
from tests.moderation.properties import few


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What a lovely day it is in the garden today", "en"),
        ("Heute ist ein wirklich schöner Tag im Garten", "de"),
        ("Que jogo lindo ontem, a torcida cantou até o fim", "pt"),
        ("Сегодня прекрасный день в нашем саду", "ru"),
        ("今天下班路上看到了很美的晚霞，心情一下子好了", "zh"),
        ("Bu sabah bahçede domatesler sonunda kızardı", "tr"),
    ],
)
def test_a_sentence_is_recognised(text: str, code: str) -> None:
    found = detect_language(text)
    assert found.code == code
    assert 0.4 <= found.confidence <= 1


@pytest.mark.parametrize("text", ["", "   ", "12345 !!! 🍅", "https://example.org/hello/world", "@ann u/someone"])
def test_a_text_without_a_word_is_undetermined(text: str) -> None:
    assert detect_language(text) == Language("und", 0.0)


def test_links_and_mentions_do_not_count() -> None:
    sentence = "Heute ist ein wirklich schöner Tag im Garten"
    links = "https://example.org/what/a/lovely/day @the_english_speaking_person"
    assert detect_language(f"{links} {sentence}\n{links}") == detect_language(sentence)


GERMAN = "Heute ist ein wirklich schöner Tag im Garten"
CHINESE = "随便哪里都行，关键是亚裔演员"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("\u200b".join(GERMAN), "de"),
        (GERMAN.translate({code: code + 0xFEE0 for code in range(ord("A"), ord("z"))}), "de"),
        ("H e u t e ist ein w i r k l i c h schöner Tag im G a r t e n", "de"),
        ("Wh\u0430t a l\u043ev\u0435ly d\u0430y it is in the g\u0430rd\u0435n t\u043ed\u0430y", "en"),
        ("&#72;eute ist ein wirklich sch&#0000246;ner Tag im Garten", "de"),
        (CHINESE, "zh"),
        (CHINESE.replace("\uff0c", ","), "zh"),
        ("\u200d".join(CHINESE), "zh"),
    ],
)
def test_what_hides_the_words_does_not_hide_their_language(text: str, code: str) -> None:
    assert detect_language(text).code == code


def test_what_is_not_sure_enough_is_undetermined_with_its_confidence() -> None:
    sure = detect_language("What a lovely day it is in the garden today", minimum_confidence=0.0)
    unsure = detect_language("What a lovely day it is in the garden today", minimum_confidence=1.01)
    assert sure.code == "en"
    assert unsure == Language("und", sure.confidence, ("en",))


@pytest.mark.parametrize(
    ("text", "region", "code", "likely"),
    [
        ("you idiot", None, "und", ("es", "en", "hr")),
        ("you idiot", "DE", "und", ("es", "en", "hr", "de")),  # and what is usually spoken there
        ("you idiot", "RU", "und", ("es", "en", "hr")),  # which is not written so
        ("you idiot", "ZZ", "und", ("es", "en", "hr")),  # where nobody knows
        ("ты идиот", None, "ba", ("mk", "ru")),  # named, but hardly
        ("What a lovely day it is in the garden today", "DE", "en", ()),
    ],
)
def test_an_unsure_detector_says_what_else_is_likely(
    text: str, region: str | None, code: str, likely: tuple[str, ...]
) -> None:
    found = detect_language(text, region=region)
    assert (found.code, found.likely) == (code, likely)
    assert found.codes == (code, *likely)


@pytest.mark.parametrize(
    ("region", "usual"),
    [("US", ("en", "LATIN")), ("BR", ("pt", "LATIN")), ("KZ", ("ru", "CYRILLIC")), ("CN", ("zh", "CJK")), ("ZZ", None)],
)
def test_a_region_has_a_usual_language(region: str, usual: tuple[str, str] | None) -> None:
    assert usual_language(region) == usual


def test_a_long_text_is_judged_by_its_beginning() -> None:
    german = "Heute ist ein wirklich schöner Tag im Garten. " * 30
    assert detect_language(german + "What a lovely day. " * 1000).code == "de"


@few
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_has_a_code_and_a_confidence(text: str) -> None:
    found = detect_language(text)
    assert 0 <= found.confidence <= 1
    assert found.code == "und" or (found.code.isalpha() and found.confidence >= 0.4)
    assert detect_language(text) == found
    assert found.code not in found.likely
    assert len(set(found.likely)) == len(found.likely) <= 3


@pytest.mark.parametrize(
    ("code", "named"),
    [("en", True), ("yue", True), ("he", True), ("und", False), ("mul", False), ("zxx", False), ("xx", False)],
)
def test_not_every_code_names_a_language(code: str, named: bool) -> None:
    assert names_a_language(code) is named
