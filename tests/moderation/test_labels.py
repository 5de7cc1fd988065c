"""The taxonomy."""

from __future__ import annotations

from datetime import timedelta

import pytest

from moderation.labels import BY_NAME, LABELS

SEEN = {"image", "video"}
EVERYTHING = {"text", *SEEN}


@pytest.mark.parametrize(
    ("name", "severity", "mode", "hours", "modalities"),
    [
        ("abuse", "medium", "reactive", 24, EVERYTHING),
        ("hate", "high", "proactive", 1, EVERYTHING),
        ("violence", "high", "proactive", 1, EVERYTHING),
        ("nudity", "high", "proactive", 1, SEEN),
        ("misinformation", "medium", "reactive", 24, EVERYTHING),
    ],
)
def test_each_harm_has_its_severity_mode_and_deadline(
    name: str, severity: str, mode: str, hours: int, modalities: set[str]
) -> None:
    label = BY_NAME[name]
    assert (label.name, label.severity, label.mode) == (name, severity, mode)
    assert label.deadline == timedelta(hours=hours)
    assert label.modalities == modalities


def test_names_are_unique_and_in_the_order_of_the_taxonomy() -> None:
    assert list(BY_NAME) == [label.name for label in LABELS]
    assert list(BY_NAME) == ["abuse", "hate", "violence", "nudity", "misinformation"]


def test_only_high_harm_is_acted_on_before_it_is_seen() -> None:
    assert {label.severity for label in LABELS if label.mode == "proactive"} == {"high"}
    assert {label.severity for label in LABELS if label.mode == "reactive"} == {"medium"}
