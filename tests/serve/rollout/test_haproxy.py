"""HAProxy itself, with what Ray Serve renders for it and Seawall mends, before a gateway of a few lines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from moderation.errors import ServiceError
from moderation.ports import free_ports
from moderation.running import scratch_folder
from serve.rollout import haproxy, proxy
from tests.processes import a_process

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
Answer = Callable[[socket.socket, bytes], None]


def answer_ok(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(OK)


@dataclass
class Gateway:
    """What stands in a gateway's place, and what came to it."""

    port: int
    answer: Answer = answer_ok
    heads: list[str] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while True:
                request = b""
                while b"\r\n\r\n" not in request:
                    part = connection.recv(65_536)
                    if not part:
                        return
                    request += part
                head, body = request.split(b"\r\n\r\n", 1)
                length = re.search(rb"(?i)content-length: (\d+)", head)
                while length and len(body) < int(length[1]):
                    body += connection.recv(65_536)
                if b" /-/healthz " in head:
                    connection.sendall(OK)
                    continue
                self.heads.append(head.decode("latin-1"))
                self.answer(connection, request)


@contextmanager
def a_gateway() -> Iterator[Gateway]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gateway = Gateway(listener.getsockname()[1])
        threading.Thread(target=gateway.serve, args=(listener,), daemon=True).start()
        yield gateway
        listener.shutdown(socket.SHUT_RDWR)


def rendered(folder: Path, port: int, gateways: list[int], *, fallback: bool = True, known: bool = False) -> Path:
    """The configuration as Ray Serve's own code writes it; `known`: of an application, also where it has no gateway."""
    api = HAProxyApi(
        HAProxyConfig(
            http_options=HTTPOptions(host="127.0.0.1", port=port),
            is_head=True,
            socket_path=str(folder / "node" / "admin.sock"),
            server_state_base=str(folder),
            server_state_file=str(folder / "server-state"),
            metrics_socket_path=str(folder / "metrics.sock"),
            metrics_port=free_ports(1)[0],
            stats_port=free_ports(1)[0],
            timeout_client_s=60,
        ),
        config_file_path=str(folder / "node" / "haproxy.cfg"),
    )
    servers = [ServerConfig(f"gateway-{number}", "127.0.0.1", gateway) for number, gateway in enumerate(gateways)]
    if servers or known:
        backup = ServerConfig("fallback", "127.0.0.1", 1) if fallback else None
        backend = BackendConfig("http-gateway", "/", servers=servers, app_name="gateway", fallback_server=backup)
        api.set_backend_configs({"http-gateway": backend})
    api._generate_config_file_internal()
    return folder / "node" / "haproxy.cfg"


@dataclass
class Proxy:
    """A running HAProxy, and the folder of its run."""

    folder: Path
    running: contextlib.ExitStack
    port: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, gateways: list[int], *arguments: str, known: bool = False) -> subprocess.Popen[bytes]:
        """Another HAProxy, as a manager starts one; it has taken over when this returns."""
        return self.drawn(lambda: rendered(self.folder, self.port, gateways, known=known), *arguments)

    def drawn(self, render: Callable[[], Path], *arguments: str) -> subprocess.Popen[bytes]:
        """Start one; with other ports where somebody else has taken one of them since it was drawn."""
        for _ in range(9):
            with contextlib.suppress(AddressInUse):
                process = self.running.enter_context(started(self.folder, render(), *arguments))
                self.processes.append(process)
                return process
        raise AssertionError("whichever ports are drawn, HAProxy finds them in use")

    def reload(self, gateways: list[int], *, known: bool = False) -> None:
        """As a manager does where its gateways change."""
        admin = str(self.folder / "node" / "admin.sock")
        self.start(gateways, "-sf", str(self.processes[-1].pid), "-x", admin, known=known)


class AddressInUse(Exception):
    """HAProxy cannot listen on one of its ports."""


@contextmanager
def started(folder: Path, config: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(folder / "haproxy"), "-db", "-f", str(config), "-dR", *arguments]
    with a_process(command, stderr=subprocess.PIPE) as process:
        give_up = time.monotonic() + 60
        while _pid(config.parent / "admin.sock") != process.pid:
            if process.poll() is not None:
                told = process.stderr.read().decode()
                raise AddressInUse(told) if "Address already in use" in told else AssertionError(told)
            assert time.monotonic() < give_up
            time.sleep(0.01)
        yield process


