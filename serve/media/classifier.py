"""One version of an image or video model behind a Ray Serve deployment of its own: media in, what is found in them out.

What the version found before is answered from the ledger. The rest is read by worker processes, so that a decoder that
crashes or hangs costs one medium; pictures and text are then judged here, a group at a time. Both take only processor
time that little else wants (SCHED_IDLE): a flood of videos may take long, and must not take the texts' time. As in
`serve.posts.classifier`, what takes seconds to import is imported by a replica.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from ray import serve as ray_serve
from sqlalchemy.exc import SQLAlchemyError

from moderation.errors import NotFoundError
from moderation.media import Failed, Found, MediaRef, MediaRules, Reading, Refused, Seen
from moderation.registry import Registry
from moderation.settings import Settings
from moderation.storage import media_rows
from moderation.storage.ledger import Ledger, now
from moderation.storage.media_store import MediaStore
from moderation.topology import Topology
from serve.errors import DeadlineError
from serve.media.isolation import Workers
from serve.media.turns import SmallFirst
from serve.posts.answers import GroupFound
from serve.rollout.names import ClassifierConfig
from serve.rollout.replica import settle

if TYPE_CHECKING:
    from moderation.models.pictures import PictureClassifier

logger = logging.getLogger("ray.serve")

_MARGIN_S = 2.0
_LATE = Failed("nobody waited for it any more")


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was found, as the ledger remembers it.

    Attributes:
        rules: digest of how media were read then: what was found under others does not hold.
        found: by that.
    """

    rules: str
    found: Found


_REMEMBERED = TypeAdapter(Remembered)


