"""Retraining, as far as it goes without Ray: what is refused before anything is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import select

from moderation.context import Context
from moderation.errors import ConfigError, ConflictError, NotEnoughDataError, RegistryError
from moderation.learning import judged_label
from moderation.models.base import TextClassifier
from moderation.preprocess.ngrams import NgramConfig
from moderation.registry import Registry
from moderation.sections import RetrainRules
from moderation.settings import DEPLOYMENTS, Settings
from moderation.storage import drift, experiments, retraining
from moderation.storage.ledger import Ledger
from moderation.storage.tables import retrain_requests
from moderation.topology import Topology
from tests.rooms import DAY, SHIPPED, VARIANT, new_home, shipped_card
from train.retrain import FITS, _Champion, _plan, _Split, retrain


@pytest.fixture
def settings(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return new_home(tmp_path_factory.getbasetemp(), tmp_path / "home")


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger(settings.ledger_url)
    yield ledger
    ledger.close()


LIGHT = Topology.load(DEPLOYMENTS / "light.yaml")


def start(
    settings: Settings, ledger: Ledger, variant: str = VARIANT, *, label: str = "abuse", topology: Topology = LIGHT
) -> None:
    retrain(
        Context(settings=settings, topology=topology, registry=Registry(settings), ledger=ledger),
        variant,
        label=label,
        until=None,
        progress=lambda _: None,
    )


def requests(ledger: Ledger) -> list[tuple[str, str, dict[str, str] | None]]:
    columns = retrain_requests.c
    with ledger.read() as connection:
        return [
            (row[0], row[1], row[2])
            for row in connection.execute(select(columns.reason, columns.status, columns.outcome))
        ]


def test_a_retraining_while_an_experiment_runs_is_refused_and_leaves_no_trace(
    settings: Settings, ledger: Ledger
) -> None:
    experiments.create(ledger, "try-2", variant=VARIANT, champion_version=1, challenger_version=2, share=0.1)
    with pytest.raises(ConflictError, match="experiment 'try-2' on version 2 is running; stop it or promote first"):
        start(settings, ledger)
    assert requests(ledger) == []


def test_an_unknown_variant_is_told_with_those_that_there_are(settings: Settings, ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="no variant 'image-eu'; there are text-multi"):
        start(settings, ledger, "image-eu")
    assert requests(ledger) == []


def test_a_label_that_the_variant_does_not_score_is_told_before_anything_begins(
    settings: Settings, ledger: Ledger
) -> None:
    with pytest.raises(ConfigError, match=r"'text-multi' does not score 'nudity'.*; it scores abuse, hate") as caught:
        start(settings, ledger, label="nudity")
    assert caught.value.path == "light.yaml: variants.text-multi.labels"
    assert requests(ledger) == []


def test_a_label_that_the_champion_does_not_score_is_told_before_labels_are_read(
    settings: Settings, ledger: Ledger
) -> None:
    registry = Registry(settings)
    registry.register(VARIANT, SHIPPED, evidence={})
    registry.move_alias(VARIANT, "champion", 1, expected=None)
    more = LIGHT.variant(VARIANT).model_copy(update={"labels": ("abuse", "misinformation")})
    with pytest.raises(ConfigError, match="has 'misinformation'; the champion, text-multi@1, scores abuse, hate"):
        start(settings, ledger, label="misinformation", topology=replace(LIGHT, variants={VARIANT: more}))


@pytest.mark.parametrize(
    ("variant", "asked", "label"),
    [("text-multi", None, "abuse"), ("text-multi", "hate", "hate"), ("misinformation", None, "misinformation")],
)
def test_the_label_that_is_judged_is_the_one_named_or_what_the_variant_is_for(
    variant: str, asked: str | None, label: str
) -> None:
    assert judged_label(Topology.load(DEPLOYMENTS / "local.yaml"), variant, asked) == label


def test_a_second_retraining_at_a_time_is_refused(settings: Settings, ledger: Ledger) -> None:
    retraining.begin_request(ledger, VARIANT, reason="the first")
    with pytest.raises(ConflictError, match="a retraining of 'text-multi' is running"):
        start(settings, ledger)
    assert requests(ledger) == [("the first", "running", None)]


def test_a_retraining_that_fails_ends_its_request_with_the_error(settings: Settings, ledger: Ledger) -> None:
    with pytest.raises(RegistryError, match="has no champion"):
        start(settings, ledger)
    [(reason, status, outcome)] = requests(ledger)
    assert (reason, status) == ("asked for by hand", "failed")
    assert outcome is not None
    assert outcome["error"].startswith("RegistryError: variant 'text-multi' has no champion")


def test_a_retraining_without_labels_answers_the_open_request_with_a_failure(
    settings: Settings, ledger: Ledger
) -> None:
    registry = Registry(settings)
    registry.register(VARIANT, SHIPPED, evidence={})
    registry.move_alias(VARIANT, "champion", 1, expected=None)
    drift.raise_alert(ledger, VARIANT, 1, window_to=DAY, evidence={}, reason="drift: words")
    with pytest.raises(NotEnoughDataError, match="the lake holds no label"):
        start(settings, ledger)
    [(reason, status, outcome)] = requests(ledger)
    assert (reason, status) == ("drift: words", "failed")
    assert outcome is not None
    assert "the lake holds no label" in outcome["error"]
    assert retraining.active_request(ledger, VARIANT) is None


@pytest.mark.parametrize("architecture", ["ngram", "encoder"])
def test_the_loss_that_is_asked_for_is_the_plan_s(architecture: str) -> None:
    usual = FITS[architecture]
    model = SimpleNamespace(architecture=architecture, card=shipped_card(), config=NgramConfig())
    champion = _Champion(VARIANT, 1, SHIPPED, cast(TextClassifier, model))
    assert _plan(champion, None, {}).fit == usual
    plan = _plan(champion, "focal", {"rows": {}})
    assert plan.fit == replace(usual, loss="focal")
    assert (plan.parent, plan.about["rows"], plan.about["parent"]) == ((VARIANT, 1), {}, "text-multi@1")


def test_a_split_is_described_for_the_card() -> None:
    assert _Split(RetrainRules(), salt="text-multi@1").describe() == (
        "holdout: 40% of authors, newest 25% of rows; validation: 30% of the other authors, earlier rows;"
        " a text counts once, as its first author's; hashed with 'text-multi@1'"
    )
