"""What the Serve applications are called and configured with: the gateway, one for each variant's arm, the outbox.

An application of its own lets a challenger come, scale, crash and go without touching a champion. Imports no Ray, so
that commands start quickly, and set Ray's environment before it is read.
"""

from __future__ import annotations

from typing import Any, TypedDict

from moderation.topology import CHALLENGER
from serve.experiments.split import Arm, Split


class GatewayConfig(TypedDict):
    """The gateway's `user_config`: the running experiment of each variant that has one."""

    splits: dict[str, Split]


class ClassifierConfig(TypedDict):
    """A classifier's `user_config`: changing it makes running replicas load other weights, without a restart."""

    variant: str
    version: int
    threads: int


class OutboxConfig(TypedDict):
    """The outbox's `user_config`: the endpoints, as the topology names them; where a secret is, not what it is."""

    webhooks: list[dict[str, Any]]


def application_of(variant: str, arm: Arm) -> str:
    """The Serve application that holds a variant's arm."""
    return variant if arm == "champion" else variant + CHALLENGER