def _step_back() -> None:
    """Let this thread, and what it starts, take only processor time that little else wants."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@ray_serve.deployment(name="classifier")
class MediaClassifier:
    """Looks at images or videos with the version that `user_config` names.

    Args:
        topology: path of the topology file, for its section `media`.
    """

    def __init__(self, topology: str) -> None:
        from serve.media.ocr import TextReader

        settle()
        self._settings = Settings.from_environment()
        self._rules = Topology.load(Path(topology)).media
        self._registry = Registry(self._settings)
        self._ledger = Ledger(self._settings.ledger_url)
        self._store = MediaStore(self._settings.media_url)
        # Each with as many threads as there are workers: those of large ones, as they wait, must not be all there are.
        self._readers = {
            large: ThreadPoolExecutor(self._rules.workers, f"reading-{'large' if large else 'small'}", _step_back)
            for large in (False, True)
        }
        groups = self._rules.max_in_flight + self._rules.large_in_flight
        self._judges = ThreadPoolExecutor(groups, "judging", _step_back)
        # Made on a thread that steps back: the processes and threads that they start inherit that.
        self._workers = self._judges.submit(
            Workers, self._rules.workers, timeout_s=self._rules.read_timeout_s, memory_mb=self._rules.worker_memory_mb
        ).result()
        ocr = self._rules.ocr
        self._texts = self._judges.submit(TextReader, ocr).result() if ocr.enabled else None
        self._judging = SmallFirst()
        self._digest = _digest(self._rules)
        self._loaded: tuple[str, int, PictureClassifier] | None = None

    async def reconfigure(self, config: ClassifierConfig) -> None:
        """Load the version that is asked for, then change over at once; until then the former one answers."""
        import torch

        torch.set_num_threads(config["threads"])
        model = await asyncio.to_thread(self._load, config["variant"], config["version"])
        self._loaded = (config["variant"], config["version"], model)

    def _load(self, variant: str, version: int) -> PictureClassifier:
        from moderation.models.load import load_picture_classifier

        return load_picture_classifier(self._registry.fetch(variant, version), self._settings.bases)

    async def score(self, media: list[MediaRef], deadline: float) -> GroupFound:
        """Look at a group.

        Args:
            media: which bytes, by their names in the media store.
            deadline: seconds since 1970, after which nobody waits for the answer.

        Raises:
            DeadlineError: it has passed.
        """
        if time.time() > deadline:
            raise DeadlineError(f"{len(media)} media came {time.time() - deadline:.3f} s after their deadline")
        if self._loaded is None:
            raise RuntimeError("no model is loaded yet")
        # What is known by then is answered: one slow medium must not cost its group.
        margin = min(_MARGIN_S, (deadline - time.time()) / 5)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._judges, self._score, *self._loaded, media, deadline - margin)

    async def version(self) -> int:
        """The version that is loaded."""
        if self._loaded is None:
            raise RuntimeError("no model is loaded yet")
        return self._loaded[1]

    def _score(
        self, variant: str, version: int, model: PictureClassifier, media: Sequence[MediaRef], deadline: float
    ) -> GroupFound:
        keys: list[media_rows.ScoreKey] = [(ref.name, ref.kind, variant, version) for ref in media]
        known = self._known(keys)
        outcomes: dict[int, Found | Refused | Failed] = {
            index: known[key] for index, key in enumerate(keys) if key in known
        }
        fresh = [index for index in range(len(media)) if index not in outcomes]
        readings: dict[int, Reading] = {}
        large = sum(ref.work for ref in media) > self._rules.small_megapixels
        reads = self._readers[large].map(lambda i: self._read(media[i], deadline, large=large), fresh)
        for index, read in zip(fresh, reads, strict=True):
            if isinstance(read, Reading):
                readings[index] = read
            else:
                outcomes[index] = read
        # One group at a time has the cores, and is done the sooner; of a large one, one medium at a time.
        for group in [{index: readings[index]} for index in readings] if large else [readings]:
            if not self._judging.acquire(large=large, within_s=max(0.0, deadline - time.time())):
                outcomes |= dict.fromkeys(group, _LATE)
                continue
            try:
                outcomes |= self._judge(model, group, deadline)
            finally:
                self._judging.release()
        self._keep({keys[index]: outcomes[index] for index in readings if _is_content(media[index])})
        return GroupFound(version, [outcomes[index] for index in range(len(media))])

    def _known(self, keys: Sequence[media_rows.ScoreKey]) -> dict[media_rows.ScoreKey, Found]:
        """What was found before under the rules of today. What cannot be had, or read, is found again."""
        found: dict[media_rows.ScoreKey, Found] = {}
        try:
            for key, told in media_rows.known_scores(self._ledger, keys).items():
                if told.startswith(f'{{"rules":"{self._digest}"'):
                    found[key] = _REMEMBERED.validate_json(told).found
        except (SQLAlchemyError, ValidationError):
            logger.exception("what was found before in %d media is not known", len(keys))
        return found

    def _keep(self, outcomes: Mapping[media_rows.ScoreKey, Found | Refused | Failed]) -> None:
        """Remember what was found, for the next post with the same bytes."""
        at = now()
        found = [
            media_rows.MediaScore(key, _REMEMBERED.dump_json(Remembered(self._digest, outcome)).decode(), at)
            for key, outcome in outcomes.items()
            if isinstance(outcome, Found)
        ]
        try:
            media_rows.keep_scores(self._ledger, found)
        except SQLAlchemyError:  # what was found holds all the same, and is found again
            logger.exception("what was found in %d media is not remembered", len(found))

    def _read(self, ref: MediaRef, deadline: float, *, large: bool) -> Reading | Refused | Failed:
        if time.time() > deadline:  # nobody waits any more: those behind it must not either
            return _LATE
        try:
            with self._store.open(ref.name) as path:
                wait_s = max(0.0, deadline - time.time())
                outcome = self._workers.read(path, ref.kind, self._rules.read, wait_s=wait_s, large=large)
                return replace(outcome, size=path.stat().st_size) if isinstance(outcome, Reading) else outcome
        except NotFoundError:
            return Refused("unknown_media", f"no bytes with the SHA-256 {ref.name} are held")
        except Exception as error:  # a medium that cannot be had must not take its group with it
            logger.exception("a medium could not be read")
            return Failed(f"{type(error).__name__}: its bytes could not be had")

    def _judge(
        self, model: PictureClassifier, readings: dict[int, Reading], deadline: float
    ) -> dict[int, Found | Refused | Failed]:
        """What is found in media that were read, all in one batch; one by one where that fails."""
        try:
            return dict(zip(readings, self._found(model, list(readings.values()), deadline), strict=True))
        except Exception as error:
            logger.exception("%d media could not be judged", len(readings))
            if len(readings) == 1:
                return {index: Failed(f"{type(error).__name__}: it could not be judged") for index in readings}
        alone: dict[int, Found | Refused | Failed] = {}
        for index, reading in readings.items():
            alone |= self._judge(model, {index: reading}, deadline)
        return alone

    def _found(
        self, model: PictureClassifier, readings: Sequence[Reading], deadline: float
    ) -> list[Found | Refused | Failed]:
        if not readings:
            return []
        scored = model.score(readings)
        found: list[Found | Refused | Failed] = []
        for reading, confidence, frames in zip(readings, scored.confidence, scored.frames, strict=True):
            if time.time() > deadline:
                found.append(_LATE)
                continue
            labels = model.card.labels
            surest = frames.argmax(axis=0)
            times = [None if reading.seconds is None else round(float(reading.times[at]), 3) for at in surest]
            found.append(
                Found(
                    scores={name: round(float(value), 5) for name, value in zip(labels, confidence, strict=True)},
                    seen=tuple(
                        Seen(name, t, round(float(value), 5))
                        for name, t, value in zip(labels, times, confidence, strict=True)
                    ),
                    written=None if self._texts is None else self._texts.read(reading, samples=self._rules.ocr.samples),
                    format=reading.format,
                    width=reading.width,
                    height=reading.height,
                    seconds=reading.seconds,
                    size=reading.size,
                    looked_at=reading.looked_at,
                    unseen=reading.unseen,
                    perceptual_hash=None if reading.perceptual_hash is None else reading.perceptual_hash[0],
                )
            )
        return found


def _digest(rules: MediaRules) -> str:
    """Of everything but the model that decides what is found in a medium."""
    from moderation.models.pictures import PICTURE_VERSION

    told = f"{PICTURE_VERSION} {rules.read.model_dump_json()} {rules.ocr.model_dump_json()}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _is_content(ref: MediaRef) -> bool:
    """Whether the name is that of the bytes, and not of what a request lent."""
    return "/" not in ref.name
