"""What exports answer, a line each, for OpenAPI: made of the models that answer, so that it cannot differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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
