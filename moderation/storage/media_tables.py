"""The ledger's tables of images and videos. Their bytes lie in the store of media, by SHA-256."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, String, Table, Text

from moderation.storage.tables import AnyText, RowNumber, UtcDateTime, metadata

media = Table(
    "media",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("format", String(16)),
    Column("bytes", RowNumber),
    Column("width", Integer),
    Column("height", Integer),
    Column("seconds", Float),
    Column("perceptual_hash", String(64)),
    Column("first_used_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("removed_at", UtcDateTime),
)
"""A medium that a post was recorded with. kind: as it was first used. last_used_at: to within an hour.
removed_at: its bytes are gone, or about to go, by retention; null again once a post uses the same bytes anew."""

post_media = Table(
    "post_media",
    metadata,
    Column("post_id", AnyText(128), primary_key=True),
    Column("content_version", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Index("post_media_sha256", "sha256"),
)
"""Which media a content version has, in the order they are shown, from 0."""

media_scores = Table(
    "media_scores",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("variant", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("found", Text, nullable=False),
    Column("scored_at", UtcDateTime, nullable=False),
)
"""What a version of a variant found in a medium: JSON that only who scores reads. Kept as long as the bytes are."""
