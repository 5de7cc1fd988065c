"""Posts with media as they would come from the gateway, and a store whose files are older than they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from moderation.posts import MediaDecision, MediaIn
from moderation.storage.blobs import Folder
from moderation.storage.ledger import Entry
from moderation.storage.media_store import Held, MediaStore
from tests.moderation.storage.rows import an_entry

SHA = "a" * 64
OTHER = "b" * 64


def with_media(
    post_id: str = "p-1",
    media: Sequence[str] = (SHA,),
    *,
    text: str = "look at this",
    kinds: Sequence[Any] | None = None,
    used_at: datetime | None = None,
    minutes: float = 0,
    **told: Any,
) -> Entry:
    """A post with media by their SHA-256; `told` of each by the decision, as `format="png"`."""
    entry = an_entry(post_id, text, minutes=minutes)
    kinds = kinds or ["image"] * len(media)
    post = entry.post.model_copy(
        update={"media": [MediaIn(kind=kind, sha256=sha256) for kind, sha256 in zip(kinds, media, strict=True)]}
    )
    decided = [
        MediaDecision(kind=kind, sha256=sha256, status="scored", **told)
        for kind, sha256 in zip(kinds, media, strict=True)
    ]
    decision = entry.decision.model_copy(update={"media": decided, "decided_at": used_at or entry.decision.decided_at})
    return replace(entry, post=post, content_hash=post.content_hash(), decision=decision)


def with_held(post_id: str, held: Held, **changes: Any) -> Entry:
    return with_media(post_id, (held.sha256,), bytes=held.size, **changes)


def age(store: MediaStore, name: str, by: timedelta) -> None:
    """Let a file have been written so much earlier."""
    found = store.place.look(name)
    assert found is not None
    when = found.modified - by
    if isinstance(store.place, Folder):
        os.utime(store.place.where(name), (when.timestamp(), when.timestamp()))
        return
    from moto.s3.models import s3_backends

    bucket, _, key = store.place.where(name).partition("/")
    s3_backends["123456789012"]["aws"].buckets[bucket].keys[key].last_modified = when.replace(tzinfo=None)
