"""What other services' names stand for, and in which languages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from openai.types.moderation import Categories

from moderation.labels import BY_NAME
from moderation.models.card import CARD, Card
from moderation.settings import DEPLOYMENTS
from moderation.topology import Topology
from serve.compat.labels import ATTRIBUTES, CATEGORIES, scored_names, trained_languages
from serve.compat.scoring import services_of


def a_card(name: str) -> Card:
    return Card.from_json((DEPLOYMENTS / "models" / name / CARD).read_text(encoding="utf-8"))


def test_all_of_the_client_s_categories_are_there_and_no_other() -> None:
    assert set(CATEGORIES) == {field.alias or name for name, field in Categories.model_fields.items()}
    assert len(CATEGORIES) == 13


def test_every_name_stands_for_a_known_label_or_none() -> None:
    assert {*CATEGORIES.values(), *ATTRIBUTES.values()} - {None} <= set(BY_NAME)


def test_only_what_a_model_scores_is_scored() -> None:
    services = services_of(Topology.load(DEPLOYMENTS / "local.yaml"))
    assert services == {"abuse": "text", "hate": "text", "misinformation": "misinformation"}
    assert scored_names(CATEGORIES, CATEGORIES, services) == {"harassment": "abuse", "hate": "hate"}
    assert scored_names(["THREAT", "INSULT", "NEW", "IDENTITY_ATTACK"], ATTRIBUTES, services) == {
        "INSULT": "abuse",
        "IDENTITY_ATTACK": "hate",
    }
    assert scored_names(ATTRIBUTES, ATTRIBUTES, []) == {}


@pytest.mark.parametrize("model", ["text-multi", "text-ngram"])
def test_hate_was_learned_in_fewer_languages_than_abuse(model: str) -> None:
    card = a_card(model)
    assert trained_languages([card], "abuse") == ("de", "en", "pt", "ru", "zh")
    assert trained_languages([card], "hate") == ("en", "pt")
    assert trained_languages([a_card("misinformation")], "misinformation") == ("en",)


def test_a_retrained_model_knows_what_its_parent_knew_and_what_it_learned() -> None:
    parent = a_card("text-ngram")
    child = replace(parent, about={"parent": "text-multi@1"}, rows={"hate": {"de": (3, 50)}})
    assert trained_languages([child, parent], "hate") == ("de", "en", "pt")
    assert trained_languages([child], "hate") == ("de",)


@pytest.mark.parametrize("about", [{}, {"test": None}, {"test": {}}, {"test": {"hatefulness/en": 1}}])
def test_without_evidence_a_model_knows_its_languages(about: dict[str, object]) -> None:
    card = replace(a_card("text-ngram"), about=about, curves={}, rows={})
    assert trained_languages([card], "hate") == card.languages
