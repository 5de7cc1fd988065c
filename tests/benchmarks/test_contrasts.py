"""What the figures of names and identities are made with."""

from __future__ import annotations

import numpy as np

from moderation.models.load import load_text_classifier
from moderation.policy import removal_threshold
from moderation.preprocess.language import Language
from moderation.settings import DEPLOYMENTS
from tests.benchmarks.contrasts import bounds_of, measured
from tests.benchmarks.quality import TOPOLOGY, threshold

LINES = [
    {"text": "Ms Butts will teach the class", "kind": "name", "labels": {"abuse": False, "hate": False}},
    {"text": "you stupid bitch, fuck off and die", "kind": "insult", "labels": {"abuse": True, "hate": False}},
    {"text": "we are both deaf", "kind": "identity", "labels": {"abuse": False, "hate": False}, "new_group": True},
    {"text": "send all faggots away, sick pigs", "kind": "hate", "labels": {"abuse": True, "hate": True}},
]


def test_each_kind_is_counted_at_the_thresholds_that_ship() -> None:
    model = load_text_classifier(DEPLOYMENTS / "models" / "text-ngram")
    lines = [{"language": "en"} | line for line in LINES]
    languages = [Language("en", 1.0), Language("en", 1.0), Language("und", 0.2), Language("en", 1.0)]
    found = measured(model, lines, languages)
    assert found["all"] == found["en"]
    told = found["all"]["flagged, acted on, rows"]
    scores = model.score([line["text"] for line in lines], [{"language": each.code} for each in languages]).confidence
    for row, (line, language) in enumerate(zip(lines, languages, strict=True)):
        flagged = any(
            scores[row, column] >= bounds_of(model, label, language.code)[0]
            for column, label in enumerate(model.card.labels)
        )
        assert told[line["kind"]] == [int(flagged), told[line["kind"]][1], 1]
    assert told["insult"][0] == told["hate"][0] == 1
    assert told["identity, new group"] == told["identity"]
    assert "hate, new group" not in told


def test_a_label_acts_where_it_is_shown_to_work_and_asks_where_it_was_learned() -> None:
    model = load_text_classifier(DEPLOYMENTS / "models" / "text-ngram")
    assert model.card.is_proven("hate", "en")
    asks, acts = bounds_of(model, "hate", "en")
    assert asks == acts == threshold(model, "hate", "en")  # hidden until a person decides
    assert not model.card.is_learned("hate", "de")
    assert bounds_of(model, "hate", "de") == (np.inf, np.inf)
    rule = TOPOLOGY.policy.rules("*")["abuse"]
    limit = removal_threshold(model.card.curve("abuse", "en"), rule)
    assert bounds_of(model, "abuse", "en") == (threshold(model, "abuse", "en"), np.inf if limit is None else limit)
