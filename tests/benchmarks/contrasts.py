"""Names and identities beside real abuse, in the same words: `python -m tests.benchmarks.contrasts`.

    name            a surname, a place or a word that holds a rude syllable: Scunthorpe, Fick, Херасков, 操场
    insult          an insult of somebody who bears such a name
    identity        what people say of themselves and of groups, with friendly or neutral words
    hate            hate of the same groups
    short insult    two or three words; beside them as short ones that harm nobody (`short harmless`)

The texts, in `contrasts.jsonl`, are of our own writing, after patterns: texts of one pattern are alike, so counts say
less than their number. Their patterns and names are in no text that teaches (`contrasts-train.jsonl`), nor is half of
their groups (`new group`); Spanish is in none at all. A text is judged told its language, and as the service reads it;
`flagged` means that a threshold which ships is reached on any label, `removed` that nobody is asked first.
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
from moderation.policy import removal_threshold
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
    """Of each language, and of `all`: what of each kind is flagged and removed, and ROC-AUC on each label."""
    texts = [line["text"] for line in lines]
    known = [observe(text, language) for text, language in zip(texts, languages, strict=True)]
    scores = model.score(texts, known).confidence.astype(np.float64)
    flagged = np.zeros(len(lines), dtype=bool)
    removed = np.zeros(len(lines), dtype=bool)
    for label in LABELS:
        own = scores[:, model.card.labels.index(label)]
        flagged |= own >= [bound(model, label, language.code, remove=False) for language in languages]
        removed |= own >= [bound(model, label, language.code, remove=True) for language in languages]
    own_language = np.array([line["language"] for line in lines])
    groups = {"all": np.ones(len(lines), dtype=bool)}
    groups |= {code: own_language == code for code in sorted(set(own_language))}
    return {name: of_group(model, lines, chosen, scores, flagged, removed) for name, chosen in groups.items()}


def bound(model: TextClassifier, label: str, language: str, *, remove: bool) -> float:
    """The score from which a label queues, or removes, a text in a language; infinite where none does."""
    limit = threshold(model, label, language)
    if remove and limit is not None:
        limit = removal_threshold(model.card.curve(label, language), TOPOLOGY.policy.rules("*")[label])
    return np.inf if limit is None else float(limit)


def of_group(
    model: TextClassifier, lines: list[dict[str, Any]], chosen: Bools, scores: Floats, flagged: Bools, removed: Bools
) -> dict[str, Any]:
    """The figures of some of the texts."""
    kinds: dict[str, Bools] = {}
    for kind in sorted({line["kind"] for line in lines}):
        kinds[kind] = chosen & np.array([line["kind"] == kind for line in lines])
        new = np.array([line.get("new_group", False) for line in lines])
        if (kinds[kind] & new).any():
            kinds[f"{kind}, new group"] = kinds[kind] & new
    told = {kind: [int(flagged[own].sum()), int(removed[own].sum()), int(own.sum())] for kind, own in kinds.items()}
    harmful = {label: np.array([line["labels"][label] for line in lines], dtype=bool) for label in LABELS}
    areas = {
        label: round(roc_auc(harmful[label][chosen], scores[chosen, model.card.labels.index(label)]), 4)
        for label in LABELS
    }
    return {"flagged, removed, rows": told, "roc_auc": areas}


if __name__ == "__main__":
    typer.run(main)
