"""A post's media become files: what its JSON carries as base64, or names by a `uri`. `upload` does so for parts.

Each is refused for itself, with a code and the bound, so that a caller may answer for each or make one `Problem` of it.
"""

from __future__ import annotations

import asyncio
import binascii
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from uuid import uuid4

from moderation.media import MediaKind, MediaRules, ReadRules, Refused
from moderation.posts import MediaIn
from serve.http.problems import Problem, over_bound
from serve.media.fetch import Fetcher
from serve.media.sink import Sink, on_thread

Source = Literal["data", "uri", "sha256"]

_PIECE = 1 << 20  # characters that are decoded at a time; a multiple of four
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A medium whose bytes came.

    Attributes:
        kind: as it was told; None: it was not, and its first bytes must say.
        path: of the file in the scratch folder.
        size: bytes; may be 0.
        sha256: of them, 64 hex digits.
        name: what the client calls its file, for people alone: never a path. Empty: nothing.
    """

    kind: MediaKind | None
    path: Path
    size: int
    sha256: str
    name: str = ""


@asynccontextmanager
async def scratch(parent: Path | None = None) -> AsyncIterator[Path]:
    """A folder for the media of one request; gone, with what is in it, at the end.

    Args:
        parent: where it is made; None: the system's folder for such things, which may be in memory.
    """
    folder = Path(await on_thread(partial(tempfile.mkdtemp, prefix="seawall-media-", dir=parent)))
    try:
        yield folder
    finally:
        await on_thread(partial(shutil.rmtree, folder, ignore_errors=True))


def bound_of(kind: MediaKind | None, rules: ReadRules) -> int:
    """Bytes that a medium may have; of one whose kind is not known yet, the larger bound of the two."""
    if kind is None:
        return max(rules.max_image_bytes, rules.max_video_bytes)
    return rules.max_image_bytes if kind == "image" else rules.max_video_bytes


async def receive(
    media: Sequence[MediaIn], *, rules: MediaRules, fetcher: Fetcher, folder: Path
) -> list[Incoming | Refused | MediaIn]:
    """The media of one request as files, all at once.

    Args:
        media: as the client told them.
        rules: the bounds.
        fetcher: reads what has a `uri`.
        folder: that the files go to; the caller's to remove.

    Returns:
        In their order: what came; why one is refused (`broken`: no base64; `too_many_bytes`; what `Fetcher.fetch`
        says); one with a `sha256` as it is.

    Raises:
        Problem: 422, more than `max_media`; 503, the fetcher has no place.
        OSError: a file cannot be written.
    """
    if len(media) > rules.max_media:
        raise too_many(len(media), rules.max_media)
    tasks = [asyncio.create_task(_receive(medium, rules.read, fetcher, folder)) for medium in media]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        # Where one broke off, the others must not go on writing into a folder that goes.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(medium: MediaIn, rules: ReadRules, fetcher: Fetcher, folder: Path) -> Incoming | Refused | MediaIn:
    path = folder / uuid4().hex
    bound = bound_of(medium.kind, rules)
    if medium.uri is not None:
        sink = await fetcher.fetch(medium.uri, path, bound)
    elif medium.data is not None:
        sink = await on_thread(partial(decode, medium.data, path, bound))
    else:
        return medium
    return sink if isinstance(sink, Refused) else Incoming(medium.kind, path, sink.size, sink.sha256)


def decode(data: str, to: Path, bound: int) -> Refused | Sink:
    """Base64 (RFC 4648, section 4) into a new file, a piece at a time.

    Strictly: padding is required; white space, line ends, the alphabet for URLs and `data:` URLs are refused.

    Args:
        data: base64.
        to: must not exist; it does not afterwards either, where the data is refused.
        bound: bytes at most. The length of the data tells how many there will be, so none are decoded in vain.
    """
    digits = data[-2:].rstrip("=")
    size = len(data) // 4 * 3 - (len(data[-2:]) - len(digits))
    if size > bound:
        return Refused("too_many_bytes", f"data has {size} bytes, the bound is {bound}", bound)
    if len(data) % 4:
        return _not_base64(data, f"it has {len(data)} characters, which is no multiple of 4")
    sink = Sink(to)
    try:
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            last = start + _PIECE >= len(data)
            # Padding before the end would end the bytes there, silently.
            if not last and "=" in piece:
                raise binascii.Error("padding before its end")
            sink.write_now(binascii.a2b_base64(piece, strict_mode=True))
        sink.close()
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        sink.discard()
        return _not_base64(data, str(error))
    except BaseException:
        sink.discard()
        raise
    return sink


def _not_base64(data: str, otherwise: str) -> Refused:
    wrong = _NOT_BASE64.search(data.removesuffix("=").removesuffix("="))
    what = otherwise if wrong is None else f"character {wrong.start()} is {wrong.group()!r}"
    return Refused("broken", f"data is not base64 (RFC 4648, section 4): {what}")


def source_of(medium: MediaIn) -> Source:
    """Which of its members says where a medium's bytes are."""
    if medium.uri is not None:
        return "uri"
    return "data" if medium.data is not None else "sha256"


def too_many(count: int, bound: int) -> Problem:
    """What a post with too many media is answered."""
    return over_bound("/media", f"{count} media", bound)
