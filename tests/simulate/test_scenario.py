"""How `make loop` shows its days; the loop itself is in test_loop.py."""

from __future__ import annotations

import pytest

from simulate.scenario import Day, console, table_of


def test_a_day_is_a_line_that_can_be_read_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    events = ["alert: novel_word_share in 2 of the last 3 windows", "version 2 passed the gate"]
    day = Day(4, 1500, 0.812, 0.834, 0.25, 0.917, 0.0, {"text-multi@1": 1500}, "alert", events)
    console.print(table_of([day]))
    lines = capsys.readouterr().out.splitlines()
    [head] = [line for line in lines if "precision" in line]
    for column in ("day", "posts", "recall", "ordinary", "slang", "versions", "drift", "what happened"):
        assert column in head
    [first] = [line for line in lines if "1: 1500" in line]
    for cell in ("1500", "0.81", "0.83", "0.25", "0.92", "alert", "novel_word_share in 2 of"):
        assert cell in first
