"""What each of Seawall's replicas does first in its process, before it serves."""

from __future__ import annotations

import logging
from typing import Any

from ray.serve._private import replica
from ray.util import get_node_ip_address

from moderation.running import LOOPBACK
from serve.rollout.logs import keep_discreet

logger = logging.getLogger("ray.serve")
_EVERYWHERE = "[::]:0"


def settle() -> None:
    """Log no text of anybody's, and take calls of other replicas where the node itself is reached, not everywhere.

    Ray Serve has replicas take calls, which are pickles, on all addresses of the machine, and asks no token there. On a
    cluster of several machines that is how they reach each other; a network of its own must keep others away.
    """
    keep_discreet(logger)
    keep_discreet(logging.getLogger("asyncio"))  # of what a task raised that nobody waited for
    bind = replica.add_port_to_grpc_server
    if get_node_ip_address() != LOOPBACK or getattr(bind, "keeps_to_loopback", False):
        return

    def bind_here(server: Any, address: str) -> int:
        if address != _EVERYWHERE:
            raise RuntimeError(
                f"Ray Serve binds {address!r}, not {_EVERYWHERE!r}; serve/rollout/replica.py must follow it"
            )
        port: int = bind(server, f"{LOOPBACK}:0")
        return port

    bind_here.keeps_to_loopback = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = bind_here
