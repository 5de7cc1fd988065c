"""Regions, languages and modalities to variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from moderation.errors import ConfigError
from moderation.settings import DEPLOYMENTS
from moderation.topology import Topology

POLICY = """
version: v1
labels:
  abuse: {objective: "precision>=0.9", prevalence: 0.05, action: remove, on_failure: review}
"""


def a_variant(**changes: Any) -> dict[str, Any]:
    return {"service": "text", "labels": ["abuse"], "shipped": "models/a"} | changes


def a_route(**changes: Any) -> dict[str, Any]:
    return {"service": "text", "regions": ["*"], "languages": ["*"], "variant": "main"} | changes


def written(folder: Path, **changes: Any) -> Path:
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (folder / "blocklist.txt").write_text("malware.example\n", encoding="utf-8")
    raw = {
        "policy": "policy.yaml",
        "blocklist": "blocklist.txt",
        "variants": {"main": a_variant()},
        "routes": [a_route()],
    }
    path = folder / "topology.yaml"
    path.write_text(yaml.safe_dump(raw | changes), encoding="utf-8")
    return path


VARIANTS = {name: a_variant() for name in ("german", "europe", "main")}
ROUTES = [
    a_route(regions=["DE", "AT"], languages=["de"], variant="german"),
    a_route(regions=["DE", "FR"], variant="europe"),
    a_route(),
]


@pytest.mark.parametrize(
    ("region", "language", "variant"),
    [
        ("DE", "de", "german"),
        ("AT", "de", "german"),
        ("DE", "fr", "europe"),
        ("FR", "de", "europe"),
        ("AT", "fr", "main"),
        ("US", "und", "main"),
        ("de", "de", "main"),
    ],
)
def test_the_first_route_that_fits_decides(tmp_path: Path, region: str, language: str, variant: str) -> None:
    topology = Topology.load(written(tmp_path, variants=VARIANTS, routes=ROUTES))
    assert topology.variant_for("text", region=region, language=language) == variant


def test_the_order_of_the_routes_counts(tmp_path: Path) -> None:
    topology = Topology.load(written(tmp_path, variants=VARIANTS, routes=[ROUTES[2], ROUTES[0]]))
    assert topology.variant_for("text", region="DE", language="de") == "main"


def test_where_no_route_fits_nothing_judges(tmp_path: Path) -> None:
    topology = Topology.load(written(tmp_path, routes=[a_route(regions=["DE"], languages=["de", "en"])]))
    assert topology.variant_for("text", region="DE", language="en") == "main"
    assert topology.variant_for("text", region="DE", language="fr") is None
    assert topology.variant_for("text", region="US", language="de") is None
    assert topology.variant_for("image", region="DE", language="de") is None


def test_a_topology_brings_its_policy_blocklist_and_bounds(tmp_path: Path) -> None:
    topology = Topology.load(written(tmp_path, gateway={"group_size": 8}))
    assert topology.policy.version.startswith("v1+")
    assert topology.blocklist.domains == {"malware.example"}
    assert topology.gateway.group_size == 8
    assert topology.gateway.max_text_characters == 40_000
    assert topology.shipped_folder("main") == tmp_path / "models/a"
    assert topology.variant("main").max_ongoing_requests == 16


def test_a_variant_that_is_unknown_is_told_beside_the_known_ones(tmp_path: Path) -> None:
    topology = Topology.load(written(tmp_path, variants=VARIANTS, routes=ROUTES))
    with pytest.raises(ConfigError, match="no variant 'other'; there are europe, german, main") as caught:
        topology.variant("other")
    assert caught.value.path == "topology.yaml: variants"
    with pytest.raises(ConfigError, match="no variant 'other'"):
        topology.shipped_folder("other")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"variants": {}}, "variants"),
        ({"variants": {"main": a_variant(labels=[])}}, "variants.main.labels"),
        ({"variants": {"main": a_variant(labels=["abuse", "sarcasm"])}}, "variants.main.labels"),
        ({"variants": {"main": a_variant(service="smell")}}, "variants.main.service"),
        ({"variants": {"main": a_variant(replicas=0)}}, "variants.main.replicas"),
        ({"variants": {"main": a_variant(num_gpus=-1)}}, "variants.main.num_gpus"),
        ({"variants": {"main": a_variant(gpus=1)}}, "variants.main.gpus"),
        ({"routes": []}, "routes"),
        ({"routes": [a_route(), a_route(regions=[])]}, "routes.1.regions"),
        ({"routes": [a_route(), a_route(variant="other")]}, "routes.1.variant"),
        ({"routes": [a_route(service="image")]}, "routes.0.variant"),
        ({"routes": [a_route(regions=[False])]}, "routes.0.regions.0"),  # what YAML makes of an unquoted NO
        ({"gateway": {"group_size": 1025}}, "gateway.group_size"),
        ({"gateway": {"deadline_ms": 0}}, "gateway.deadline_ms"),
        ({"gateway": {"speed": 1}}, "gateway.speed"),
        ({"metrics": {"max_window_days": 0}}, "metrics.max_window_days"),
        ({"metrics": {"series_by": ["country"]}}, "metrics.series_by.0"),
        ({"metrics": {"refresh_s": -1}}, "metrics.refresh_s"),
        ({"blocklist": "gone.txt"}, "blocklist"),
        ({"blocklist": "."}, "blocklist"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Topology.load(written(tmp_path, **changes))
    assert caught.value.path == f"topology.yaml: {where}"


def test_a_blocklist_that_is_no_text_is_a_config_error(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "blocklist.txt").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ConfigError, match="blocklist"):
        Topology.load(path)


def test_a_route_to_the_wrong_kind_of_variant_is_told_which_would_fit(tmp_path: Path) -> None:
    variants = {"main": a_variant(), "pictures": a_variant(service="image")}
    with pytest.raises(ConfigError, match=r"'pictures' is no text variant; those are: main$"):
        Topology.load(written(tmp_path, variants=variants, routes=[a_route(variant="pictures")]))
    with pytest.raises(ConfigError, match=r"'main' is no video variant; those are: none$"):
        Topology.load(written(tmp_path, routes=[a_route(service="video")]))


def test_an_error_in_the_policy_names_the_policy(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "policy.yaml").write_text("version: v1\nlabels: {abuse: 1}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^policy\.yaml: labels\.abuse: "):
        Topology.load(path)
    with pytest.raises(ConfigError, match=r"^gone\.yaml: cannot be read"):
        Topology.load(written(tmp_path, policy="gone.yaml"))


def test_the_topology_that_ships_serves_every_language_of_every_region() -> None:
    topology = Topology.load(DEPLOYMENTS / "local.yaml")
    assert topology.variant_for("text", region="BR", language="pt") == "text-multi"
    assert topology.variant_for("text", region="ZZ", language="und") == "text-multi"
    assert (topology.shipped_folder("text-multi") / "model.json").is_file()
    assert topology.blocklist.matches("files.malware.example") == "malware.example"
