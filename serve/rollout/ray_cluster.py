"""The Ray cluster on this machine: started in a session of its own, known by its pid, ended by nothing else.

Every port and path is chosen anew and written to `run/service.json`, so that several Seawalls, of several users, live
side by side. Everything listens on the loopback address alone, but for HTTP, which listens where `--host` says; the
dashboard and its REST API ask for a token. What is written is this user's alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import psutil

from moderation.errors import ServiceError
from moderation.ports import free_ports, is_free
from moderation.running import BEHIND_PROXY, LOOPBACK, STATE, Running, find, noted, ray_environment, scratch_folder
from moderation.settings import REPOSITORY, Settings
from moderation.topology import OUTBOX
from serve.rollout import proxy

TOKEN = "ray-token"  # noqa: S105  # the name of a file

START_TIMEOUT_S = 900.0
"""Of Ray's start, and of each step after it: a busy machine may take minutes. A process that dies, or a deployment that
Ray gives up, ends the wait at once."""
_DRAIN_TIMEOUT_S = 20
_STOP_TIMEOUT_S = 3
_KILL_TIMEOUT_S = 30
_REPLICA_PORTS = 64
"""Ports that gateways' replicas on one machine choose from."""
_METRICS = 3  # which of the agents' ports
_LOG_BYTES, _OLD_LOGS = 16 * 2**20, 2
"""Each log of Ray's is at most so long, and so many older ones are kept beside it."""
_CLIENT_SILENT_S, _SERVER_SILENT_S = 60, 3600
"""So long the proxy waits for more of a request, and for an answer; the topology's deadlines are far shorter."""
_DEREGISTER_S = 5.0
"""A gateway that goes stays so long, for the proxy to learn of it: that takes it 1 s, on a busy machine 3 s."""
_PROXY_HEALTH_S = 0.5
"""How often the proxy is looked after; after three failures it is started anew."""
LOGS = "logs"
"""In the run folder: what Ray logged, of the last run that ended."""


@contextmanager
def starting(settings: Settings) -> Iterator[None]:
    """Held while one looks for a running cluster, starts one and deploys: at most one `seawall up` of a home does so.

    Raises:
        ServiceError: another one does.
    """
    settings.keep_private()
    with (settings.run / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServiceError(f"another `seawall up` is starting under {settings.home}") from error
        yield


def start(
    settings: Settings,
    *,
    port: int,
    topology: Path,
    progress: Callable[[str], None],
    host: str = LOOPBACK,
    behind_proxy: tuple[str, ...] = (),
) -> Running:
    """Start a cluster and wait until Serve's REST API answers.

    Args:
        settings: the places that its processes will use.
        port: for HTTP.
        host: address for HTTP; the loopback address is listened on in any case.
        behind_proxy: networks of proxies whose forwarded headers are believed.
        topology: file that it will run.
        progress: told what is waited for.

    Raises:
        ServiceError: the port is taken or not for this user, the address is not of this machine, or the cluster did not
            come up; names the log.
    """
    _sweep(noted(settings))
    if not all(is_free(port, address) for address in dict.fromkeys((LOOPBACK, host))):
        raise ServiceError(f"port {port} is in use; choose another with --port")
    settings.keep_private()
    token_file = settings.run / TOKEN
    token_file.touch(mode=0o600, exist_ok=True)
    token_file.write_text(secrets.token_hex(32), encoding="ascii")
    scratch = scratch_folder()
    haproxy = proxy.install(scratch, host=host, port=port, trusted=behind_proxy)
    gcs, dashboard, *others = free_ports(13 + 2 * _REPLICA_PORTS)
    log_path = settings.run / "ray.log"
    with log_path.open("wb") as log:  # of this start: what Ray logs while it runs, it bounds itself
        process = subprocess.Popen(
            _command(gcs, dashboard, others[:5], scratch),
            env=os.environ
            | settings.environment()
            | ray_environment(token_file)
            | _ray_limits(scratch, others[5:7])
            | _serve_environment(scratch, haproxy, others[7:11], others[11:])
            | {BEHIND_PROXY: ",".join(behind_proxy)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C at the terminal must reach us, not Ray
            umask=0o077,
        )
    running = Running(
        pid=process.pid,
        started=psutil.Process(process.pid).create_time(),
        address=f"{LOOPBACK}:{gcs}",
        dashboard_url=f"http://{LOOPBACK}:{dashboard}",
        port=port,
        scratch=str(scratch),
        token_file=str(token_file),
        topology=str(topology.resolve()),
        metrics_url=f"http://{LOOPBACK}:{others[_METRICS]}/metrics",
        host=host,
        behind_proxy=behind_proxy,
    )
    try:
        write_down(settings, running)
        give_up = time.monotonic() + START_TIMEOUT_S
        while not _answers(running):
            if process.poll() is not None or time.monotonic() > give_up:
                raise ServiceError(f"Ray did not come up; the last lines of {log_path}:\n{_tail(log_path)}")
            progress("waiting for Ray")
            time.sleep(0.25)
    except BaseException:
        if running.alive():
            _end(running)
            process.poll()
        else:
            _sweep(running)
        (settings.run / STATE).unlink(missing_ok=True)
        raise
    return running


def write_down(settings: Settings, running: Running) -> None:
    """Let other commands find it, with the topology that it runs; the file is never half written."""
    state = settings.run / STATE
    fresh = state.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(running), indent=1) + "\n", encoding="utf-8")
    fresh.replace(state)


