"""Labelled rows as Ray Data sees them: from the lake (the platform's stream) or from a folder of public corpora.

Both give the same columns, so one training loop serves both:

    text       raw, as posted                      unit        author or, where unknown, the text's own hash
    created    microseconds since 1970, or 0       language    as logged or told
    truth      a float per label: 1, 0, or NaN
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import ray.data
from ray.data import Dataset

from moderation.errors import NotEnoughDataError
from moderation.preprocess.ngrams import NgramConfig, hash_ngrams
from moderation.preprocess.text import normalise


def unit_hash(unit: str, salt: str) -> float:
    """A unit's fixed place in [0, 1), independent between salts."""
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def from_lake(files: Sequence[str], labels: Sequence[str], *, variant: str) -> Dataset:
    """Read the lake's labels; the newest word on a label counts, a row a post.

    Args:
        files: of `Lake.files("labels")`.
        labels: in the order of `truth`.
        variant: posts that another variant judged are left out.

    Raises:
        NotEnoughDataError: there is no file.
    """
    if not files:
        raise NotEnoughDataError("the lake holds no label; send some to POST /v1/labels first")
    columns = ["post_id", "content_version", "author_id", "created_at", "text", "features", "labels", "variant"]
    columns += ["labelled_at", "label_seq"]
    dataset = ray.data.read_parquet(list(files), columns=columns, override_num_blocks=min(len(files), 8))

    def merge(group: pd.DataFrame) -> pd.DataFrame:
        return merge_labels(group, tuple(labels), variant)

    return dataset.groupby(["post_id", "content_version"], num_partitions=2).map_groups(merge, batch_format="pandas")


def merge_labels(group: pd.DataFrame, labels: Sequence[str], variant: str) -> pd.DataFrame:
    """All label rows of one content version -> one labelled row, or none where another variant judged it."""
    group = group[group["variant"] == variant].sort_values(["labelled_at", "label_seq"])
    said: dict[str, bool] = {}
    for line in group["labels"]:
        said.update(json.loads(line))
    truth = [float(said[name]) if name in said else float("nan") for name in labels]
    if group.empty or all(np.isnan(truth)):
        return _frame([])
    last = group.iloc[-1]
    features = json.loads(last["features"])
    return _frame(
        [
            {
                "text": last["text"],
                "unit": last["author_id"],
                "created": last["created_at"].value // 1000,
                "language": str(features.get("language", "und")),
                "truth": truth,
            }
        ]
    )


def from_corpora(folder: Path, names: Sequence[str], labels: Sequence[str], *, seed: int) -> Dataset:
    """Read gzipped JSON Lines of `{"text", "language", "labels": {...}}`, exact duplicates once, in random order.

    A duplicate is judged after normalisation: short texts repeat, and one that stood in two splits would flatter.

    Raises:
        NotEnoughDataError: a file is missing.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        for line in _lines(folder / f"{name}.jsonl.gz"):
            key = hashlib.sha256(normalise(line["text"]).encode()).hexdigest()
            truth = [float(line["labels"][label]) if label in line["labels"] else float("nan") for label in labels]
            rows.setdefault(key, {"text": line["text"], "unit": key, "language": line["language"], "truth": truth})
    frame = _frame([row | {"created": 0} for row in rows.values()])
    return ray.data.from_pandas(frame.sample(frac=1, random_state=seed)).repartition(4)


def encode(dataset: Dataset, config: NgramConfig) -> Dataset:
    """Add what an `ngram` model reads: `ids` (bucket numbers) and `words` (hashes), a list a row."""

    def add(batch: pa.Table) -> pa.Table:
        bags = hash_ngrams([normalise(text) for text in batch["text"].to_pylist()], config)
        ids = pa.LargeListArray.from_arrays(pa.array(np.append(bags.offsets, len(bags.ids))), bags.ids.astype(np.int32))
        words = pa.LargeListArray.from_arrays(pa.array(np.append(bags.word_offsets, len(bags.words))), bags.words)
        return batch.append_column("ids", ids).append_column("words", words)

    return dataset.map_batches(add, batch_format="pyarrow", batch_size=4096)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)
    except FileNotFoundError as error:
        raise NotEnoughDataError(f"{path} is missing; name the folder of the corpora with --data") from error


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    kinds = {"text": "str", "unit": "str", "created": "int64", "language": "str", "truth": "object"}
    return pd.DataFrame(list(rows), columns=list(kinds)).astype(kinds)
