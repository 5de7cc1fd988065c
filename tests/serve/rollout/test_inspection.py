"""What `seawall models show` and `seawall config check` read off the cards that ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from moderation.models.card import Card
from moderation.policy import threshold_of
from moderation.settings import DEPLOYMENTS
from moderation.topology import Topology
from serve.rollout.inspection import _tests, out_of_reach, where_it_acts

LOCAL = DEPLOYMENTS / "local.yaml"
Warnings = Callable[[str, dict[str, Any]], list[str]]


def card_of(variant: str) -> Card:
    return Card.from_json((DEPLOYMENTS / "models" / variant / "model.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("variant", "shown"),
    [
        ("text-multi", ["abuse/de", "ROC-AUC", "precision at 0.5", "recall at 0.5", "556", "0.608 (0.546 to 0.672)"]),
        ("image-multi", ["nudity", "harmless", "600", "scores, highest", "0.6136"]),
        ("video-multi", ["violence", "nudity", "sources", "30", "0.820 (0.757 to 0.874)", "0.9471"]),
    ],
)
def test_every_figure_of_a_card_s_tests_is_shown(variant: str, shown: list[str]) -> None:
    console = Console(width=400, record=True, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(_tests(card_of(variant).about["test"]))
    for text in shown:
        assert text in captured.get()


@pytest.fixture
def warnings(tmp_path: Path) -> Warnings:
    """What is out of reach of a variant under a policy with other values under `labels` and `regions`."""

    def of(variant: str, changes: dict[str, Any]) -> list[str]:
        raw = yaml.safe_load(LOCAL.read_text(encoding="utf-8"))
        policy = yaml.safe_load((DEPLOYMENTS / raw["policy"]).read_text(encoding="utf-8"))
        for label, changed in changes.get("labels", {}).items():
            policy["labels"][label] |= changed
        policy["regions"] |= changes.get("regions", {})
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
        for name, value in raw.items():
            if name == "blocklist":
                raw[name] = str(DEPLOYMENTS / value)
        path = tmp_path / "topology.yaml"
        path.write_text(yaml.safe_dump(raw | {"policy": "policy.yaml"}), encoding="utf-8")
        return list(out_of_reach(Topology.load(path), variant, card_of(variant)))

    return of


@pytest.mark.parametrize("variant", ["text-multi", "image-multi", "video-multi", "misinformation"])
def test_what_ships_is_within_reach(warnings: Warnings, variant: str) -> None:
    assert warnings(variant, {}) == []


@pytest.mark.parametrize(
    ("changes", "begin", "effect"),
    [
        (
            {"labels": {"violence": {"objective": "precision>=0.9"}}},
            "violence: no threshold of video-multi meets objective precision>=0.9",
            "nothing is flagged",
        ),
        (
            {"labels": {"nudity": {"objective": "recall>=0.9"}}},
            "nudity: no threshold of video-multi meets objective recall>=0.9",
            "nothing is flagged",
        ),
        (
            {"regions": {"FR": {"violence": {"prevalence": 0.00001}}}},
            "violence in FR: no threshold of video-multi meets objective precision>=0.1 at prevalence 1e-05",
            "nothing is flagged",
        ),
        (
            {"labels": {"violence": {"remove_objective": "precision>=0.99"}}},
            "violence: no threshold of video-multi meets remove_objective precision>=0.99",
            "nothing is removed beyond it",
        ),
        (
            {"labels": {"violence": {"review_objective": "precision>=0.99"}}},
            "violence: no threshold of video-multi meets review_objective precision>=0.99",
            "nothing is queued for it",
        ),
        (
            {"labels": {"violence": {"objective": "recall>=0.999"}}},
            "violence: no threshold of video-multi meets objective recall>=0.999",
            "(curve violence): flagged from the lowest threshold on, though that recall is not shown",
        ),
        (
            {"labels": {"violence": {"review_objective": "recall>=0.999"}}},
            "violence: no threshold of video-multi meets review_objective recall>=0.999",
            "(curve violence): queued from the lowest threshold on, though that recall is not shown",
        ),
        (
            {"labels": {"violence": {"remove_objective": "recall>=0.999"}}},
            "violence: no threshold of video-multi meets remove_objective recall>=0.999",
            "nothing is removed beyond it",
        ),
    ],
)
def test_what_no_threshold_meets_is_named_with_label_and_region(
    warnings: Warnings, changes: dict[str, Any], begin: str, effect: str
) -> None:
    [warning] = warnings("video-multi", changes)
    assert warning.startswith(begin)
    assert warning.endswith(effect)


def test_a_region_that_changes_something_else_is_not_named(warnings: Warnings) -> None:
    changes = {
        "labels": {"violence": {"objective": "precision>=0.9"}},
        "regions": {"FR": {"violence": {"on_failure": "allow"}}},
    }
    assert len(warnings("video-multi", changes)) == 1


@pytest.mark.parametrize(
    ("variant", "notes"),
    [
        (
            "text-multi",
            [
                "abuse of text-multi may remove or hide posts in de, en, pt, zh, is reviewed in ru, with fewer than 40"
                " validation rows of a class, and elsewhere is reviewed",
                "hate of text-multi may remove or hide posts in en, is reviewed in pt, with fewer than 40"
                " validation rows of a class, and elsewhere is ignored",
            ],
        ),
        (
            "misinformation",
            ["misinformation of misinformation may remove or hide posts in en, and elsewhere is reviewed"],
        ),
        ("image-multi", []),
    ],
)
def test_it_is_told_in_which_languages_a_label_may_act(variant: str, notes: list[str]) -> None:
    topology = Topology.load(DEPLOYMENTS / "local.yaml")
    assert list(where_it_acts(topology, variant, card_of(variant))) == notes


def test_a_warning_is_right_that_nothing_is_flagged() -> None:
    curve = card_of("video-multi").curves["violence"]["*"]
    assert threshold_of(curve, "precision>=0.9", 0.01) is None
    assert threshold_of(curve, "precision>=0.1", 0.01) is not None
