"""A classifier's own work, with the shipped model and without a cluster."""

from __future__ import annotations

import asyncio
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moderation.models.load import load_text_classifier
from serve.errors import DeadlineError
from serve.posts.classifier import Classifier
from serve.rollout.names import ClassifierConfig
from tests.rooms import SHIPPED, VARIANT, run, settings_in

TEXTS = ["you stupid bitch, shut the fuck up", "what a lovely day in the garden", ""]


@pytest.fixture
def classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class behind the deployment; versions 1 and 2 lie in the home as local copies, so no registry is asked."""
    for name, value in settings_in(tmp_path).environment().items():
        monkeypatch.setenv(name, value)
    for version in (1, 2):
        shutil.copytree(SHIPPED, tmp_path / "models" / VARIANT / str(version))
    deployment: Any = Classifier  # what the decorator makes of the class
    return deployment.func_or_class()


def soon() -> float:
    return time.time() + 60


def test_it_scores_what_the_model_scores_and_says_which_version_did(classifier: Any) -> None:
    run(classifier.reconfigure(ClassifierConfig(variant=VARIANT, version=2, threads=1)))
    found = run(classifier.score(TEXTS, [{}] * len(TEXTS), soon()))
    expected = load_text_classifier(SHIPPED).score(TEXTS)
    assert found.version == 2
    assert [list(row) for row in found.scores] == [["abuse", "hate"]] * 3
    np.testing.assert_allclose([list(row.values()) for row in found.scores], expected.confidence, atol=1e-5)
    np.testing.assert_allclose(found.unseen, expected.unseen_word_share, atol=1e-4)
    assert found.scores[0]["abuse"] > 0.9 > found.scores[1]["abuse"]
    assert found.unseen[2] == 0.0
    assert {type(value) for row in found.scores for value in row.values()} == {float}


def test_another_version_takes_over_without_a_restart(classifier: Any) -> None:
    for version in (1, 2, 1):
        run(classifier.reconfigure(ClassifierConfig(variant=VARIANT, version=version, threads=1)))
        assert run(classifier.version()) == version
        assert run(classifier.score(["x"], [{}], soon())).version == version


def test_a_version_that_cannot_be_loaded_leaves_the_former_one_answering(classifier: Any, tmp_path: Path) -> None:
    run(classifier.reconfigure(ClassifierConfig(variant=VARIANT, version=1, threads=1)))
    (tmp_path / "models" / VARIANT / "2" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(Exception, match="SHA-256"):
        run(classifier.reconfigure(ClassifierConfig(variant=VARIANT, version=2, threads=1)))
    assert run(classifier.score(["x"], [{}], soon())).version == 1


def test_nothing_is_scored_after_the_deadline(classifier: Any) -> None:
    run(classifier.reconfigure(ClassifierConfig(variant=VARIANT, version=1, threads=1)))
    with pytest.raises(DeadlineError, match=r"3 texts came \d+\.\d+ s after their deadline"):
        run(classifier.score(TEXTS, [{}] * len(TEXTS), time.time() - 2))


def test_what_waited_for_its_turn_beyond_the_deadline_is_not_scored(classifier: Any) -> None:
    run(classifier.reconfigure(ClassifierConfig(variant=VARIANT, version=1, threads=1)))

    async def behind_others() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        busy = asyncio.create_task(asyncio.to_thread(time.sleep, 0.5))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineError):
            await classifier.score(TEXTS, [{}] * len(TEXTS), time.time() + 0.2)
        await busy

    run(behind_others())


def test_before_a_model_is_loaded_there_is_neither_a_score_nor_a_version(classifier: Any) -> None:
    with pytest.raises(RuntimeError, match="no model is loaded yet"):
        run(classifier.score(TEXTS, [{}] * len(TEXTS), soon()))
    with pytest.raises(RuntimeError, match="no model is loaded yet"):
        run(classifier.version())
