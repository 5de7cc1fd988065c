"""A media classifier's own work: real decoders, store and ledger, a model that sees colours, no cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from moderation.media import Failed, Found, MediaKind, MediaRef, Reading, Refused
from moderation.models import load as loading
from moderation.models.pictures import PictureScores
from moderation.storage.ledger import Ledger
from moderation.storage.media_store import MediaStore
from moderation.storage.media_tables import media_scores
from serve.errors import DeadlineError
from serve.media import classifier as module
from serve.media.classifier import MediaClassifier
from serve.rollout.names import ClassifierConfig
from simulate.service import light_topology
from tests.media_samples import clip, encoded, picture, truncated
from tests.moderation.models.test_pictures import a_video_model, an_image_model
from tests.rooms import TOPOLOGY, run, settings_in

pytestmark = pytest.mark.slow  # decoders start, and the reader of text loads its models

VARIANTS: dict[MediaKind, str] = {"image": "image-multi", "video": "video-multi"}


class Rig:
    """A classifier with what it stands on, in a home of its own."""

    def __init__(self, home: Path, topology: Path) -> None:
        settings = settings_in(home)
        self.store = MediaStore(settings.media_url)
        self.ledger = Ledger(settings.ledger_url)
        self.classifier: Any = MediaClassifier.func_or_class(str(topology))  # type: ignore[attr-defined]  # the decorator's

    def load(self, kind: MediaKind, version: int = 1) -> None:
        run(self.classifier.reconfigure(ClassifierConfig(variant=VARIANTS[kind], version=version, threads=1)))

    def keep(self, kind: MediaKind, data: bytes) -> MediaRef:
        return MediaRef(kind, self.store.keep_bytes(data).sha256)

    def look(self, *refs: MediaRef, within_s: float = 600) -> list[Found | Refused | Failed]:
        found = run(self.classifier.score(list(refs), time.time() + within_s), 700)
        assert found.version == 1
        outcomes: list[Found | Refused | Failed] = found.found
        return outcomes

    def remembered(self) -> list[str]:
        with self.ledger.read() as connection:
            return [row.sha256 for row in connection.execute(select(media_scores))]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("classifier")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings_in(home).environment().items():
            patch.setenv(name, value)
        patch.setattr(loading, "load_picture_classifier", lambda folder, _bases: MODELS[folder.parent.name]())
        patch.setattr(module.Registry, "fetch", lambda _registry, variant, version: home / variant / str(version))
        # What reads takes only what nobody else wants of the processor: on a busy machine that may last.
        rig = Rig(home, light_topology(home, media={"read_timeout_s": 300}))
        yield rig
        rig.classifier._workers.close()
        rig.ledger.close()


MODELS = {"image-multi": an_image_model, "video-multi": a_video_model}


def a_picture(number: int) -> bytes:
    return encoded(picture(96, 96, shift=number), "PNG")


def test_an_image_is_scored_and_what_was_read_of_it_told(rig: Rig) -> None:
    rig.load("image")
    [found] = rig.look(rig.keep("image", a_picture(1)))
    assert isinstance(found, Found)
    assert found.scores.keys() == {"nudity", "violence"}
    assert (found.format, found.width, found.height, found.seconds) == ("png", 96, 96, None)
    assert [(seen.label, seen.t, seen.score) for seen in found.seen] == [
        (label, None, score) for label, score in found.scores.items()
    ]
    assert found.written is not None
    assert found.perceptual_hash is None or len(found.perceptual_hash) == 64


def test_a_video_names_the_second_in_which_it_is_surest(rig: Rig) -> None:
    rig.load("video")
    [found] = rig.look(rig.keep("video", clip(seconds=2)))
    assert isinstance(found, Found)
    assert found.seconds == pytest.approx(2, abs=0.2)
    assert all(seen.t is not None and 0 <= seen.t <= 2 for seen in found.seen)


def test_large_ones_are_judged_one_by_one_and_alike(rig: Rig) -> None:
    rig.load("image")
    refs = [rig.keep("image", a_picture(number)) for number in (11, 12)]
    large = rig.look(*(replace(ref, work=60) for ref in refs))
    assert all(isinstance(found, Found) for found in large)
    assert large == rig.look(*refs)


def test_a_bad_one_is_refused_alone(rig: Rig) -> None:
    rig.load("image")
    good, bad = rig.keep("image", a_picture(2)), rig.keep("image", truncated(a_picture(3)))
    absent = MediaRef("image", "0" * 64)
    first, second, third, fourth = rig.look(good, bad, absent, rig.keep("image", clip(seconds=1)))
    assert isinstance(first, Found)
    assert [item.code for item in (second, third, fourth) if isinstance(item, Refused)] == [
        "truncated",
        "unknown_media",
        "wrong_kind",
    ]


def test_what_was_found_before_is_not_looked_for_again(rig: Rig) -> None:
    rig.load("image")
    ref = rig.keep("image", a_picture(4))
    first = rig.look(ref)
    assert ref.name in rig.remembered()
    rig.store.place.delete(f"{ref.name[:2]}/{ref.name}")
    assert not rig.store.has(ref.name)
    assert rig.look(ref) == first
    [other] = rig.look(MediaRef("video", ref.name))  # as another kind it was never looked at
    assert isinstance(other, Refused)


def test_what_is_lent_is_looked_at_and_not_remembered(rig: Rig) -> None:
    rig.load("image")
    before = rig.remembered()
    with rig.store.lend(a_picture(5)) as lent:
        [found] = rig.look(MediaRef("image", lent.name))
    assert isinstance(found, Found)
    assert rig.remembered() == before


def test_one_that_breaks_the_model_costs_its_own_scores_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.load("image")
    model = rig.classifier._loaded[2]
    real = model.score

    def breaks(readings: Sequence[Reading]) -> PictureScores:
        if any(reading.width == 64 for reading in readings):
            raise RuntimeError("no such picture was in training")
        return real(readings)

    monkeypatch.setattr(model, "score", breaks)
    refs = [rig.keep("image", a_picture(6)), rig.keep("image", encoded(picture(64, 64), "PNG"))]
    good, bad = rig.look(*refs)
    assert isinstance(good, Found)
    assert bad == Failed("RuntimeError: it could not be judged")
    assert refs[1].name not in rig.remembered()


def test_nothing_begins_after_its_deadline(rig: Rig) -> None:
    rig.load("image")
    with pytest.raises(DeadlineError, match="after their deadline"):
        rig.look(rig.keep("image", a_picture(7)), within_s=-1)


def test_without_a_model_nothing_is_answered(rig: Rig) -> None:
    fresh: Any = MediaClassifier.func_or_class(str(TOPOLOGY))  # type: ignore[attr-defined]  # the decorator's
    try:
        with pytest.raises(RuntimeError, match="no model is loaded"):
            run(fresh.version())
    finally:
        fresh._workers.close()


def test_what_reads_and_judges_steps_back_and_nothing_else_does(rig: Rig) -> None:
    rig.load("image")
    rig.look(rig.keep("image", a_picture(9)))
    of_thread = rig.classifier._judges.submit(os.sched_getscheduler, 0).result()
    of_readers = [os.sched_getscheduler(process.pid) for process in readers_of(os.getpid())]
    assert (of_thread, set(of_readers)) == (os.SCHED_IDLE, {os.SCHED_IDLE})
    assert os.sched_getscheduler(0) != os.SCHED_IDLE  # under pytest-xdist it is real-time, not the usual one


def readers_of(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if "serve.media.isolation" in child.cmdline()]