def stop(settings: Settings, *, only: Running | None = None) -> bool:
    """End what `start` started, by its pid, and nothing else. False: nothing was running, or another than `only`."""
    running = find(settings)
    if only is not None and running is not None and (running.pid, running.started) != (only.pid, only.started):
        return False
    if running is not None:
        _end(running)
    else:
        _sweep(noted(settings))
    (settings.run / STATE).unlink(missing_ok=True)
    return running is not None


def _end(running: Running) -> None:
    proxy.drain(Path(running.scratch), _DRAIN_TIMEOUT_S)  # requests under way are answered first
    if _sends_webhooks(running):  # and what is being sent arrives
        with contextlib.suppress(httpx.TransportError, OSError):
            httpx.delete(_applications(running), headers=running.headers(), timeout=_DRAIN_TIMEOUT_S, trust_env=False)
    process = psutil.Process(running.pid)
    family = [process, *_session(running.pid)]
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
    # Ray takes half a minute to end by itself. Nothing is lost by not waiting: what was answered is committed.
    _, alive = psutil.wait_procs(family, timeout=_STOP_TIMEOUT_S)
    _kill(alive)
    _clear(running)


def _kill(processes: list[psutil.Process]) -> None:
    for left in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    give_up = time.monotonic() + _KILL_TIMEOUT_S
    while not all(map(_ended, processes)) and time.monotonic() < give_up:
        time.sleep(0.01)


def _clear(running: Running) -> None:
    """Take away the folder of a run that ended; what Ray logged there is kept until the next run ends."""
    scratch = Path(running.scratch)
    kept = Path(running.token_file).parent / LOGS
    with contextlib.suppress(OSError):
        logs = (scratch / "ray" / "session_latest").resolve(strict=True) / "logs"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(logs, kept)
    shutil.rmtree(scratch, ignore_errors=True)


def _sweep(gone: Running | None) -> None:
    """End what is left of a cluster that ended by itself: its proxy, which outlives what manages it.

    A process is known by the session that the cluster had and by the run's folder in what it was started with.
    """
    if gone is None or gone.alive() or not gone.scratch:
        return
    _kill([process for process in _session(gone.pid) if _names(process, gone.scratch)])
    _clear(gone)


