"""Bodies of lines within their bounds, each line a model or a problem."""

from __future__ import annotations

import pytest

from moderation.posts import ModerateIn
from serve.http.lines import parsed_lines, read_lines
from serve.http.problems import Problem
from tests.rooms import run
from tests.serve.http.requests import a_request


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl", "application/json"])
def test_lines_keep_their_numbers_and_blank_ones_are_left_out(media_type: str) -> None:
    request, _ = a_request([b"one\n\n  \nfo", b"ur\r\nfive"], {"content-type": media_type})
    assert run(read_lines(request, 100, 3)) == [(1, b"one"), (4, b"four\r"), (5, b"five")]


@pytest.mark.parametrize(
    ("bytes_bound", "lines_bound", "told", "bound"),
    [(8, 3, "the body has 9 bytes or more, the bound is 8", 8), (9, 2, "3 lines, the bound is 2", 2)],
)
def test_lines_are_bounded_twice(bytes_bound: int, lines_bound: int, told: str, bound: int) -> None:
    request, _ = a_request([b"a\nb\n\n  \nc"], {"content-type": "application/x-ndjson"})
    with pytest.raises(Problem, match=told) as refused:
        run(read_lines(request, bytes_bound, lines_bound))
    assert (refused.value.status, refused.value.members) == (413, {"bound": bound})


def test_lines_of_another_media_type_are_refused_unread() -> None:
    request, left = a_request([b"a"], {"content-type": "text/csv"})
    with pytest.raises(Problem, match="Content-Type is 'text/csv'"):
        run(read_lines(request, 100, 100))
    assert left == [b"a"]


def test_lines_are_read_on_a_thread_and_each_is_a_model_or_a_problem() -> None:
    lines = [(1, b"{"), (2, b'{"features": [{"id": "1", "text": "a"}]}'), (5, b'{"a": [' + b"1," * 200 + b"1]}")]
    found = dict(run(parsed_lines(ModerateIn, lines)))
    assert list(found) == [1, 2, 5]
    assert isinstance(found[2], ModerateIn)
    wrong = [found[number] for number in (1, 5)]
    assert [problem.status for problem in wrong if isinstance(problem, Problem)] == [400, 413]


def test_very_many_blank_lines_are_refused_before_a_list_is_made_of_them() -> None:
    request, _ = a_request([b"a\n" + b"\n" * 6000], {"content-type": "application/x-ndjson"})
    with pytest.raises(Problem, match="6001 lines, of which most are blank; the bound is 3") as refused:
        run(read_lines(request, 10_000, 3))
    assert (refused.value.status, refused.value.members) == (413, {"bound": 3})
