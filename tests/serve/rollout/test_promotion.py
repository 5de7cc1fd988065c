"""Who is champion: on a real registry and a real ledger, without a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from moderation.context import Context
from moderation.errors import ConfigError, ConflictError, RegistryError
from moderation.learning import label_of, no_challenger
from moderation.models.card import CARD
from moderation.settings import DEPLOYMENTS
from moderation.storage import experiments
from moderation.storage.tables import promotions
from moderation.topology import Topology
from serve.rollout import promotion
from serve.rollout import promotions as promotions_of
from serve.rollout.promotion import Change
from tests.rooms import SHIPPED, VARIANT, judged_traffic, shipped_card


def quiet(_message: str) -> None:
    return


def promote(context: Context, *, expected: int | None = None, without: bool = False, label: str = "abuse") -> Change:
    return promotion.promote(
        context, VARIANT, cluster=None, expected=expected, without_experiment=without, label=label, progress=quiet
    )


def rollback(context: Context, *, expected: int | None = None) -> Change:
    return promotion.rollback(context, VARIANT, cluster=None, expected=expected, progress=quiet)


def records(context: Context) -> Sequence[Any]:
    with context.ledger.read() as connection:
        return connection.execute(select(promotions).order_by(promotions.c.promotion_id)).all()


def history(context: Context) -> list[tuple[str, int | None, int]]:
    return [(row.kind, row.from_version, row.to_version) for row in records(context)]


def another_challenger(context: Context) -> int:
    """The next version challenges the champion."""
    version = context.registry.register(VARIANT, SHIPPED, evidence={"gate": {"passed": True}}).version
    context.registry.move_alias(VARIANT, "challenger", version, expected=context.registry.alias(VARIANT, "challenger"))
    return version


def tried(context: Context, *, champion_recall: float, challenger_recall: float) -> None:
    experiments.create(context.ledger, "try-2", variant=VARIANT, champion_version=1, challenger_version=2, share=0.5)
    judged_traffic(
        context.ledger, "try-2", champion_recall=champion_recall, challenger_recall=challenger_recall, authors=20
    )


def aliases(context: Context) -> tuple[int | None, int | None]:
    return context.registry.alias(VARIANT, "champion"), context.registry.alias(VARIANT, "challenger")


def test_what_ships_becomes_version_1_and_champion_once(context: Context) -> None:
    assert promotion.ship(context, VARIANT) == 1
    assert promotion.ship(context, VARIANT) is None
    assert aliases(context) == (1, None)
    assert [version.version for version in context.registry.versions(VARIANT)] == [1]
    assert context.registry.evidence(VARIANT, 1) == {"shipped": True}
    assert history(context) == [("ship", None, 1)]
    card = context.registry.card(VARIANT, 1)
    assert card.labels == ("abuse", "hate")


def test_shipping_that_was_cut_off_before_the_alias_goes_on_where_it_was(context: Context) -> None:
    context.registry.register(VARIANT, SHIPPED, evidence={"shipped": True})
    assert promotion.ship(context, VARIANT) == 1
    assert aliases(context) == (1, None)
    assert [version.version for version in context.registry.versions(VARIANT)] == [1]


def of_another_release(folder: Path, **changes: Any) -> Path:
    """What shipped with another release or topology; by default, of other preprocessing."""
    shutil.copytree(SHIPPED, folder)
    card = replace(shipped_card(), **(changes or {"preprocessing": "text-0"}))
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    return folder


def test_what_shipped_with_a_release_of_other_preprocessing_is_replaced(context: Context, tmp_path: Path) -> None:
    context.registry.register(VARIANT, of_another_release(tmp_path / "old"), evidence={"shipped": True})
    context.registry.move_alias(VARIANT, "champion", 1, expected=None)
    assert promotion.ship(context, VARIANT) == 2
    assert promotion.ship(context, VARIANT) is None
    assert aliases(context) == (2, None)
    assert context.registry.card(VARIANT, 2).preprocessing == shipped_card().preprocessing
    assert history(context) == [("ship", 1, 2)]


def test_a_champion_that_was_trained_here_is_not_replaced_by_what_ships(context: Context, tmp_path: Path) -> None:
    context.registry.register(VARIANT, of_another_release(tmp_path / "old"), evidence={"gate": {"passed": True}})
    context.registry.move_alias(VARIANT, "champion", 1, expected=None)
    with pytest.raises(RegistryError, match="version 1, was trained here with preprocessing 'text-0'"):
        promotion.ship(context, VARIANT)
    assert aliases(context) == (1, None)
    assert history(context) == []


def test_rollbacks_lead_from_a_champion_of_another_release_to_what_ships_now(context: Context, tmp_path: Path) -> None:
    old = of_another_release(tmp_path / "old")
    context.registry.register(VARIANT, old, evidence={"shipped": True})
    for _ in range(2):
        context.registry.register(VARIANT, old, evidence={"gate": {"passed": True}})
    promotions_of.record(context.ledger, VARIANT, "promote", from_version=1, to_version=2, evidence={})
    promotions_of.record(context.ledger, VARIANT, "promote", from_version=2, to_version=3, evidence={})
    context.registry.move_alias(VARIANT, "champion", 3, expected=None)
    for champion in (3, 2):
        with pytest.raises(RegistryError, match=f"repeat `seawall rollback {VARIANT}` until a version that shipped"):
            promotion.ship(context, VARIANT)
        assert rollback(context) == Change(VARIANT, champion, champion - 1)
    assert promotion.ship(context, VARIANT) == 4
    assert context.registry.card(VARIANT, 4).preprocessing == shipped_card().preprocessing


def test_what_shipped_with_another_topology_is_replaced_and_used_again(context: Context, tmp_path: Path) -> None:
    other = of_another_release(tmp_path / "other", architecture="encoder")
    context.registry.register(VARIANT, other, evidence={"shipped": True})
    context.registry.move_alias(VARIANT, "champion", 1, expected=None)
    assert promotion.ship(context, VARIANT) == 2
    assert promotion.ship(context, VARIANT) is None
    context.registry.move_alias(VARIANT, "champion", 1, expected=2)
    context.registry.register(VARIANT, SHIPPED, evidence={"gate": {"passed": True}})
    assert promotion.ship(context, VARIANT) == 2
    assert [version.version for version in context.registry.versions(VARIANT)] == [1, 2, 3]
    assert history(context) == [("ship", 1, 2), ("ship", 1, 2)]


def test_a_champion_that_was_trained_here_stays_whatever_its_architecture(context: Context, tmp_path: Path) -> None:
    other = of_another_release(tmp_path / "other", architecture="encoder")
    context.registry.register(VARIANT, other, evidence={"gate": {"passed": True}})
    context.registry.move_alias(VARIANT, "champion", 1, expected=None)
    assert promotion.ship(context, VARIANT) is None
    assert aliases(context) == (1, None)


@pytest.mark.parametrize(
    ("changes", "stays"), [({"preprocessing": "text-0"}, False), ({"architecture": "ngram"}, True)]
)
def test_a_challenger_goes_with_its_champion_only_if_it_cannot_be_loaded(
    context: Context, tmp_path: Path, changes: dict[str, str], stays: bool
) -> None:
    context.registry.register(VARIANT, of_another_release(tmp_path / "old"), evidence={"shipped": True})
    context.registry.register(VARIANT, of_another_release(tmp_path / "new", **changes), evidence={})
    context.registry.move_alias(VARIANT, "champion", 1, expected=None)
    context.registry.move_alias(VARIANT, "challenger", 2, expected=None)
    experiments.create(context.ledger, "try-2", variant=VARIANT, champion_version=1, challenger_version=2, share=0.5)
    assert promotion.ship(context, VARIANT) == 3
    assert aliases(context) == (3, 2 if stays else None)
    assert experiments.running(context.ledger, VARIANT) is None


def test_a_challenger_that_cannot_be_loaded_goes_also_where_the_champion_stays(
    challenged: Context, tmp_path: Path
) -> None:
    assert promotion.ship(challenged, VARIANT) is None
    assert aliases(challenged) == (1, 2)
    challenged.registry.register(VARIANT, of_another_release(tmp_path / "old"), evidence={})
    challenged.registry.move_alias(VARIANT, "challenger", 3, expected=2)
    experiments.create(challenged.ledger, "try-3", variant=VARIANT, champion_version=1, challenger_version=3, share=0.5)
    assert promotion.ship(challenged, VARIANT) is None
    assert aliases(challenged) == (1, None)
    assert experiments.running(challenged.ledger, VARIANT) is None


def test_what_cannot_be_loaded_becomes_no_champion(challenged: Context, tmp_path: Path) -> None:
    told = "version 3 of 'text-multi' was trained with preprocessing 'text-0', and this release has"
    challenged.registry.register(VARIANT, of_another_release(tmp_path / "old"), evidence={})
    challenged.registry.move_alias(VARIANT, "challenger", 3, expected=2)
    with pytest.raises(RegistryError, match=told):
        promote(challenged, without=True)
    promotions_of.record(challenged.ledger, VARIANT, "promote", from_version=3, to_version=1, evidence={})
    with pytest.raises(RegistryError, match=told):
        rollback(challenged)
    assert aliases(challenged) == (1, 3)
    assert history(challenged) == [("ship", None, 1), ("promote", 3, 1)]


def test_a_challenger_that_an_experiment_found_better_becomes_champion(challenged: Context) -> None:
    tried(challenged, champion_recall=0.2, challenger_recall=0.9)
    assert promote(challenged, expected=1) == Change(VARIANT, 1, 2)
    assert aliases(challenged) == (2, None)
    assert experiments.running(challenged.ledger, VARIANT) is None
    assert experiments.get(challenged.ledger, "try-2").status == "stopped"
    assert history(challenged) == [("ship", None, 1), ("promote", 1, 2)]
    evidence = records(challenged)[-1].evidence
    assert evidence["gate"] == {"passed": True}
    assert evidence["experiment"]["verdict"] == "better"
    assert evidence["experiment"]["versions"] == {"champion": 1, "challenger": 2}


@pytest.mark.parametrize(
    ("champion_recall", "challenger_recall", "verdict"), [(0.9, 0.2, "worse"), (0.5, 0.5, "no difference shown")]
)
def test_a_challenger_that_is_not_better_stays_one_unless_it_is_overruled(
    challenged: Context, champion_recall: float, challenger_recall: float, verdict: str
) -> None:
    tried(challenged, champion_recall=champion_recall, challenger_recall=challenger_recall)
    with pytest.raises(ConflictError, match=f"experiment 'try-2' says of version 2: {verdict};"):
        promote(challenged)
    assert aliases(challenged) == (1, 2)
    assert experiments.running(challenged.ledger, VARIANT) is not None
    assert history(challenged) == [("ship", None, 1)]

    assert promote(challenged, without=True) == Change(VARIANT, 1, 2)
    assert aliases(challenged) == (2, None)
    assert records(challenged)[-1].evidence["experiment"]["verdict"] == verdict


def test_an_experiment_without_labels_is_no_reason_to_promote(challenged: Context) -> None:
    experiments.create(challenged.ledger, "try-2", variant=VARIANT, champion_version=1, challenger_version=2, share=0.5)
    with pytest.raises(ConflictError, match="says of version 2: not enough labels"):
        promote(challenged)


def test_an_experiment_against_a_former_champion_says_nothing_of_the_present_one(challenged: Context) -> None:
    tried(challenged, champion_recall=0.2, challenger_recall=0.9)
    experiments.stop(challenged.ledger, "try-2")
    assert another_challenger(challenged) == 3
    assert promote(challenged, without=True) == Change(VARIANT, 1, 3)
    challenged.registry.move_alias(VARIANT, "challenger", 2, expected=None)
    told = "experiment 'try-2' compared version 2 with version 1, and version 3 is champion now; create another one"
    with pytest.raises(ConflictError, match=told):
        promote(challenged)
    assert aliases(challenged) == (3, 2)
    assert history(challenged) == [("ship", None, 1), ("promote", 1, 3)]

    experiments.create(challenged.ledger, "try-3", variant=VARIANT, champion_version=3, challenger_version=2, share=0.5)
    judged_traffic(challenged.ledger, "try-3", champion_recall=0.2, challenger_recall=0.9, authors=20)
    assert promote(challenged) == Change(VARIANT, 3, 2)
    assert records(challenged)[-1].evidence["experiment"]["versions"] == {"champion": 3, "challenger": 2}


def test_what_an_experiment_against_a_former_champion_said_can_be_overruled(challenged: Context) -> None:
    tried(challenged, champion_recall=0.2, challenger_recall=0.9)
    experiments.stop(challenged.ledger, "try-2")
    another_challenger(challenged)
    promote(challenged, without=True)
    challenged.registry.move_alias(VARIANT, "challenger", 2, expected=None)
    assert promote(challenged, without=True) == Change(VARIANT, 3, 2)
    assert records(challenged)[-1].evidence["experiment"]["versions"] == {"champion": 1, "challenger": 2}


def test_a_stopped_experiment_counts_too(challenged: Context) -> None:
    tried(challenged, champion_recall=0.2, challenger_recall=0.9)
    experiments.stop(challenged.ledger, "try-2")
    assert promote(challenged) == Change(VARIANT, 1, 2)


def test_a_challenger_that_was_in_no_experiment_is_promoted_only_when_told_so(challenged: Context) -> None:
    with pytest.raises(ConflictError, match="version 2 was in no experiment; create one"):
        promote(challenged)
    assert promote(challenged, without=True) == Change(VARIANT, 1, 2)
    assert records(challenged)[-1].evidence == {"gate": {"passed": True}}


def test_an_experiment_on_another_version_says_nothing_of_this_one(challenged: Context) -> None:
    tried(challenged, champion_recall=0.2, challenger_recall=0.9)
    experiments.stop(challenged.ledger, "try-2")
    assert another_challenger(challenged) == 3
    with pytest.raises(ConflictError, match="version 3 was in no experiment"):
        promote(challenged)


def test_a_label_without_a_rule_cannot_be_judged_on(challenged: Context) -> None:
    tried(challenged, champion_recall=0.2, challenger_recall=0.9)
    with pytest.raises(ConfigError, match="no rule for 'sarcasm'"):
        promote(challenged, label="sarcasm", without=True)
    assert aliases(challenged) == (1, 2)


@pytest.mark.parametrize("expected", [2, 3])
def test_another_champion_than_expected_stops_everything(challenged: Context, expected: int) -> None:
    told = f"is version 1, expected was {expected}; look again"
    with pytest.raises(ConflictError, match=told):
        promote(challenged, expected=expected, without=True)
    with pytest.raises(ConflictError, match=told):
        rollback(challenged, expected=expected)
    assert aliases(challenged) == (1, 2)
    assert history(challenged) == [("ship", None, 1)]


def test_without_a_challenger_there_is_nothing_to_promote(context: Context) -> None:
    promotion.ship(context, VARIANT)
    with pytest.raises(RegistryError, match="has no challenger; `seawall retrain text-multi` may bring one"):
        promote(context, without=True)
    assert history(context) == [("ship", None, 1)]


def test_without_a_champion_nothing_can_be_changed(context: Context) -> None:
    with pytest.raises(RegistryError, match="has no champion"):
        promote(context, without=True)
    with pytest.raises(RegistryError, match="has no champion"):
        rollback(context)
    assert history(context) == []


def test_a_rollback_goes_to_the_champion_before_and_no_further_than_what_shipped(challenged: Context) -> None:
    promote(challenged, without=True)
    assert another_challenger(challenged) == 3
    promote(challenged, without=True)
    assert aliases(challenged) == (3, None)
    assert rollback(challenged, expected=3) == Change(VARIANT, 3, 2)
    assert rollback(challenged) == Change(VARIANT, 2, 1)
    with pytest.raises(ConflictError, match="version 1 of 'text-multi' took over from nobody"):
        rollback(challenged)
    assert aliases(challenged) == (1, None)
    assert history(challenged) == [
        ("ship", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
    ]


def test_after_a_rollback_another_challenger_can_be_promoted_and_taken_back(challenged: Context) -> None:
    promote(challenged, without=True)
    rollback(challenged)
    assert another_challenger(challenged) == 3
    assert promote(challenged, without=True) == Change(VARIANT, 1, 3)
    assert rollback(challenged) == Change(VARIANT, 3, 1)


def test_a_rollback_ends_the_experiment_that_is_running(challenged: Context) -> None:
    promote(challenged, without=True)
    assert another_challenger(challenged) == 3
    experiments.create(challenged.ledger, "try-3", variant=VARIANT, champion_version=2, challenger_version=3, share=0.1)
    rollback(challenged)
    assert experiments.running(challenged.ledger, VARIANT) is None
    assert aliases(challenged) == (1, 3)


def test_a_change_gives_its_lock_back_also_when_it_fails(context: Context) -> None:
    promotion.ship(context, VARIANT)
    with pytest.raises(ConflictError):
        rollback(context)
    with context.ledger.lock(f"champion:{VARIANT}", wait=timedelta(0)):
        pass


@pytest.mark.parametrize(
    ("variant", "label"),
    [
        ("text-multi", "abuse"),
        ("misinformation", "misinformation"),
        ("image-multi", "nudity"),
        ("video-multi", "nudity"),
        ("text-none", "abuse"),
    ],
)
def test_a_variant_is_judged_on_abuse_or_on_the_first_label_that_it_scores(variant: str, label: str) -> None:
    assert label_of(Topology.load(DEPLOYMENTS / "local.yaml"), variant) == label


@pytest.mark.parametrize(("variant", "told"), [("text-multi", True), ("image-multi", False), ("video-multi", False)])
def test_retraining_is_named_only_where_it_may_bring_a_challenger(variant: str, told: bool) -> None:
    said = no_challenger(Topology.load(DEPLOYMENTS / "local.yaml"), variant)
    assert said.startswith(f"variant '{variant}' has no challenger")
    assert ("seawall retrain" in said) is told
