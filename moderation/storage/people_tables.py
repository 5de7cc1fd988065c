"""The ledger's tables of what people do: reports, reviews, appeals, and what is done with posts because of it."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint, text

from moderation.storage.tables import AnyText, RowNumber, UtcDateTime, metadata

actions = Table(
    "actions",
    metadata,
    Column("action_id", RowNumber, primary_key=True, autoincrement=True),
    Column("post_id", AnyText(128), nullable=False),
    Column("content_version", Integer, nullable=False),
    Column("action", String(8), nullable=False),
    Column("actor", String(8), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("review_id", RowNumber),
    Column("acted_at", UtcDateTime, nullable=False),
    Index("actions_post", "post_id", "action_id"),
    Index("actions_acted_at", "acted_at"),
    sqlite_autoincrement=True,
)
"""What was done with a post, in order. Its newest action says how it stands; without one it is shown.

action: `hold` (not shown until a person decides), `remove`, `allow` (a person, or newer content, lets it be shown) or
`restore` (shown again after a removal). actor: `model`, `review`, `appeal` or `fuse`. labels: names, the reasons."""

reviews = Table(
    "reviews",
    metadata,
    Column("review_id", RowNumber, primary_key=True, autoincrement=True),
    Column("post_id", AnyText(128), nullable=False),
    Column("content_version", Integer, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("of_review", RowNumber),
    Column("labels", JSON, nullable=False),
    Column("language", String(16), nullable=False),
    Column("region", String(2), nullable=False),
    Column("community", AnyText(128), nullable=False),
    Column("p_harm", Float, nullable=False),
    Column("severity", Float, nullable=False),
    Column("impressions", Float, nullable=False),
    Column("priority", Float, nullable=False),
    Column("sampling_probability", Float),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deadline", UtcDateTime, nullable=False),
    Column("status", String(8), nullable=False),
    Column("leased_by", AnyText(128)),
    Column("leased_until", UtcDateTime),
    Column("decided_by", AnyText(128)),
    Column("decided_at", UtcDateTime),
    Column("verdict", String(8)),
    Column("verdict_labels", JSON),
    Column("note", AnyText()),
    Index("reviews_queue", "status", "priority"),
    Index("reviews_deadline", "status", "deadline"),
    Index("reviews_post", "post_id", "content_version"),
    Index("reviews_decided_at", "decided_at"),
    sqlite_autoincrement=True,
)
"""What a person is asked, and what they said.

kind: `flagged` (the policy queued it), `reported`, `sampled` (drawn at random, with `sampling_probability`), `cluster`
(stands for its near-duplicates), `second` (decided once, asked again of somebody else: `of_review`), `third` (two
people differ), `golden` (the answer is known: it measures the reviewer) or `appeal`. status: `open`, `decided` or
`dropped` (newer content took its place). labels: names of the labels in question, most pressing first. priority:
p_harm x severity x impressions."""
Index(
    "reviews_one_open",
    reviews.c.post_id,
    reviews.c.content_version,
    unique=True,
    sqlite_where=text("status = 'open' AND kind <> 'golden'"),
    postgresql_where=text("status = 'open' AND kind <> 'golden'"),
)

golden = Table(
    "golden",
    metadata,
    Column("post_id", AnyText(128), primary_key=True),
    Column("content_version", Integer, primary_key=True),
    Column("verdict", String(8), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Posts whose right verdict is known; reviewers meet them unknowingly."""

reports = Table(
    "reports",
    metadata,
    Column("report_id", RowNumber, primary_key=True, autoincrement=True),
    Column("post_id", AnyText(128), nullable=False),
    Column("content_version", Integer, nullable=False),
    Column("reporter_id", AnyText(128), nullable=False),
    Column("reason", AnyText(), nullable=False),
    Column("label", String(32)),
    Column("weight", Float, nullable=False),
    Column("outcome", String(9)),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("post_id", "reporter_id", "content_version"),
    Index("reports_created_at", "created_at"),
    sqlite_autoincrement=True,
)
"""What people report; one a reporter and content version. weight: the reporter's when they reported; 0: muted, or the
author's own.
outcome: `upheld` or `dismissed`, by the first verdict that followed."""

