"""From the ledger and the registry to what runs: render the Serve config, and change the running one over to it.

The config is a function of the topology, the aliases and the running experiments, and nothing else: it can be rendered
anew at any time. It goes to Ray Serve's REST API, as `serve deploy` would send it, and a change of `user_config` alone
reaches running replicas without a restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx

from moderation.context import Context
from moderation.errors import ServiceError
from moderation.running import Running
from moderation.sections import Gateway
from moderation.storage import experiments
from moderation.storage.ledger import Held
from moderation.topology import GATEWAY, OUTBOX, Topology
from moderation.variants import Variant
from serve.experiments.split import Arm, split_of
from serve.rollout.names import ClassifierConfig, GatewayConfig, OutboxConfig, application_of
from serve.rollout.ray_cluster import START_TIMEOUT_S

Config = dict[str, Any]

_REFUSING = 2048
"""Requests that a gateway's replica holds beyond its bound, for as long as it takes to refuse them."""
_ATTEMPTS = 3
_ANEW_S = 5.0
_RENEW_S = 30.0
"""How often the lock is prolonged while a change is waited for."""


def render(context: Context, *, port: int, champion: Callable[[str], int] | None = None) -> Config:
    """The Serve config of all that should run now; `champion` tells each variant's, where it is not the registry's."""
    topology = context.topology
    champion = champion or context.registry.champion
    running = {name: experiments.running(context.ledger, name) for name in topology.variants}
    user_config = GatewayConfig(splits={name: split_of(found) for name, found in running.items() if found})
    applications = [_gateway(topology, user_config)]
    for name, experiment in running.items():
        applications.append(_classifier(topology, name, "champion", champion(name)))
        if experiment is not None:
            applications.append(_classifier(topology, name, "challenger", experiment.challenger_version))
    if topology.webhooks:
        applications.append(_outbox(topology))
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": applications,
    }


def apply(cluster: Running, config: Config, *, progress: Callable[[str], None] = lambda _: None) -> None:
    """Change the running config over to `config`, without a request that finds its model missing.

    What is new comes up first, then the gateway learns of it, then what is no longer used goes.

    Raises:
        ServiceError: Serve refused it, or did not become ready in time.
    """
    with _client(cluster) as client:
        running = {name: app["deployed_app_config"] for name, app in _details(client)["applications"].items()}
        wanted = {app["name"]: app for app in config["applications"]}
        gateway_now = running.get(GATEWAY)
        grown = list((running | wanted).values())
        if gateway_now is not None:
            grown = [gateway_now if app["name"] == GATEWAY else app for app in grown]
        steps = [grown, list((running | wanted).values()), list(wanted.values())]
        sent: list[Config] | None = None
        for applications in steps:
            if applications == sent:
                continue
            _put(client, config | {"applications": applications}, progress)
            sent = applications


def refresh(context: Context, cluster: Running | None, *, progress: Callable[[str], None]) -> None:
    """Render and apply; nothing to do where nothing runs."""
    if cluster is None:
        return
    with context.ledger.lock("deploy", wait=timedelta(seconds=START_TIMEOUT_S), hold=timedelta(minutes=5)) as held:
        config = render(context, port=cluster.port)
        apply(cluster, config, progress=_renewing(held, progress))


def _renewing(held: Held, progress: Callable[[str], None]) -> Callable[[str], None]:
    """As `progress`, and the lock is held as long as something is told: a change may take longer than it is held."""
    renewed = time.monotonic()

    def say(message: str) -> None:
        nonlocal renewed
        if time.monotonic() - renewed >= _RENEW_S:
            held.renew()
            renewed = time.monotonic()
        progress(message)

    return say


def _gateway(topology: Topology, user_config: GatewayConfig) -> Config:
    bounds = topology.gateway
    deployment = {
        "name": "gateway",
        **_scaling(bounds),
        # The gateway refuses by itself, beyond its bound, and must get the requests to do so.
        "max_ongoing_requests": bounds.max_ongoing_requests + _REFUSING,
        "max_queued_requests": bounds.max_queued_requests,
        "backpressure_config": {"status_code": 503, "retry_after_s": 1},
        "ray_actor_options": {"num_cpus": bounds.num_cpus},
        "user_config": user_config,
    }
    return {
        "name": GATEWAY,
        "route_prefix": "/",
        "import_path": "serve.rollout.applications:gateway",
        "args": {"topology": str(topology.path.resolve())},
        "deployments": [deployment],
    }


