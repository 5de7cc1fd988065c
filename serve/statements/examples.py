"""What exports answer, a line each, for OpenAPI: made of the models that answer, so that it cannot differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from moderation.sections import Statements
from serve.statements import statement

_AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

STATEMENT = statement.statement(
    statement.Removal(
        action_id=17,
        actor="model",
        labels=("abuse",),
        acted_at=_AT,
        created_at=_AT,
        region="DE",
        language="en",
        detected=True,
        reported=False,
    ),
    Statements(),
    rules={},
)
RETRACTION = statement.retraction(
    statement.Retraction(action_id=17, removed_at=_AT, restored_by="appeal", restored_at=_AT + timedelta(days=1)),
    Statements(),
)
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
