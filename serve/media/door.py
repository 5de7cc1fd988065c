"""Where media come in: however their bytes arrive, they are in the store, by their SHA-256, before they are judged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request

from moderation.errors import MediaUnavailableError, NotFoundError
from moderation.media import MediaKind, MediaRef, MediaRules, Refused
from moderation.posts import MediaFeature, MediaIn, PostIn
from moderation.preprocess.formats import HEAD, sniff
from moderation.storage import media_rows
from moderation.storage.ledger import Ledger
from moderation.storage.media_store import MediaStore
from serve.http.admission import told_length
from serve.http.problems import Problem, refusal
from serve.http.wire import media_type_of, parsed, read_parsed
from serve.media.fetch import Fetcher
from serve.media.glance import MEGAPIXEL, VIDEO_WORK, glance
from serve.media.incoming import IncomingFolder, sweep
from serve.media.intake import Incoming, receive, scratch, source_of, too_many
from serve.media.sink import entered_on_thread, on_thread
from serve.media.upload import read_upload

MULTIPART = "multipart/form-data"
_PIECE = 1 << 20

logger = logging.getLogger("ray.serve")


class MediaDoor:
    """Takes media in.

    Args:
        rules: the bounds.
        store: that holds them afterwards; blocking.
        folder: under which each request has its scratch folder; best on the store's own file system.
        ledger: that says which media posts were recorded with; blocking.
    """

    def __init__(self, rules: MediaRules, store: MediaStore, folder: Path, ledger: Ledger) -> None:
        self.rules = rules
        self._store = store
        self._ledger = ledger
        self._fetcher = Fetcher(rules.fetch)
        self._receivers = asyncio.Semaphore(rules.group_size * rules.max_in_flight)
        # By whether they are large: a small picture must not wait for large ones.
        self._lookers = {
            False: asyncio.Semaphore(rules.group_size * rules.max_in_flight),
            True: asyncio.Semaphore(rules.group_size * rules.large_in_flight),
        }
        self._looking = 0
        sweep(folder)
        self._incoming = IncomingFolder(folder)

    async def read_post(self, request: Request, max_post_bytes: int) -> PostIn:
        """The post of a request, as JSON or as multipart/form-data, its media in the store.

        Args:
            request: whose body was not read yet.
            max_post_bytes: of the JSON; more where it carries media.

        Raises:
            Problem: what is wrong with it.
        """
        if media_type_of(request) == MULTIPART:
            async with self.scratch() as folder:
                upload = await read_upload(request, self.rules, folder, max_post_bytes=max_post_bytes)
                return await self.hold(parsed(PostIn, upload.post), upload.files, folder)

        def parse(raw: bytes) -> PostIn:
            post = parsed(PostIn, raw)
            if len(raw) > max_post_bytes and not post.media:
                detail = f"the body has {len(raw)} bytes, the bound without media is {max_post_bytes}"
                raise Problem(413, detail, members={"bound": max_post_bytes})
            return post

        return await self.hold_all(
            await read_parsed(request, parse, max(max_post_bytes, self.rules.max_json_body_bytes))
        )

    async def hold_all(self, post: PostIn) -> PostIn:
        """A post whose media are told by its JSON alone, with all of them in the store."""
        if not post.media:
            return post
        async with self.scratch() as folder:
            return await self.hold(post, [], folder)

    async def hold(self, post: PostIn, files: Sequence[Incoming], folder: Path) -> PostIn:
        """A post with all its media in the store: files that were uploaded first, then those that its JSON tells.

        Raises:
            Problem: 413 or 422, at the medium that is refused.
            MediaUnavailableError: the store cannot be had.
        """
        count = len(files) + len(post.media)
        if count > self.rules.max_media:
            raise too_many(count, self.rules.max_media)
        came = await receive(post.media, rules=self.rules, fetcher=self._fetcher, folder=folder)
        told = [None] * len(files) + [source_of(medium) for medium in post.media]
        held = await asyncio.gather(*(self._held(medium) for medium in [*files, *came]))
        whole = post.model_copy(update={"media": [medium for medium in held if isinstance(medium, MediaIn)]})
        for index, (medium, source) in enumerate(zip(held, told, strict=True)):
            if isinstance(medium, Refused):
                await self.let_go(whole)
                raise refusal(index, medium, source)
        work, bound = 0, self.rules.max_post_megapixels
        for index, medium in enumerate(whole.media):
            work += medium.work
            if work > bound:
                await self.let_go(whole)
                detail = f"it and those before it are {work} megapixels to decode, the bound of a post is {bound}"
                raise refusal(index, Refused("too_many_pixels", detail, bound))
        return whole

    async def let_go(self, post: PostIn) -> None:
        """Of a post that is refused: put aside its media that no post was recorded with, to be deleted in an hour.

        What another request holds meanwhile is found where it is put, and goes back once its post is recorded.
        """
        sha256s = {medium.sha256 for medium in post.media if medium.sha256 is not None}
        try:
            await on_thread(partial(self._put_aside, sha256s))
        except (MediaUnavailableError, SQLAlchemyError):  # the collector finds them, a day later
            logger.exception("%d media of a refused post are not put aside", len(sha256s))

    def _put_aside(self, sha256s: Iterable[str]) -> None:
        for sha256 in sha256s:
            if not media_rows.is_recorded(self._ledger, sha256):
                self._store.put_aside(sha256)

    @contextlib.contextmanager
    def room_for(self, count: int) -> Iterator[None]:
        """Count media that are only looked at, of one request, as waiting for as long as the context.

        Raises:
            Problem: 503, too many wait already. A request is never too large by itself: `max_features` bounds it.
        """
        bound = self.rules.max_waiting_posts
        if self._looking and self._looking + count > bound:
            detail = f"{self._looking} media wait to be looked at, and these are {count}; the bound is {bound}"
            raise Problem(503, detail, retry_after=1, members={"bound": bound})
        self._looking += count
        try:
            yield
        finally:
            self._looking -= count

    @asynccontextmanager
    async def lent(self, feature: MediaFeature, kind: MediaKind) -> AsyncIterator[MediaRef | Refused]:
        """A medium to look at, in the store for as long as the context; no more than a bound of them at a time."""
        told = MediaIn(kind=kind, data=feature.data, uri=feature.uri)
        async with self.scratch() as folder:
            async with self._receivers:
                [came] = await receive([told], rules=self.rules, fetcher=self._fetcher, folder=folder)
            if not isinstance(came, Incoming):
                assert isinstance(came, Refused)  # only what has a `sha256` comes back as it is
                yield came
                return
            work = await on_thread(partial(glance, came.path, kind, self.rules.read))
            if isinstance(work, Refused):
                yield work
                return
            lending = entered_on_thread(self._store.lend(came.path))
            async with self._lookers[work > self.rules.small_megapixels], lending as lent:
                yield MediaRef(kind, lent.name, work)

    async def bytes_of(self, sha256: str) -> tuple[AsyncIterator[bytes], int]:
        """What the store holds under a SHA-256, a piece at a time, and how many bytes there are.

        Raises:
            NotFoundError: nothing, or bytes that no post was recorded with: they were refused, or are not judged yet.
            MediaUnavailableError: the store cannot be had.
        """
        if not await on_thread(partial(media_rows.is_recorded, self._ledger, sha256)):
            raise NotFoundError(f"medium {sha256!r} is not held")
        opened = AsyncExitStack()
        path = await opened.enter_async_context(entered_on_thread(self._store.open(sha256)))

        async def pieces() -> AsyncIterator[bytes]:
            async with opened:
                with path.open("rb") as file:
                    while piece := await on_thread(partial(file.read, _PIECE)):
                        yield piece

        return pieces(), path.stat().st_size

    def scratch(self) -> AbstractAsyncContextManager[Path]:
        """A folder for one request."""
        return scratch(self._incoming.folder)

    def close(self) -> None:
        """Remove what is still arriving."""
        self._incoming.close()

    async def _held(self, medium: Incoming | Refused | MediaIn) -> MediaIn | Refused:
        if isinstance(medium, Refused):
            return medium
        try:
            if isinstance(medium, MediaIn):
                assert medium.sha256 is not None  # the others came as files
                pixels = await on_thread(partial(self._hold_again, medium.sha256))
                return medium.weighed(VIDEO_WORK if medium.kind == "video" else max(1, pixels // MEGAPIXEL))
            kind = medium.kind or await on_thread(partial(_kind_of, medium.path))
            if kind is None:
                return Refused("unknown_format", "its first bytes are those of no image or video that is known")
            work = await on_thread(partial(glance, medium.path, kind, self.rules.read))
            if isinstance(work, Refused):
                return work
            held = await on_thread(partial(self._store.keep, medium.path))
            return MediaIn(kind=kind, sha256=held.sha256).weighed(work)
        except NotFoundError:
            return Refused("unknown_media", "no bytes with this SHA-256 are held")

    def _hold_again(self, sha256: str) -> int:
        """Its pixels, as far as they are known."""
        pixels = media_rows.recorded_pixels(self._ledger, sha256)
        if pixels is None:
            raise NotFoundError(f"medium {sha256!r} is not held")
        self._store.hold(sha256)
        return pixels


def carries_media(request: Request, max_post_bytes: int) -> bool:
    """Whether a request that is not read yet must be one of a post with media: an upload, or too long for another."""
    return media_type_of(request) == MULTIPART or told_length(request) > max_post_bytes


def _kind_of(path: Path) -> MediaKind | None:
    with path.open("rb") as file:
        found = sniff(file.read(HEAD))
    return None if found is None else found.kind