def _pid(admin: Path) -> int | None:
    try:
        return int(re.search(r"^Pid: (\d+)$", proxy._ask(admin, "show info"), re.MULTILINE)[1])  # type: ignore[index]
    except OSError:
        return None


@contextmanager
def a_proxy(
    gateways: list[int], *, host: str = "127.0.0.1", trusted: tuple[str, ...] = (), **rules: int
) -> Iterator[Proxy]:
    with scratch() as folder, contextlib.ExitStack() as running:
        found = Proxy(folder, running)

        def render() -> Path:
            [found.port] = free_ports(1)
            shutil.rmtree(folder / "errors", ignore_errors=True)
            proxy.install(folder, host=host, port=found.port, trusted=trusted)
            kept = folder / "haproxy.json"
            changed = replace(haproxy.Rules.from_json(kept.read_text(encoding="utf-8")), **rules)  # type: ignore[arg-type]
            kept.write_text(changed.to_json(), encoding="utf-8")
            return rendered(folder, found.port, gateways)

        found.drawn(render)
        yield found


@contextmanager
def scratch() -> Iterator[Path]:
    folder = scratch_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with a_gateway() as found:
        yield found


def problem(response: httpx.Response) -> dict[str, object]:
    assert response.headers["content-type"] == "application/problem+json"
    said: dict[str, object] = response.json()
    assert said["status"] == response.status_code
    assert {"type", "title", "detail"} <= set(said)
    return said


def put(url: str, size: int = 2, **more: object) -> httpx.Response:
    return httpx.put(f"{url}/v1/posts/p-1", content=b"x" * size, trust_env=False, timeout=60, **more)  # type: ignore[arg-type]


