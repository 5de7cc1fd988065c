"""Champion and challenger on the same rows: the holdout that training never saw, and the anchor texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from ray.data import Dataset

from moderation.metrics import Bools
from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.policy import Rule, flagged_from, is_met, threshold_of
from moderation.preprocess.words import words_of


@dataclass(frozen=True, slots=True)
class Paired:
    """One label's rows, judged by both models, each at the threshold that it would ship with.

    Attributes:
        truth: what people said.
        champion: flagged by the champion.
        challenger: flagged by the challenger.
        units: who wrote each row.
        drifted: holds a word that the drift alert named as new.
    """

    truth: Bools
    champion: Bools
    challenger: Bools
    units: list[str]
    drifted: Bools

    def where(self, chosen: Bools) -> Paired:
        """Some of the rows."""
        units = [unit for unit, keep in zip(self.units, chosen, strict=True) if keep]
        return Paired(self.truth[chosen], self.champion[chosen], self.challenger[chosen], units, self.drifted[chosen])


@lru_cache(maxsize=4)
def _model(folder: Path) -> TextClassifier:
    return load_text_classifier(folder)


def flagged(
    folder: Path, label: str, rule: Rule, confidence: npt.NDArray[np.float64], languages: Sequence[str]
) -> Bools:
    """Which rows a model flags with the thresholds that it would ship with.

    Args:
        folder: of the model.
        label: judged.
        rule: the policy's.
        confidence: in [0, 1]; shape (rows,).
        languages: of each row.
    """
    card = _model(folder).card
    bounds = {code: flagged_from(card.curve(label, code), rule) for code in sorted(set(languages))}
    lowest = np.array([np.inf if (bound := bounds[code]) is None else bound for code in languages], dtype=np.float64)
    return confidence >= lowest


def threshold(folder: Path, label: str, rule: Rule) -> float | None:
    """The threshold over all languages; None: none meets the rule's objective."""
    asked = _model(folder).card.curve(label), rule.objective, rule.prevalence
    return threshold_of(*asked) if is_met(*asked) else None


def score_both(
    dataset: Dataset, champion: Path, challenger: Path, labels: Sequence[str], new_words: frozenset[str]
) -> pd.DataFrame:
    """Score a dataset of `train.rows` columns with both models, as Ray Data tasks.

    Returns:
        Columns `unit`, `created`, `language`, `truth`, `drifted` (holds one of `new_words`), and `champion_LABEL` and
        `challenger_LABEL`, each in [0, 1].
    """

    def score(batch: pd.DataFrame) -> pd.DataFrame:
        for name, folder in (("champion", champion), ("challenger", challenger)):
            known = [json.loads(line) for line in batch["known"]]
            confidence = _model(folder).score(list(batch["text"]), known).confidence
            for column, label in enumerate(labels):
                batch[f"{name}_{label}"] = confidence[:, column].astype(np.float64)
        batch["drifted"] = [not new_words.isdisjoint(words_of(text)) for text in batch["text"]]
        return batch.drop(columns=["text", "known"])

    dataset = dataset.select_columns(["text", "unit", "created", "language", "truth", "known"])
    return dataset.map_batches(score, batch_format="pandas", batch_size=2048).to_pandas()


def pair(scored: pd.DataFrame, labels: Sequence[str], label: str, rule: Rule, folders: tuple[Path, Path]) -> Paired:
    """The rows of `score_both` on which people spoke of a label, as champion and challenger (`folders`) flag them."""
    truth = np.array(scored["truth"].tolist(), dtype=np.float64).reshape(-1, len(labels))[:, list(labels).index(label)]
    known = ~np.isnan(truth)
    languages = scored["language"].to_numpy()[known].tolist()
    flags = [
        flagged(folder, label, rule, scored[f"{name}_{label}"].to_numpy()[known], languages)
        for name, folder in zip(("champion", "challenger"), folders, strict=True)
    ]
    units = scored["unit"].to_numpy()[known].tolist()
    return Paired(truth[known] == 1, flags[0], flags[1], units, scored["drifted"].to_numpy(dtype=bool)[known])


def anchors(path: Path, label: str, rule: Rule, folders: tuple[Path, Path]) -> Paired:
    """The anchor texts that carry a label, judged like the holdout; each is a unit of its own."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [line for line in lines if label in line["labels"]]
    texts = [line["text"] for line in lines]
    languages = [line["language"] for line in lines]
    flags = []
    for folder in folders:
        model = _model(folder)
        confidence = (
            model.score(texts, [{"language": code} for code in languages])
            .confidence[:, model.card.labels.index(label)]
            .astype(np.float64)
        )
        flags.append(flagged(folder, label, rule, confidence, languages))
    truth = np.array([line["labels"][label] for line in lines], dtype=bool)
    return Paired(truth, flags[0], flags[1], [line["id"] for line in lines], np.zeros(len(texts), dtype=bool))
