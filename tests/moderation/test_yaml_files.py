"""Operators' YAML, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderation.errors import ConfigError
from moderation.policy import Policy
from moderation.settings import DEPLOYMENTS
from moderation.topology import Topology
from moderation.yaml_files import read_yaml


def written(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "where", "lines"),
    [
        ("a: 1\nb: 2\na: 1\n", "a", "1 and 3"),
        ("regions:\n  DE:\n    abuse: 1\n  FR: 2\n  DE:\n    hate: 1\n", "regions.DE", "2 and 5"),
        ("routes:\n  - a: 1\n  - b: 1\n    b: 2\n", "routes.1.b", "3 and 4"),
        ("a: {b: 1, c: 2, b: 3}\n", "a.b", "1 and 1"),
        ("a:\n  DE: 1\n  'DE': 2\n", "a.DE", "2 and 3"),
        ("1: a\n1: b\n", "1", "1 and 2"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "b.<<", "3 and 4"),
    ],
)
def test_a_key_that_stands_twice_is_told_with_its_lines(tmp_path: Path, text: str, where: str, lines: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(written(tmp_path, text))
    assert str(caught.value) == f"some.yaml: {where}: stands twice, on lines {lines}"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", None),
        ("a: {x: 1}\nb: {x: 1}\n", {"a": {"x": 1}, "b": {"x": 1}}),
        ("a: &a {x: 1}\nb: *a\nc: *a\n", {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}}),
        # Inside an anchor that another mapping merges first, a merged key may be replaced.
        (
            "z: &z {k: 1}\nx:\n  y: &y {<<: *z, k: 2}\nc: {<<: *y}\n",
            {"z": {"k": 1}, "x": {"y": {"k": 2}}, "c": {"k": 2}},
        ),
    ],
)
def test_the_same_key_elsewhere_is_fine(tmp_path: Path, text: str, content: object) -> None:
    assert read_yaml(written(tmp_path, text)) == (content, text)


@pytest.mark.parametrize("text", ["[1, 2]: a\n", "a: !!python/object:os.system 1\n", "a: 1\n--- \nb: 1\n"])
def test_what_safe_yaml_has_no_place_for_is_a_config_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^some\.yaml: cannot be read: "):
        read_yaml(written(tmp_path, text))


def test_a_second_region_of_a_policy_is_refused(tmp_path: Path) -> None:
    text = (DEPLOYMENTS / "policies" / "default.yaml").read_text(encoding="utf-8")
    path = written(tmp_path, text + "  DE:\n    hate:\n      action: review\n")
    with pytest.raises(ConfigError, match=r"^some\.yaml: regions\.DE: stands twice, on lines \d+ and \d+$"):
        Policy.load(path)


def test_a_second_variant_of_a_topology_is_refused(tmp_path: Path) -> None:
    text = (DEPLOYMENTS / "light.yaml").read_text(encoding="utf-8")
    path = written(tmp_path, text.replace("routes:", "  text-multi: {}\nroutes:", 1))
    with pytest.raises(ConfigError, match=r"^some\.yaml: variants\.text-multi: stands twice"):
        Topology.load(path)
