"""Labelled rows as Ray Data sees them: from the lake (the platform's stream) or from a folder of public corpora.

Both give the same columns, so one training loop serves both:

    text       raw, as posted                      unit        author or, where unknown, the text's own hash
    created    microseconds since 1970, or 0       language    as logged or told
    truth      a float a label: 1, 0, or NaN       known       logged features, as a JSON object
    weight     a float a label: how much the row counts for it

Those of corpora have a `target` beside `truth`: the share of people who said so, where that is known (see `softened`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import isnan
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import ray.data
from ray.data import Dataset

from moderation.copies import key_of
from moderation.errors import NotEnoughDataError
from moderation.preprocess.text import normalise

if TYPE_CHECKING:
    from moderation.models.base import Prepared

MOST_WEIGHT = 6.0
"""Of a row, whatever balance asks for: a handful of rows must not carry a language."""

_HATE = ("homophobia", "misogyny", "racism", "xenophobia")
_KINDS = {"abuse": (*_HATE, "insult", "obscene"), "hate": _HATE}
"""What `votes` of ToLD-Br (Leite et al. 2020) count, by the label that two of its annotators make true."""
_ANNOTATORS = 3


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

    def merge(rows: pa.Table) -> pa.Table:
        return merge_labels(rows, tuple(labels), variant)

    # What `groupby` does, but the rows of all posts at once: a call a post took two hundred times as long.
    together = dataset.repartition(2, keys=["post_id", "content_version"])
    return together.map_batches(merge, batch_format="pyarrow", batch_size=None)


_ROWS = pa.schema(
    {
        "text": pa.string(),
        "unit": pa.string(),
        "created": pa.int64(),
        "language": pa.string(),
        "truth": pa.list_(pa.float64()),
        "known": pa.string(),
    }
)


def merge_labels(rows: pa.Table, labels: Sequence[str], variant: str) -> pa.Table:
    """All label rows of some content versions -> one labelled row each, or none where another variant judged it.

    A label is said of the whole post. Where the post has media, a harm may be in them alone, so that a positive says
    nothing of the text and is dropped; a negative says that the text is harmless, too, and is kept. So what is trained
    on, and judged with, holds fewer harmful rows of such posts than the traffic does.
    """
    rows = rows.filter(pc.equal(rows["variant"], variant))
    microseconds = rows["created_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    rows = rows.set_column(rows.column_names.index("created_at"), "created_at", microseconds)
    order = [(column, "ascending") for column in ("post_id", "content_version", "labelled_at", "label_seq")]
    rows = rows.sort_by(order).drop_columns(["labelled_at", "label_seq", "variant"])
    merged: list[dict[str, Any]] = []
    for _, lines in groupby(_lines(rows), key=itemgetter("post_id", "content_version")):
        said: dict[str, bool] = {}
        media = False
        for line in lines:
            said |= json.loads(line["labels"])
            media = media or bool(line["media"])
        if media:
            said = {name: harmful for name, harmful in said.items() if not harmful}
        truth = [float(said[name]) if name in said else float("nan") for name in labels]
        if all(map(isnan, truth)):
            continue
        features = json.loads(line["features"])
        merged.append(
            {
                "text": line["text"],
                "unit": line["author_id"],
                "created": line["created_at"],
                "language": str(features.get("language", "und")),
                "truth": truth,
                "known": json.dumps(features, sort_keys=True, ensure_ascii=False),
            }
        )
    return pa.Table.from_pylist(merged, schema=_ROWS)


def once_a_text(dataset: Dataset) -> Dataset:
    """Rows whose texts are copies of one another as one row each (see `merge_copies`).

    So that no text stands in two parts of a split, and none counts more often than once, whoever posted it.
    """

    def add_key(rows: pa.Table) -> pa.Table:
        return rows.append_column("key", pa.array([key_of(text) for text in rows["text"].to_pylist()], pa.string()))

    keyed = dataset.map_batches(add_key, batch_format="pyarrow")
    return keyed.repartition(2, keys=["key"]).map_batches(merge_copies, batch_format="pyarrow", batch_size=None)


def merge_copies(rows: pa.Table) -> pa.Table:
    """All rows of some keys (`moderation.copies`) -> one row a key: the first one, with what was said of all of them.

    On each label the majority of the copies of which it is known decides; where they are even, the newest.
    """
    if not rows.num_rows:  # a block that Ray made to tell its columns, which may lack the key
        return _ROWS.empty_table()
    rows = rows.sort_by([(column, "ascending") for column in ("key", "created", "unit", "text")])
    merged: list[dict[str, Any]] = []
    for _, found in groupby(_lines(rows), key=itemgetter("key")):
        copies = list(found)
        truths = zip(*(copy["truth"] for copy in copies), strict=True)
        merged.append(copies[0] | {"truth": [_majority([said for said in told if not isnan(said)]) for told in truths]})
    return pa.Table.from_pylist(merged, schema=_ROWS)


def _majority(told: Sequence[float]) -> float:
    if not told:
        return float("nan")
    harmful = sum(told) / len(told)
    return told[-1] if harmful == 0.5 else float(harmful > 0.5)


def _lines(rows: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in rows.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


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


def target_of(line: Mapping[str, Any], label: str) -> float:
    """The largest share of annotators who agreed on one kind of the label; without `votes` 1 or 0; NaN: not annotated.

    Args:
        line: of a corpus.
        label: which.
    """
    if label not in line["labels"]:
        return float("nan")
    votes = line.get("votes") or {}
    kinds = _KINDS.get(label, ("",))
    if not votes.keys() >= set(kinds):
        return float(line["labels"][label])
    return float(max(votes[kind] for kind in kinds) / _ANNOTATORS)


def from_corpora(paths: Sequence[Path], labels: Sequence[str], *, seed: int, most: int = 0) -> Dataset:
    """Read JSON Lines, gzipped or not, of `{"text", "language", "labels": {...}}`, exact duplicates once, shuffled.

    Where `votes` tell how many of three annotators said each of ToLD-Br's kinds, `target` is their share.

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
            row["target"] = [target_of(line, label) for label in labels]
            if key not in rows:
                fresh.setdefault(key, row)
        kept = sorted(fresh, key=lambda unit: unit_hash(unit, f"{seed}"))
        rows.update((key, fresh[key]) for key in kept[: most or None])
    table = pa.Table.from_pylist(
        list(rows.values()), schema=_ROWS.append(pa.field("target", _ROWS.field("truth").type))
    )
    order = pd.RangeIndex(len(table)).to_series().sample(frac=1, random_state=seed)
    return ray.data.from_arrow(table.take(order.to_numpy())).repartition(4)


def softened(dataset: Dataset) -> Dataset:
    """Let `truth` be the `target`, for training: what one of three people calls abuse is not as harmless as the rest.

    Learning from the share who said so in place of what most said: Uma et al., "Learning from Disagreement: A Survey",
    2021. Weights are of classes, so they are added before.
    """

    def soften(batch: pd.DataFrame) -> pd.DataFrame:
        return batch.assign(truth=batch["target"]).drop(columns=["target"])

    return dataset.map_batches(soften, batch_format="pandas")


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