def _names(process: psutil.Process, scratch: str) -> bool:
    try:
        return any(part.startswith(f"{scratch}/") for part in process.cmdline())
    except psutil.Error:
        return False


def _sends_webhooks(running: Running) -> bool:
    try:
        found = httpx.get(_applications(running), headers=running.headers(), timeout=_DRAIN_TIMEOUT_S, trust_env=False)
        return OUTBOX in found.json()["applications"]
    except (httpx.TransportError, OSError, ValueError, KeyError, TypeError):
        return False


def _command(gcs: int, dashboard: int, agents: list[int], scratch: Path) -> list[str]:
    # Logical CPUs: replicas take a tenth of one each, training takes one, and Ray Data must find one beside it.
    cpus = max(4, os.cpu_count() or 1)
    options = {
        "port": gcs,
        "dashboard-host": LOOPBACK,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agents[0],
        "dashboard-agent-grpc-port": agents[1],
        "runtime-env-agent-port": agents[2],
        "metrics-export-port": agents[_METRICS],
        "ray-client-server-port": agents[4],
        "node-ip-address": LOOPBACK,
        "temp-dir": scratch / "ray",  # the default is one folder of the machine, its first user's
        "num-cpus": cpus,
        "object-store-memory": 500_000_000,
        "log-style": "record",
        "log-color": "false",
    }
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
    return command + [f"--{name}={value}" for name, value in options.items()]


def _ray_limits(scratch: Path, ports: list[int]) -> dict[str, str]:
    """Where Ray's processes write what has no option, how much is logged, and exporters' ports, else any Ray's."""
    return {
        "RAY_TMPDIR": str(scratch),
        "RAY_ROTATION_MAX_BYTES": str(_LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": str(_OLD_LOGS),
        "DASHBOARD_METRIC_PORT": str(ports[0]),
        "AUTOSCALER_METRIC_PORT": str(ports[1]),
    }


def _serve_environment(scratch: Path, haproxy: Path, ports: list[int], replica_ports: list[int]) -> dict[str, str]:
    """What Ray Serve reads at import, in every process.

    HAProxy in front, and user code on the replica's own loop: several times the default's throughput on two cores.
    """
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(scratch / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(scratch / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(scratch),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(scratch / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(scratch / "metrics.sock"),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(_CLIENT_SILENT_S),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(_SERVER_SILENT_S),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
        # Who takes a request while no gateway lives; at the port that all Serves share it may be another Seawall's.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[2]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports[3]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_DEREGISTER_S),
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": str(_PROXY_HEALTH_S),
    } | _ingress_ports(replica_ports[0])


def _ingress_ports(block: int) -> dict[str, str]:
    """Ports for the gateways' replicas, from `block` on: hardly ever those of another Seawall of this machine.

    From one common range a port that a killed gateway left would go to whoever starts a gateway next, and HAProxy would
    send it our posts until it hears of the death.
    """
    settings = {}
    for kind, begin in (("HTTP", block), ("GRPC", block + _REPLICA_PORTS)):
        settings[f"RAY_SERVE_DIRECT_INGRESS_MIN_{kind}_PORT"] = str(begin)
        settings[f"RAY_SERVE_DIRECT_INGRESS_MAX_{kind}_PORT"] = str(begin + _REPLICA_PORTS - 1)
    return settings


def _applications(running: Running) -> str:
    return f"{running.dashboard_url}/api/serve/applications/"


def _answers(running: Running) -> bool:
    try:
        return (
            httpx.get(_applications(running), headers=running.headers(), timeout=10, trust_env=False).status_code == 200
        )
    except httpx.TransportError:
        return False


def _ended(process: psutil.Process) -> bool:
    """Also if it only waits for its status to be asked for."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _session(pid: int) -> list[psutil.Process]:
    """Processes of the session that `start` made, also those whose parent is gone."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.pid != pid and os.getsid(process.pid) == pid:
                found.append(process)
    return found


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
