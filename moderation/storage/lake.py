"""The lake: Parquet files derived from the ledger, for training, drift detection and anyone who reads Parquet.

`posts/` holds a row for each variant that judged a decision's post: the text, the logged features, the model version.
`labels/` holds the same, joined to each label. The lake lies in a folder or in a bucket of S3. Each file holds a range
of the ledger's row numbers and is named after it, appears whole (by a rename, or by one PUT), and is never written
again: a killed export leaves nothing half done, and the next one goes on where the files end. Deleting it all loses
nothing; the next export writes it anew.

Exports keep apart by the ledger's lock, held for a while and renewed before each file; that of a killed export is
overtaken. Should one be stopped for longer, and then go on, two files may begin at one row. The lake's files are
therefore the chain from the first row on, at each step the longest: whatever happens, no row is in it twice.

As a file that is written is never looked at again, it must hold every row of its range, also those that will yet be
committed. On PostgreSQL rows appear out of order: of two transactions, the one that took the larger number may commit
first. So an export ends at the number up to which everything is settled (`dialect.settled`), and what a transaction
still holds open waits, with all that came after it, for the next export. On SQLite everything is settled always.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal  # Any: SQLAlchemy knows no type of a Table's columns

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
from sqlalchemy import Column, ColumnElement, RowMapping, Select, Table, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import func

from moderation.storage.blobs import place_at
from moderation.storage.dialect import settled
from moderation.storage.label_rows import said_by
from moderation.storage.ledger import Held, Ledger
from moderation.storage.media_tables import post_media
from moderation.storage.tables import decisions, labels, posts, same_version, scorings

Dataset = Literal["posts", "labels"]

ROWS_A_FILE = 20_000
LOCK_HOLD = timedelta(minutes=2)
"""For how long an export that wrote no file is taken for alive."""
LOCK_WAIT = timedelta(minutes=3)
"""How long an export waits for another one: longer than one that was killed can hold it up."""

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
    pa.field("media", pa.list_(pa.string())),
    pa.field("media_kinds", pa.list_(pa.string())),
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
            pa.field("reviewer", pa.string()),
            pa.field("review_kind", pa.string()),
            *_POST_FIELDS,
        ]
    ),
}
"""`features` and `labels` are JSON objects: their keys change with the models and the taxonomy, the schema does not.
`media` are SHA-256s, as the store of media names them, and `media_kinds` their kinds, in the order they are shown; null
in files of before there were any."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Rows that an export wrote."""

    posts: int
    labels: int