def test_what_ray_renders_is_mended_and_haproxy_takes_it(tmp_path: Path) -> None:
    rules = haproxy.Rules("haproxy", str(tmp_path), ("127.0.0.1:8000", "192.0.2.7:8000"), ("10.0.0.0/8",))
    for gateways in ([], [9001], [9001, 9002]):
        config = haproxy.mended(rendered(tmp_path, 8000, gateways).read_text(encoding="utf-8"), rules)
        assert haproxy.mended(config, rules) == config
        binds = [line.strip() for line in config.splitlines() if line.strip().startswith("bind ")]
        assert {bind.rsplit(":", 1)[0] for bind in binds} == {"bind 127.0.0.1", "bind 192.0.2.7"}
        assert all(old not in config for old in ("mode 666", " backup", "status 404", "reuse always"))


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("errorfile 503", "http-error status 503"),
        ("bind *:", "bind 0.0.0.0:"),
        ("frontend http_frontend", "frontend http"),
        ("mode 666", "mode 660"),
        ("status 404", "status 410"),
        ("Fallback to head", "Backup on the head"),
    ],
)
def test_a_template_of_ray_s_that_has_changed_is_told_and_nothing_starts(
    tmp_path: Path, gateway: Gateway, line: str, other: str
) -> None:
    proxy.install(tmp_path, host="127.0.0.1", port=8000, trusted=())
    config = rendered(tmp_path, 8000, [gateway.port])
    assert line in config.read_text(encoding="utf-8")
    config.write_text(config.read_text(encoding="utf-8").replace(line, other), encoding="utf-8")
    done = subprocess.run(
        [tmp_path / "haproxy", "-db", "-f", config], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert re.fullmatch("LayoutError: .* serve/rollout/haproxy.py must follow.*\n", done.stderr)


@pytest.mark.parametrize(
    "sent",
    [b"PUT /v1/posts/p-1 HTT", b"PUT /v1/posts/p-1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"],
    ids=["headers", "body"],
)
def test_a_slow_request_is_given_up_and_never_comes_to_a_gateway(gateway: Gateway, sent: bytes) -> None:
    with a_proxy([gateway.port], request_s=1) as running:
        answer = said(running, sent)
        assert answer.startswith(b"HTTP/1.1 408 ")
        if sent.endswith(b"{"):  # without its headers a request has no stream yet, and HAProxy no answer of ours
            assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["status"] == 408
        assert gateway.heads == []
        assert put(running.url, 1_000_000).status_code == 200


def said(running: Proxy, sent: bytes) -> bytes:
    """What is answered to these bytes until the connection ends."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as here:
        here.sendall(sent)
        return b"".join(iter(lambda: here.recv(65_536), b""))


def test_one_address_has_a_bounded_number_of_connections_and_this_machine_as_many_as_it_needs(
    gateway: Gateway,
) -> None:
    with a_proxy([gateway.port], client_connections=1) as running, contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(socket.create_connection(("127.0.0.1", running.port)))
        assert put(running.url).status_code == 200
        config = (running.folder / "node" / "haproxy.cfg").read_text(encoding="utf-8")
        assert "tcp-request connection reject if { sc0_conn_cur gt 1 } !{ src 127.0.0.0/8 ::1 }" in config


def test_a_gateway_that_dies_with_a_request_is_a_problem_that_says_when_to_ask_again(gateway: Gateway) -> None:
    def die(connection: socket.socket, _request: bytes) -> None:
        connection.shutdown(socket.SHUT_RDWR)

    with a_proxy([gateway.port]) as running, httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client:
        assert client.put("/v1/posts/p-1", content=b"{}").status_code == 200
        gateway.answer = die
        for size in (
            2,
            2,
            1_000_000,
        ):  # also on a connection that was used before, and beyond what HAProxy could repeat
            response = client.put("/v1/posts/p-1", content=b"x" * size)
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            problem(response)
        assert len(gateway.heads) == 4  # none was sent twice


@pytest.mark.parametrize("gateways", [[], [1]], ids=["none is known", "none lives"])
def test_no_gateway_is_a_problem_at_once(gateways: list[int]) -> None:
    with a_proxy(gateways) as running:
        response = put(running.url)
        assert (response.status_code, response.headers["retry-after"]) == (503, str(proxy.RETRY_NO_GATEWAY_S))
        problem(response)


def test_what_ray_says_for_a_gateway_in_plain_text_becomes_a_problem(gateway: Gateway) -> None:
    def say(status: str, media_type: str, body: str) -> Answer:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        return lambda connection, _request: connection.sendall((head + body).encode())

    with a_proxy([gateway.port]) as running:
        for status in (503, 500):
            gateway.answer = say(f"{status} No", "text/plain; charset=utf-8", "Request dropped due to backpressure")
            assert problem(put(running.url))["status"] == status
        gateway.answer = say("503 No", "application/problem+json", '{"detail": "the gateway\'s own"}')
        assert put(running.url).json() == {"detail": "the gateway's own"}
        gateway.answer = say("200 OK", "text/plain", "a text")
        assert put(running.url).text == "a text"


FORWARDED = {"X-Forwarded-For": "198.51.100.9", "X-Forwarded-Proto": "https", "Forwarded": "for=198.51.100.9"}


@pytest.mark.parametrize(("trusted", "believed"), [((), False), (("10.0.0.0/8",), False), (("127.0.0.0/8",), True)])
def test_forwarded_headers_are_believed_from_named_networks_alone(
    gateway: Gateway, trusted: tuple[str, ...], believed: bool
) -> None:
    with a_proxy([gateway.port], trusted=trusted) as running:
        assert put(running.url, headers=FORWARDED).status_code == 200
    head = gateway.heads[-1].lower()
    assert ("198.51.100.9" in head, "x-forwarded-proto" in head, "\nforwarded:" in head) == (believed,) * 3
    assert re.findall(r"\nx-forwarded-for: (.*)\r?", head)[-1].strip() == "127.0.0.1"


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("for=198.51.100.9;proto=https", ["198.51.100.9", "127.0.0.1"]),
        ('for=203.0.113.1, for="[2001:db8::7]:4711"', ["2001:db8::7", "127.0.0.1"]),
        ("nonsense", ["127.0.0.1"]),
    ],
)
def test_what_a_named_proxy_says_by_rfc_7239_alone_is_understood(gateway: Gateway, said: str, seen: list[str]) -> None:
    with a_proxy([gateway.port], trusted=("127.0.0.0/8",)) as running:
        assert put(running.url, headers={"Forwarded": said}).status_code == 200
    assert [found.strip() for found in re.findall(r"(?i)\nx-forwarded-for: (.*)", gateway.heads[-1])] == seen


def test_a_proxy_whose_manager_ended_serves_on_and_hands_its_listeners_to_the_next(gateway: Gateway) -> None:
    with a_proxy([gateway.port]) as running:
        pid = running.processes[0].pid
        assert os.getpgid(pid) == pid  # Ray ends the group of a manager that died
        assert os.getsid(pid) == os.getsid(0)  # and `seawall down` the session
        ended, answers = threading.Event(), []

        def ask() -> None:
            while not ended.is_set():
                answers.append(put(running.url).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        running.start([])  # a manager that begins knows no gateway yet, and names no process
        running.processes[0].wait(timeout=60)
        ended.set()
        asking.join()
        assert set(answers) == {200}
        assert put(running.url).status_code == 200


def test_a_reload_changes_the_gateways(gateway: Gateway) -> None:
    with a_gateway() as other, a_proxy([gateway.port]) as running:
        assert put(running.url).status_code == 200
        running.reload([other.port])
        assert put(running.url).status_code == 200
        assert (len(gateway.heads), len(other.heads)) == (1, 1)


@pytest.mark.parametrize("known", [True, False], ids=["an application without gateways", "no application"])
def test_a_gateway_that_takes_over_a_change_goes_on_answering(gateway: Gateway, known: bool) -> None:
    with a_gateway() as other, a_proxy([gateway.port]) as running:
        running.reload([], known=known)  # what Ray tells meanwhile
        assert [put(running.url).status_code for _ in range(3)] == [200] * 3
        running.reload([other.port])
        assert put(running.url).status_code == 200
        assert (len(gateway.heads), len(other.heads)) == (3, 1)


def test_requests_under_way_are_answered_before_the_end_and_what_comes_then_is_refused(gateway: Gateway) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(connection: socket.socket, request: bytes) -> None:
        begun.set()
        go.wait(60)
        answer_ok(connection, request)

    gateway.answer = wait
    answers: list[int] = []
    with a_proxy([gateway.port]) as running:
        asking = threading.Thread(target=lambda: answers.append(put(running.url).status_code))
        asking.start()
        assert begun.wait(60)
        assert proxy.drain(running.folder, 0) is False
        problem(put(running.url))
        go.set()
        assert proxy.drain(running.folder, 60) is True
        asking.join()
    assert answers == [200]


def test_where_no_proxy_runs_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    assert proxy.drain(tmp_path, 60) is False


@pytest.mark.parametrize(
    ("host", "binds"),
    [
        ("127.0.0.1", ("127.0.0.1:8000",)),
        ("0.0.0.0", ("0.0.0.0:8000",)),
        ("192.0.2.7", ("127.0.0.1:8000", "192.0.2.7:8000")),
        ("::", (":::8000 v4v6",)),
        ("2001:db8::7", ("127.0.0.1:8000", "[2001:db8::7]:8000")),
    ],
)
def test_the_loopback_address_is_always_listened_on(host: str, binds: tuple[str, ...]) -> None:
    assert proxy.binds(proxy.checked_host(host), 8000) == binds


@pytest.mark.parametrize("host", ["", "here", "10.0.0", "10.0.0.1/8", "-1", "0.0.0.0:8000"])
def test_a_host_that_is_no_address_is_told(host: str) -> None:
    with pytest.raises(ServiceError, match=re.escape(f"--host is {host!r}; it must be an IP address")):
        proxy.checked_host(host)
    assert proxy.checked_host("localhost") == "127.0.0.1"


def test_networks_are_read_each_once() -> None:
    assert proxy.networks(" 10.0.0.7/8, 10.0.0.0/8,fd00::/8,192.0.2.1,") == ("10.0.0.0/8", "fd00::/8", "192.0.2.1/32")
    with pytest.raises(ServiceError, match="--behind-proxy names 'everyone'"):
        proxy.networks("10.0.0.0/8,everyone")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2", "::1"])
def test_http_is_reached_where_it_was_told_to_listen_and_from_here(gateway: Gateway, host: str) -> None:
    with a_proxy([gateway.port], host=host) as running:
        for address in ("127.0.0.1", "127.0.0.2" if host == "0.0.0.0" else host):
            url = f"http://[{address}]:{running.port}" if ":" in address else f"http://{address}:{running.port}"
            assert put(url).status_code == 200
