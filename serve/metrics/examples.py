"""What `GET /v1/metrics/online` answers, for OpenAPI: made of the models that answer, so that it cannot differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from serve.metrics.online import (
    AppealsOut,
    Estimate,
    Figures,
    Group,
    Harm,
    OnlineOut,
    Queue,
    Rates,
    Reports,
    Takedowns,
    Took,
)

_AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

_UNKNOWN = Estimate()
_FIGURES: dict[str, Any] = {
    "prevalence": Harm(
        share=Estimate(value=0.011, low=0.007, high=0.018),
        share_corrected=None,
        of=20_000,
        harmful=Estimate(value=220, low=140, high=360),
        drawn=900,
        judged=880,
        judged_harmful=96,
        unknown_share=0.0,
    ),
    "harmful_impressions": Harm(
        share=Estimate(value=0.004, low=0.001, high=0.012),
        share_corrected=None,
        of=1_500_000,
        harmful=Estimate(value=6_000, low=1_500, high=18_000),
        drawn=900,
        judged=880,
        judged_harmful=96,
        unknown_share=0.0,
    ),
    "reports": Reports(count=45, impressions=1_500_000, per_thousand_impressions=0.03),
    "takedown": Takedowns(
        proactive=Took(count=110, p50_s=0.04, p95_s=310.0), reactive=Took(count=12, p50_s=2400.0, p95_s=9800.0)
    ),
    "appeals": AppealsOut(filed=3, decided=0, upheld=0, overturn_rate=_UNKNOWN),
    "review": Queue(backlog=20, due=860, missed=4, miss_rate=0.00465),
}
ONLINE = OnlineOut(
    begin=_AT - timedelta(days=1),
    end=_AT,
    by=["region"],
    reviewers=Rates(sensitivity=_UNKNOWN, specificity=_UNKNOWN, harmful=0, harmless=0),
    total=Figures(**_FIGURES),
    groups=[Group(group={"region": "US"}, **_FIGURES)],
)
