"""Regions, languages and modalities to variants."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from moderation.errors import ConfigError
from moderation.sections import DriftRules, GateRules, Gateway, RetrainRules
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
        ({"variants": {"gateway": a_variant()}, "routes": [a_route(variant="gateway")]}, "variants.gateway"),
        ({"variants": {"main": a_variant(), "main--challenger": a_variant()}}, "variants.main--challenger"),
        ({"variants": {"main": a_variant(), "--challenger-of-all": a_variant()}}, "variants.--challenger-of-all"),
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
        ({"routes": [a_route(regions=["DE", "de"])]}, "routes.0.regions.1"),
        ({"routes": [a_route(regions=["DEU"])]}, "routes.0.regions.0"),
        ({"routes": [a_route(languages=["EN"])]}, "routes.0.languages.0"),
        ({"routes": [a_route(), a_route(languages=["*", "en-US"])]}, "routes.1.languages.1"),
        ({"routes": [a_route(languages=["**"])]}, "routes.0.languages.0"),
        ({"gateway": {"group_size": 1025}}, "gateway.group_size"),
        ({"gateway": {"deadline_ms": 0}}, "gateway.deadline_ms"),
        ({"gateway": {"client_share": 0}}, "gateway.client_share"),
        ({"gateway": {"client_share": 1.01}}, "gateway.client_share"),
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


def test_a_label_without_a_rule_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, variants={"main": a_variant(labels=["abuse", "hate"])})
    with pytest.raises(ConfigError, match=r"label 'hate' has no rule in policy\.yaml") as caught:
        Topology.load(path)
    assert caught.value.path == "topology.yaml: variants.main.labels"


@pytest.mark.parametrize("policy", ["default.yaml", "precision-first.yaml"])
@pytest.mark.parametrize("name", ["local.yaml", "light.yaml", "cluster.yaml", "regions.yaml"])
def test_every_topology_that_ships_takes_every_policy_that_ships(tmp_path: Path, name: str, policy: str) -> None:
    raw = yaml.safe_load((DEPLOYMENTS / name).read_text(encoding="utf-8"))
    raw |= {"policy": str(DEPLOYMENTS / "policies" / policy), "blocklist": str(DEPLOYMENTS / raw["blocklist"])}
    (tmp_path / name).write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert Topology.load(tmp_path / name).policy.objective("abuse").metric == "precision"


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


def test_the_cluster_s_topology_is_the_local_one_with_more_room() -> None:
    local, cluster = (Topology.load(DEPLOYMENTS / name) for name in ("local.yaml", "cluster.yaml"))
    assert cluster.routes == local.routes
    assert cluster.policy.version == local.policy.version
    assert list(cluster.variants) == list(local.variants)
    for name, variant in cluster.variants.items():
        there = local.variant(name)
        assert (variant.service, variant.labels, variant.shipped) == (there.service, there.labels, there.shipped)
    for bound in ("max_waiting_posts", "max_ongoing_requests", "max_queued_requests"):
        assert getattr(cluster.gateway, bound) > getattr(local.gateway, bound)
    # Else single posts would never reach the queue's bound, nor a client its share.
    assert cluster.gateway.max_ongoing_requests >= cluster.gateway.max_waiting_posts + 2 * cluster.gateway.group_size


@pytest.mark.parametrize(("share", "waiting", "most"), [(0.9, 1024, 921), (1.0, 10, 10), (0.5, 9, 4), (0.1, 5, 1)])
def test_a_client_may_fill_a_share_of_the_queue_and_one_place_at_least(share: float, waiting: int, most: int) -> None:
    assert Gateway(client_share=share, max_waiting_posts=waiting).max_waiting_a_client == most


def a_webhook(**changes: Any) -> dict[str, Any]:
    return {"name": "platform", "url": "https://platform.example/hook?a=1", "secret_env": "HOOK_SECRET"} | changes


def test_no_webhook_is_configured_unless_somebody_does(tmp_path: Path) -> None:
    assert Topology.load(written(tmp_path)).webhooks == ()
    for name in ("local.yaml", "light.yaml", "cluster.yaml", "regions.yaml"):
        assert Topology.load(DEPLOYMENTS / name).webhooks == ()


def test_webhooks_are_read_with_their_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, webhooks=[a_webhook(), a_webhook(name="other", url="http://127.0.0.1:9/", timeout_s=2)])
    first, second = Topology.load(path).webhooks
    assert (first.name, first.timeout_s, first.max_attempts, first.after_action) == ("platform", 10.0, 20, 0)
    assert (second.name, second.url, second.timeout_s) == ("other", "http://127.0.0.1:9/", 2.0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "file:///etc/passwd"}, r"webhooks\.0\.url.*no address that starts with http:// or https://"),
        ({"url": "ftp://host/"}, "no address"),
        ({"url": "//host/"}, "no address"),
        ({"url": "https://"}, "no address"),
        ({"url": "https://host:99999/"}, "no address"),
        ({"url": "https://[::1/"}, "no address"),
        ({"url": "https://user:password@host/"}, "a user, a password or a fragment"),
        ({"url": "https://host/#a"}, "a user, a password or a fragment"),
        ({"name": "Platform"}, r"webhooks\.0\.name"),
        ({"name": "a" * 65}, r"webhooks\.0\.name"),
        ({"secret_env": "hook-secret"}, r"webhooks\.0\.secret_env"),
        ({"timeout_s": 0}, r"webhooks\.0\.timeout_s"),
        ({"max_attempts": 0}, r"webhooks\.0\.max_attempts"),
        ({"max_retry_s": 1}, "max_retry_s is 1.0, below first_retry_s, which is 10.0"),
        ({"secret": "not here"}, r"webhooks\.0\.secret"),
    ],
)
def test_a_wrong_webhook_is_told(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Topology.load(written(tmp_path, webhooks=[a_webhook(**change)]))


def test_a_name_is_one_endpoint_s(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="webhooks has 'platform' twice"):
        Topology.load(written(tmp_path, webhooks=[a_webhook(), a_webhook(url="https://other.example/")]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"puid_prefix": "a b"}, r"statements\.puid_prefix"),
        ({"territorial_scope": ["DE", "US"]}, "territorial_scope has 'US'"),
        ({"territorial_scope": []}, "territorial_scope has 'nothing'"),
        ({"ground": ""}, r"statements\.ground"),
        ({"ground_url": "rules.html"}, r"statements\.ground_url"),
        ({"visibility": "DECISION_VISIBILITY_CONTENT_DEMOTED"}, r"statements\.visibility"),
    ],
)
def test_what_a_statement_could_not_say_is_told(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Topology.load(written(tmp_path, statements=change))


def test_drift_and_retraining_are_judged_as_the_topology_says(tmp_path: Path) -> None:
    topology = Topology.load(
        written(tmp_path, drift={"k": 3, "window_hours": 6}, retrain={"gate": {"minimum_slice": 4}})
    )
    assert (topology.drift.k, topology.drift.n, topology.drift.window) == (3, 3, timedelta(hours=6))
    assert topology.drift.numeric_threshold == DriftRules().numeric_threshold
    assert topology.retrain == RetrainRules(gate=GateRules(minimum_slice=4))
    plain = Topology.load(written(tmp_path))
    assert (plain.drift, plain.retrain) == (DriftRules(), RetrainRules())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"drift": {"k": 4, "n": 3}}, "k is 4 and n is 3; k windows of n take k <= n"),
        ({"drift": {"k": 0}}, r"drift\.k"),
        ({"drift": {"k": -1}}, r"drift\.k"),
        ({"drift": {"n": 0}}, r"drift\.n"),
        ({"drift": {"window_hours": 0}}, r"drift\.window_hours"),
        ({"drift": {"minimum_rows": 0}}, r"drift\.minimum_rows"),
        ({"drift": {"numeric_threshold": 0}}, r"drift\.numeric_threshold"),
        ({"drift": {"numeric_method": "ks"}}, r"drift\.numeric_method"),  # a p-value, not a distance
        ({"drift": {"categorical_method": "wasserstein"}}, r"drift\.categorical_method"),
        ({"drift": {"windows": 3}}, r"drift\.windows"),
        ({"retrain": {"holdout_authors": 0}}, r"retrain\.holdout_authors"),
        ({"retrain": {"holdout_time": 1}}, r"retrain\.holdout_time"),
        ({"retrain": {"loss": "hinge"}}, r"retrain\.loss"),
        ({"retrain": {"gate": {"precision_margin": -0.1}}}, r"retrain\.gate\.precision_margin"),
        ({"retrain": {"gate": {"minimum_harmful": 0}}}, r"retrain\.gate\.minimum_harmful"),
        ({"retrain": {"gate": {"recall_margin": 0.1}}}, r"retrain\.gate\.recall_margin"),
    ],
)
def test_what_drift_or_retraining_could_not_be_judged_by_is_told(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        Topology.load(written(tmp_path, **change))


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (3, 3)])
def test_k_of_n_windows_can_be_any_of_these(k: int, n: int) -> None:
    rules = DriftRules(k=k, n=n)
    assert (rules.k, rules.n) == (k, n)
