"""A post's way, without HTTP: recorded already? -> language, links, route -> score -> policy -> ledger -> answer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from moderation.errors import ConflictError, FeaturesUnavailableError
from moderation.models.card import Card
from moderation.posts import PostIn
from moderation.sections import Gateway as Bounds
from moderation.storage.features import FeatureStore, PostObserved, posts_observed
from moderation.storage.ledger import Entry, Ledger, Recorded, now
from moderation.topology import Topology
from serve.fuse.monitor import FuseBox
from serve.posts import ensemble
from serve.posts.answers import Score, ScoreMedia
from serve.posts.arrivals import Came, settle
from serve.posts.batcher import Grouper
from serve.posts.cases import Case
from serve.posts.decision import CheckedLinks, Task, entry_of, links_of
from serve.posts.due import Due
from serve.posts.scoring import Judge, ReadCard

logger = logging.getLogger("ray.serve")
Result = TypeVar("Result")

_LARGE_GROUP = 8
"""Times what a group of small media is to decode, a group of large ones is at most, or a single post."""

PREVIEW = "preview"
"""The id of the post in a decision that is only a preview."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A recorded decision.

    Attributes:
        body: JSON.
        replayed: True: nothing was inferred, this content was decided before.
    """

    body: str
    replayed: bool


@dataclass(slots=True, eq=False)
class _InFlight:
    """What was last sent of a post, and is not answered yet.

    Attributes:
        task: what it is.
        answer: that is waited for.
        queue: that it goes by.
        waits: True: it is not in that queue yet, but follows what is in another one.
        before: what was sent of the post before it, and was not answered then.
        callers: that wait for it.
    """

    task: Task
    answer: asyncio.Future[Answer]
    queue: Grouper[Task, Answer]
    waits: bool
    before: _InFlight | None
    callers: int = 0

    async def ended(self) -> None:
        """Wait until it, and what was sent before it, is answered or dropped."""
        flight: _InFlight | None = self
        while flight is not None:
            await asyncio.wait([flight.answer])
            flight = flight.before


class Moderator:
    """Decides on posts and records the decisions.

    Args:
        topology: variants, routes, bounds, policy; its blocklist is read anew by who watches it.
        ledger: where decisions are recorded.
        score: asks a classifier of texts.
        card: of a variant's version; blocking, remembered by its owner.
        known: what is known of authors and communities; None: nothing is.
        recorded: told of the entries that were new, after their commit and before the reply; must not block.
        score_media: asks a classifier of images or videos; None: there is none.

    Attributes:
        judge: that asks the models.
    """

    def __init__(
        self,
        topology: Topology,
        ledger: Ledger,
        score: Score,
        card: ReadCard,
        known: FeatureStore | None = None,
        recorded: Callable[[Sequence[Entry]], None] | None = None,
        score_media: ScoreMedia | None = None,
    ) -> None:
        self._topology = topology
        self._ledger = ledger
        self.judge = Judge(topology, score, card, known, score_media)
        self._card = card
        self._known = known
        self._on_recorded = recorded
        self._draw = random.SystemRandom().random
        self._fuses = FuseBox(ledger, topology)
        self._beside: set[asyncio.Task[None]] = set()
        self._in_flight: dict[str, _InFlight] = {}  # of each post what came last
        gateway, media = topology.gateway, topology.media
        self._grouper = _queue_of_texts(self._moderate_group, gateway, in_flight=2)
        # A queue of their own: a post without media must not wait for another one's video.
        small = media.small_megapixels
        self._media_grouper = self._queue_of_media(in_flight=media.max_in_flight, group_work=small)
        # And one for those that take long to decode: a small picture must not wait for large ones.
        self._large_grouper = self._queue_of_media(in_flight=media.large_in_flight, group_work=_LARGE_GROUP * small)
        self._previews = _queue_of_texts(self._preview_group, gateway, in_flight=1)

    def _queue_of_media(self, *, in_flight: int, group_work: int) -> Grouper[Task, Answer]:
        media = self._topology.media
        return Grouper(
            self._moderate_group,
            group_size=media.group_size,
            max_waiting=media.max_waiting_posts,
            max_in_flight=in_flight,
            max_a_client=max(1, int(self._topology.gateway.client_share * media.max_waiting_posts)),
            max_wait_s=media.max_wait_ms / 1000,
            work_of=lambda task: task.media_work,
            group_work=group_work,
        )

    async def moderate(
        self, post_id: str, post: PostIn, *, acts: bool = True, taken: bool = False, client: str | None = None
    ) -> Answer:
        """Decide on a post, and record it; content that was decided before is not judged again.

        What is sent of one post while other content of it is on its way follows that, also where one of them has media
        and so another queue: what came last is recorded last, unless `created_at` says that it is older. What nobody
        waits for any more, because all its callers were cancelled, is dropped unless a group has it already.

        Args:
            post_id: chosen by the platform.
            post: its content.
            acts: False: a text to learn from; nothing is done with it, and nobody is asked about it.
            taken: True: it belongs to a batch that was taken when there was room, and is not refused now; with media,
                it may be.
            client: who sent it, as `serve.http.wire.client_of` tells clients apart.

        Raises:
            ConflictError: content that was created later is recorded already.
            QueueFullError: too many posts wait or for too long, or, as a ClientShareError, too many of this client.
            RefusedMediumError: one of its media is refused; nothing is recorded.
        """
        task = Task(post_id, post, post.content_hash(), now(), time.perf_counter(), acts)
        queue = self._queue_of(task)
        before = self._in_flight.get(post_id)
        same = before is not None and before.task.content_hash == task.content_hash
        if before is not None and same and post.created_at <= before.task.post.created_at:
            answer = await self._answer_of(before)
            return Answer(answer.body, replayed=True)
        # Within one queue contents of a post follow each other; what is in another one is waited for.
        waits = before is not None and (before.waits or before.queue is not queue)
        taken = taken and not post.media

        async def submit() -> Answer:
            if before is not None and waits:
                if not taken:
                    queue.admit(client, task.media_work if post.media else task.work)
                await before.ended()
            return await queue.submit(task, taken=taken, client=client, key=post_id)

        future = asyncio.ensure_future(submit())
        mine = self._in_flight[post_id] = _InFlight(task, future, queue, waits, before)
        future.add_done_callback(lambda _: self._forget(mine))
        return await self._answer_of(mine)

    def _queue_of(self, task: Task) -> Grouper[Task, Answer]:
        if not task.post.media:
            return self._grouper
        small = task.media_work <= self._topology.media.small_megapixels
        return self._media_grouper if small else self._large_grouper

    async def _answer_of(self, flight: _InFlight) -> Answer:
        """Wait for an answer, as one of its callers."""
        flight.callers += 1
        try:
            # Shielded: a caller that leaves must not take away the answer of those who wait for the same post.
            return await asyncio.shield(flight.answer)
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.task.begun and not flight.answer.done():
                self._forget(flight)  # now: who comes next must not wait for what is dropped
                flight.answer.cancel()

    def _forget(self, flight: _InFlight) -> None:
        """It is answered, or dropped: what comes next of its post follows what is still under way."""
        before = flight.before
        while before is not None and before.answer.done():
            before = before.before
        flight.before = before
        if self._in_flight.get(flight.task.post_id) is flight:
            if before is None:
                del self._in_flight[flight.task.post_id]
            else:
                self._in_flight[flight.task.post_id] = before

    async def preview(self, post: PostIn, *, client: str | None = None) -> str:
        """What would be decided on a post if it came new, as JSON; nothing is recorded, counted or queued for anybody.

        Args:
            post: its content.
            client: who asks.

        Raises:
            QueueFullError: too many previews wait, or, as a ClientShareError, too many of this client.
            RefusedMediumError: one of its media is refused.
        """
        task = Task(PREVIEW, post, post.content_hash(), now(), time.perf_counter(), acts=False)
        return await self._previews.submit(task, client=client)

    async def judge_again(self, due: Sequence[Due]) -> int:
        """Judge posts again whose decisions were made while a model was away; how many decisions are new.

        One that a model fails for this time too stays as it is, as does what a person, or newer content, came to.
        """
        at, started = now(), time.perf_counter()
        new = 0
        tasks = deque(Task(one.post_id, one.post, one.content_hash, at, started, again=True) for one in due)
        while tasks:  # as a queue groups them: no more text at a time than a model reads in time
            group = [tasks.popleft()]
            room = self._topology.gateway.group_characters - group[0].work
            while tasks and tasks[0].work <= room:
                room -= tasks[0].work
                group.append(tasks.popleft())
            answers = await self._moderate_group(group)
            new += sum(isinstance(answer, Answer) and not answer.replayed for answer in answers)
        return new

    def admit(self, client: str | None, *, media: bool = False) -> None:
        """Let a batch, or a post with media, in; raises as `moderate` does where there is no room.

        Args:
            client: who sends it.
            media: True: it is a post that carries media; asked before they are received.
        """
        if media:
            self._media_grouper.admit(client)
        else:
            self._grouper.admit(client, taken=True)

    @property
    def full(self) -> bool:
        """Whether as many posts wait as may."""
        return self._grouper.full

    def card(self, variant: str, version: int) -> Card:
        """The card of a variant's version; blocking."""
        return self._card(variant, version)

    async def _preview_group(self, group: Sequence[Task]) -> list[str | Exception]:
        exempt = await self.judge.aside(self._ledger.exempt, [task.content_hash for task in group])
        cases = await self.judge.judge([task.post for task in group])
        decided = await self._decide(group, cases, exempt)
        return [one.decision.model_dump_json() if isinstance(one, Entry) else one for one in decided]

    async def _moderate_group(self, group: Sequence[Task]) -> list[Answer | Exception]:
        for task in group:
            task.begun = True
        settled, exempt = await self.judge.aside(self._known_of, group)
        if self._fuses.due():
            self._keep(self._fuses.look())
        fresh = [task for task, known in zip(group, settled, strict=True) if known is None]
        answers = iter(await self._record(fresh, exempt) if fresh else ())
        return [next(answers) if known is None else _answer(known) for known in settled]

    async def _record(self, tasks: Sequence[Task], exempt: Collection[str]) -> list[Answer | Exception]:
        """Judge posts, and record what is decided on them."""
        decided = await self._decide(tasks, await self._judge(tasks), exempt)
        entries = [one for one in decided if isinstance(one, Entry)]
        outcomes = await self.judge.aside(self._ledger.record, entries)
        self._count(posts_observed(entries, outcomes))
        self._tell(entries, outcomes)
        recorded = iter(outcomes)
        return [_answer(next(recorded)) if isinstance(one, Entry) else one for one in decided]

    async def _decide(
        self, tasks: Sequence[Task], cases: Sequence[Case], exempt: Collection[str]
    ) -> list[Entry | Exception]:
        """What is decided on each post, or why nothing is."""
        links = await self.judge.aside(lambda: [_links_or_error(case, self._topology) for case in cases])
        return [
            self._entry_or_error(task, case, checked, exempt=task.content_hash in exempt)
            for task, case, checked in zip(tasks, cases, links, strict=True)
        ]

    def _entry_or_error(
        self, task: Task, case: Case, links: CheckedLinks | Exception, *, exempt: bool
    ) -> Entry | Exception:
        refused = ensemble.refused_medium(case)
        if refused is not None:
            return refused
        try:
            if isinstance(links, Exception):
                raise links
            blown = self._fuses.blown_in(task.post.region)
            return entry_of(task, case, links, topology=self._topology, blown=blown, exempt=exempt, draw=self._draw)
        except Exception as error:  # one broken post must not take its group with it
            logger.exception("post %r cannot be decided", task.post_id)
            return error

    async def _judge(self, tasks: Sequence[Task]) -> list[Case]:
        """What the models say of each task; of what came twice in one group they are asked once."""
        first: dict[tuple[str, str], Task] = {}
        for task in tasks:
            first.setdefault((task.post_id, task.content_hash), task)
        cases = await self.judge.judge([task.post for task in first.values()])
        judged = dict(zip(first, cases, strict=True))
        return [judged[task.post_id, task.content_hash] for task in tasks]

    def _known_of(self, group: Sequence[Task]) -> tuple[list[Recorded | ConflictError | None], set[str]]:
        """What the ledger alone answers of a group, and which of its contents were restored on appeal."""
        came = [Came(task.post_id, task.content_hash, task.post.created_at, task.again) for task in group]
        rejudge = self._topology.rejudge.every_s
        settled = settle(self._ledger, came, rejudge=rejudge > 0 and not self.judge.any_away(rejudge))
        return settled, self._ledger.exempt([task.content_hash for task in group])

    def _count(self, posts: list[PostObserved]) -> None:
        """Count recorded posts, after the reply: what is derived from the ledger holds up nobody."""
        if self._known is None or not posts:
            return

        async def count(store: FeatureStore) -> None:
            try:
                await self.judge.aside(store.observe, posts)
            except FeaturesUnavailableError:
                logger.exception("%d posts are not counted until the features are rebuilt", len(posts))

        self._keep(count(self._known))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside the posts."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _tell(self, entries: Sequence[Entry], outcomes: Sequence[Recorded | ConflictError]) -> None:
        if self._on_recorded is None:
            return
        pairs = zip(entries, outcomes, strict=True)
        try:
            self._on_recorded([entry for entry, found in pairs if isinstance(found, Recorded) and found.fresh])
        except Exception:  # what is recorded is answered, whoever fails to hear of it
            logger.exception("%d decisions were not told", len(entries))


def _queue_of_texts(
    handle: Callable[[Sequence[Task]], Awaitable[Sequence[Result | Exception]]], bounds: Bounds, *, in_flight: int
) -> Grouper[Task, Result]:
    return Grouper(
        handle,
        group_size=bounds.group_size,
        max_waiting=bounds.max_waiting_posts,
        max_in_flight=in_flight,
        max_a_client=bounds.max_waiting_a_client,
        max_wait_s=bounds.max_wait_ms / 1000,
        work_of=lambda task: task.work,
        group_work=bounds.group_characters,
    )


def _links_or_error(case: Case, topology: Topology) -> CheckedLinks | Exception:
    try:
        return links_of(case, topology)
    except Exception as error:  # that post's own
        return error


def _answer(outcome: Recorded | ConflictError) -> Answer | Exception:
    """What the ledger says of a post, as it is answered."""
    return Answer(outcome.body, not outcome.fresh) if isinstance(outcome, Recorded) else outcome
