"""What `GET /v1/fuses` answers, for OpenAPI: made of the model that answers, so that it cannot differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from serve.fuse.fuses import FuseOut

_AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

FUSE = FuseOut(
    fuse_id=1,
    label="abuse",
    region="US",
    evidence={
        "removals": 90,
        "posts": 1000,
        "expected_rate": 0.02,
        "expected_by": "baseline",
        "ratio_at_least": 2.9,
        "from": (_AT - timedelta(minutes=10)).isoformat(),
        "to": _AT.isoformat(),
    },
    tripped_at=_AT,
    reset_at=None,
    reset_by=None,
)
