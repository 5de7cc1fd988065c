"""Seconds of `seawall up --detach`, on an empty home and on the same home again, and of `seawall down`.

    python -m tests.benchmarks.start_up [--topology deployments/light.yaml]

Cold: the registry is made, every shipped model registered, an encoder's base unpacked. Warm: all of that is there.
Cold is the home, not the disk's cache: from the second round on, the code and the models have been read before. Cold
and warm take turns, on a home of each round's own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from moderation.settings import DEPLOYMENTS
from simulate.service import Service
from tests.benchmarks.load import spread


def main(
    topology: Annotated[Path, typer.Option(help="Topology file.", exists=True)] = DEPLOYMENTS / "local.yaml",
    rounds: Annotated[int, typer.Option(help="Of a cold and a warm start each.", min=1, max=50)] = 3,
) -> None:
    """Measure; the last line is one JSON document."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    load_average = round(os.getloadavg()[0], 2)
    ups: dict[str, list[float]] = {"cold": [], "warm": []}
    downs: list[float] = []
    sizes: list[float] = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            for kind, taken in ups.items():
                up, down = start_and_end(Path(folder) / "home", topology.resolve())
                taken.append(up)
                downs.append(down)
                print(f"round {number}: {kind} up {up:.1f} s, down {down:.1f} s", file=sys.stderr, flush=True)
            sizes.append(sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6)
    found = {
        "benchmark": "start_up",
        "topology": topology.name,
        "cpus": os.cpu_count(),
        "load_average_before": load_average,
        "rounds": rounds,
        "cold_s": spread(ups["cold"], 1),
        "warm_s": spread(ups["warm"], 1),
        "warm_over_cold": spread([warm / cold for cold, warm in zip(ups["cold"], ups["warm"], strict=True)], 3),
        "down_s": spread(downs, 1),
        "home_mb": spread(sizes, 1),
    }
    print(json.dumps(found))


def start_and_end(home: Path, topology: Path) -> tuple[float, float]:
    """Seconds until `up --detach` says that all is ready, and of `down`.

    Raises:
        RuntimeError: a command failed; with what it said.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        service = Service(home, probe.getsockname()[1])
    ended = False
    try:
        up = _seconds(service, "up", "--detach", "--port", str(service.port), "--topology", str(topology))
        down = _seconds(service, "down")
        ended = True
    finally:
        if not ended:
            service.run("down")
    return up, down


def _seconds(service: Service, *command: str) -> float:
    begun = time.perf_counter()
    done = service.run(*command)
    taken = time.perf_counter() - begun
    if done.returncode != 0:
        raise RuntimeError(f"seawall {' '.join(command)} ended with {done.returncode}\n{done.stderr[-4000:]}")
    return taken


if __name__ == "__main__":
    typer.run(main)
