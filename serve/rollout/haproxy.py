"""HAProxy as Seawall wants it: what Ray Serve renders, mended, and then the real program, in this very process.

Ray Serve writes HAProxy's configuration anew at each change and starts `RAY_SERVE_HAPROXY_BINARY_PATH` on it. That is
a script of `proxy` which comes here. Ray's settings leave no way to say how long a request may take to arrive,
how an error looks, or where statistics listen, so the file is edited before it is read: each edit names the line that
it takes the place of, and where Ray's template no longer has that line, nothing starts, and the reason is told.

It also keeps the proxy alive beyond the process that manages it. HAProxy leaves that process's group, with which Ray
would end it; the next manager's HAProxy takes the listening sockets over, and begins with the gateways that the last
one knew, until it is told of others.

Run in isolation, without site packages: a reload waits for it. So it imports the standard library alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

REQUEST_S = 15
"""A request's headers, and the first 16 KiB of its body, have so long to arrive, in s; else it is answered 408."""
IDLE_S = 30
"""A connection is kept so long for its client's next request."""
CLIENT_CONNECTIONS = 1024
"""One address may have so many connections at once, of HAProxy's 4096; further ones are closed. This machine and named
proxies, who speak for many, are not counted."""
MENDED = "# Mended by serve/rollout/haproxy.py"
BUSY = "busy.json"
"""In the folder of errors: the body of a 503 where a gateway's queue is full."""


class LayoutError(Exception):
    """Ray's template has changed, and an edit no longer finds its line."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the proxy does other than Ray Serve would have it. Kept as JSON beside the script that comes here."""

    binary: str
    """The real HAProxy."""
    errors: str
    """Folder with `STATUS.http`, a whole response, for each status that HAProxy answers by itself."""
    binds: tuple[str, ...]
    """Where HTTP listens, as HAProxy writes it: `127.0.0.1:8000`, `*:8000`, `[::1]:8000`."""
    trusted: tuple[str, ...] = ()
    """Networks of proxies whose forwarded headers are believed, as `10.0.0.0/8`."""
    request_s: int = REQUEST_S
    """How long a request may take to arrive, in seconds."""
    client_connections: int = CLIENT_CONNECTIONS
    """How many connections one address may have at once."""

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Rules:
        """What `to_json` wrote."""
        told = json.loads(text)
        return cls(**told | {name: tuple(told[name]) for name in ("binds", "trusted")})


def mended(config: str, rules: Rules) -> str:
    """Ray Serve's configuration with Seawall's bounds, errors and addresses.

    Raises:
        LayoutError: a line that is to change is not there, or more often than expected.
    """
    if config.startswith(MENDED):
        return config
    for pattern, count, text in _edits(rules):
        config, found = re.subn(pattern, text, config, flags=re.MULTILINE)
        if found != count:
            raise LayoutError(
                f"{pattern!r} is {found} times in what Ray Serve renders for HAProxy, not {count} times:"
                " Ray's template has changed, and serve/rollout/haproxy.py must follow it"
            )
    # A request that a gateway took with it is to be answered, and on a connection that was used before HAProxy hangs up
    # instead, for the client to repeat it. See `option http-server-close` below.
    config = re.sub(r"^    http-reuse always$", "    http-reuse never", config, flags=re.MULTILINE)
    # Ray's own proxy, as a last resort, would hold requests for as long as no gateway lives, without a bound.
    config = re.sub(r"^    # Fallback to head.*\n    server \S+ \S+ check backup\n", "", config, flags=re.MULTILINE)
    ours = {f"bind {address}" for address in rules.binds}
    for line in map(str.strip, config.splitlines()):
        if (line.startswith("bind ") and not line.startswith("bind 127.0.0.1:") and line not in ours) or (
            line.startswith("server ") and line.endswith(" backup")
        ):
            raise LayoutError(
                f"{line!r} is left of what Ray Serve renders; serve/rollout/haproxy.py must follow its template"
            )
    return f"{MENDED}\n{config}"


def _edits(rules: Rules) -> list[tuple[str, int, str]]:
    """Each edit: a pattern, how often it must be there, and what takes its place, as `re.sub` has them."""
    defaults = _lines("defaults", "mode http", *_defaults(rules))
    frontend = _lines("frontend http_frontend", *_frontend(rules))
    return [
        (r"^(    stats socket \S+) mode 666 ", 1, r"\1 mode 600 "),
        (r"^    errorfile 50[234] \S+\n", 3, ""),
        (r"^defaults\n    mode http\n", 1, defaults),
        (r"^    timeout http-keep-alive \d+s$", 1, f"    timeout http-keep-alive {IDLE_S}s"),
        (r"^    bind :(\d+)\n    mode http\n", 1, r"    bind 127.0.0.1:\1\n    mode http\n"),
        (r"^  bind \*:(\d+)\n  stats enable\n", 1, r"  bind 127.0.0.1:\1\n  stats enable\n"),
        (r"^frontend http_frontend\n    bind \S+\n", 1, frontend),
        # The gateway has every path, so this is met only while no gateway is known.
        (r"^    http-request return status 404 .*\n", 1, r"    http-request return status 503 default-errorfiles\n"),
    ]


