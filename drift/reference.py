"""What a champion is compared with: a window of traffic, as that very version sees it.

The features are computed anew from the window's texts, because scores and unseen words belong to a version: what the
former champion logged cannot be compared with what the new one will.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from drift.window import Traffic
from moderation.context import Context
from moderation.errors import NotEnoughDataError
from moderation.preprocess.features import observe, scored_features
from moderation.preprocess.language import Language
from moderation.storage import drift
from moderation.storage.drift import Reference

TEXT, AUTHOR = "text", "author_id"
"""Kept beside the features, because new words are new against them."""


def name_of(variant: str, version: int) -> str:
    """Where in the lake a version's reference lies: its features, and the texts and authors behind them."""
    return f"references/{variant}/{version}.parquet"


def set_reference(context: Context, traffic: Traffic) -> Reference:
    """Compare the champion from now on with this traffic, of whatever versions judged it.

    Raises:
        NotEnoughDataError: fewer posts than `drift.minimum_rows` of the topology.
    """
    minimum = context.topology.drift.minimum_rows
    variant, version, posts = traffic.variant, traffic.champion, traffic.posts
    if posts.num_rows < minimum:
        raise NotEnoughDataError(
            f"{posts.num_rows} posts between {traffic.begin.isoformat()} and {traffic.end.isoformat()};"
            f" a reference takes {minimum}"
        )
    frame = recompute(context.registry.fetch(variant, version), posts)
    frame[TEXT], frame[AUTHOR] = posts["text"].to_pylist(), posts["author_id"].to_pylist()
    traffic.lake.put(name_of(variant, version), pa.Table.from_pandas(frame))
    reference = Reference(window_from=traffic.begin, window_to=traffic.end, rows=posts.num_rows)
    drift.put_reference(context.ledger, variant, version, reference)
    return reference


def recompute(folder: Path, table: pa.Table) -> pd.DataFrame:
    """The features that the model in `folder` would have logged for these posts."""
    from moderation.models.load import load_text_classifier  # torch takes seconds to import

    model = load_text_classifier(folder)
    texts = table["text"].to_pylist()
    logged = [json.loads(line) for line in table["features"].to_pylist()]
    scored = model.score(texts, logged)
    return pd.DataFrame(
        [
            observe(text, Language(str(features["language"]), float(features["language_confidence"])))
            | scored_features(dict(zip(model.card.labels, row.tolist(), strict=True)), float(unseen))
            for text, features, row, unseen in zip(
                texts, logged, scored.confidence, scored.unseen_word_share, strict=True
            )
        ]
    )
