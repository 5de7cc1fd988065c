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

from moderation.context import Context
from moderation.errors import ConflictError, RegistryError, ServiceError
from moderation.sections import Webhook
from moderation.settings import DEPLOYMENTS
from moderation.storage import experiments
from moderation.storage.ledger import now
from moderation.storage.tables import locks
from moderation.topology import GATEWAY, OUTBOX, Topology
from serve.rollout import promotion, serve_config
from serve.rollout.names import application_of
from tests.rooms import SHIPPED, TOPOLOGY, VARIANT


def shipped(context: Context, *, challenger: bool = False) -> Context:
    context.registry.register(VARIANT, SHIPPED, evidence={})
    context.registry.move_alias(VARIANT, "champion", 1, expected=None)
    if challenger:
        context.registry.register(VARIANT, SHIPPED, evidence={})
        context.registry.move_alias(VARIANT, "challenger", 2, expected=None)
    return context


def rendered(context: Context) -> dict[str, Any]:
    return serve_config.render(context, port=8123)


def test_an_application_is_named_after_its_variant_and_arm() -> None:
    assert application_of("text-multi", "champion") == "text-multi"
    assert application_of("text-multi", "challenger") == "text-multi--challenger"
    assert GATEWAY not in {application_of("text-multi", "champion"), application_of("text-multi", "challenger")}


def test_the_gateway_and_each_champion_are_applications_of_their_own(context: Context) -> None:
    config = rendered(shipped(context))
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8123}
    assert config["proxy_location"] == "HeadOnly"
    gateway, champion = config["applications"]
    bounds = context.topology.gateway
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


def test_a_challenger_without_an_experiment_is_not_deployed(context: Context) -> None:
    names = [app["name"] for app in rendered(shipped(context, challenger=True))["applications"]]
    assert names == ["gateway", VARIANT]


def test_a_running_experiment_brings_its_challenger_and_tells_the_gateway(context: Context) -> None:
    shipped(context, challenger=True)
    experiment = experiments.create(
        context.ledger, "try-2", variant=VARIANT, champion_version=1, challenger_version=2, share=0.25
    )
    before = rendered(context)
    names = [app["name"] for app in before["applications"]]
    assert names == ["gateway", VARIANT, f"{VARIANT}--challenger"]
    gateway, champion, challenger = (app["deployments"][0]["user_config"] for app in before["applications"])
    assert gateway == {"splits": {VARIANT: {"experiment": "try-2", "salt": experiment.salt, "buckets": 2500}}}
    assert (champion["version"], challenger["version"]) == (1, 2)

    experiments.ramp(context.ledger, "try-2", 0.5)
    ramped = rendered(context)
    assert ramped["applications"][0]["deployments"][0]["user_config"]["splits"][VARIANT]["buckets"] == 5000
    assert ramped["applications"][1:] == before["applications"][1:]

    experiments.stop(context.ledger, "try-2")
    stopped = rendered(context)
    assert [app["name"] for app in stopped["applications"]] == ["gateway", VARIANT]
    assert stopped["applications"][0]["deployments"][0]["user_config"] == {"splits": {}}


@pytest.mark.parametrize("most", [None, 2, 5])
def test_replicas_are_fixed_or_between_two_bounds(context: Context, most: int | None) -> None:
    shipped(context)
    bounds = {"replicas": 2, "max_replicas": most, "target_ongoing_requests": 3.0}
    variants = {VARIANT: context.topology.variant(VARIANT).model_copy(update=bounds)}
    topology = replace(context.topology, variants=variants, gateway=context.topology.gateway.model_copy(update=bounds))
    for app in rendered(replace(context, topology=topology))["applications"]:
        [deployment] = app["deployments"]
        if most == 5:
            assert "num_replicas" not in deployment
            scaling = {"min_replicas": 2, "max_replicas": 5, "target_ongoing_requests": 3.0}
            assert deployment["autoscaling_config"] == scaling
        else:
            assert deployment["num_replicas"] == 2
            assert "autoscaling_config" not in deployment


def test_the_cluster_s_topology_scales_everything_and_gives_gpus_to_what_computes_on_them(context: Context) -> None:
    clustered = replace(context, topology=Topology.load(DEPLOYMENTS / "cluster.yaml"))
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


def test_rendering_twice_gives_the_same(context: Context) -> None:
    shipped(context)
    assert rendered(context) == rendered(context)


def test_a_variant_without_a_champion_cannot_be_rendered(context: Context) -> None:
    with pytest.raises(RegistryError, match=r"'text-multi' has no champion; `seawall models ship` registers"):
        rendered(context)


def test_where_nothing_runs_there_is_nothing_to_refresh(context: Context) -> None:
    said: list[str] = []
    serve_config.refresh(context, None, progress=said.append)
    assert said == []


def test_the_lock_is_held_as_long_as_a_change_goes_on(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_config, "_RENEW_S", 0.0)
    said: list[str] = []
    with context.ledger.lock("deploy", hold=timedelta(minutes=5)) as held:
        say = serve_config._renewing(held, said.append)
        begun = now()
        say("waiting")
        with context.ledger.read() as connection:
            expires_at = connection.execute(select(locks.c.expires_at).where(locks.c.name == "deploy")).scalar_one()
        assert expires_at >= begun + held.hold
        with context.ledger.write() as connection:
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


def test_a_sender_runs_only_where_there_is_an_endpoint(context: Context) -> None:
    assert [app["name"] for app in rendered(shipped(context))["applications"]] == ["gateway", VARIANT]
    webhook = Webhook(name="platform", url="https://platform.example/", secret_env="HOOK_SECRET", timeout_s=7)
    hooked = replace(context, topology=replace(context.topology, webhooks=(webhook,)))
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
