"""Starting and ending by pid, as far as it goes without Ray."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from moderation import ports
from moderation.errors import ServiceError
from moderation.ports import free_ports, is_free
from moderation.running import STATE, Running, find, ray_environment, require
from moderation.settings import Settings
from serve.rollout import ray_cluster
from tests.processes import a_process
from tests.rooms import TOPOLOGY, settings_in

SLEEPS = "import time; time.sleep(3600)"
SLEEPS_ON = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(3600)"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path / "home")


def a_session(*command: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A process that leads a session, as Ray's of a Seawall does."""
    return a_process(command, stdout=subprocess.PIPE, start_new_session=True)


def python(code: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return a_session(sys.executable, "-S", "-c", code)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else."""
    with python(SLEEPS) as process:
        yield process


def is_gone(process: psutil.Process, within_s: float = 60) -> bool:
    """Whether it ends; one that only waits for its status to be asked for has ended."""
    give_up = time.monotonic() + within_s
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.01)
    return True


def write_state(settings: Settings, process: subprocess.Popen[bytes], **changes: Any) -> Running:
    """What `up` would have written of a process, with a service that no longer listens."""
    settings.run.mkdir(parents=True)
    token = settings.run / ray_cluster.TOKEN
    token.write_text("secret\n", encoding="ascii")
    scratch = settings.home / "scratch"
    scratch.mkdir()
    [port] = free_ports(1)
    running = Running(
        pid=process.pid,
        started=psutil.Process(process.pid).create_time(),
        address="127.0.0.1:1",
        dashboard_url=f"http://127.0.0.1:{port}",
        port=port,
        scratch=str(scratch),
        token_file=str(token),
        topology=str(TOPOLOGY),
    )
    running = Running(**(asdict(running) | changes))
    (settings.run / STATE).write_text(json.dumps(asdict(running)), encoding="utf-8")
    return running


@pytest.mark.parametrize("count", [1, 9, 50])
def test_free_ports_are_distinct_and_free(count: int) -> None:
    drawn = free_ports(count)
    assert len(set(drawn)) == count
    assert all(1024 <= port <= 65_535 for port in drawn)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", drawn[-1]))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_in_use_is_told_and_nothing_is_started(settings: Settings, address: str) -> None:
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} is in use; choose another with --port"):
            ray_cluster.start(settings, port=port, topology=TOPOLOGY, progress=lambda _: None)
    assert not settings.run.exists()
    assert is_free(port)


UNPRIVILEGED = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))


@pytest.mark.skipif(UNPRIVILEGED <= 80, reason="every user may listen on port 80 here")
def test_a_port_that_this_user_may_not_have_is_told_as_that(settings: Settings) -> None:
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        with pytest.raises(ServiceError, match=r"port 80 is not for this user \(Permission denied\); choose another"):
            ray_cluster.start(settings, port=80, topology=TOPOLOGY, progress=lambda _: None)
    finally:
        os.seteuid(user)


def test_only_one_starts_at_a_time(settings: Settings) -> None:
    told = r"another `seawall up` is starting under .*home"
    with ray_cluster.starting(settings), pytest.raises(ServiceError, match=told), ray_cluster.starting(settings):
        pass
    with ray_cluster.starting(settings):
        pass


def test_what_was_started_ends_where_it_cannot_be_written_down(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_command", lambda *_: [sys.executable, "-S", "-c", SLEEPS])
    (settings.run / STATE).with_suffix(".new").mkdir(parents=True)
    [port] = free_ports(1)
    before = psutil.Process().children()  # servers that other tests share
    with pytest.raises(IsADirectoryError):
        ray_cluster.start(settings, port=port, topology=TOPOLOGY, progress=lambda _: None)
    assert all(is_gone(child, within_s=0) for child in psutil.Process().children() if child not in before)


def test_another_than_the_named_one_is_left_alone(settings: Settings, sleeper: subprocess.Popen[bytes]) -> None:
    running = write_state(settings, sleeper)
    assert ray_cluster.stop(settings, only=replace(running, started=running.started - 100)) is False
    assert sleeper.poll() is None
    assert find(settings) == running
    assert ray_cluster.stop(settings, only=replace(running, topology="another.yaml")) is True
    assert find(settings) is None


def test_what_ray_logged_is_kept_of_the_run_that_ended_last_and_its_folder_goes(
    settings: Settings, sleeper: subprocess.Popen[bytes]
) -> None:
    running = write_state(settings, sleeper)
    for content in ("first", "second"):
        logs = Path(running.scratch) / "ray" / "session_1" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text(content, encoding="utf-8")
        (logs.parent.parent / "session_latest").symlink_to("session_1")
        ray_cluster._clear(running)
        assert not Path(running.scratch).exists()
        assert (settings.run / ray_cluster.LOGS / "raylet.out").read_text(encoding="utf-8") == content


def test_ray_has_a_folder_of_its_own_and_bounded_logs_and_exporters_ports_of_its_own(tmp_path: Path) -> None:
    assert f"--temp-dir={tmp_path / 'ray'}" in ray_cluster._command(1, 2, [3, 4, 5, 6, 7], tmp_path)
    environment = ray_cluster._ray_limits(tmp_path, [8, 9])
    assert environment["RAY_TMPDIR"] == str(tmp_path)  # of whatever makes Ray's folder without being told
    assert (environment["DASHBOARD_METRIC_PORT"], environment["AUTOSCALER_METRIC_PORT"]) == ("8", "9")
    assert (
        int(environment["RAY_ROTATION_MAX_BYTES"]) * (1 + int(environment["RAY_ROTATION_BACKUP_COUNT"])) <= 48 * 2**20
    )


def test_the_proxy_of_a_cluster_that_ended_by_itself_is_ended_and_nothing_else(settings: Settings) -> None:
    scratch = settings.home / "scratch"
    line = f"exec {sys.executable} -S -c '{SLEEPS}'"
    with a_session("sh", "-c", f"({line} {scratch}/haproxy.cfg & {line} & echo $!; wait) & exec sleep 3600") as leader:
        assert leader.stdout is not None
        bystander = psutil.Process(int(leader.stdout.readline()))
        write_state(settings, leader)
        give_up = time.monotonic() + 60
        while not (
            left := [found for found in ray_cluster._session(leader.pid) if ray_cluster._names(found, str(scratch))]
        ):
            assert time.monotonic() < give_up
    assert ray_cluster.stop(settings) is False
    assert [is_gone(found) for found in left] == [True] * len(left)
    assert bystander.is_running()
    assert not scratch.exists()
    bystander.kill()


def test_an_address_of_another_machine_is_told_and_nothing_is_started(settings: Settings) -> None:
    with pytest.raises(ServiceError, match=r"203\.0\.113\.7 is no address of this machine; choose another with --host"):
        ray_cluster.start(settings, port=8000, host="203.0.113.7", topology=TOPOLOGY, progress=lambda _: None)
    assert not settings.run.exists()


def test_a_port_that_is_taken_on_the_chosen_address_alone_is_told(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} is in use; choose another with --port"):
            ray_cluster.start(settings, port=port, host="127.0.0.2", topology=TOPOLOGY, progress=lambda _: None)


def test_stopping_where_nothing_ever_ran_is_harmless(settings: Settings) -> None:
    assert ray_cluster.stop(settings) is False
    assert find(settings) is None
    with pytest.raises(ServiceError, match=r"no Seawall runs under .*home; start it with `seawall up`"):
        require(settings)


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}", '{"pid": 1}', "null"])
def test_a_state_file_that_says_nothing_is_nothing_running(settings: Settings, content: str) -> None:
    settings.run.mkdir(parents=True)
    (settings.run / STATE).write_text(content, encoding="utf-8")
    assert find(settings) is None
    assert ray_cluster.stop(settings) is False
    assert not (settings.run / STATE).exists()


def test_a_pid_that_belongs_to_another_process_by_now_is_left_alone(
    settings: Settings, sleeper: subprocess.Popen[bytes]
) -> None:
    running = write_state(settings, sleeper, started=psutil.Process(sleeper.pid).create_time() - 100)
    assert running.alive() is False
    assert find(settings) is None
    assert ray_cluster.stop(settings) is False
    assert sleeper.poll() is None
    assert not (settings.run / STATE).exists()


def test_a_process_that_ended_is_not_running(settings: Settings) -> None:
    with python(SLEEPS) as process:
        write_state(settings, process)
        assert find(settings) is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now: nobody has asked for its status yet
        assert find(settings) is None
        process.communicate()
        assert find(settings) is None


def test_what_was_started_is_found_and_ended_and_nothing_else(
    settings: Settings, sleeper: subprocess.Popen[bytes]
) -> None:
    with python(SLEEPS) as process:
        running = write_state(settings, process)
        found = find(settings)
        assert found == running
        assert found.url == f"http://127.0.0.1:{running.port}"
        assert found.headers() == {"Authorization": "Bearer secret"}
        seen = psutil.Process(process.pid)
        assert ray_cluster.stop(settings) is True
        assert is_gone(seen)
        assert sleeper.poll() is None
        assert not Path(running.scratch).exists()
        assert not (settings.run / STATE).exists()
        assert ray_cluster.stop(settings) is False


def test_what_does_not_end_by_itself_is_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_STOP_TIMEOUT_S", 0.2)
    with python(SLEEPS_ON) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        write_state(settings, process)
        seen = psutil.Process(process.pid)
        assert ray_cluster.stop(settings) is True
        assert is_gone(seen, within_s=0)  # it is waited for
        process.communicate(timeout=60)
        assert not psutil.pid_exists(process.pid)


def test_the_whole_session_is_ended_also_what_has_lost_its_parent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_STOP_TIMEOUT_S", 0.2)
    with a_session("sh", "-c", "(sleep 3600 & echo $!); exec sleep 3600") as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        assert os.getsid(child.pid) == process.pid
        write_state(settings, process)
        assert ray_cluster.stop(settings) is True
        process.communicate(timeout=60)
        assert is_gone(child)


def test_the_last_lines_of_a_log_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "ray.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(50)) + b"\xff no text\n")
    lines = ray_cluster._tail(log).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (20, "line 31", "\ufffd no text")


def test_only_the_loopback_address_is_listened_on_and_every_port_is_its_own(tmp_path: Path) -> None:
    command = ray_cluster._command(1000, 1001, [1002, 1003, 1004, 1005, 1006], tmp_path)
    assert Path(command[0]).parent == Path(sys.executable).parent
    assert command[1:5] == ["start", "--head", "--block", "--disable-usage-stats"]
    options = dict(option.removeprefix("--").split("=") for option in command[5:])
    assert {options[name] for name in ("dashboard-host", "node-ip-address")} == {"127.0.0.1"}
    ports = [value for name, value in options.items() if name.endswith("port") and value.startswith("100")]
    assert sorted(ports) == [str(port) for port in range(1000, 1007)]
    # Else Ray takes the machine's own address for the node's, and its exporters listen on all.
    assert ray_environment(tmp_path)["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_a_seawall_has_a_block_of_ports_of_its_own_for_its_replicas() -> None:
    given = {name: int(port) for name, port in ray_cluster._ingress_ports(20_000).items()}
    assert given == {
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": 20_000,
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": 20_063,
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": 20_064,
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": 20_127,
    }


def test_ports_are_not_those_that_the_system_gives_out() -> None:
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    assert all(20_000 <= port < int(first) for _ in range(50) for port in free_ports(3))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "0.0.0.0"])
def test_a_block_with_a_taken_port_is_not_drawn(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with socket.socket() as taken:
        taken.bind((address, 0))
        port = taken.getsockname()[1]
        taken.listen()
        monkeypatch.setattr(ports, "_FIRST_PORT", port)
        monkeypatch.setattr(ports, "_LAST_PORT", port + 2)
        monkeypatch.setattr(ports.secrets, "randbelow", lambda _: 0)
        with pytest.raises(ServiceError, match="no 1 free ports in a row"):
            free_ports(1)
