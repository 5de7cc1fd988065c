"""Bodies that come packed: read like any other, within the bound of what they unpack to."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from serve.http import encodings
from serve.http.lines import read_lines
from serve.http.problems import Problem
from serve.http.wire import read_parsed
from tests.rooms import run

TEXT = b'{"text": "my tomatoes are ripe"}' * 5_000
NOISE = random.Random(7).randbytes(200_000)


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZip ": gzip.compress, "deflate": zlib.compress}


def a_request(chunks: Sequence[bytes], encoding: str | None, **headers: str) -> tuple[Request, list[bytes]]:
    """A request whose body comes in chunks, and what of it was not asked for yet."""
    left = list(chunks)

    async def receive() -> Message:
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    told = headers | ({} if encoding is None else {"content-encoding": encoding})
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive), left


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)] or [b""]


def body(data: bytes, encoding: str | None, *, size: int = 1 << 20, bound: int = 1_000_000) -> bytes:
    return run(read_parsed(a_request(pieces(data, size), encoding)[0], bytes, bound))


def refused(data: bytes, encoding: str | None, **told: int) -> Problem:
    with pytest.raises(Problem) as caught:
        body(data, encoding, **told)
    return caught.value


@pytest.mark.parametrize("size", [1, 3, 1000, 1 << 20])
@pytest.mark.parametrize("data", [TEXT[:3_000], b"x", b"", NOISE[:3_000]], ids=["text", "x", "nothing", "noise"])
def test_a_packed_body_is_read_however_it_comes(data: bytes, size: int) -> None:
    for encoding, pack in PACKED.items():
        assert body(pack(data), encoding, size=size) == data
    assert body(data, "identity", size=size) == body(data, "", size=size) == body(data, None, size=size) == data


@pytest.mark.parametrize("data", [TEXT, NOISE, b"a"], ids=["text", "noise", "a"])
def test_deflate_is_read_as_many_send_it(data: bytes) -> None:
    assert body(bare(data), "deflate") == body(zlib.compress(data), "deflate") == data


def test_a_long_body_is_read_whole_whatever_its_pieces_unpack_to() -> None:
    for data in (TEXT, NOISE, b"\0" * (1 << 19), b"\0" * (1 << 16)):
        assert body(gzip.compress(data), "gzip", size=777) == data


def test_several_files_of_gzip_are_one_body() -> None:
    assert body(gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two"), "gzip", size=5) == b"onetwo"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "br, gzip", "gzip;q=1", "x" * 5000])
def test_another_way_to_pack_is_refused_with_those_that_are_known(encoding: str) -> None:
    problem = refused(b"x", encoding)
    assert problem.status == 415
    assert "it must be gzip, deflate or identity" in problem.detail
    assert len(problem.detail) < 200


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        *((b"no gzip at all", "gzip"), (TEXT, "deflate"), (gzip.compress(TEXT)[:-1], "gzip"), (b"\x1f", "gzip")),
        *((gzip.compress(TEXT) + b"more", "gzip"), (zlib.compress(TEXT)[:-4], "deflate"), (bare(TEXT)[:-3], "deflate")),
        *((zlib.compress(TEXT) + b"more", "deflate"), (b"\x78", "deflate")),
    ],
)
def test_what_is_not_packed_as_it_says_is_malformed(data: bytes, encoding: str) -> None:
    for size in (1 << 20, 11):
        problem = refused(data, encoding, size=size)
        assert problem.status == 400
        assert f"the body is not {encoding}" in problem.detail


def a_bomb(megabytes: int) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _ in range(megabytes):
            file.write(bytes(1 << 20))
    return packed.getvalue()


def test_a_bomb_is_left_as_soon_as_it_exceeds_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    unpacked = encodings.Unpacker.pieces

    def counted(self: encodings.Unpacker, packed: bytes) -> object:
        nonlocal made
        for piece in unpacked(self, packed):
            made += len(piece)
            yield piece

    monkeypatch.setattr(encodings.Unpacker, "pieces", counted)
    bomb = a_bomb(100)
    assert len(bomb) < 110_000
    request, left = a_request([*pieces(bomb, 20_000), b"never read"], "gzip")
    with pytest.raises(Problem) as caught:
        run(read_parsed(request, bytes, 1_000_000))
    assert (caught.value.status, caught.value.members) == (413, {"bound": 1_000_000})
    assert made <= 1_000_000 + (1 << 16)
    assert left[-1] == b"never read"


def test_what_is_told_to_be_beyond_the_bound_before_it_is_unpacked_is_not_read() -> None:
    request, left = a_request([b"x" * 11], "gzip", content_length="11")
    with pytest.raises(Problem, match="the bound is 10"):
        run(read_parsed(request, bytes, 10))
    assert left == [b"x" * 11]


def test_lines_come_packed_and_marked_too() -> None:
    lines = "\ufeff".encode() + b'{"a": 1}\n\n{"a": 2}\n'
    request, _ = a_request([gzip.compress(lines)], "gzip", content_type="application/ndjson; charset=utf-8")
    assert run(read_lines(request, 1_000, 10)) == [(1, b'{"a": 1}'), (3, b'{"a": 2}')]
