"""What the export of labels answers, a line, for OpenAPI."""

from __future__ import annotations

from typing import Any

LABEL: dict[str, Any] = {
    "label_seq": 1,
    "id": "l-1",
    "post_id": "p-1",
    "content_version": 1,
    "labels": {"abuse": True},
    "source": "platform",
    "labelled_at": "2026-11-24T10:00:00Z",
    "received_at": "2026-11-24T10:00:01Z",
    "sampling_probability": None,
    "author_id": "u-4711",
    "community": "gardening",
    "region": "US",
    "created_at": "2026-11-24T09:30:00Z",
    "decided_at": "2026-11-24T09:30:00Z",
    "features": {"characters": 46.0, "language": "en"},
    "reviewer": None,
    "review_kind": None,
    "models": [
        {
            "service": "text",
            "variant": "text-multi",
            "model_version": 1,
            "experiment": None,
            "arm": "champion",
            "features": {"score_abuse": 0.012, "score_hate": 0.004, "unseen_word_share": 0.0},
        }
    ],
}
