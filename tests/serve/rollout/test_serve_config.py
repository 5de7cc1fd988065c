"""The Serve config, as a function of topology, registry and ledger."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from ray.serve.schema import ServeDeploySchema
from sqlalchemy import delete, select

from moderation.errors import ConflictError, RegistryError, ServiceError
from moderation.sections import Webhook
from moderation.settings import DEPLOYMENTS
from moderation.storage import experiments
from moderation.storage.ledger import now
from moderation.storage.tables import locks
from moderation.topology import GATEWAY, OUTBOX, Topology
from serve.rollout import promotion, serve_config
from serve.rollout.names import application_of
from serve.rollout.promotion import House
from tests.serve.house import SHIPPED, TOPOLOGY, VARIANT


def shipped(house: House, *, challenger: bool = False) -> House:
    house.registry.register(VARIANT, SHIPPED, evidence={})
    house.registry.move_alias(VARIANT, "champion", 1, expected=None)
    if challenger:
        house.registry.register(VARIANT, SHIPPED, evidence={})
        house.registry.move_alias(VARIANT, "challenger", 2, expected=None)
    return house


def rendered(house: House) -> dict[str, Any]:
    return serve_config.render(house.topology, house.registry, house.ledger, port=8123)


def test_an_application_is_named_after_its_variant_and_arm() -> None:
    assert application_of("text-multi", "champion") == "text-multi"
    assert application_of("text-multi", "challenger") == "text-multi--challenger"
    assert GATEWAY not in {application_of("text-multi", "champion"), application_of("text-multi", "challenger")}


def test_the_gateway_and_each_champion_are_applications_of_their_own(house: House) -> None:
    config = rendered(shipped(house))
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8123}
    assert config["proxy_location"] == "HeadOnly"
    gateway, champion = config["applications"]
    bounds = house.topology.gateway
    assert gateway == {
        "name": "gateway",
        "route_prefix": "/",
        "import_path": "serve.rollout.applications:gateway",
        "args": {"topology": str(TOPOLOGY)},
        "deployments": [
            {
                "name": "gateway",
                "num_replicas": 1,
                "max_ongoing_requests": bounds.max_ongoing_requests + 2048,  # to be refused with a problem
                "max_queued_requests": bounds.max_queued_requests,
                "backpressure_config": {"status_code": 503, "retry_after_s": 1},
                "ray_actor_options": {"num_cpus": 0.1},
                "user_config": {"splits": {}},
            }
        ],
    }
    assert (champion["name"], champion["route_prefix"]) == (VARIANT, None)
    [deployment] = champion["deployments"]
    assert deployment["user_config"] == {"variant": VARIANT, "version": 1, "threads": 1}
    assert deployment["ray_actor_options"] == {"num_cpus": 0.1, "num_gpus": 0.0}
    assert json.loads(json.dumps(config)) == config


def test_a_challenger_without_an_experiment_is_not_deployed(house: House) -> None:
    names = [app["name"] for app in rendered(shipped(house, challenger=True))["applications"]]
    assert names == ["gateway", VARIANT]


def test_a_running_experiment_brings_its_challenger_and_tells_the_gateway(house: House) -> None:
    shipped(house, challenger=True)
    experiment = experiments.create(
        house.ledger, "try-2", variant=VARIANT, champion_version=1, challenger_version=2, share=0.25
    )
    before = rendered(house)
    names = [app["name"] for app in before["applications"]]
    assert names == ["gateway", VARIANT, f"{VARIANT}--challenger"]
    gateway, champion, challenger = (app["deployments"][0]["user_config"] for app in before["applications"])
    assert gateway == {"splits": {VARIANT: {"experiment": "try-2", "salt": experiment.salt, "buckets": 2500}}}
    assert (champion["version"], challenger["version"]) == (1, 2)

    experiments.ramp(house.ledger, "try-2", 0.5)
    ramped = rendered(house)
    assert ramped["applications"][0]["deployments"][0]["user_config"]["splits"][VARIANT]["buckets"] == 5000
    assert ramped["applications"][1:] == before["applications"][1:]

    experiments.stop(house.ledger, "try-2")
    stopped = rendered(house)
    assert [app["name"] for app in stopped["applications"]] == ["gateway", VARIANT]
    assert stopped["applications"][0]["deployments"][0]["user_config"] == {"splits": {}}


@pytest.mark.parametrize("most", [None, 2, 5])
def test_replicas_are_fixed_or_between_two_bounds(house: House, most: int | None) -> None:
    shipped(house)
    bounds = {"replicas": 2, "max_replicas": most, "target_ongoing_requests": 3.0}
    variants = {VARIANT: house.topology.variant(VARIANT).model_copy(update=bounds)}
    topology = replace(house.topology, variants=variants, gateway=house.topology.gateway.model_copy(update=bounds))
    for app in serve_config.render(topology, house.registry, house.ledger, port=8123)["applications"]:
        [deployment] = app["deployments"]
        if most == 5:
            assert "num_replicas" not in deployment
            scaling = {"min_replicas": 2, "max_replicas": 5, "target_ongoing_requests": 3.0}
            assert deployment["autoscaling_config"] == scaling
        else:
            assert deployment["num_replicas"] == 2
            assert "autoscaling_config" not in deployment


def test_the_cluster_s_topology_scales_everything_and_gives_gpus_to_what_computes_on_them(house: House) -> None:
    clustered = replace(house, topology=Topology.load(DEPLOYMENTS / "cluster.yaml"))
    for variant in clustered.topology.variants:
        promotion.ship(clustered, variant)
    config = rendered(clustered)
    ServeDeploySchema.model_validate(config)
    found = {}
    for app in config["applications"]:
        [deployment] = app["deployments"]
        scaling = deployment["autoscaling_config"]
        assert 1 <= scaling["min_replicas"] < scaling["max_replicas"]
        assert scaling["target_ongoing_requests"] <= deployment["max_ongoing_requests"]
        found[app["name"]] = deployment["ray_actor_options"].get("num_gpus")
    assert found == {
        "gateway": None,
        "text-multi": 0,
        "misinformation": 0,
        "image-multi": 0.25,
        "video-multi": 0.25,
    }


def test_rendering_twice_gives_the_same(house: House) -> None:
    shipped(house)
    assert rendered(house) == rendered(house)


def test_a_variant_without_a_champion_cannot_be_rendered(house: House) -> None:
    with pytest.raises(RegistryError, match=r"'text-multi' has no champion; `seawall models ship` registers"):
        rendered(house)


def test_where_nothing_runs_there_is_nothing_to_refresh(house: House) -> None:
    said: list[str] = []
    serve_config.refresh(None, house.topology, house.registry, house.ledger, progress=said.append)
    assert said == []


def test_the_lock_is_held_as_long_as_a_change_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_config, "_RENEW_S", 0.0)
    said: list[str] = []
    with house.ledger.lock("deploy", hold=timedelta(minutes=5)) as held:
        say = serve_config._renewing(held, said.append)
        begun = now()
        say("waiting")
        with house.ledger.read() as connection:
            expires_at = connection.execute(select(locks.c.expires_at).where(locks.c.name == "deploy")).scalar_one()
        assert expires_at >= begun + held.hold
        with house.ledger.write() as connection:
            connection.execute(delete(locks))  # it was taken for dead, and overtaken
        with pytest.raises(ConflictError, match="another one's now"):
            say("waiting")
    assert said == ["waiting"]


WANTED: dict[str, Any] = {"name": "x", "deployments": [{"name": "classifier", "user_config": {"version": 2}}]}


def found(
    status: str = "RUNNING", health: str = "HEALTHY", user_config: object = None, deployed: object = None
) -> dict[str, Any]:
    config = {"version": 2} if user_config is None else user_config
    return {
        "status": status,
        "deployed_app_config": {"name": "x"} if deployed is None else deployed,
        "deployments": {
            "classifier": {"name": "classifier", "status": health, "deployment_config": {"user_config": config}}
        },
    }


@pytest.mark.parametrize(
    ("application", "settled"),
    [
        (found(), True),
        (None, False),
        (found(status="DEPLOYING"), False),
        (found(status="UNHEALTHY"), False),
        (found(status="DEPLOY_FAILED"), False),
        (found(health="UPDATING"), False),
        (found(health="UNHEALTHY"), False),
        (found(user_config={"version": 1}), False),
        (found() | {"deployed_app_config": None}, False),
    ],
)
def test_an_application_is_settled_when_its_config_has_arrived_and_it_is_healthy(
    application: dict[str, Any] | None, settled: bool
) -> None:
    assert serve_config._settled(application, WANTED) is settled


def test_a_sender_runs_only_where_there_is_an_endpoint(house: House) -> None:
    assert [app["name"] for app in rendered(shipped(house))["applications"]] == ["gateway", VARIANT]
    webhook = Webhook(name="platform", url="https://platform.example/", secret_env="HOOK_SECRET", timeout_s=7)
    hooked = replace(house, topology=replace(house.topology, webhooks=(webhook,)))
    *_, outbox = rendered(hooked)["applications"]
    assert (outbox["name"], outbox["route_prefix"], outbox["import_path"]) == (
        "outbox",
        None,
        "serve.rollout.applications:outbox",
    )
    (deployment,) = outbox["deployments"]
    assert (deployment["num_replicas"], deployment["graceful_shutdown_timeout_s"]) == (1, 8.0)
    (told,) = deployment["user_config"]["webhooks"]
    assert Webhook.model_validate(told) == webhook
    json.dumps(outbox)
    assert OUTBOX == "outbox"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([500, 500, 200], None),
        ([500, 500, 500], "refused the config with 500"),
        ([400], "refused the config with 400"),
    ],
)
def test_a_proxy_that_did_not_start_in_time_is_started_anew(
    answers: list[int], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_config, "_ANEW_S", 0.0)
    given = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"applications": {}})
        return httpx.Response(next(given), text="HAProxy did not enter running state within 5 seconds.")

    expected = contextlib.nullcontext() if told is None else pytest.raises(ServiceError, match=told)
    transport = httpx.MockTransport(answer)
    with httpx.Client(transport=transport, base_url="http://serve") as client, expected:
        serve_config._put(client, {"applications": []}, lambda _: None)
    assert list(given) == []


def test_a_deployment_that_failed_is_told_with_its_own_message() -> None:
    failed = found(status="DEPLOY_FAILED", health="DEPLOY_FAILED") | {"message": "Failed to update ['classifier']."}
    failed["deployments"]["classifier"]["message"] = "ModelError: trained with preprocessing 'text-0'"
    failed["deployments"]["other"] = {"name": "other", "status": "HEALTHY", "message": "fine"}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"applications": {"x": failed}})

    told = r"x could not be deployed: Failed to update \['classifier'\]\.\nclassifier: ModelError: trained with .*-0'$"
    transport = httpx.MockTransport(answer)
    with (
        httpx.Client(transport=transport, base_url="http://serve") as client,
        pytest.raises(ServiceError, match=told),
    ):
        serve_config._put(client, {"applications": [WANTED]}, lambda _: None)
