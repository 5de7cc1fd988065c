"""Application builders, named by `import_path` in the Serve config that `serve.rollout.serve_config` renders.

Each imports what it builds, and nothing else: Ray builds every application in a process of its own, and torch,
transformers and the readers of media take seconds to import.
"""

from __future__ import annotations

from typing import TypedDict, cast

from ray import serve as ray_serve
from ray.serve import Deployment


class TopologyArgs(TypedDict):
    """Arguments of an application that reads the topology."""

    topology: str


def gateway(args: TopologyArgs) -> ray_serve.Application:
    """The ingress."""
    from serve.gateway import Gateway

    return cast(Deployment, Gateway).bind(args["topology"])


def classifier(_args: dict[str, str]) -> ray_serve.Application:
    """One variant's arm; which one, its `user_config` says."""
    from serve.posts.classifier import Classifier

    return cast(Deployment, Classifier).bind()


def media_classifier(args: TopologyArgs) -> ray_serve.Application:
    """One arm of a variant that looks at images or videos."""
    from serve.media.classifier import MediaClassifier

    return cast(Deployment, MediaClassifier).bind(args["topology"])


def outbox(_args: dict[str, str]) -> ray_serve.Application:
    """The sender of webhooks; to whom, its `user_config` says."""
    from serve.outbox.deployment import Outbox

    return cast(Deployment, Outbox).bind()
