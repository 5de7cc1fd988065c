"""What the figures of quality are made with."""

from __future__ import annotations

import numpy as np
import pytest

from moderation.models.load import load_text_classifier
from moderation.policy import threshold_of
from moderation.preprocess.language import detect_language
from moderation.settings import DEPLOYMENTS
from tests.benchmarks.quality import TOPOLOGY, TRICKS, Judged, cross_fitted, disguised, judge, threshold
from tests.rooms import SHIPPED

GENERATOR = np.random.default_rng(0)
TRUTH = np.arange(400) % 2 == 0
LOGITS = np.where(TRUTH, 2.0, -2.0) + GENERATOR.normal(0, 1.0, 400)


def as_shipped(languages: list[str]) -> Judged:
    return Judged(languages, np.full(len(languages), 0.5), np.zeros(len(languages), dtype=bool))


def test_a_text_is_judged_in_the_language_that_is_found_in_it() -> None:
    model = load_text_classifier(SHIPPED)
    texts = ["you are a complete and utter idiot", "das ist doch alles kompletter Unsinn, du Idiot", "12 34"]
    codes = [detect_language(text).code for text in texts]
    assert codes == ["en", "de", "und"]
    found = judge(model, texts, "abuse")
    told = model.score(texts, [{"language": code} for code in codes]).confidence[:, model.card.labels.index("abuse")]
    assert found.languages == codes
    assert found.scores.tolist() == told.tolist()
    limits = [threshold(model, "abuse", code) for code in codes]
    assert found.flagged.tolist() == [score >= (limit or np.inf) for score, limit in zip(told, limits, strict=True)]
    assert found.read_as("de")["value"] == pytest.approx(1 / 3, abs=1e-4)
    assert found.read_as(["en", "de", "ru"])["value"] == pytest.approx(2 / 3, abs=1e-4)


def test_a_text_whose_language_is_unsure_is_judged_by_the_surest_of_those_that_are_likely() -> None:
    model = load_text_classifier(SHIPPED)
    language = detect_language("you idiot")
    found = judge(model, ["you idiot"], "abuse")
    said = model.score(["you idiot"] * 4, [{"language": code} for code in language.codes]).confidence[:, 0]
    assert (found.languages, language.codes) == (["und"], ("und", "es", "en", "hr"))
    assert found.scores.tolist() == [said.max()]


def test_where_a_label_was_not_learned_and_the_policy_ignores_it_there_is_no_threshold() -> None:
    model = load_text_classifier(SHIPPED)
    assert threshold(model, "hate", "de") is None
    assert threshold(model, "abuse", "es") is not None
    assert threshold(model, "hate", "pt") is not None


def test_a_threshold_is_the_policy_s_and_there_is_none_where_nobody_is_asked() -> None:
    model = load_text_classifier(DEPLOYMENTS / "models" / "misinformation")
    rule = TOPOLOGY.policy.rules("*")["misinformation"]
    shipped = threshold_of(model.card.curve("misinformation", "en"), rule.objective, rule.prevalence)
    assert shipped is not None
    assert threshold(model, "misinformation", "en") == shipped
    assert threshold(model, "misinformation", "de") is None


def test_each_fold_is_held_against_a_threshold_of_the_others() -> None:
    found = cross_fitted(TRUTH, LOGITS, as_shipped(["en"] * 400))
    lowest, median, highest = found["thresholds"]
    assert lowest < median < highest
    assert found["macro_f1"]["low"] < found["macro_f1"]["value"] < found["macro_f1"]["high"]
    assert found["macro_f1"]["value"] == pytest.approx(np.mean(found["macro_f1_by_draw"]), abs=1e-4)
    assert found["recall"]["value"] > 0.9


def test_logits_that_tell_nothing_promise_nothing_on_rows_that_were_not_seen() -> None:
    noise = GENERATOR.normal(0, 1.0, 400)
    found = cross_fitted(TRUTH, noise, as_shipped(["en"] * 400))
    assert found["thresholds"][-1] is None
    assert found["recall"]["value"] < 0.1
    assert found["macro_f1"]["value"] < 0.5


def test_what_is_not_read_as_english_is_judged_as_shipped() -> None:
    found = cross_fitted(TRUTH, LOGITS, as_shipped(["und"] * 400))
    assert found["recall"]["value"] == 0
    assert found["precision"] == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize("language", TRICKS)
def test_copies_are_others_in_each_language_in_which_a_trick_makes_sense(language: str) -> None:
    text = {
        "en": "what a stupid idiot",
        "de": "dieser Vollidiot schon wieder",
        "pt": "esse idiota outra vez",
        "ru": "опять этот дурачок пришёл",
        "zh": "他真是个笨蛋，滚开",
    }[language]
    copies = {trick: disguised(text, trick) for trick in ("leet", "homoglyphs", "spacing")}
    assert {trick for trick, copy in copies.items() if copy != text} == set(TRICKS[language])
    assert all(disguised(text, trick) == copy for trick, copy in copies.items())


def test_russian_is_disguised_by_latin_letters_and_by_digits_that_resemble_its_own() -> None:
    assert set(disguised("козоводство", "leet")) & set("03")
    assert set(disguised("козоводство", "homoglyphs")) & set("oc")
    assert len(disguised("笨蛋，滚开", "spacing")) == 5 + 2
