"""What every request passes before a route sees it: whom it says it is for, where it comes from, how it is written.

- A page of another origin must not make a reader's browser record anything here. So what changes something is refused
  from an origin that is not this service's own, unless it is listed.
- A page must not call itself this service either: a name that an attacker owns may resolve to this machine (DNS
  rebinding), and then its pages are of the same origin. So `Host` must be a name that is known, or an address.
- HEAD is GET without the body; a slash at the end of a path means nothing; a slash of an id comes as `%2F`.
- How many characters of the body had to be replaced is told in a header.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.sections import Gateway as Bounds
from serve.http import repair
from serve.http.problems import Problem
from serve.http.wire import SLASH

REPLACED = "Seawall-Replaced-Characters"
"""Header of a reply: how many characters of the body were none, and were read as U+FFFD."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_OF_ANY_HOST = ("/healthz", "/readyz")
"""For those who look after the service by whatever name; they tell nothing of anybody."""
_PORT = re.compile(r":\d*$")


@dataclass(slots=True)
class Rules:
    """Who is let in; of the process, as `serve.http.admission.HERE` is.

    Attributes:
        bounds: `allowed_hosts` and `allowed_origins`; None: before the gateway has read them, no host is refused.
        own_names: of this machine.
    """

    bounds: Bounds | None = None
    own_names: frozenset[str] = field(default_factory=lambda: frozenset({socket.gethostname().lower()}))

    def check_host(self, host: str | None) -> None:
        """Raise a Problem, 421, for the name of somebody else."""
        if self.bounds is None or host is None:
            return
        allowed = self.bounds.allowed_hosts
        name = _PORT.sub("", host).rstrip(".").lower()
        if _is_address(name) or name == "localhost" or name.endswith(".localhost") or name in self.own_names:
            return
        if any(_fits(name, pattern.lower()) for pattern in allowed):
            return
        known = ", ".join(("localhost", "addresses", *sorted(self.own_names), *allowed))
        detail = f"Host is {host[:256]!r}; this service answers to {known}; see gateway.allowed_hosts"
        raise Problem(421, detail)

    def check_origin(self, headers: Headers) -> None:
        """Raise a Problem, 403, for a request that a page of another origin made."""
        origin = headers.get("origin")
        if origin is None:
            site = headers.get("sec-fetch-site", "none").lower()
            if site not in ("none", "same-origin"):
                raise Problem(403, f"Sec-Fetch-Site is {site[:64]!r}; from another site nothing is taken")
        elif not self.is_listed(origin) and _authority(origin) != headers.get("host", "").lower():
            listed = ", ".join(() if self.bounds is None else self.bounds.allowed_origins) or "no other"
            detail = f"Origin is {origin[:256]!r}; taken is what comes from here and from {listed}"
            raise Problem(403, f"{detail}; see gateway.allowed_origins")

    def is_listed(self, origin: str | None) -> bool:
        """Whether an origin's pages may use this service."""
        return self.bounds is not None and origin in self.bounds.allowed_origins


HERE = Rules()


class Entrance:
    """ASGI middleware.

    Args:
        app: what is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, method = Headers(scope=scope), scope["method"]
        path = _path_of(scope)
        origin = headers.get("origin")
        try:
            if path not in _OF_ANY_HOST:
                HERE.check_host(headers.get("host"))
            if method not in _SAFE:
                HERE.check_origin(headers)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        shared = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"} if origin and HERE.is_listed(origin) else {}
        if method == "OPTIONS" and shared and "access-control-request-method" in headers:
            await _preflight(headers, shared)(scope, receive, send)
            return
        replaced = repair.begin()
        head = method == "HEAD"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply = MutableHeaders(scope=message)
                for name, value in shared.items():
                    reply.append(name, value)
                if replaced.characters:
                    reply[REPLACED] = str(replaced.characters)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        changes = {"path": path} | ({"method": "GET"} if head else {})
        await self._app({**scope, **changes}, receive, send_with_headers)


def _path_of(scope: Scope) -> str:
    """The path, without a slash at its end; a slash that came encoded stays so, for `serve.http.wire.IdConvertor`."""
    path: str = scope["path"]
    raw = (scope.get("raw_path") or b"").split(b"?")[0].decode("latin-1")
    if SLASH.search(raw):
        path = unquote(SLASH.sub("%252F", raw))
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def _preflight(headers: Headers, shared: dict[str, str]) -> Response:
    asked = headers.get("access-control-request-headers", "")
    allowed = {"Access-Control-Allow-Methods": "DELETE, GET, HEAD, PATCH, POST, PUT", "Access-Control-Max-Age": "600"}
    return Response(
        status_code=204, headers=shared | allowed | ({"Access-Control-Allow-Headers": asked} if asked else {})
    )


def _authority(origin: str) -> str | None:
    """The host and port of an origin, as `Host` would tell them; None: it has none, as `null`."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _fits(name: str, pattern: str) -> bool:
    return pattern == "*" or name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:]))
