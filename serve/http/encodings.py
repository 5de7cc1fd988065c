"""Bodies that come packed (`Content-Encoding`), unpacked piece by piece: whether one is too large is known early."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator

from starlette.requests import Request

from serve.http.problems import Problem

_PIECE = 1 << 16
"""Bytes that are unpacked at a time."""
TAKEN = ("gzip", "deflate", "identity")
_GZIP, _ZLIB, _RAW = 31, 15, -15  # as zlib is told what to expect


class Unpacker:
    """Unpacks a body of one request.

    Args:
        request: whose headers say how it is packed.

    Raises:
        Problem: 415, in a way that is not known here, or in several at once.
    """

    def __init__(self, request: Request) -> None:
        told = ",".join(request.headers.getlist("content-encoding")).strip().lower()
        self._name = {"": "identity", "x-gzip": "gzip"}.get(told, told)
        if self._name not in TAKEN:
            raise Problem(415, f"Content-Encoding is {told[:64]!r}; it must be {', '.join(TAKEN[:-1])} or {TAKEN[-1]}")
        self._stream: zlib._Decompress | None = None
        self._ended = False

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """What some bytes of the body unpack to, a piece at a time.

        Raises:
            Problem: 400, they are not what the header says.
        """
        if self._name == "identity":
            yield packed
            return
        left = packed
        while left:
            if self._ended and self._name == "deflate":
                raise self._wrong("it goes on after its end")
            if self._stream is None:  # also where one file of gzip follows another
                self._stream = zlib.decompressobj(self._format(left))
                self._ended = False
            left = yield from self._unpacked(self._stream, left)
            if self._stream.eof:
                self._stream, self._ended = None, True

    def end(self) -> None:
        """The body ended.

        Raises:
            Problem: 400, too early.
        """
        if self._stream is not None:
            raise self._wrong("it ends too early")

    def _unpacked(self, stream: zlib._Decompress, packed: bytes) -> Generator[bytes, None, bytes]:
        """Unpack; returns what of the bytes stands after the stream's end."""
        piece = None
        while packed or (piece is not None and len(piece) == _PIECE):
            try:
                piece = stream.decompress(packed, _PIECE)
            except zlib.error as error:
                raise self._wrong(str(error)) from error
            if piece:
                yield piece
            if stream.eof:
                break
            packed = stream.unconsumed_tail
        return stream.unused_data

    def _format(self, begin: bytes) -> int:
        if self._name == "gzip":
            return _GZIP
        # RFC 9110 means zlib's format by `deflate`; many clients send what that wraps, bare.
        wrapped = begin[0] & 0x0F == 8 and (len(begin) == 1 or int.from_bytes(begin[:2]) % 31 == 0)
        return _ZLIB if wrapped else _RAW

    def _wrong(self, how: str) -> Problem:
        return Problem(400, f"the body is not {self._name}: {how}")