def _classifier(topology: Topology, name: str, arm: Arm, version: int) -> Config:
    variant = topology.variant(name)
    deployment = {
        "name": "classifier",
        **_scaling(variant),
        "max_ongoing_requests": variant.max_ongoing_requests,
        "ray_actor_options": {"num_cpus": variant.num_cpus, "num_gpus": variant.num_gpus},
        "user_config": ClassifierConfig(variant=name, version=version, threads=variant.threads),
    }
    of_media = variant.service in ("image", "video")
    if of_media:  # as long as a call may last
        deployment["graceful_shutdown_timeout_s"] = 1 + topology.media.deadline_ms / 1000
    return {
        "name": application_of(name, arm),
        "route_prefix": None,
        "import_path": "serve.rollout.applications:media_classifier"
        if of_media
        else "serve.rollout.applications:classifier",
        "args": {"topology": str(topology.path.resolve())} if of_media else {},
        "deployments": [deployment],
    }


def _outbox(topology: Topology) -> Config:
    deployment = {
        "name": "outbox",
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": topology.gateway.num_cpus},
        "graceful_shutdown_timeout_s": 1 + max(webhook.timeout_s for webhook in topology.webhooks),
        "user_config": OutboxConfig(webhooks=[webhook.model_dump(mode="json") for webhook in topology.webhooks]),
    }
    return {
        "name": OUTBOX,
        "route_prefix": None,
        "import_path": "serve.rollout.applications:outbox",
        "args": {},
        "deployments": [deployment],
    }


def _scaling(bounds: Variant | Gateway) -> Config:
    """A fixed number of replicas, or between which bounds Ray Serve chooses one."""
    if bounds.max_replicas is None or bounds.max_replicas == bounds.replicas:
        return {"num_replicas": bounds.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": bounds.replicas,
            "max_replicas": bounds.max_replicas,
            "target_ongoing_requests": bounds.target_ongoing_requests,
        }
    }


def _client(cluster: Running) -> httpx.Client:
    return httpx.Client(base_url=cluster.dashboard_url, headers=cluster.headers(), timeout=60, trust_env=False)


def _details(client: httpx.Client) -> Config:
    response = client.get("/api/serve/applications/")
    if response.status_code != 200:
        raise ServiceError(f"Ray Serve's REST API answered {response.status_code}: {response.text[:500]}")
    details: Config = response.json()
    return details


def _put(client: httpx.Client, config: Config, progress: Callable[[str], None]) -> None:
    for attempt in range(_ATTEMPTS):
        response = client.put("/api/serve/applications/", json=config)
        # Serve gives HAProxy 5 s to start, which a busy machine may exceed, and starts it anew when that has failed.
        if response.status_code != 500 or "HAProxy" not in response.text or attempt + 1 == _ATTEMPTS:
            break
        progress("waiting for HAProxy")
        time.sleep(_ANEW_S)
    if response.status_code != 200:
        raise ServiceError(f"Ray Serve refused the config with {response.status_code}: {response.text[:2000]}")
    wanted = {app["name"]: app for app in config["applications"]}
    give_up = time.monotonic() + START_TIMEOUT_S
    while True:
        found = _details(client)["applications"]
        waiting = sorted(name for name in wanted if not _settled(found.get(name), wanted[name]))
        leaving = sorted(set(found) - set(wanted))
        failed = [name for name in wanted if found.get(name, {}).get("status") == "DEPLOY_FAILED"]
        if failed:
            raise ServiceError(f"{failed[0]} could not be deployed: {_why(found[failed[0]])[:4000]}")
        if not waiting and not leaving:
            return
        if time.monotonic() > give_up:
            raise ServiceError(f"after {START_TIMEOUT_S:.0f} s still not ready: {', '.join(waiting + leaving)}")
        progress(f"waiting for {', '.join(waiting + leaving)}")
        time.sleep(0.25)


def _why(failed: Config) -> str:
    """What Serve says of an application that failed, and of each deployment of it that did."""
    deployments = failed.get("deployments", {}).values()
    causes = [f"{item['name']}: {item['message']}" for item in deployments if item["status"] == "DEPLOY_FAILED"]
    return "\n".join([failed["message"], *causes])


def _settled(found: Config | None, wanted: Config) -> bool:
    """Whether an application runs as wanted: the config has arrived and every deployment is healthy under it."""
    if found is None or found["status"] != "RUNNING" or found["deployed_app_config"] is None:
        return False
    applied = found["deployments"].values()
    targets = {item["name"]: item["user_config"] for item in wanted["deployments"]}
    return all(
        item["status"] == "HEALTHY" and item["deployment_config"]["user_config"] == targets[item["name"]]
        for item in applied
    )
