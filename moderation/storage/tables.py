"""The ledger's tables.

Rows are only ever added, but for the state of experiments, requests, promotions and locks, for when a content came
again, and for whether a decision is to be made again.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    FromClause,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    text,
)
from sqlalchemy.types import TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC; SQLite has no time zones of its own."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware -> naive UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Naive UTC -> aware."""
        return None if value is None else value.replace(tzinfo=UTC)


class AnyText(TypeDecorator[str]):
    """Text of any characters, as JSON may hold them.

    PostgreSQL's text cannot hold U+0000, and one such post would fail its whole group. There it is escaped, with a
    character that Unicode sets aside for such internal use; as that makes it longer, the column there has no bound.

    Args:
        length: of the longest text, in characters, as the wire's models have it; None: no bound.
    """

    impl = Text
    cache_ok = True

    _ESCAPES = (("\ufdd0", "\ufdd01"), ("\0", "\ufdd00"))

    def __init__(self, length: int | None = None) -> None:
        super().__init__()
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """VARCHAR or TEXT on SQLite, TEXT on PostgreSQL."""
        bounded = self.length is not None and dialect.name == "sqlite"
        return String(self.length) if bounded else Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Text -> escaped, on PostgreSQL."""
        if value is None or dialect.name == "sqlite":
            return value
        for character, escaped in self._ESCAPES:
            value = value.replace(character, escaped)
        return value

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Escaped -> text, on PostgreSQL."""
        if value is None or dialect.name == "sqlite" or self._ESCAPES[0][0] not in value:
            return value
        for character, escaped in reversed(self._ESCAPES):
            value = value.replace(escaped, character)
        return value


def same_version(one: FromClause, other: FromClause) -> ColumnElement[bool]:
    """Whether two rows are of one content version of a post; both have `post_id` and `content_version`."""
    return and_(one.c.post_id == other.c.post_id, one.c.content_version == other.c.content_version)


def of_version(rows: FromClause, post_id: str, content_version: int) -> ColumnElement[bool]:
    """Whether a row is of this content version of a post; it has `post_id` and `content_version`."""
    return and_(rows.c.post_id == post_id, rows.c.content_version == content_version)


RowNumber = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both: SQLite's INTEGER is as wide, and the only type that it numbers by itself."""

metadata = MetaData()

posts = Table(
    "posts",
    metadata,
    Column("post_id", AnyText(128), primary_key=True),
    Column("content_version", Integer, primary_key=True),
    Column("content_hash", String(64), nullable=False),
    Column("author_id", AnyText(128), nullable=False),
    Column("community", AnyText(128), nullable=False),
    Column("region", String(2), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("text", AnyText(), nullable=False),
    Column("author", JSON, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("came_again_at", UtcDateTime),
)
"""What came: a row a content version. `came_again_at`: the latest `created_at` of the same content sent again."""

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", RowNumber, primary_key=True, autoincrement=True),
    Column("post_id", AnyText(128), nullable=False),
    Column("content_version", Integer, nullable=False),
    Column("decision", String(8), nullable=False),
    Column("body", Text, nullable=False),
    Column("features", JSON, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("judge_again", Boolean),
    UniqueConstraint("post_id", "content_version"),
    Index("decisions_decided_at", "decided_at"),
    sqlite_autoincrement=True,
)
"""What was decided, and the features of the post. `body` is the reply. judge_again: true where a model was away, until
another decision on the same content takes its place, as the next content version; null or false: that is not so."""
Index(
    "decisions_judge_again",
    decisions.c.decision_id,
    sqlite_where=text("judge_again"),
    postgresql_where=text("judge_again"),
)

scorings = Table(
    "scorings",
    metadata,
    Column("post_id", AnyText(128), primary_key=True),
    Column("content_version", Integer, primary_key=True),
    Column("service", String(16), primary_key=True),
    Column("variant", String(64), nullable=False),
    Column("model_version", Integer),
    Column("experiment", String(64)),
    Column("arm", String(16)),
    Column("features", JSON, nullable=False),
    Index("scorings_experiment", "experiment"),
)
"""What each variant that was asked about a decision's post said: its scores, its version, in which arm of which
experiment. No version: it failed."""

labels = Table(
    "labels",
    metadata,
    Column("label_seq", RowNumber, primary_key=True, autoincrement=True),
    Column("id", AnyText(128), nullable=False, unique=True),
    Column("post_id", AnyText(128), nullable=False),
    Column("content_version", Integer, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("source", String(16), nullable=False),
    Column("labelled_at", UtcDateTime, nullable=False),
    Column("sampling_probability", Float),
    Column("digest", String(64), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index("labels_post", "post_id", "content_version"),
    sqlite_autoincrement=True,
)
"""What people said of a content version."""

experiments = Table(
    "experiments",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("variant", String(64), nullable=False),
    Column("champion_version", Integer, nullable=False),
    Column("challenger_version", Integer, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("buckets", Integer, nullable=False),
    Column("history", JSON, nullable=False),
    Column("status", String(8), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("stopped_at", UtcDateTime),
)
"""A/B experiments; `buckets` of 10,000 go to the challenger."""
Index(
    "experiments_one_running",
    experiments.c.variant,
    unique=True,
    sqlite_where=text("status = 'running'"),
    postgresql_where=text("status = 'running'"),
)

drift_windows = Table(
    "drift_windows",
    metadata,
    Column("window_id", Integer, primary_key=True, autoincrement=True),
    Column("variant", String(64), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("window_from", UtcDateTime, nullable=False),
    Column("window_to", UtcDateTime, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("drifted", Boolean, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("checked_at", UtcDateTime, nullable=False),
    UniqueConstraint("variant", "model_version", "window_from", "window_to"),
)
"""What every drift check found."""

drift_references = Table(
    "drift_references",
    metadata,
    Column("variant", String(64), primary_key=True),
    Column("model_version", Integer, primary_key=True),
    Column("window_from", UtcDateTime, nullable=False),
    Column("window_to", UtcDateTime, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
)
"""Which window of traffic a model version is compared with; its features lie in the lake."""

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Integer, primary_key=True, autoincrement=True),
    Column("variant", String(64), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("window_to", UtcDateTime, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Drift in k of the last n windows."""

retrain_requests = Table(
    "retrain_requests",
    metadata,
    Column("request_id", Integer, primary_key=True, autoincrement=True),
    Column("variant", String(64), nullable=False),
    Column("alert_id", Integer),
    Column("reason", Text, nullable=False),
    Column("status", String(8), nullable=False),
    Column("outcome", JSON),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
"""Asked-for retrainings: open, running, done, refused or failed."""
Index(
    "retrain_requests_one_active",
    retrain_requests.c.variant,
    unique=True,
    sqlite_where=text("status IN ('open', 'running')"),
    postgresql_where=text("status IN ('open', 'running')"),
)

promotions = Table(
    "promotions",
    metadata,
    Column("promotion_id", Integer, primary_key=True, autoincrement=True),
    Column("variant", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Every change of a champion and why: kind is ship, promote or rollback."""

locks = Table(
    "locks",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
"""Held while something may only be done once at a time; a holder that died is overtaken after `expires_at`."""
