"""What the Serve applications are called and configured with: one for the gateway, one for each variant's arm.

An application of its own lets a challenger come, scale, crash and go without touching a champion. Imports no Ray, so
that commands start quickly, and set Ray's environment before it is read.
"""

from __future__ import annotations

from typing import TypedDict

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


def application_of(variant: str, arm: Arm) -> str:
    """The Serve application that holds a variant's arm."""
    return variant if arm == "champion" else variant + CHALLENGER
