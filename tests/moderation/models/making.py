"""Small models for the tests, made from a seed."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from moderation.models.card import Card
from moderation.models.ngram import NgramClassifier, NgramModule
from moderation.models.operating import OperatingCurve
from moderation.models.seen import no_words, remember_words
from moderation.preprocess.ngrams import NgramConfig, hash_words
from moderation.preprocess.text import TEXT_VERSION

CONFIG = NgramConfig(buckets=2**12, char_lengths=(1, 2, 3), word_lengths=(1, 2))


def a_curve() -> OperatingCurve:
    generator = np.random.default_rng(7)
    return OperatingCurve.measure(generator.random(300) < 0.3, generator.random(300))


def a_card(**changes: Any) -> Card:
    card = Card(
        architecture="ngram",
        labels=("abuse", "hate"),
        languages=("de", "en"),
        preprocessing=TEXT_VERSION,
        config=asdict(CONFIG),
        calibration={"abuse": {"*": (1.25, -0.5)}, "hate": {"*": (0.75, 0.0)}},
        curves={"abuse": {"*": a_curve()}},
        about={"licence": "Apache-2.0", "rows": 300, "who": "Ж"},
    )
    return replace(card, **changes)


def a_model(seed: int = 0, *, seen: tuple[str, ...] = (), **changes: Any) -> NgramClassifier:
    """Random weights that float16 can hold, and the memory of the words in `seen` (normalised)."""
    module = NgramModule(CONFIG.buckets, 2)
    with torch.no_grad():
        weights = torch.randn(CONFIG.buckets, 2, generator=torch.Generator().manual_seed(seed))
        module.table.weight.copy_(weights.to(torch.float16))
        module.bias.copy_(torch.tensor([0.25, -0.25]))
    memory = no_words()
    remember_words(memory, hash_words(seen)[0])
    return NgramClassifier(a_card(**changes), module, memory)
