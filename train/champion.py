"""Train the `ngram` champion that ships, from public corpora: `python -m train.champion --data DIR`.

Writes deployments/models/text-multi. Takes about two minutes on two cores. The figures on the test split go into the
card: per language, with intervals, of the very file that is stored.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from moderation.metrics import cluster_bootstrap, precision_interval, recall_interval, roc_auc
from moderation.models.card import CARD, Card
from moderation.models.load import load_text_classifier
from moderation.preprocess.ngrams import NgramConfig
from moderation.settings import DEPLOYMENTS

CORPORA = ("en-davidson", "zh-cold-train", "de-germeval2018-train", "pt-told-br-train", "ru-vk-train")
LABELS = ("abuse", "hate")
TEST_SHARE = 0.1
VALIDATION_SHARE = 0.1
SALT = "text-multi/1"


def main(
    data: Annotated[Path, typer.Option(help="Folder with the corpora as NAME.jsonl.gz.")] = Path("../shared/data/text"),
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = DEPLOYMENTS / "models" / "text-multi",
) -> None:
    """Train, test and store the champion that ships."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray
    from ray.data.expressions import col

    from train.fit import FitConfig, Plan, fit
    from train.rows import encode, from_corpora

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    ngrams = NgramConfig()
    rows = (
        encode(from_corpora(data, CORPORA, LABELS, seed=0), ngrams)
        .map_batches(_assign, batch_format="pandas")
        .materialize()
    )
    plan = Plan(
        labels=LABELS,
        languages=("de", "en", "pt", "ru", "zh"),
        ngrams=ngrams,
        fit=FitConfig(),
        about={
            "data": dict.fromkeys(CORPORA, "see the corpora's own licences: MIT, Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0"),
            "split": f"80/10/10 by hash of the normalised text, exact duplicates once, salt {SALT!r}",
            "licence": "Apache-2.0",
            "command": "python -m train.champion",
        },
    )
    storage = out.resolve().parent.parent.parent / ".seawall" / "runs"
    checkpoint, metrics = fit(
        rows.filter(expr=col("part") == "training"),
        rows.filter(expr=col("part") == "validation"),
        plan,
        storage=storage,
        name=f"champion-{os.getpid()}",
    )
    model = load_text_classifier(checkpoint)
    test = rows.filter(expr=col("part") == "test").to_pandas()
    ray.shutdown()
    figures = _figures(model.score(list(test["text"])).confidence, test)
    card = model.card
    card.about["test"] = figures
    saved = model.save(out)
    print(Card.from_json((out / CARD).read_text(encoding="utf-8")).about["test"], metrics, saved.weights_sha256[:8])


def _assign(batch: pd.DataFrame) -> pd.DataFrame:
    from train.rows import unit_hash

    place = batch["unit"].map(lambda unit: unit_hash(unit, SALT))
    batch["part"] = np.where(
        place < TEST_SHARE, "test", np.where(place < TEST_SHARE + VALIDATION_SHARE, "validation", "training")
    )
    return batch


def _figures(confidence: Any, test: pd.DataFrame) -> dict[str, Any]:
    """Per label and language: rows, ROC-AUC, and precision and recall at confidence 0.5, each with a 95 % interval."""
    truth = np.array(test["truth"].tolist())
    figures: dict[str, Any] = {}
    for column, label in enumerate(LABELS):
        for language in sorted(set(test["language"])):
            chosen = (test["language"] == language).to_numpy() & ~np.isnan(truth[:, column])
            if not chosen.any():
                continue
            harmful = truth[chosen, column] == 1
            scores = confidence[chosen, column].astype(np.float64)
            units = test["unit"].to_numpy()[chosen].tolist()
            auc = cluster_bootstrap(lambda rows: roc_auc(harmful[rows], scores[rows]), units, resamples=200)  # noqa: B023
            figures[f"{label}/{language}"] = {
                "rows": len(harmful),
                "harmful": int(harmful.sum()),
                "roc_auc": auc.as_dict(),
                "precision": precision_interval(harmful, scores >= 0.5, units).as_dict(),
                "recall": recall_interval(harmful, scores >= 0.5, units).as_dict(),
            }
    return figures


if __name__ == "__main__":
    typer.run(main)