reporters = Table(
    "reporters",
    metadata,
    Column("reporter_id", AnyText(128), primary_key=True),
    Column("upheld", Integer, nullable=False),
    Column("dismissed", Integer, nullable=False),
    Column("muted", Boolean, nullable=False),
)
"""How reliable each reporter was."""

appeals = Table(
    "appeals",
    metadata,
    Column("appeal_id", RowNumber, primary_key=True, autoincrement=True),
    Column("post_id", AnyText(128), nullable=False),
    Column("content_version", Integer, nullable=False),
    Column("reason", AnyText(), nullable=False),
    Column("review_id", RowNumber, nullable=False),
    Column("status", String(8), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Column("action_id", RowNumber),
    UniqueConstraint("action_id"),
    Index("appeals_created_at", "created_at"),
    Index("appeals_post", "post_id"),
    sqlite_autoincrement=True,
)
"""Objections of authors to removals; one a removal, which is action_id. status: `open`, `upheld` or `rejected`."""

strikes = Table(
    "strikes",
    metadata,
    Column("post_id", AnyText(128), primary_key=True),
    Column("content_version", Integer, primary_key=True),
    Column("author_id", AnyText(128), nullable=False),
    Column("given_at", UtcDateTime, nullable=False),
    Column("taken_back_at", UtcDateTime),
    Index("strikes_author", "author_id"),
)
"""One for each removal; taken back when the post is restored."""

exemptions = Table(
    "exemptions",
    metadata,
    Column("content_hash", String(64), primary_key=True),
    Column("appeal_id", RowNumber, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Content that was restored on appeal: it is not removed, nor queued, by a model again."""

events = Table(
    "events",
    metadata,
    Column("event_seq", RowNumber, primary_key=True, autoincrement=True),
    Column("id", AnyText(128), nullable=False, unique=True),
    Column("post_id", AnyText(128), nullable=False),
    Column("content_version", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("count", RowNumber, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("happened_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index("events_happened_at", "happened_at"),
    Index("events_post", "post_id"),
    sqlite_autoincrement=True,
)
"""What the public did with a post: `impression` (count: how many), `reaction` or `deletion`."""

fuses = Table(
    "fuses",
    metadata,
    Column("fuse_id", RowNumber, primary_key=True, autoincrement=True),
    Column("label", String(32), nullable=False),
    Column("region", String(2), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("tripped_at", UtcDateTime, nullable=False),
    Column("reset_at", UtcDateTime),
    Column("reset_by", AnyText(128)),
    sqlite_autoincrement=True,
)
"""Automatic removals of a label in a region that went beyond what is expected; diverted to review until reset."""
Index(
    "fuses_one_tripped",
    fuses.c.label,
    fuses.c.region,
    unique=True,
    sqlite_where=text("reset_at IS NULL"),
    postgresql_where=text("reset_at IS NULL"),
)

removal_counts = Table(
    "removal_counts",
    metadata,
    Column("begin", UtcDateTime, primary_key=True),
    Column("writer", String(32), primary_key=True),
    Column("region", String(2), primary_key=True),
    Column("label", String(32), primary_key=True),
    Column("count", Integer, nullable=False),
)
"""Posts decided (label: empty) and removed by models, for each label, a minute, region and writer.

Each ledger adds to rows of its own, so that none waits for another's commit."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", String(36), primary_key=True),
    Column("endpoint", String(64), nullable=False),
    Column("action_id", RowNumber, nullable=False),
    Column("post_id", AnyText(128), nullable=False),
    Column("status", String(9), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("last_error", Text),
    Column("delivered_at", UtcDateTime),
    UniqueConstraint("endpoint", "action_id"),
    Index("deliveries_due", "endpoint", "status", "next_at"),
    Index("deliveries_post", "endpoint", "post_id", "action_id"),
)
"""The outbox: an action for an endpoint. status: `pending`, `delivered` or `dead`."""
