"""Labelled rows as Ray Data sees them: from the lake (the platform's stream) or from a folder of public corpora.

Both give the same columns, so one training loop serves both:

    text       raw, as posted                      unit        author or, where unknown, the text's own hash
    created    microseconds since 1970, or 0       language    as logged or told
    truth      a float a label: 1, 0, or NaN       known       logged features, as a JSON object
    weight     a float a label: how much the row counts for it
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.fs
import ray.data
from pandas.api.types import is_list_like
from ray.data import Dataset

from moderation.errors import NotEnoughDataError
from moderation.preprocess.text import normalise

if TYPE_CHECKING:
    from moderation.models.base import Prepared

MOST_WEIGHT = 6.0
"""Of a row, whatever balance asks for: a handful of rows must not carry a language."""


def unit_hash(unit: str, salt: str) -> float:
    """A unit's fixed place in [0, 1), independent between salts."""
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def from_lake(
    files: Sequence[str],
    labels: Sequence[str],
    *,
    variant: str,
    filesystem: pyarrow.fs.FileSystem | None = None,
) -> Dataset:
    """Read the lake's labels; the newest word on a label counts, a row a post.

    Args:
        files: of `Lake.files("labels")`.
        labels: in the order of `truth`.
        variant: posts that another variant judged are left out.
        filesystem: of `Lake.filesystem`: where the files are.

    Raises:
        NotEnoughDataError: there is no file.
    """
    # Late, as below: each of Ray Data's workers imports this module, and most of them need neither a ledger nor torch.
    from moderation.storage.lake import SCHEMAS

    if not files:
        raise NotEnoughDataError("the lake holds no label; send some to POST /v1/labels first")
    columns = ["post_id", "content_version", "author_id", "created_at", "text", "features", "labels", "variant"]
    columns += ["labelled_at", "label_seq", "media"]
    dataset = ray.data.read_parquet(
        list(files),
        filesystem=filesystem,
        columns=columns,
        schema=SCHEMAS["labels"],  # a file of before there were media lacks their columns, which are then null
        override_num_blocks=min(len(files), 8),
    )

    def merge(group: pd.DataFrame) -> pd.DataFrame:
        return merge_labels(group, tuple(labels), variant)

    return dataset.groupby(["post_id", "content_version"], num_partitions=2).map_groups(merge, batch_format="pandas")


def merge_labels(group: pd.DataFrame, labels: Sequence[str], variant: str) -> pd.DataFrame:
    """All label rows of one content version -> one labelled row, or none where another variant judged it.

    A label is said of the whole post. Where the post has media, a harm may be in them alone, so that a positive says
    nothing of the text and is dropped; a negative says that the text is harmless, too, and is kept. So what is trained
    on, and judged with, holds fewer harmful rows of such posts than the traffic does.
    """
    group = group[group["variant"] == variant].sort_values(["labelled_at", "label_seq"])
    said: dict[str, bool] = {}
    for line in group["labels"]:
        said.update(json.loads(line))
    if any(is_list_like(media) and len(media) > 0 for media in group["media"]):  # else null, in several kinds
        said = {name: harmful for name, harmful in said.items() if not harmful}
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
                "created": int(last["created_at"].as_unit("us").asm8.view("i8")),
                "language": str(features.get("language", "und")),
                "truth": truth,
                "known": json.dumps(features, sort_keys=True, ensure_ascii=False),
            }
        ]
    )


def corpus_path(data: Path, name: str) -> Path:
    """Where a corpus of texts is, in the data folder, which holds text/, image/ and video/.

    Raises:
        NotEnoughDataError: it is not there.
    """
    path = data / "text" / f"{name}.jsonl.gz"
    if not path.is_file():
        raise NotEnoughDataError(f"{path} is missing; the data folder is the one that holds text/, image/ and video/")
    return path


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of JSON Lines, gzipped or not."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def from_corpora(paths: Sequence[Path], labels: Sequence[str], *, seed: int, most: int = 0) -> Dataset:
    """Read JSON Lines, gzipped or not, of `{"text", "language", "labels": {...}}`, exact duplicates once, shuffled.

    A duplicate is judged after normalisation: short texts repeat, and one that stood in two splits would flatter.

    Args:
        paths: of the files; an earlier one's row wins over its duplicate in a later one.
        labels: in the order of `truth`.
        seed: of the order.
        most: rows taken of a file, at random; 0: all.
    """
    rows: dict[str, dict[str, Any]] = {}
    for path in paths:
        fresh: dict[str, dict[str, Any]] = {}
        for line in lines_of(path):
            key = hashlib.sha256(normalise(line["text"]).encode()).hexdigest()
            truth = [float(line["labels"][label]) if label in line["labels"] else float("nan") for label in labels]
            row = {"text": line["text"], "unit": key, "created": 0, "language": line["language"], "truth": truth}
            row["known"] = json.dumps({"language": line["language"]})  # a corpus tells nothing of who wrote it
            if key not in rows:
                fresh.setdefault(key, row)
        kept = sorted(fresh, key=lambda unit: unit_hash(unit, f"{seed}"))
        rows.update((key, fresh[key]) for key in kept[: most or None])
    frame = _frame(list(rows.values()))
    return ray.data.from_pandas(frame.sample(frac=1, random_state=seed)).repartition(4)


def weighted(dataset: Dataset, *, balance: bool) -> Dataset:
    """Add `weight`: 1, or what makes harmful and harmless rows of each language weigh the same on each label.

    A language that lacks a class on a label keeps 1; no weight exceeds `MOST_WEIGHT`.
    """
    counts: dict[tuple[str, int, float], int] = {}
    if balance:
        for row in dataset.select_columns(["language", "truth"]).iter_rows():
            for column, value in enumerate(row["truth"]):
                counts[(row["language"], column, value)] = counts.get((row["language"], column, value), 0) + 1

    def weight(language: str, column: int, value: float) -> float:
        return class_weight(counts.get((language, column, value), 0), counts.get((language, column, 1 - value), 0))

    def add(batch: pd.DataFrame) -> pd.DataFrame:
        batch["weight"] = [
            [weight(language, column, value) for column, value in enumerate(truth)]
            for language, truth in zip(batch["language"], batch["truth"], strict=True)
        ]
        return batch

    return dataset.map_batches(add, batch_format="pandas")


def class_weight(own: int, other: int) -> float:
    """What a row weighs where a language's harmful and harmless rows shall weigh the same.

    Args:
        own: rows of its class.
        other: of the other.
    """
    return min(MOST_WEIGHT, (own + other) / (2 * own)) if own and other else 1.0


def prepared_of(batch: pa.Table) -> Prepared:
    """The texts of a batch, preprocessed, with what is known of each."""
    from moderation.models.base import Prepared

    return Prepared.of(batch["text"].to_pylist(), [json.loads(line) for line in batch["known"].to_pylist()])


def lists_of(flat: npt.NDArray[Any], begins: npt.NDArray[np.int64]) -> pa.Array:
    """One list a row, from all rows' values one after the other and where each row's begin."""
    return pa.LargeListArray.from_arrays(pa.array(np.append(begins, len(flat))), flat)


def matrix_of(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.float32]:
    """A column of lists of `width` numbers as an array (rows, width)."""
    return np.array(column.to_pylist(), dtype=np.float32).reshape(len(column), width)


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    kinds = {"text": "str", "unit": "str", "created": "int64", "language": "str", "truth": "object", "known": "str"}
    return pd.DataFrame(list(rows), columns=list(kinds)).astype(kinds)