def _lines(head: str, *lines: str) -> str:
    """A section, as a replacement of `re.sub`."""
    return "\n    ".join([head, *lines]).replace("\\", r"\\") + "\n"


def _defaults(rules: Rules) -> list[str]:
    files = sorted(Path(rules.errors).glob("*.http"))
    return [
        f"timeout http-request {rules.request_s}s",
        "option http-server-close",
        "option http-buffer-request",  # the deadline is of the body, too, as far as it fits the buffer
        *(f"errorfile {file.stem} {file}" for file in files),
    ]


def _frontend(rules: Rules) -> list[str]:
    known = " ".join(["127.0.0.0/8", "::1", *rules.trusted])
    unless = f" unless {{ src {' '.join(rules.trusted)} }}" if rules.trusted else ""
    plain = "{ res.hdr(content-type) -m beg text/plain }"
    busy = f"content-type application/problem+json file {Path(rules.errors) / BUSY} hdr Retry-After 1"
    return [
        *(f"bind {address}" for address in rules.binds),
        "stick-table type ipv6 size 100k expire 1m store conn_cur",
        "tcp-request connection track-sc0 src,ipmask(32,64)",  # of IPv6, whole networks are one client's
        f"tcp-request connection reject if {{ sc0_conn_cur gt {rules.client_connections} }} !{{ src {known} }}",
        # What a client says of itself is not believed; whoever reads the last address has it from here.
        f"http-request del-header forwarded{unless}",
        f"http-request del-header x-forwarded- -m beg{unless}",
        *([_forwarded(" ".join(rules.trusted))] if rules.trusted else []),
        "option forwardfor",
        # A gateway whose queue is full, or that has broken, is answered for by Ray, in plain text.
        f"http-response return status 503 {busy} if {{ status 503 }} {plain}",
        f"http-response return status 500 default-errorfiles if {{ status 500 }} {plain}",
    ]


def _forwarded(trusted: str) -> str:
    """A trusted proxy that knows RFC 7239 alone is understood, too: what it says of the last hop is what it saw."""
    told = "req.hdr(forwarded,-1)"
    return (
        f"http-request set-header x-forwarded-for %[{told},rfc7239_field(for),rfc7239_n2nn]"
        f" if {{ src {trusted} }} {{ {told},rfc7239_is_valid }} !{{ req.hdr(x-forwarded-for) -m found }}"
    )


def main(arguments: Sequence[str]) -> None:
    """Mend the configuration, and become HAProxy.

    Args:
        arguments: the file with the rules, then what Ray Serve says to HAProxy: `-db -f FILE ...`.
    """
    rules = Rules.from_json(Path(arguments[0]).read_text(encoding="utf-8"))
    told = list(arguments[1:])
    if "-f" not in told:  # as `haproxy -v`
        os.execv(rules.binary, [rules.binary, *told])  # noqa: S606
    path = Path(told[told.index("-f") + 1])
    told += _succeed(path, anew="-sf" not in told)
    _write(path, mended(path.read_text(encoding="utf-8"), rules))
    _write(path.with_suffix(".pid"), f"{os.getpid()}\n")
    os.setpgid(0, 0)  # the session stays: `seawall down` ends it by that
    os.execv(rules.binary, [rules.binary, *told])  # noqa: S606


def _succeed(path: Path, *, anew: bool) -> list[str]:
    """Let a configuration without gateways be the last one that had some; what HAProxy is told besides.

    A manager that begins knows no gateway yet, while the last one's HAProxy may still serve. And Ray names no gateway
    that takes over a change, as of which experiments run, though it answers all the while: with the only one, each
    promotion would be answered 503. One that is really gone HAProxy finds out by itself.

    Args:
        path: the configuration, as Ray wrote it.
        anew: a manager begins: it names no process that it takes over from.
    """
    last = path.with_suffix(".last")
    config = path.read_text(encoding="utf-8")
    if _GATEWAY.search(config):
        _write(last, config)
        return []
    if last.exists():
        _write(path, last.read_text(encoding="utf-8"))
    if not anew:
        return []
    pid = _still_serving(path)
    socket = re.search(r"^    stats socket (\S+) ", config, flags=re.MULTILINE)
    if pid is None or socket is None:
        return []
    return ["-sf", str(pid), "-x", socket[1]]


_GATEWAY = re.compile(r"^    server (?!.* backup$)", flags=re.MULTILINE)


def _still_serving(path: Path) -> int | None:
    """The process that the last manager's HAProxy is, where it lives."""
    try:
        pid = int(path.with_suffix(".pid").read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(path) in command else None


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (LayoutError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
