"""Errors on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from moderation.posts import LabelIn, PostIn
from serve.http.problems import TITLES, Problem, invalid, pointer
from tests.rooms import a_post


def body_of(problem: Problem) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bytes(problem.response().body))
    assert problem.body() == body
    return body


def refused(model: type[BaseModel], raw: str) -> Problem:
    with pytest.raises(ValidationError) as error:
        model.model_validate_json(raw)
    return invalid(error.value)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ((), ""),
        (("text",), "/text"),
        (("features", 0, "text"), "/features/0/text"),
        (("a/b",), "/a~1b"),
        (("a~b",), "/a~0b"),
        (("~1",), "/~01"),  # escaped in this order, or it would read as a slash
        (("/~",), "/~1~0"),
        (("",), "/"),
    ],
)
def test_a_pointer_is_escaped_as_rfc_6901_says(location: tuple[int | str, ...], expected: str) -> None:
    assert pointer(location) == expected


@pytest.mark.parametrize("status", sorted(TITLES))
def test_a_problem_has_its_status_twice_and_its_media_type(status: int) -> None:
    response = Problem(status, "because").response()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in response.headers
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": "because",
    }


def test_an_unusual_status_has_a_title_too() -> None:
    assert body_of(Problem(418, "short and stout"))["title"] == "Error"


@pytest.mark.parametrize("seconds", [0, 1, 30])
def test_retry_after_is_told_in_seconds(seconds: int) -> None:
    response = Problem(503, "later", retry_after=seconds).response()
    assert response.headers["retry-after"] == str(seconds)


def test_members_and_errors_stand_beside_the_rest() -> None:
    errors = [{"pointer": "/text", "detail": "too long"}]
    body = body_of(Problem(422, "no", errors=errors, members={"bound": 40_000}))
    assert (body["bound"], body["errors"]) == (40_000, errors)
    assert "errors" not in body_of(Problem(422, "no", errors=[]))


@pytest.mark.parametrize("raw", ["not json", "", '{"author_id": "u"', "{]", '"\\ud800"'])
def test_a_body_that_is_no_json_is_malformed(raw: str) -> None:
    problem = refused(PostIn, raw)
    assert problem.status == 400
    assert problem.detail.startswith("the body is not JSON: ")
    assert problem.errors is None


@pytest.mark.parametrize("raw", ["[]", "null", "7", '"text"'])
def test_json_of_another_kind_is_told_of_the_whole_body(raw: str) -> None:
    problem = refused(PostIn, raw)
    assert problem.status == 422
    assert problem.detail.startswith("the body: ")
    assert problem.errors is not None
    assert [error["pointer"] for error in problem.errors] == [""]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"author_id": 7}, "/author_id"),
        ({"region": "usa"}, "/region"),
        ({"media": [1]}, "/media/0"),
        ({"a/b": 1}, "/a~1b"),
        ({"created_at": "2026-11-24T00:00:00"}, "/created_at"),
    ],
)
def test_invalid_content_is_told_with_the_pointer_of_the_field(changes: dict[str, Any], expected: str) -> None:
    raw = a_post().model_dump(mode="json") | changes
    problem = refused(PostIn, json.dumps(raw))
    assert problem.status == 422
    assert problem.errors is not None
    assert [error["pointer"] for error in problem.errors] == [expected]
    assert problem.detail == f"{expected}: {problem.errors[0]['detail']}"


def test_every_wrong_field_is_told_at_once_but_no_more_than_twenty() -> None:
    problem = refused(PostIn, "{}")
    assert problem.errors is not None
    assert [error["pointer"] for error in problem.errors] == [
        "/author_id",
        "/community",
        "/region",
        "/created_at",
        "/text",
    ]
    many = a_post().model_dump(mode="json") | {f"extra{number}": 1 for number in range(50)}
    found = refused(PostIn, json.dumps(many)).errors
    assert found is not None
    assert len(found) == 20


def test_what_was_sent_is_not_sent_back() -> None:
    secret = "x" * 50
    raw = a_post().model_dump(mode="json") | {"region": secret}
    assert secret not in json.dumps(body_of(refused(PostIn, json.dumps(raw))))


def test_an_unknown_label_is_told_with_those_that_are_known() -> None:
    raw = {
        "id": "1",
        "post_id": "p",
        "labels": {"sarcasm": True},
        "source": "audit",
        "labelled_at": "2026-11-24T00:00:00Z",
    }
    detail = refused(LabelIn, json.dumps(raw)).detail
    assert "'sarcasm' is not known; known are abuse, hate" in detail
