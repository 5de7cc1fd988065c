"""What routes of posts answer, for OpenAPI: made of the models that answer, so that it cannot differ."""

from __future__ import annotations

from datetime import UTC, datetime

from moderation.posts import Decision, LabelDecision, LanguageDecision, ReviewDecision


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
    decided_at=datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
    latency_ms=38.5,
)

HEALTH = {"status": "ok"}
READY = {"status": "ready", "models": {"text-multi/champion": 1, "misinformation/champion": 1}}
