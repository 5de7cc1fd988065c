"""What routes of review answer, for OpenAPI: made of the models that answer, so that it cannot differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from serve.review.models import Agreement, AppealOut, ReporterOut, ReviewerOut

_AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

REPORTER = ReporterOut(reporter_id="u-9", upheld=7, dismissed=1, reliability=0.8, muted=False)
REVIEWER = ReviewerOut(
    reviewer_id="mod-3", decided=412, golden_decided=20, golden_right=19, sensitivity=0.9, specificity=1.0
)
AGREEMENT = Agreement(items=50, agreement=0.92, kappa=0.81)
APPEAL = AppealOut(
    appeal_id=1,
    post_id="p-1",
    content_version=1,
    status="open",
    created_at=_AT + timedelta(hours=2),
    decided_at=None,
    action_id=7,
)
