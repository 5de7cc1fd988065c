"""What is left of a language that a model never saw: `python -m tests.benchmarks.left_out --data DIR`.

The recipe of `text-multi`, with few rows of each corpus so that a cell takes minutes, is trained with all corpora and
with each left out in turn, and with it our own texts in its language. Every corpus is one language's, and another
source of English, en-surge-dev, is trained on in no cell, so leaving a source out and leaving its language out are one
thing here. Both models are measured on the test rows of the language, beside character tf-idf with logistic regression
on as many rows of the corpora without it.

ROC-AUC on abuse with 95 % bootstrap intervals, each text scored in the language that the service finds in it; the last
line is one JSON document.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from moderation.console import errors_told
from moderation.metrics import Floats, roc_auc
from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from tests.benchmarks.quality import SURGE, Row, bounds, corpus, judge, spoken_of, tfidf
from train.champion import RECIPES, DataOption
from train.rows import corpus_path

NAME = "text-multi"


def trained(data: Path, rows: int, without: str, out: Path) -> TextClassifier:
    """A model without a corpus, or, where that is empty, with all."""
    print(f"training without {without or 'nothing left out'}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "train.champion", NAME, "--data", str(data), "--rows", str(rows)]
    subprocess.run([*command, "--without", without, "--out", str(out)], check=True, stdout=sys.stderr)
    return load_text_classifier(out)


def auc(rows: list[Row], score: Callable[[list[str]], Floats]) -> dict[str, float | None]:
    """On abuse, with its interval."""
    spoken, truth = spoken_of(rows, "abuse")
    scores = score([row.text for row in spoken])
    return bounds(lambda drawn: roc_auc(truth[drawn], scores[drawn]), len(truth))


def by(model: TextClassifier) -> Callable[[list[str]], Floats]:
    """What a model says of texts."""
    return lambda texts: judge(model, texts, "abuse").scores


def few(rows: list[Row], most: int) -> list[Row]:
    """So many training rows, the same ones every time."""
    return sorted((row for row in rows if row.part == "training"), key=lambda row: row.unit)[:most]


def main(
    data: DataOption,
    rows: Annotated[int, typer.Option(help="Training rows of a corpus, at most.", min=100)] = 500,
    most: Annotated[int, typer.Option(help="Test rows a language, at most.")] = 1500,
) -> None:
    """Measure; the last line is one JSON document."""
    names = RECIPES[NAME].corpora
    with errors_told():
        paths = {name: corpus_path(data, name) for name in (*names, SURGE)}
    parts = {name: corpus(path, NAME) for name, path in paths.items()}
    surge = parts.pop(SURGE)
    result: dict[str, Any] = {"benchmark": "left_out", "rows": rows, "cells": {}}
    with tempfile.TemporaryDirectory() as folder:
        whole = trained(data, rows, "", Path(folder) / "all")
        result["surge_with_all"] = auc(surge, by(whole))
        for name in names:
            test = [row for row in parts[name] if row.part == "test"][:most]
            language = test[0].language
            lacking = trained(data, rows, name, Path(folder) / name)
            others = [row for other in names if other != name for row in few(parts[other], rows)]
            cell = {
                "rows": len(test),
                "with": auc(test, by(whole)),
                "without": auc(test, by(lacking)),
                "tf-idf without": auc(test, tfidf(others, "abuse", language)),
            }
            if language == "en":
                cell["surge without"] = auc(surge, by(lacking))
            result["cells"][name] = cell
            print(json.dumps({name: cell}), file=sys.stderr, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
