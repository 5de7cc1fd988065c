"""What routes that take no body answer, for OpenAPI: made of the models that answer, so that it cannot differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from moderation import statements
from moderation.online import (
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
from moderation.people import Agreement, AppealOut, FuseOut, ReporterOut, ReviewerOut
from moderation.posts import Decision, LabelDecision, LanguageDecision, ReviewDecision
from moderation.topology import Statements

_AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def _scored(score: float, threshold: float, objective: str, remove: float | None = None) -> LabelDecision:
    return LabelDecision(
        status="scored",
        score=score,
        threshold=threshold,
        remove_threshold=remove,
        input_types=["text"],
        objective=objective,
    )


DECISION = Decision(
    post_id="p-1",
    content_version=1,
    decision="allow",
    mode="reactive",
    degraded=False,
    labels={
        "abuse": _scored(0.012, 0.649, "precision>=0.3", remove=0.953),
        "hate": _scored(0.004, 0.916, "precision>=0.3"),
        "violence": LabelDecision(status="not_scored", reason="no_model"),
        "nudity": LabelDecision(status="not_scored", reason="no_media"),
        "misinformation": _scored(0.031, 0.885, "precision>=0.5"),
    },
    language=LanguageDecision(code="en", confidence=1.0, in_training=True),
    links=[],
    review=ReviewDecision(queued=False),
    policy_version="2026-11-24.1+2e9db2e2",
    models={"text": "text-multi@1", "misinformation": "misinformation@1"},
    decided_at=_AT,
    latency_ms=38.5,
)

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

STATEMENT = statements.statement(
    statements.Removal(
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
RETRACTION = statements.retraction(
    statements.Retraction(action_id=17, removed_at=_AT, restored_by="appeal", restored_at=_AT + timedelta(days=1)),
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

HEALTH = {"status": "ok"}
READY = {"status": "ready", "models": {"text-multi/champion": 1, "misinformation/champion": 1}}
