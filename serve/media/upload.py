"""Direct uploads: multipart/form-data (RFC 7578), read as it arrives.

A part named `post` is the post's JSON; every other part is a file. Each file goes to the disk while it comes, so that
a request of any size holds about a megabyte in memory. What exceeds a bound is refused as soon as that is known, and
whatever was written is removed; so it is where the client goes away.

Nothing that the client writes becomes part of a path. A part is judged by its headers alone: `image/*` or `video/*`
says what it is to be, anything else leaves that to whoever looks at its first bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from moderation.media import MediaKind, MediaRules, Refused
from serve.http.problems import Problem, refusal
from serve.http.wire import check_media_type, receiving
from serve.media.intake import Incoming, bound_of, too_many
from serve.media.sink import Sink

_PIECE = 1 << 16  # bytes that are parsed at a time, whatever the server hands over
_LONGEST_BOUNDARY = 70  # RFC 2046
_HEADERS = 16  # of a part
_HEADER_BYTES = 4096  # of each
_NAME = 100  # characters of a file's name that are kept


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload, read.

    Attributes:
        post: the JSON, unread.
        files: in the order of their parts: the post's first media, before those that its JSON lists.
    """

    post: bytes
    files: list[Incoming]


async def read_upload(request: Request, rules: MediaRules, folder: Path, *, max_post_bytes: int) -> Upload:
    """A multipart/form-data body.

    Args:
        request: whose body was not read yet.
        rules: the bounds of the body, of each file and of their number.
        folder: that the files go to; the caller's to remove, though nothing is left there where this raises.
        max_post_bytes: of the part `post`.

    Raises:
        Problem: 400, it is no multipart, or ends early; 408, 429, 503, as `admission.Arriving.pieces`; 413, the
            body, a file or the part `post` exceeds its bound; 415, another media type; 422, too many files, no part
            `post` or two, a part that is neither it nor a file.
        ClientDisconnect: nobody waits for the answer any more.
        OSError: a file cannot be written.
    """
    check_media_type(request, "multipart/form-data")
    parts = _Parts(rules, folder, max_post_bytes)
    try:
        parser = _parser(request, parts)
        async with aclosing(_pieces(request, rules.max_body_bytes)) as pieces:
            async for piece in pieces:
                parser.write(piece)
                await parts.settle()
        return parts.upload()
    except FormParserError as error:
        parts.discard()
        raise Problem(400, f"the body is not multipart/form-data: {error}") from error
    except BaseException:
        parts.discard()
        raise


def _parser(request: Request, parts: _Parts) -> MultipartParser:
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
        raise Problem(
            400, f"Content-Type has a boundary of {len(boundary)} characters; the bound is 1 to {_LONGEST_BOUNDARY}"
        )
    return MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_header_field": parts.header_name,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
            "on_headers_finished": parts.headers_finished,
            "on_part_data": parts.data,
            "on_part_end": parts.end,
            "on_end": parts.all_ended,
        },
        max_header_count=_HEADERS,
        max_header_size=_HEADER_BYTES,
    )


async def _pieces(request: Request, bound: int) -> AsyncGenerator[bytes]:
    """The body; raises as `serve.http.admission.Arriving.pieces`."""
    with receiving(request, bound, on_disk=True) as body:
        async for chunk in body.pieces():
            for start in range(0, len(chunk), _PIECE):
                yield chunk[start : start + _PIECE]


@dataclass(frozen=True, slots=True)
class _File:
    kind: MediaKind | None
    bound: int
    sink: Sink
    name: str


