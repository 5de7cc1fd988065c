"""Routes of posts, as far as they go without a cluster: bounds of the stateless services, lines of a batch."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from moderation.sections import Gateway as Bounds
from serve.http.problems import Problem
from serve.posts.routes import batch_line, read_features
from tests.rooms import run
from tests.serve.http.requests import a_request

BOUNDS = Bounds()


def of_texts(count: int, characters: int) -> Request:
    features = [{"id": str(number), "text": "ä" * characters} for number in range(count)]
    body = json.dumps({"features": features}, ensure_ascii=False).encode()
    return a_request([body], {"content-type": "application/json", "content-length": str(len(body))})[0]


def refused(count: int, characters: int) -> Problem:
    with pytest.raises(Problem) as caught:
        run(read_features(of_texts(count, characters), BOUNDS))
    return caught.value


def test_as_many_features_as_the_bound_allows_are_read_though_they_are_long() -> None:
    features = run(read_features(of_texts(BOUNDS.max_features, 1000), BOUNDS))
    assert len(features) == BOUNDS.max_features == 1000
    assert len(features[-1].text) == 1000


def test_more_characters_than_one_request_may_have_are_refused_before_any_is_scored() -> None:
    problem = refused(1000, 1001)
    assert (problem.status, problem.members) == (422, {"bound": BOUNDS.max_total_characters})
    assert problem.detail == "/features: 1001000 characters in all, the bound is 1000000"


@pytest.mark.parametrize(
    ("count", "characters", "pointer", "bound"),
    [(1001, 1, "/features", BOUNDS.max_features), (1, 40_001, "/features/0/text", BOUNDS.max_text_characters)],
)
def test_features_beyond_a_bound_are_told_with_a_pointer(count: int, characters: int, pointer: str, bound: int) -> None:
    problem = refused(count, characters)
    assert (problem.status, problem.members) == (422, {"bound": bound})
    [error] = problem.errors or []
    assert error["pointer"] == pointer
    assert problem.detail == f"{pointer}: {error['detail']}"
    assert error["detail"].endswith(f", the bound is {bound}")


def test_a_body_beyond_that_of_a_batch_is_too_large() -> None:
    problem = refused(300, 30_000)
    assert (problem.status, problem.members) == (413, {"bound": BOUNDS.max_batch_body_bytes})


def test_a_line_of_a_batch_s_answer_holds_the_decision_as_it_is_recorded() -> None:
    line = batch_line(3, "p-1", (True, '{"decision":"allow","text":"\u4f60\\n"}'))
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "line": 3,
        "post_id": "p-1",
        "status": 200,
        "replayed": True,
        "decision": {"decision": "allow", "text": "\u4f60\n"},
    }


def test_a_line_of_a_batch_s_answer_says_what_was_wrong() -> None:
    problem = Problem(422, "/text: no", errors=[{"pointer": "/text", "detail": "no"}])
    assert json.loads(batch_line(1, None, problem)) == {
        "line": 1,
        "post_id": None,
        "status": 422,
        "problem": problem.body(),
    }
