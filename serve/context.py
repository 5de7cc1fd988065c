"""What the routes of the gateway work with, for routes that live in modules of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends
from ray import serve as ray_serve

from moderation.storage.feature_store import FeatureStore
from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.media.door import MediaDoor
from serve.posts.moderator import Moderator


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """What the gateway's replica holds.

    Attributes:
        topology: variants, routes, bounds, policy.
        ledger: blocking; asynchronous routes put its calls on a thread.
        moderator: decides on posts and scores texts.
        known: what is known of authors and communities; blocking.
        door: where media come in.
    """

    topology: Topology
    ledger: Ledger
    moderator: Moderator
    known: FeatureStore
    door: MediaDoor


def current() -> GatewayContext:
    """The context of the replica that runs the calling route; `Depends(current)` in FastAPI."""
    context: GatewayContext = ray_serve.get_replica_context().servable_object.context
    return context


Here: TypeAlias = Annotated[GatewayContext, Depends(current)]
"""As a parameter of a route: what the replica that runs it holds."""
