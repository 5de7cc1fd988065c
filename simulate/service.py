"""A Seawall of one's own: started by the real command on a free port, with a home of its own, and ended again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from moderation.ports import free_ports
from moderation.running import find
from moderation.settings import DEPLOYMENTS, Settings

SEAWALL = str(Path(sys.executable).with_name("seawall"))
PATIENT_S = 900.0
"""For an answer, or for what must come about: so long only what hangs takes, on the slowest machine."""
PATIENT: dict[str, dict[str, float]] = {
    "gateway": {"deadline_ms": 600_000, "max_wait_ms": 600_000},
    "media": {"deadline_ms": 600_000, "max_wait_ms": 600_000, "read_timeout_s": 300},
}
"""Sections of a topology whose models have their time, where a test's subject is what they say, not by when."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running Seawall."""

    home: Path
    """Its SEAWALL_HOME."""
    port: int
    """Of its HTTP."""

    @property
    def url(self) -> str:
        """Where posts are put."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """For commands that speak of this Seawall."""
        return os.environ | {"SEAWALL_HOME": str(self.home)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `seawall` command; whatever it ends with is the caller's to judge."""
        command = [SEAWALL, *arguments]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Run a command with `--json`; its document. A failure shows what the command said."""
        done = self.run(*arguments, "--json")
        if done.returncode != 0:
            raise RuntimeError(f"seawall {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return document

    def deployment(self, application: str, name: str) -> dict[str, Any]:
        """What Ray Serve says of a deployment."""
        running = find(Settings(self.home, "", ""))
        assert running is not None
        url = f"{running.dashboard_url}/api/serve/applications/"
        found = httpx.get(url, headers=running.headers(), timeout=PATIENT_S, trust_env=False).json()
        said: dict[str, Any] = found["applications"][application]["deployments"][name]
        return said

    def replica(self, application: str, deployment: str) -> int:
        """The process of a deployment's running replica.

        Raises:
            LookupError: none runs now.
        """
        for replica in self.deployment(application, deployment)["replicas"]:
            if replica["state"] == "RUNNING":
                return int(replica["pid"])
        raise LookupError(f"no replica of {deployment!r} runs")


def light_topology(folder: Path, **sections: Any) -> Path:
    """The light topology with other sections, as a file in `folder`; of a mapping, with other fields."""
    return _topology("light.yaml", folder, sections)


def local_topology(folder: Path, *, num_gpus: float = 0.0, **sections: Any) -> Path:
    """As `light_topology`, of the local one; each classifier has such a share of a GPU."""
    return _topology("local.yaml", folder, sections, num_gpus)


def regions_topology(folder: Path, **sections: Any) -> Path:
    """As `light_topology`, of the one with regional variants."""
    return _topology("regions.yaml", folder, sections)


def _topology(name: str, folder: Path, sections: Mapping[str, Any], num_gpus: float = 0.0) -> Path:
    raw = yaml.safe_load((DEPLOYMENTS / name).read_text(encoding="utf-8"))
    for place in ("policy", "blocklist"):
        raw[place] = str(DEPLOYMENTS / raw[place])
    for variant in raw["variants"].values():
        variant |= {"shipped": str(DEPLOYMENTS / variant["shipped"]), "num_gpus": num_gpus}
    path = folder / "topology.yaml"
    changed = {key: raw.get(key, {}) | said if isinstance(said, dict) else said for key, said in sections.items()}
    path.write_text(yaml.safe_dump(raw | changed, sort_keys=False), encoding="utf-8")
    return path


@contextmanager
def running_service(
    home: Path, *, topology: Path | None = None, quiet: bool = False, logical_gpus: int | None = None
) -> Iterator[Service]:
    """Start a Seawall with an empty home, and end it.

    Args:
        home: emptied first; a Seawall that still runs there is ended.
        topology: that it runs; None: the local one.
        quiet: True: keep what `up` prints to oneself, unless it fails.
        logical_gpus: that Ray believes the machine to have; None: it looks.
    """
    service = Service(home.resolve(), free_ports(1)[0])
    service.run("down")
    shutil.rmtree(home, ignore_errors=True)
    command = [SEAWALL, "up", "--detach", "--port", str(service.port)]
    command += [] if topology is None else ["--topology", str(topology)]
    try:
        environment = service.environment()
        if logical_gpus is not None:
            environment["RAY_OVERRIDE_RESOURCES"] = json.dumps({"GPU": logical_gpus})
        done = subprocess.run(command, env=environment, capture_output=quiet, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"seawall up ended with {done.returncode}\n{done.stderr or ''}")
        yield service
    finally:
        service.run("down")
