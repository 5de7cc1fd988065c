"""The lake: Parquet files derived from the ledger, for training, drift detection and anyone who reads Parquet.

`posts/` holds a row for each variant that judged a decision's post: the text, the logged features, the model version.
`labels/` holds the same, joined to each label. Each file holds a range of the ledger's row numbers and is named after
it, appears by an atomic rename, and is never written again: a killed export leaves nothing half done, and the next one
goes on where the files end. Deleting the folder loses nothing; the next export writes it anew.

As a file that is written is never looked at again, it must hold every row of its range, also those that will yet be
committed. On PostgreSQL rows appear out of order: of two transactions, the one that took the larger number may commit
first. So an export ends at the number up to which everything is settled (`dialect.settled`), and what a transaction
still holds open waits, with all that came after it, for the next export. On SQLite everything is settled always.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from sqlalchemy import Select, select
from sqlalchemy.sql import func

from moderation.storage.dialect import settled
from moderation.storage.ledger import Ledger
from moderation.storage.tables import decisions, labels, posts, scorings

Dataset = Literal["posts", "labels"]

ROWS_A_FILE = 20_000

_RANGE = re.compile(r"^part-(\d{12})-(\d{12})\.parquet$")
_WHEN = pa.timestamp("us", tz="UTC")
_POST_FIELDS = [
    pa.field("post_id", pa.string()),
    pa.field("content_version", pa.int32()),
    pa.field("author_id", pa.string()),
    pa.field("community", pa.string()),
    pa.field("region", pa.string()),
    pa.field("created_at", _WHEN),
    pa.field("text", pa.string()),
    pa.field("variant", pa.string()),
    pa.field("model_version", pa.int32()),
    pa.field("arm", pa.string()),
    pa.field("features", pa.string()),
]
SCHEMAS: dict[Dataset, pa.Schema] = {
    "posts": pa.schema([pa.field("decision_id", pa.int64()), *_POST_FIELDS]),
    "labels": pa.schema(
        [
            pa.field("label_seq", pa.int64()),
            pa.field("label_id", pa.string()),
            pa.field("labels", pa.string()),
            pa.field("source", pa.string()),
            pa.field("labelled_at", _WHEN),
            pa.field("sampling_probability", pa.float64()),
            *_POST_FIELDS,
        ]
    ),
}
"""`features` and `labels` are JSON objects: their keys change with the models and the taxonomy, the schema does not."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Rows that an export wrote."""

    posts: int
    labels: int


class Lake:
    """A folder of Parquet files.

    Args:
        root: the folder; made where absent.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def files(self, dataset: Dataset) -> list[str]:
        """The files of a dataset, oldest rows first."""
        return [str(path) for _, path in self._parts(dataset)]

    def export(self, ledger: Ledger) -> Exported:
        """Write what the ledger has and the lake has not. Safe to run at any time, also twice at once."""
        with ledger.lock("lake-export", wait=timedelta(seconds=60)):
            return Exported(
                posts=self._export("posts", ledger, decisions.c.decision_id, _posts_query),
                labels=self._export("labels", ledger, labels.c.label_seq, _labels_query),
            )

    def posts_between(self, begin: datetime, end: datetime, *, variant: str) -> pa.Table:
        """Decisions on posts created in [begin, end) that a variant judged; schema `SCHEMAS["posts"]`."""
        files = self.files("posts")
        if not files:
            return SCHEMAS["posts"].empty_table()
        created = ds.field("created_at")
        chosen = (
            (created >= pa.scalar(begin, _WHEN)) & (created < pa.scalar(end, _WHEN)) & (ds.field("variant") == variant)
        )
        return ds.dataset(files, schema=SCHEMAS["posts"]).to_table(filter=chosen)

    def _parts(self, dataset: Dataset) -> list[tuple[int, Path]]:
        folder = self.root / dataset
        matches = ((_RANGE.match(path.name), path) for path in sorted(folder.glob("part-*.parquet")))
        return [(int(match[2]), path) for match, path in matches if match]

    def _export(self, dataset: Dataset, ledger: Ledger, number: Any, query: Callable[[int, int], Select[Any]]) -> int:
        parts = self._parts(dataset)
        done = parts[-1][0] if parts else 0
        with ledger.read() as connection:
            mark = settled(connection, number)
        with ledger.read() as connection:  # another one: it must begin after the mark was set
            last = connection.execute(select(func.max(number)).where(number <= mark)).scalar() or 0
        written = 0
        for begin, end in _ranges(done, last):
            with ledger.read() as connection:
                rows = [_row(row._mapping) for row in connection.execute(query(begin, end))]
            table = pa.Table.from_pylist(rows, schema=SCHEMAS[dataset])
            target = self.root / dataset / f"part-{begin + 1:012d}-{end:012d}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_suffix(".tmp")
            pq.write_table(table, temporary, compression="zstd")
            temporary.rename(target)
            written += len(rows)
        return written


def _ranges(done: int, last: int) -> Iterator[tuple[int, int]]:
    for begin in range(done, last, ROWS_A_FILE):
        yield begin, min(begin + ROWS_A_FILE, last)


def _row(mapping: Any) -> dict[str, Any]:
    row = dict(mapping)
    row["features"] = row["features"] | (row.pop("own_features") or {})
    for name in ("features", "labels"):
        if name in row:
            row[name] = json.dumps(row[name], ensure_ascii=False, sort_keys=True)
    return row


_POST_COLUMNS = [
    posts.c.post_id,
    posts.c.content_version,
    posts.c.author_id,
    posts.c.community,
    posts.c.region,
    posts.c.created_at,
    posts.c.text,
    scorings.c.variant,
    scorings.c.model_version,
    scorings.c.arm,
    decisions.c.features,
    scorings.c.features.label("own_features"),
]
_SAME_CONTENT = (posts.c.post_id == decisions.c.post_id) & (posts.c.content_version == decisions.c.content_version)
_SCORED = (scorings.c.post_id == decisions.c.post_id) & (scorings.c.content_version == decisions.c.content_version)


def _posts_query(begin: int, end: int) -> Select[Any]:
    return (
        select(decisions.c.decision_id, *_POST_COLUMNS)
        .join(posts, _SAME_CONTENT)
        .outerjoin(scorings, _SCORED)
        .where(decisions.c.decision_id > begin, decisions.c.decision_id <= end)
        .order_by(decisions.c.decision_id, scorings.c.service)
    )


def _labels_query(begin: int, end: int) -> Select[Any]:
    return (
        select(
            labels.c.label_seq,
            labels.c.id.label("label_id"),
            labels.c.labels,
            labels.c.source,
            labels.c.labelled_at,
            labels.c.sampling_probability,
            *_POST_COLUMNS,
        )
        .join(
            decisions,
            (labels.c.post_id == decisions.c.post_id) & (labels.c.content_version == decisions.c.content_version),
        )
        .join(posts, _SAME_CONTENT)
        .outerjoin(scorings, _SCORED)
        .where(labels.c.label_seq > begin, labels.c.label_seq <= end)
        .order_by(labels.c.label_seq, scorings.c.service)
    )
