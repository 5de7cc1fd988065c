"""The shipped encoder reads what a reader sees, and all of a long text."""

from __future__ import annotations

import numpy as np
import pytest

from moderation.models.base import Prepared, TextClassifier
from moderation.models.load import load_text_classifier
from moderation.policy import threshold_of
from moderation.preprocess.windows import LONG
from moderation.settings import DEPLOYMENTS

INSULTS = {
    "en": "you are a complete idiot, shut the fuck up",
    "de": "du bist ein dreckiges Arschloch, halt die Fresse",
    "pt": "vai tomar no cu, seu filho da puta",
    "ru": "ты полный идиот, заткнись тупая тварь",
    "zh": "你这个傻逼滚出去，死全家吧",
}
HARMLESS = {
    "en": "We went to the market on Saturday and bought apples, bread and cheese for the whole family.",
    "de": "Am Samstag waren wir auf dem Markt und haben Äpfel, Brot und Käse für alle gekauft.",
    "pt": "No sábado fomos ao mercado e compramos maçãs, pão e queijo para toda a família.",
    "ru": "В субботу мы ходили на рынок и купили яблоки, хлеб и сыр для всей семьи.",
    "zh": "星期六我们去市场给全家人买了苹果、面包和奶酪，天气很好。",
}
LANGUAGES = sorted(INSULTS)


@pytest.fixture(scope="module")
def model() -> TextClassifier:
    return load_text_classifier(DEPLOYMENTS / "models" / "text-multi")


def abuse(model: TextClassifier, texts: list[str], languages: list[str]) -> list[float]:
    known = [{"language": language} for language in languages]
    column = model.card.labels.index("abuse")
    return [float(value) for value in model.score(texts, known).confidence[:, column]]


def limit(model: TextClassifier, language: str) -> float:
    """From which the default policy sends a post to review."""
    found = threshold_of(model.card.curve("abuse", language), "precision>=0.3", 0.05)
    assert found is not None
    return found


def indicators(text: str) -> str:
    return "\u200b".join(chr(0x1F1E6 + ord(letter) - 97) if "a" <= letter <= "z" else letter for letter in text)


HIDDEN = {
    "overridden": lambda text: "\u202e" + text[::-1],
    "overridden among others": lambda text: f"so \u202e{text[::-1]}\u202c",
    "isolated": lambda text: "\u2067" + "".join(f"\u2066{letter}\u2069" for letter in reversed(text)) + "\u2069",
    "diaereses": lambda text: "".join(letter + "\u0308" if letter.isalpha() else letter for letter in text),
    "acutes": lambda text: "".join(letter + "\u0301" if letter.isalpha() else letter for letter in text),
    "dots below": lambda text: "".join(letter + "\u0323" if letter.isalpha() else letter for letter in text),
    "vowel signs": lambda text: "".join(letter + "\u064e" if letter.isalpha() else letter for letter in text),
    "one letter a line": lambda text: "\n\n".join("\n".join(word) for word in text.split()),
    "pictures between": lambda text: "  ".join("🔥".join(word) for word in text.split()),
}


@pytest.mark.parametrize("trick", HIDDEN)
def test_an_insult_is_seen_however_it_is_hidden(model: TextClassifier, trick: str) -> None:
    languages = [language for language in LANGUAGES if language != "zh" or trick.startswith(("over", "iso"))]
    texts = [HIDDEN[trick](INSULTS[language]) for language in languages]
    limits = [limit(model, language) for language in languages]
    found = abuse(model, texts, languages)
    assert [score > least for score, least in zip(found, limits, strict=True)] == [True] * len(languages), found


def test_letters_that_are_flags_or_upside_down_are_seen(model: TextClassifier) -> None:
    texts = [indicators(INSULTS["en"]), "dn ʞɔnɟ ǝɥʇ ʇnɥs 'ʇoıpı ǝʇǝldɯoɔ ɐ ǝɹɐ noʎ"]
    assert min(abuse(model, texts, ["en", "en"])) > limit(model, "en")


@pytest.mark.parametrize("sentences", [1, 3, 5])
def test_an_insult_is_seen_among_many_harmless_words(model: TextClassifier, sentences: int) -> None:
    around = {language: " ".join([HARMLESS[language]] * sentences) for language in LANGUAGES}
    texts = [f"{around[language]} {INSULTS[language]}. {around[language]}" for language in LANGUAGES]
    found = abuse(model, texts, LANGUAGES)
    limits = [limit(model, language) for language in LANGUAGES]
    assert [score > least for score, least in zip(found, limits, strict=True)] == [True] * len(LANGUAGES), found


def test_a_long_harmless_text_is_not_flagged(model: TextClassifier) -> None:
    texts = [" ".join([HARMLESS[language]] * 40) for language in LANGUAGES]
    found = abuse(model, texts, LANGUAGES)
    assert all(score < limit(model, language) for score, language in zip(found, LANGUAGES, strict=True)), found


def test_an_ordinary_text_s_score_is_that_of_its_logits_to_the_bit(model: TextClassifier) -> None:
    texts = [*INSULTS.values(), *HARMLESS.values(), "", "café, préféré", "🇩🇪"]
    assert max(map(len, texts)) <= LONG
    languages = [*INSULTS, *HARMLESS, "en", "fr", "*"]
    prepared = Prepared.of(texts, [{"language": language} for language in languages])
    found = model.score(texts, prepared.known)
    assert np.array_equal(found.confidence, model.calibrate(model.logits(prepared)[0], languages))
    assert not found.partly_read.any()


def test_what_is_too_long_to_be_read_whole_is_told(model: TextClassifier) -> None:
    texts = ["a nice day. " * 1000, "xq" * 20_000, "很好" * 20_000, "short"]
    assert model.score(texts).partly_read.tolist() == [False, True, True, False]


def test_a_long_text_is_scored_alike_in_any_company(model: TextClassifier) -> None:
    texts = [" ".join([HARMLESS["en"]] * 4 + [INSULTS["en"]] + [HARMLESS["en"]] * 4), INSULTS["en"], HARMLESS["en"]]
    together = model.score(texts).confidence
    for row, text in enumerate(texts):
        assert model.score([text]).confidence[0] == pytest.approx(together[row], abs=1e-4)
