"""Bodies of lines, as JSON Lines (NDJSON): read within bounds, parsed line by line, and replies of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from starlette.requests import Request
from starlette.responses import StreamingResponse

from serve.http.problems import Problem
from serve.http.repair import unmarked
from serve.http.wire import Body, aside, check_media_type, parsed, receiving

NDJSON = "application/x-ndjson"
_READ = (NDJSON, "application/jsonl", "application/json")
LINE_VALUES = 50
"""JSON values of a line of labels or events."""
_BLANK_LINES = 1000
"""Beside four for each line that may be."""
_FIRST = 100
"""Lines that are read before a reply begins: an error among them is still told by its status."""


async def read_lines(request: Request, bytes_bound: int, lines_bound: int) -> list[tuple[int, bytes]]:
    """The lines of an NDJSON body that are not blank, each with its number; 413 beyond either bound."""
    check_media_type(request, *_READ)
    with receiving(request, bytes_bound) as body:
        return await aside(_lines, await body.whole(), lines_bound)


def _lines(raw: bytes, bound: int) -> list[tuple[int, bytes]]:
    ends = raw.count(b"\n")
    if ends > 4 * bound + _BLANK_LINES:  # told before they are made: millions of blank ones would take gigabytes
        raise Problem(413, f"{ends} lines, of which most are blank; the bound is {bound}", members={"bound": bound})
    lines = [(number, line) for number, line in enumerate(unmarked(raw).split(b"\n"), start=1) if line.strip()]
    if len(lines) > bound:
        raise Problem(413, f"{len(lines)} lines, the bound is {bound}", members={"bound": bound})
    return lines


async def parsed_lines(
    model: type[Body], lines: Sequence[tuple[int, bytes]], *, most_values: int = LINE_VALUES
) -> list[tuple[int, Body | Problem]]:
    """Lines as models, each by its number, or what is wrong with it; on a thread."""

    def parse(line: bytes) -> Body | Problem:
        try:
            return parsed(model, line, most_values=most_values)
        except Problem as problem:
            return problem

    return await aside(lambda: [(number, parse(line)) for number, line in lines])


async def streamed(lines: Iterator[str], headers: dict[str, str] | None = None) -> StreamingResponse:
    """A reply of lines that are read, on a thread, as they are sent."""
    first = await asyncio.to_thread(lambda: list(islice(lines, _FIRST)))
    return StreamingResponse(chain(first, lines), media_type=NDJSON, headers=headers)