class _Parts:
    """What the parser calls, part by part; files are written when `settle` is awaited."""

    def __init__(self, rules: MediaRules, folder: Path, max_post_bytes: int) -> None:
        self._rules = rules
        self._folder = folder
        self._max_post_bytes = max_post_bytes
        self._post: bytearray | None = None
        self._files: list[_File] = []
        self._finished = 0  # of the files: written and closed
        self._ended = 0  # of the files: all their bytes have come
        self._current: _File | None = None  # None: the part is `post`
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[str, str] = {}
        self._complete = False

    def begin(self) -> None:
        """A part begins."""
        self._headers = {}

    def header_name(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._header[0].extend(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._header[1].extend(data[start:end])

    def header_end(self) -> None:
        """A header ends."""
        name = self._header[0].decode("latin-1").strip().lower()
        if name in self._headers:
            raise Problem(400, f"a part has two headers {name[:_NAME]!r}")
        self._headers[name] = self._header[1].decode("latin-1").strip()
        self._header = (bytearray(), bytearray())

    def headers_finished(self) -> None:
        """A part's bytes begin: from here on it is known what it is."""
        disposition, options = parse_options_header(self._headers.get("content-disposition"))
        if disposition != b"form-data" or b"name" not in options:
            raise Problem(400, "a part has no header Content-Disposition: form-data with a name")
        encoding = self._headers.get("content-transfer-encoding", "binary").lower()
        if encoding not in ("binary", "8bit", "7bit"):
            raise Problem(422, f"a part's Content-Transfer-Encoding is {encoding[:_NAME]!r}; it must be binary")
        name = options[b"name"]
        if name == b"post":
            if self._post is not None:
                raise _invalid("the upload has two parts named 'post'; it must have one")
            self._post = bytearray()
            self._current = None
            return
        kind = _kind(self._headers.get("content-type", ""))
        if b"filename" not in options and kind is None:
            raise _invalid(f"part {_readable(name)!r} is neither named 'post' nor a file: it has no filename")
        if len(self._files) >= self._rules.max_media:
            raise too_many(len(self._files) + 1, self._rules.max_media)
        sink = Sink(self._folder / uuid4().hex)
        bound = bound_of(kind, self._rules.read)
        self._current = _File(kind, bound, sink, _readable(options.get(b"filename", b"")))
        self._files.append(self._current)

    def data(self, data: bytes, start: int, end: int) -> None:
        """Bytes of the part."""
        if self._current is None:
            assert self._post is not None
            self._post += data[start:end]
            if len(self._post) > self._max_post_bytes:
                bound = self._max_post_bytes
                detail = f"the part 'post' has {len(self._post)} bytes or more, the bound is {bound}"
                raise Problem(413, detail, members={"bound": bound})
            return
        sink, bound = self._current.sink, self._current.bound
        sink.take(data[start:end])
        if sink.size > bound:
            named = f" {self._current.name!r}" if self._current.name else ""
            detail = f"the file{named} has {sink.size} bytes or more, the bound is {bound}"
            raise refusal(len(self._files) - 1, Refused("too_many_bytes", detail, bound))

    def end(self) -> None:
        """A part ended."""
        self._ended = len(self._files)

    def all_ended(self) -> None:
        """The last boundary."""
        self._complete = True

    async def settle(self) -> None:
        """Write what waits."""
        for file in self._files[self._finished : self._ended]:
            await file.sink.finish()
            self._finished += 1
        for file in self._files[self._ended :]:
            await file.sink.settle()

    def upload(self) -> Upload:
        """All of it, once the body ended."""
        if not self._complete:
            raise Problem(400, "the body is not multipart/form-data: it ends before its last boundary")
        if self._post is None:
            raise _invalid("the upload has no part named 'post'; it must have one, with the post's JSON")
        files = [
            Incoming(file.kind, file.sink.path, file.sink.size, file.sink.sha256, file.name) for file in self._files
        ]
        return Upload(bytes(self._post), files)

    def discard(self) -> None:
        """Remove every file."""
        for file in self._files:
            file.sink.discard()


def _kind(content_type: str) -> MediaKind | None:
    major = content_type.lower().partition("/")[0]
    return "image" if major == "image" else "video" if major == "video" else None


def _readable(name: bytes) -> str:
    decoded = name.decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in decoded[:_NAME])


def _invalid(detail: str) -> Problem:
    return Problem(422, detail)