class Lake:
    """Parquet files in a folder or a bucket.

    Args:
        root: a folder, made where absent, or `s3://BUCKET/PREFIX`.

    Raises:
        ConfigError: it is neither.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = root
        self._place = place_at(str(root))

    @property
    def filesystem(self) -> pyarrow.fs.FileSystem | None:
        """With which `files` are opened; None: the machine's own."""
        return self._place.filesystem

    def files(self, dataset: Dataset) -> list[str]:
        """The files of a dataset, oldest rows first."""
        return [self._place.where(f"{dataset}/{name}") for _, name in self._parts(dataset)]

    def export(self, ledger: Ledger) -> Exported:
        """Write what the ledger has and the lake has not. Safe to run at any time, also twice at once.

        Raises:
            ConflictError: another export is under way, and did not end within `LOCK_WAIT`.
        """
        with ledger.lock("lake-export", wait=LOCK_WAIT, hold=LOCK_HOLD) as held:
            return Exported(
                posts=self._export("posts", ledger, held, decisions.c.decision_id, _post_rows),
                labels=self._export("labels", ledger, held, labels.c.label_seq, _label_rows),
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
        return ds.dataset(files, schema=SCHEMAS["posts"], filesystem=self.filesystem).to_table(filter=chosen)

    def put(self, name: str, table: pa.Table) -> None:
        """Write a file of another kind, such as `references/text-multi/1.parquet`, or put it in the place of one."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self._place.put(name, buffer.getvalue())

    def get(self, name: str) -> pa.Table:
        """Read a file that `put` wrote.

        Raises:
            FileNotFoundError: there is none.
        """
        return pq.read_table(self._place.where(name), filesystem=self.filesystem)

    def _parts(self, dataset: Dataset) -> list[tuple[int, str]]:
        """The chain of files, each with its last row's number: where several begin at one row, the longest."""
        matches = map(_RANGE.match, self._place.names(dataset))
        found = [(int(match[1]), int(match[2]), match[0]) for match in matches if match]
        chain: list[tuple[int, str]] = []
        done = 0
        for begin, end, name in sorted(found, key=lambda part: (part[0], -part[1])):
            if begin == done + 1:
                chain.append((end, name))
                done = end
        return chain

    def _export(
        self,
        dataset: Dataset,
        ledger: Ledger,
        held: Held,
        number: Column[int],
        rows_of: Callable[[Connection, int, int], list[dict[str, Any]]],
    ) -> int:
        parts = self._parts(dataset)
        done = parts[-1][0] if parts else 0
        with ledger.read() as connection:
            mark = settled(connection, number)
        with ledger.read() as connection:  # another one: it must begin after the mark was set
            last = connection.execute(select(func.max(number)).where(number <= mark)).scalar() or 0
        written = 0
        for begin, end in _ranges(done, last):
            with ledger.read() as connection:
                rows = rows_of(connection, begin, end)
            held.renew()
            table = pa.Table.from_pylist(rows, schema=SCHEMAS[dataset])
            self.put(f"{dataset}/part-{begin + 1:012d}-{end:012d}.parquet", table)
            written += len(rows)
        return written


def _ranges(done: int, last: int) -> Iterator[tuple[int, int]]:
    for begin in range(done, last, ROWS_A_FILE):
        yield begin, min(begin + ROWS_A_FILE, last)


def _row(mapping: RowMapping) -> dict[str, Any]:
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


def _post_rows(connection: Connection, begin: int, end: int) -> list[dict[str, Any]]:
    rows = [_row(row._mapping) for row in connection.execute(_posts_query(begin, end))]
    _add_media(connection, rows, decisions, decisions.c.decision_id.between(begin + 1, end))
    return rows


def _label_rows(connection: Connection, begin: int, end: int) -> list[dict[str, Any]]:
    rows = [_row(row._mapping) for row in connection.execute(_labels_query(begin, end))]
    _add_media(connection, rows, labels, labels.c.label_seq.between(begin + 1, end))
    said = said_by(connection, {row["label_id"]: (row["post_id"], row["content_version"]) for row in rows})
    for row in rows:
        found = said.get(row["label_id"])
        row["reviewer"], row["review_kind"] = (None, None) if found is None else (found.reviewer, found.kind)
    return rows


def _add_media(connection: Connection, rows: list[dict[str, Any]], of: Table, within: ColumnElement[bool]) -> None:
    """Add what media the rows' posts have; `of` names the posts, `within` which of its rows are meant."""
    query = select(post_media).join(of, same_version(post_media, of)).where(within)
    found: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for row in connection.execute(query.distinct().order_by(post_media.c.position)):
        found.setdefault((row.post_id, row.content_version), []).append((row.sha256, row.kind))
    for row_of_post in rows:
        shown = found.get((row_of_post["post_id"], row_of_post["content_version"]), [])
        row_of_post["media"] = [sha256 for sha256, _ in shown]
        row_of_post["media_kinds"] = [kind for _, kind in shown]


def _posts_query(begin: int, end: int) -> Select[Any]:
    return (
        select(decisions.c.decision_id, *_POST_COLUMNS)
        .join(posts, same_version(posts, decisions))
        .outerjoin(scorings, same_version(scorings, decisions))
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
        .join(decisions, same_version(labels, decisions))
        .join(posts, same_version(posts, decisions))
        .outerjoin(scorings, same_version(scorings, decisions))
        .where(labels.c.label_seq > begin, labels.c.label_seq <= end)
        .order_by(labels.c.label_seq, scorings.c.service)
    )
