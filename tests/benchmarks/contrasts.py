"""Names and identities beside real abuse, in the same words: `python -m tests.benchmarks.contrasts`.

    name            a surname, a place or a word that holds a rude syllable: Scunthorpe, Fick, Херасков, 操场
    insult          an insult of somebody who bears such a name
    identity        what people say of themselves and of groups, with friendly or neutral words
    hate            hate of the same groups
    short insult    two or three words; beside them as short ones that harm nobody (`short harmless`)

The texts, in `contrasts.jsonl`, are of our own writing, after patterns: texts of one pattern are alike, so counts say
less than their number. Their patterns and names are in no text that teaches (`contrasts-train.jsonl`), nor is half of
their groups (`new group`); Spanish is in none at all. A text is judged told its language, and as the service reads it;
`flagged` means that a person is asked by any label at the thresholds that ship, `acted on` that the text is removed, or
hidden, before anybody was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from moderation.metrics import Bools, Floats, roc_auc
from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.policy import flagged_from, removal_threshold
from moderation.preprocess.features import observe
from moderation.preprocess.language import Language, detect_language
from moderation.settings import DEPLOYMENTS
from tests.benchmarks.quality import HERE, TOPOLOGY, share, threshold
from train.rows import lines_of

LABELS = ("abuse", "hate")


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = DEPLOYMENTS / "models" / "text-multi",
) -> None:
    """Measure; the last line is one JSON document."""
    loaded = load_text_classifier(model)
    lines = list(lines_of(HERE / "contrasts.jsonl"))
    told = [Language(line["language"], 1.0) for line in lines]
    read = [detect_language(line["text"]) for line in lines]
    result = {
        "benchmark": "contrasts",
        "rows": len(lines),
        "told": measured(loaded, lines, told),
        "read": measured(loaded, lines, read),
        "language_read": share(np.array([a.code == b.code for a, b in zip(told, read, strict=True)], dtype=bool)),
    }
    print(json.dumps(result))


def measured(
    model: TextClassifier, lines: list[dict[str, Any]], languages: list[Language]
) -> dict[str, dict[str, Any]]:
    """Of each language, and of `all`: what of each kind is flagged and acted on, and ROC-AUC on each label."""
    texts = [line["text"] for line in lines]
    known = [observe(text, language) for text, language in zip(texts, languages, strict=True)]
    scores = model.score(texts, known).confidence.astype(np.float64)
    flagged = np.zeros(len(lines), dtype=bool)
    acted_on = np.zeros(len(lines), dtype=bool)
    for label in LABELS:
        own = scores[:, model.card.labels.index(label)]
        bounds = np.array([bounds_of(model, label, language.code) for language in languages])
        flagged |= own >= bounds[:, 0]
        acted_on |= own >= bounds[:, 1]
    own_language = np.array([line["language"] for line in lines])
    groups = {"all": np.ones(len(lines), dtype=bool)}
    groups |= {code: own_language == code for code in sorted(set(own_language))}
    return {name: of_group(model, lines, chosen, scores, flagged, acted_on) for name, chosen in groups.items()}


def bounds_of(model: TextClassifier, label: str, language: str) -> tuple[float, float]:
    """The scores from which a label asks a person about a text in a language, and from which it acts without one.

    Infinite where it never does. It acts by removing, or by hiding what it flags where the policy is proactive.
    """
    if threshold(model, label, language) is None:
        return np.inf, np.inf
    rule, curve = TOPOLOGY.policy.rules("*")[label], model.card.curve(label, language)
    asks = flagged_from(curve, rule, learned=model.card.is_learned(label, language))
    acts = None
    if model.card.is_proven(label, language):
        acts = asks if rule.mode == "proactive" else removal_threshold(curve, rule)
    return np.inf if asks is None else asks, np.inf if acts is None else acts


def of_group(
    model: TextClassifier, lines: list[dict[str, Any]], chosen: Bools, scores: Floats, flagged: Bools, acted_on: Bools
) -> dict[str, Any]:
    """The figures of some of the texts."""
    kinds: dict[str, Bools] = {}
    for kind in sorted({line["kind"] for line in lines}):
        kinds[kind] = chosen & np.array([line["kind"] == kind for line in lines])
        new = np.array([line.get("new_group", False) for line in lines])
        if (kinds[kind] & new).any():
            kinds[f"{kind}, new group"] = kinds[kind] & new
    told = {kind: [int(flagged[own].sum()), int(acted_on[own].sum()), int(own.sum())] for kind, own in kinds.items()}
    harmful = {label: np.array([line["labels"][label] for line in lines], dtype=bool) for label in LABELS}
    areas = {
        label: round(roc_auc(harmful[label][chosen], scores[chosen, model.card.labels.index(label)]), 4)
        for label in LABELS
    }
    return {"flagged, acted on, rows": told, "roc_auc": areas}


if __name__ == "__main__":
    typer.run(main)
