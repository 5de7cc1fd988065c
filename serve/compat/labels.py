"""What other services' categories and attributes are called here, by what the models were trained on.

A name without a label is one that nothing here scores. It gets no number: not that of the label that is nearest.
docs/clients.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moderation.models.card import Card

CATEGORIES: dict[str, str | None] = {
    "harassment": "abuse",
    "harassment/threatening": None,
    "hate": "hate",
    "hate/threatening": None,
    "illicit": None,
    "illicit/violent": None,
    "self-harm": None,
    "self-harm/instructions": None,
    "self-harm/intent": None,
    "sexual": None,
    "sexual/minors": None,
    "violence": "violence",
    "violence/graphic": None,
}
"""All of OpenAI's categories -> labels, of texts."""

SHOWN: dict[str, str | None] = CATEGORIES | {"sexual": "nudity"}
"""The same of images: what open_nsfw was trained to tell, pornography, is what the category is about. In words it is
scored by nothing."""

ATTRIBUTES: dict[str, str | None] = {
    "TOXICITY": "abuse",
    "TOXICITY_EXPERIMENTAL": "abuse",
    "SEVERE_TOXICITY": None,
    "SEVERE_TOXICITY_EXPERIMENTAL": None,
    "TOXICITY_FAST": None,
    "IDENTITY_ATTACK": "hate",
    "IDENTITY_ATTACK_EXPERIMENTAL": "hate",
    "INSULT": "abuse",
    "INSULT_EXPERIMENTAL": "abuse",
    "PROFANITY": None,
    "PROFANITY_EXPERIMENTAL": None,
    "THREAT": None,
    "THREAT_EXPERIMENTAL": None,
    "SEXUALLY_EXPLICIT": None,
    "FLIRTATION": None,
    "ATTACK_ON_AUTHOR": None,
    "ATTACK_ON_COMMENTER": None,
    "INCOHERENT": None,
    "INFLAMMATORY": None,
    "LIKELY_TO_REJECT": None,
    "OBSCENE": None,
    "SPAM": None,
    "UNSUBSTANTIAL": None,
    "MISINFORMATION": "misinformation",
}
"""Perspective's documented attributes -> labels, and `MISINFORMATION`, which is Seawall's own."""


def scored_names(names: Iterable[str], mapping: dict[str, str | None], labels: Iterable[str]) -> dict[str, str]:
    """Of some names, those that stand for a label that is scored, each with its label; the order is kept."""
    known = set(labels)
    return {name: label for name in names if (label := mapping.get(name)) is not None and label in known}


def trained_languages(cards: Sequence[Card], label: str) -> tuple[str, ...]:
    """The languages in which a model, or one that it was retrained from, learned a label (`Card.languages_of`).

    Args:
        cards: the model's own, and then those that it was retrained from.
        label: one of its labels.
    """
    evidence = set[str]().union(*(card.evidence_of(label) for card in cards))
    return tuple(code for code in cards[0].languages if code in evidence or not evidence)
