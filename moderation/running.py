"""The service that runs on this machine, as `seawall up` wrote it down: where it is, and whether it still lives."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from moderation.errors import ServiceError
from moderation.settings import DEPLOYMENTS, Settings

STATE = "service.json"
LOOPBACK = "127.0.0.1"
BEHIND_PROXY = "SEAWALL_BEHIND_PROXY"
"""Environment variable, set by `seawall up`: networks of proxies whose forwarded headers are believed, with commas."""
_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray turns a loopback address into the machine's own, and then listens on all of them, unless it believes to be on a
system where it forms no clusters of several machines. Ours have one machine."""
_SCRATCH_PARENT = 12
"""A socket's path has at most 107 bytes; HAProxy's, which is made under another name first, 97: `seawall-` and 8 more,
a node's id of 56, and `admin.sock`, are 85 with their slashes."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started cluster, as written to `run/service.json`."""

    pid: int
    """Of `ray start --block`, which ends the whole cluster when it ends."""
    started: float
    """When that process began, in seconds since 1970: a pid alone may be somebody else's by now."""
    address: str
    """Of Ray's control store, for `ray.init`."""
    dashboard_url: str
    """Of the dashboard and Serve's REST API."""
    port: int
    """HTTP."""
    scratch: str
    """Folder for sockets, in a short path."""
    token_file: str
    """Ray's token, readable by its owner only."""
    topology: str
    """File that it runs; commands that name no other speak of this one."""
    metrics_url: str = ""
    """Where Prometheus scrapes; on this machine only."""
    host: str = LOOPBACK
    """Address that HTTP listens on, besides the loopback address."""
    behind_proxy: tuple[str, ...] = ()
    """Networks of proxies whose forwarded headers are believed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "behind_proxy", tuple(self.behind_proxy))  # JSON knows lists alone

    @property
    def url(self) -> str:
        """Where posts are put."""
        return f"http://{LOOPBACK}:{self.port}"

    def headers(self) -> dict[str, str]:
        """What the dashboard asks for."""
        return {"Authorization": f"Bearer {Path(self.token_file).read_text(encoding='ascii').strip()}"}

    def environment(self) -> dict[str, str]:
        """What a process that joins needs in its environment, before it imports Ray."""
        return ray_environment(Path(self.token_file))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return _process(self.pid, self.started) is not None


def noted(settings: Settings) -> Running | None:
    """The cluster that was started last under these settings, whether or not it still runs."""
    try:
        return Running(**json.loads((settings.run / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def find(settings: Settings) -> Running | None:
    """The cluster that was started under these settings, if it still runs."""
    running = noted(settings)
    return running if running is not None and running.alive() else None


def topology_of(running: Running | None, chosen: Path | None) -> Path:
    """The topology file that a command speaks of: the chosen one, else the one that runs, else the local one."""
    if chosen is not None:
        return chosen
    return DEPLOYMENTS / "local.yaml" if running is None else Path(running.topology)


def require(settings: Settings) -> Running:
    """The running cluster.

    Raises:
        ServiceError: none runs.
    """
    running = find(settings)
    if running is None:
        raise ServiceError(f"no Seawall runs under {settings.home}; start it with `seawall up`")
    return running


def ray_environment(token_file: Path) -> dict[str, str]:
    """What a process that joins the cluster needs in its environment, before it imports Ray."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "DO_NOT_TRACK": "1",
    } | _ON_LOOPBACK


def scratch_folder() -> Path:
    """A new folder for sockets and what Ray writes, for this user alone, in a path short enough for sockets.

    Raises:
        ServiceError: none can be made.
    """
    places = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  # mkdtemp's folder is this user's alone
    for place in places:
        if len(os.fsencode(place)) <= _SCRATCH_PARENT:
            try:
                return Path(tempfile.mkdtemp(prefix="seawall-", dir=place))
            except OSError:
                continue
    told = ", ".join(map(str, dict.fromkeys(places)))
    raise ServiceError(
        f"no folder for sockets can be made in {told}; name one of {_SCRATCH_PARENT} characters by TMPDIR"
    )


def own_ray() -> dict[str, str]:
    """What a process that starts a Ray of its own needs in its environment, before it imports Ray: a folder of its own.

    The default is one folder of the machine, which is its first user's. The folder goes with the process.
    """
    folder = scratch_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # registered before Ray's own end, and so after it
    return {"RAY_TMPDIR": str(folder)} | _ON_LOOPBACK


def _process(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        return process if same else None
    except psutil.NoSuchProcess:
        return None
