"""The bytes of images and videos, by their SHA-256, in a folder or a bucket of S3.

    ab/abcdef...        a medium, named after its content: the same bytes are kept once, whoever posts them
    aside/abcdef...     one that `media_collect` took for unused; deleted an hour later, unless it is used after all
    passing/...         media of requests that keep nothing, each under a name of its own

Bytes are kept before the decision on them commits, so what the ledger names is there. Between the two nothing in the
ledger protects them: `keep` and `hold` make them new instead, and the collector leaves alone what is new.

That alone leaves a gap, as no store takes "delete it, unless it was touched": a request may find bytes a moment after
the collector saw that they are old, and a moment before it deletes them. So nothing is deleted at once. Whatever is old
is moved aside, where `open` still finds it, and an hour later the ledger is asked again: what a post was recorded with
meanwhile goes back to its place. A request must therefore come from `keep` to its commit within that hour; deadlines
see to that by far. The price is a copy within S3, and bytes that live an hour longer.

No lock is taken, so no request waits for another, or for the collector. Two that keep the same new bytes at once both
write them, and the second write replaces the first by the same.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from moderation.errors import MediaUnavailableError, NotFoundError
from moderation.storage.blobs import Place, Stored, place_at

SETTING = "SEAWALL_MEDIA_URL"

ASIDE, PASSING = "aside", "passing"
TOUCH_AGAIN = timedelta(minutes=10)
"""Bytes that are newer are not touched again: what everybody reposts would be copied all the time."""

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_PASSING_NAME = re.compile(rf"^{PASSING}/[0-9a-f]{{32}}$")


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that the store holds.

    Attributes:
        sha256: their name.
        size: how many.
    """

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Lent:
    """Bytes that the store holds for one request.

    Attributes:
        name: under which `open` finds them.
        sha256: of them; they are not held under it.
        size: how many.
    """

    name: str
    sha256: str
    size: int


class MediaStore:
    """Where images and videos are kept. May be used by many threads and processes at once.

    Every method raises MediaUnavailableError where the store cannot be reached, or fails.

    Args:
        url: a folder, made where absent, or `s3://BUCKET/PREFIX`.

    Raises:
        ConfigError: it is neither.
    """

    def __init__(self, url: Path | str) -> None:
        self.place: Place = place_at(str(url), setting=SETTING)

    def keep(self, path: Path) -> Held:
        """Hold a file's bytes: when this returns they are there, and stay for `KeepRules.unused_hours` at least.

        Args:
            path: of a local file, which nobody changes meanwhile; it is left as it is.
        """
        sha256, size = _digest(path)
        name = name_of(sha256)
        with store_errors():
            if self._renewed(name, size) is None:
                self.place.put_file(name, path)
        return Held(sha256, size)

    def keep_bytes(self, data: bytes) -> Held:
        """The same with bytes from memory."""
        with _as_file(data) as path:
            return self.keep(path)

    def hold(self, sha256: str) -> Held:
        """Let bytes that are held stay for `KeepRules.unused_hours` at least, as if they were kept now.

        Raises:
            NotFoundError: they are not held.
        """
        name = name_of(sha256)
        with store_errors():
            found = self._renewed(name)
            if found is None and self.place.move(f"{ASIDE}/{sha256}", name):
                found = self.place.look(name)
            found = found or self._renewed(name)  # the collector put it back in between
        if found is None:
            raise NotFoundError(f"medium {sha256!r} is not held")
        return Held(sha256, found.size)

    def put_aside(self, sha256: str) -> bool:
        """Have the collector delete bytes in an hour, unless a post is recorded with them by then; False: not held.

        Until then `open` finds them, and `hold` and `keep` bring them back.
        """
        with store_errors():
            return self.place.move(name_of(sha256), f"{ASIDE}/{sha256}")

    def has(self, sha256: str) -> bool:
        """Whether bytes are held."""
        with store_errors():
            return any(self.place.has(name) for name in _names_of(sha256))

    @contextmanager
    def open(self, name: str) -> Iterator[Path]:
        """Bytes as a local file, to be read and left as it is; from a bucket, a copy that goes with the context.

        Args:
            name: the SHA-256 of what is kept, or the name of what is lent.

        Raises:
            NotFoundError: they are not held.
        """
        with ExitStack() as stack:
            yield self._fetched(stack, name)

    def _fetched(self, stack: ExitStack, name: str) -> Path:
        for at in (name,) if _PASSING_NAME.match(name) else _names_of(name):
            try:
                with store_errors():
                    return stack.enter_context(self.place.fetch(at))
            except FileNotFoundError:
                continue
        raise NotFoundError(f"medium {name!r} is not held")

    @contextmanager
    def lend(self, content: Path | bytes) -> Iterator[Lent]:
        """Hold bytes for as long as the context, whatever ends it; those of a killed process, for about an hour."""
        if isinstance(content, bytes):
            with _as_file(content) as path, self.lend(path) as lent:
                yield lent
            return
        sha256, size = _digest(content)
        name = f"{PASSING}/{secrets.token_hex(16)}"
        try:
            with store_errors():
                self.place.put_file(name, content)
            yield Lent(name, sha256, size)
        finally:
            with store_errors():
                self.place.delete(name)

    def _renewed(self, name: str, size: int | None = None) -> Stored | None:
        """A file that is there, and new from now on; None: there is none, or one of another size, cut short outside."""
        found = self.place.look(name)
        if found is None or (size is not None and found.size != size):
            return None
        return found if found.modified > datetime.now(UTC) - TOUCH_AGAIN or self.place.touch(name) else None


def name_of(sha256: str) -> str:
    """The name of a medium in the store.

    Raises:
        NotFoundError: it is no SHA-256 in hexadecimal, so there is no such medium.
    """
    if not is_sha256(sha256):
        raise NotFoundError(f"medium {sha256!r} is not held: it is no SHA-256 in lower-case hexadecimal")
    return f"{sha256[:2]}/{sha256}"


def is_sha256(text: str) -> bool:
    """Whether it is a SHA-256 as media are named by it."""
    return _SHA256.match(text) is not None


def _names_of(sha256: str) -> tuple[str, ...]:
    """Where a medium may lie. Its place comes twice, as the collector may put it back between the looks."""
    name = name_of(sha256)
    return name, f"{ASIDE}/{sha256}", name


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


@contextmanager
def _as_file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="seawall-") as scratch:
        path = Path(scratch) / "file"
        path.write_bytes(data)
        yield path


@contextmanager
def store_errors() -> Iterator[None]:
    """What goes wrong with the store, as an error of ours; but that a file is not there is an answer."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or _of_s3(error):
            raise MediaUnavailableError(f"the store of media failed: {type(error).__name__}: {error}") from error
        raise


def _of_s3(error: Exception) -> bool:
    # By their modules, as neither is loaded for a folder.
    return type(error).__module__.partition(".")[0] in ("boto3", "botocore", "s3transfer", "urllib3")
