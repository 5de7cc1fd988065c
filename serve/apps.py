"""Application builders, named by `import_path` in the Serve config that `serve.control` renders."""

from __future__ import annotations

from typing import TypedDict, cast

from ray import serve as ray_serve
from ray.serve import Deployment

from serve.classifier import Classifier
from serve.gateway import Gateway
from serve.media.classifier import MediaClassifier
from serve.outbox_app import Outbox


class TopologyArgs(TypedDict):
    """Arguments of an application that reads the topology."""

    topology: str


def gateway(args: TopologyArgs) -> ray_serve.Application:
    """The ingress."""
    return cast(Deployment, Gateway).bind(args["topology"])


def classifier(_args: dict[str, str]) -> ray_serve.Application:
    """One variant's arm; which one, its `user_config` says."""
    return cast(Deployment, Classifier).bind()


def media_classifier(args: TopologyArgs) -> ray_serve.Application:
    """One arm of a variant that looks at images or videos."""
    return cast(Deployment, MediaClassifier).bind(args["topology"])


def outbox(_args: dict[str, str]) -> ray_serve.Application:
    """The sender of webhooks; to whom, its `user_config` says."""
    return cast(Deployment, Outbox).bind()
