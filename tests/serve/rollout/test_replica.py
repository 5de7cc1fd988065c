"""What a replica's process does first."""

from __future__ import annotations

import logging
import os

import grpc
import psutil
import pytest
from ray.serve._private import replica

from serve.rollout import replica as settling
from serve.rollout.logs import Discreet
from tests.rooms import run

LOGGERS = [logging.getLogger(name) for name in ("ray.serve", "asyncio")]


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "add_port_to_grpc_server", replica.add_port_to_grpc_server)
    for logger in LOGGERS:
        monkeypatch.setattr(logger, "filters", [])


async def listens_on(address: str) -> set[str]:
    """Where a server of Ray Serve's listens that is told to listen there."""
    server = grpc.aio.server()
    port = replica.add_port_to_grpc_server(server, address)
    await server.start()
    try:
        found = psutil.Process(os.getpid()).net_connections("tcp")
        return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN and one.laddr.port == port}
    finally:
        await server.stop(None)


def test_a_replica_takes_calls_where_its_node_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "get_node_ip_address", lambda: "192.0.2.7")
    settling.settle()
    assert run(listens_on("[::]:0")) == {"::"}
    monkeypatch.setattr(settling, "get_node_ip_address", lambda: "127.0.0.1")
    settling.settle()
    settling.settle()
    assert {ip.removeprefix("::ffff:") for ip in run(listens_on("[::]:0"))} == {"127.0.0.1"}


def test_another_address_than_ray_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "get_node_ip_address", lambda: "127.0.0.1")
    settling.settle()
    with pytest.raises(
        RuntimeError, match=r"binds '0\.0\.0\.0:0', not '\[::\]:0'; serve/rollout/replica.py must follow it"
    ):
        replica.add_port_to_grpc_server(None, "0.0.0.0:0")


def test_a_replica_s_log_is_discreet() -> None:
    settling.settle()
    settling.settle()
    for logger in LOGGERS:
        assert [type(found) for found in logger.filters] == [Discreet]
