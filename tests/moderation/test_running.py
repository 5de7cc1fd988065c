"""Whether the service that was written down still lives."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from moderation.errors import ServiceError
from moderation.running import Running, find, require, scratch_folder
from moderation.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, "", "")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def beginning(child: subprocess.Popen[bytes]) -> float:
    return psutil.Process(child.pid).create_time()


def a_service(pid: int, started: float, **changes: Any) -> Running:
    fields: dict[str, Any] = {
        "pid": pid,
        "started": started,
        "address": "127.0.0.1:6379",
        "dashboard_url": "http://127.0.0.1:8265",
        "port": 8123,
        "scratch": "/tmp/s",
        "token_file": "/tmp/s/token",
        "topology": "/tmp/s/light.yaml",
    }
    return Running(**(fields | changes))


def write_down(settings: Settings, content: str) -> None:
    settings.run.mkdir(parents=True, exist_ok=True)
    (settings.run / "service.json").write_text(content, encoding="utf-8")


def within_seconds(holds: Callable[[], bool], seconds: float = 10) -> bool:
    give_up = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


def test_a_service_that_runs_is_found_as_it_was_written(settings: Settings, child: subprocess.Popen[bytes]) -> None:
    service = a_service(child.pid, beginning(child))
    write_down(settings, json.dumps(asdict(service)))
    assert find(settings) == service
    assert require(settings) == service
    assert service.url == "http://127.0.0.1:8123"


@pytest.mark.parametrize("seconds", [-60.0, 60.0])
def test_a_pid_that_is_somebody_else_s_by_now_is_not_alive(
    settings: Settings, child: subprocess.Popen[bytes], seconds: float
) -> None:
    service = a_service(child.pid, beginning(child) + seconds)
    assert service.alive() is False
    write_down(settings, json.dumps(asdict(service)))
    assert find(settings) is None


def test_a_process_that_ended_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    service = a_service(child.pid, beginning(child))
    assert service.alive() is True
    child.kill()
    child.wait()
    assert service.alive() is False


def test_a_process_that_nobody_waited_for_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    service = a_service(child.pid, beginning(child))
    child.kill()
    assert within_seconds(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert service.alive() is False


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"pid": 1}', '{"surplus": 1}'], ids=lambda content: content or "empty"
)
def test_a_broken_note_is_no_service(settings: Settings, content: str) -> None:
    write_down(settings, content)
    assert find(settings) is None


def test_where_nothing_runs_it_is_said_how_to_start(settings: Settings) -> None:
    assert find(settings) is None
    with pytest.raises(ServiceError, match=r"no Seawall runs under .*; start it with `seawall up`"):
        require(settings)


def test_the_token_is_read_from_its_file_and_never_written_elsewhere(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n", encoding="ascii")
    service = a_service(1, 0.0, token_file=str(token))
    assert service.headers() == {"Authorization": "Bearer s3cret"}
    assert service.environment()["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert service.environment()["RAY_AUTH_MODE"] == "token"
    assert "s3cret" not in json.dumps(asdict(service)) + json.dumps(service.environment())


def test_a_note_of_a_release_that_listened_on_the_loopback_address_alone_is_read(
    settings: Settings, child: subprocess.Popen[bytes]
) -> None:
    service = a_service(child.pid, beginning(child), behind_proxy=("10.0.0.0/8",), host="::")
    write_down(settings, json.dumps(asdict(service)))
    assert find(settings) == service
    old = {name: said for name, said in asdict(service).items() if name not in ("host", "behind_proxy")}
    write_down(settings, json.dumps(old))
    found = find(settings)
    assert found is not None
    assert (found.host, found.behind_proxy) == ("127.0.0.1", ())


def test_a_folder_for_sockets_is_this_user_s_and_short_wherever_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = tmp_path / "a-folder-too-far-away-for-a-socket"
    far.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(far))
    folder = scratch_folder()
    assert folder.parent == Path("/tmp")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(str(folder / ("n" * 56) / "admin.sock")) <= 97
    folder.rmdir()


def test_where_no_folder_for_sockets_can_be_made_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(13, "Permission denied", "/tmp")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(ServiceError, match=r"no folder for sockets .* in /tmp; name one of 12 characters by TMPDIR"):
        scratch_folder()


def test_a_ray_that_a_command_starts_for_itself_has_a_folder_of_its_own_that_goes_with_it() -> None:
    code = "from moderation.running import own_ray; print(own_ray()['RAY_TMPDIR'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert folder.name.startswith("seawall-")
    assert not folder.exists()
