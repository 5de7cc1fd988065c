"""What an event may be on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from moderation.events import EventIn

LINE = {"id": "e-1", "post_id": "p-1", "kind": "impression", "happened_at": "2026-11-24T10:31:00+01:00"}


def parsed(**changes: Any) -> EventIn:
    return EventIn.model_validate_json(json.dumps(LINE | changes))


def test_a_line_without_a_count_is_one_and_its_time_is_utc() -> None:
    event = parsed()
    assert (event.count, event.detail, event.content_version) == (1, {}, None)
    assert event.happened_at.isoformat() == "2026-11-24T09:31:00+00:00"


def test_the_example_of_the_documentation_is_one() -> None:
    (example,) = EventIn.model_json_schema()["examples"]
    assert EventIn.model_validate_json(json.dumps(example)).count == 40


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"count": 0}, "greater than or equal to 1"),
        ({"count": 10**9 + 1}, "less than or equal to 1000000000"),
        ({"count": 1.5}, "valid integer"),
        ({"kind": "view"}, "'impression', 'reaction' or 'deletion'"),
        ({"kind": "deletion", "count": 2}, "a post is deleted once"),
        ({"happened_at": "2026-11-24T10:31:00"}, "timezone"),
        ({"happened_at": "0001-01-01T00:00:00+14:00"}, "outside the years"),
        ({"post_id": "a b"}, "pattern"),
        ({"id": ""}, "at least 1"),
        ({"content_version": 0}, "greater than or equal to 1"),
        ({"detail": {f"k{number}": 1 for number in range(21)}}, "at most 20"),
        ({"detail": {"a": [1]}}, "valid"),
        ({"who": "u-1"}, "Extra inputs"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        parsed(**changes)
