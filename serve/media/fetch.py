"""Reads a medium by its `uri` into a file: `s3://` through boto3, `https://` of listed hosts.

Whoever sends a post chooses the URI, so the request that we make must not reach what only we can reach. Of `https://`:

- The host and the port must be listed, and what the URI says beyond them must be plain (`addresses`).
- The name is looked up once. Every address that it has must be public: a name that is half inside is refused whole,
  because it is a mistake or an attack. The connection goes to an address that was looked at, as a number, so no second
  look-up can answer otherwise (DNS rebinding); the certificate must be the name's all the same.
- A redirect is not followed, whatever it names. Proxies of the environment, cookies and `.netrc` do not exist here:
  httpcore is used without httpx on top, one connection a request, kept for nobody.
- Compressed replies are refused, not inflated.

One deadline holds from the first look-up to the last byte, so a server that drips is cut off like one that is silent.
What is told to the client never has an address that a name resolved to.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpcore

from moderation.errors import QuotingError
from moderation.media import FetchRules, Refused
from serve.http.problems import Problem
from serve.media.addresses import HttpsTarget, S3Target, host_name, is_public, quoted, read_https, read_s3
from serve.media.sink import Sink

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A name and a port to its addresses; raises OSError where it has none."""

_ADDRESSES = 4  # of one name that are tried
_S3_CHUNK = 1 << 16
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
_OURS = frozenset({"ExpiredToken", "InvalidAccessKeyId", "RequestTimeTooSkewed", "SignatureDoesNotMatch"})
"""What S3 answers to credentials, or a clock, that are wrong."""


class _NotReadError(QuotingError):
    """Why a medium was not read."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.detail)
        self.refused = refused


def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted, as httpx finds them."""
    import httpx  # late: it brings a command line with it, and replicas that fetch nothing need neither

    return httpx.create_ssl_context()


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class Fetcher:
    """Reads media by their URI; one serves a process, on one event loop.

    Args:
        rules: what may be read, and how long that may take.
        concurrency: fetches at a time. One that finds no place within the rules' `timeout_s` is a Problem 503.
        resolve: looks a name up.
        vet: whether an address may be connected to. It, `resolve` and `trust` are there so that a test can run a
            server of its own; the defaults are what is safe.
        trust: whose certificates are believed; None: certifi's, or those that `SSL_CERT_FILE` names.

    Raises:
        ValueError: a listed host is no host's name.
    """

    def __init__(
        self,
        rules: FetchRules,
        *,
        concurrency: int = 16,
        resolve: Resolve = resolve,
        vet: Callable[[str], bool] = is_public,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._hosts = frozenset(_listed(host) for host in rules.https_hosts)
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(concurrency)
        self._resolve = resolve
        self._vet = vet
        self._trust = trust
        # Threads of its own: a store that hangs must not take those that the ledger needs.
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="fetch-s3")
        self._s3: Any = None
        self._s3_lock = threading.Lock()

    async def fetch(self, uri: str, to: Path, bound: int) -> Refused | Sink:
        """Read a medium into a new file.

        Args:
            uri: of the medium.
            to: must not exist; where the medium is refused, or reading it breaks off, it does not afterwards.
            bound: bytes at most.

        Returns:
            The finished file, with its size, which may be 0, and its digest. Or why not: `not_allowed`, `unreachable`
            or `too_many_bytes`.

        Raises:
            Problem: 503, too many others are being read.
            OSError: the file cannot be written.
        """
        target = self._target(uri)
        if isinstance(target, Refused):
            return target
        async with self._place():
            sink = Sink(to)
            try:
                # What a thread or a server does not end, this ends.
                async with asyncio.timeout(self._rules.timeout_s):
                    if isinstance(target, S3Target):
                        await self._from_s3(target, sink, bound)
                    else:
                        await self._from_https(target, sink, bound)
                    await sink.finish()
            except BaseException as error:
                sink.discard()
                if isinstance(error, _NotReadError):
                    return error.refused
                if isinstance(error, TimeoutError):
                    return _unreachable(f"uri was not read within {self._rules.timeout_s:g} s", passing=True)
                raise
        return sink

    def _target(self, uri: str) -> HttpsTarget | S3Target | Refused:
        scheme, separator, _ = uri.partition("://")
        if separator and scheme.lower() == "https":
            return read_https(uri, self._hosts, self._rules.https_ports)
        if separator and scheme.lower() == "s3":
            return read_s3(uri, self._rules.buckets)
        return Refused("not_allowed", f"uri is {quoted(uri)}; it must begin with s3:// or https://")

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                await self._places.acquire()
        except TimeoutError as error:
            bound = self._concurrency
            detail = f"{bound} media are being read by their uri for {self._rules.timeout_s:g} s, the bound is {bound}"
            raise Problem(503, detail, retry_after=1, members={"bound": bound}) from error
        try:
            yield
        finally:
            self._places.release()

    async def _from_https(self, target: HttpsTarget, sink: Sink, bound: int) -> None:
        addresses = await self._addresses(target)
        if self._trust is None:
            self._trust = await asyncio.to_thread(_trusted)
        # Each address gets its share of the time, or a dead one would use up what a living one needs.
        backend = _Pinned(addresses, self._rules.timeout_s / len(addresses))
        origin = httpcore.Origin(b"https", target.host.encode(), target.port)
        connection = httpcore.AsyncHTTPConnection(origin, ssl_context=self._trust, network_backend=backend)
        async with connection:
            response = await _answer(connection, target)
            try:
                _check_reply(response, target, bound)
                async for chunk in _body(response, target):
                    if sink.size + len(chunk) > bound:
                        raise _NotReadError(_too_many(bound))
                    sink.take(chunk)
                    await sink.settle()
            finally:
                await response.aclose()

    async def _addresses(self, target: HttpsTarget) -> list[str]:
        try:
            addresses = list(await self._resolve(target.host, target.port))
        except (OSError, UnicodeError) as error:
            again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise _NotReadError(_unreachable(f"the host {target.host!r} has no address", passing=again)) from error
        if not addresses:
            raise _NotReadError(_unreachable(f"the host {target.host!r} has no address"))
        if not all(self._vet(address) for address in addresses):
            raise _NotReadError(
                Refused("not_allowed", f"the host {target.host!r} has an address that is not a public one")
            )
        return addresses[:_ADDRESSES]

    async def _from_s3(self, target: S3Target, sink: Sink, bound: int) -> None:
        given_up = threading.Event()
        read = partial(self._read_s3, target, sink, bound, given_up)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except BaseException:
            given_up.set()
            raise

    def _read_s3(self, target: S3Target, sink: Sink, bound: int, given_up: threading.Event) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        give_up_at = time.monotonic() + self._rules.timeout_s
        try:
            found = self._client().get_object(Bucket=target.bucket, Key=target.key)
            with closing(found["Body"]) as body:
                if found["ContentLength"] > bound:
                    raise _NotReadError(_too_many(bound, found["ContentLength"]))
                while chunk := body.read(min(_S3_CHUNK, bound + 1 - sink.size)):
                    if given_up.is_set() or time.monotonic() > give_up_at:
                        raise TimeoutError
                    if sink.size + len(chunk) > bound:
                        raise _NotReadError(_too_many(bound))
                    sink.write_now(chunk)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            what = "there is no such object" if code in _MISSING else f"S3 answers {quoted(code)}"
            raise _NotReadError(_unreachable(f"uri was not read: {what}", passing=_passes(error.response))) from error
        except BotoCoreError as error:  # no connection, no credentials: nothing that the client could mend
            raise _NotReadError(
                _unreachable(f"uri was not read from S3: {type(error).__name__}", passing=True)
            ) from error

    def _client(self) -> Any:
        with self._s3_lock:  # making one is not safe on many threads; using it is
            if self._s3 is None:
                import boto3  # takes a while, and many never read from S3
                from botocore.config import Config

                # Path style, because other servers know no host for each bucket.
                config = Config(
                    s3={"addressing_style": "path"},
                    retries={"mode": "standard", "max_attempts": 2},
                    connect_timeout=self._rules.timeout_s,
                    read_timeout=self._rules.timeout_s,
                    max_pool_connections=self._concurrency,
                )
                self._s3 = boto3.client("s3", config=config)
            return self._s3


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were looked at, whatever name it is told; the name stays the certificate's.

    Args:
        addresses: as numbers, so that nothing is looked up; the first that answers is used.
        each_s: seconds that one may take.
    """

    def __init__(self, addresses: Sequence[str], each_s: float) -> None:
        self._addresses = addresses
        self._each_s = each_s
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002  # the name: what is connected to is the vetted address
        port: int,
        timeout: float | None = None,  # noqa: ARG002  # the whole fetch has a deadline
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers."""
        for address in self._addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, self._each_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(self._addresses[-1], port, self._each_s, local_address, socket_options)


async def _answer(connection: httpcore.AsyncHTTPConnection, target: HttpsTarget) -> httpcore.Response:
    host = target.host if target.port == 443 else f"{target.host}:{target.port}"
    request = httpcore.Request(
        "GET",
        httpcore.URL(scheme="https", host=target.host, port=target.port, target=target.path),
        headers={
            "Host": host,
            "User-Agent": "Seawall",
            "Accept": "image/*, video/*, */*;q=0.1",
            "Accept-Encoding": "identity",
            "Connection": "close",
        },
    )
    try:
        return await connection.handle_async_request(request)
    except _BROKEN as error:
        raise _NotReadError(_broken(error, target)) from error


async def _body(response: httpcore.Response, target: HttpsTarget) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_stream():
            yield chunk
    except _BROKEN as error:
        raise _NotReadError(_broken(error, target)) from error


_BROKEN = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ssl.SSLError)


def _broken(error: Exception, target: HttpsTarget) -> Refused:
    # In words of our own: the library's have addresses in them.
    passing = True
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        passing = False
        certificate = isinstance(error.__cause__, ssl.SSLCertVerificationError)
        what = "shows no certificate of that name that can be trusted" if certificate else "speaks no TLS that fits"
    elif isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        what = "cannot be connected to"
    else:
        what = "broke off its answer, or gave none that is HTTP"
    return _unreachable(f"the host {target.host!r} {what}", passing=passing)


def _check_reply(response: httpcore.Response, target: HttpsTarget, bound: int) -> None:
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    if 300 <= response.status < 400:
        where = _host_of(headers.get(b"location", ""))
        raise _NotReadError(
            Refused("not_allowed", f"the host {target.host!r} redirects to {where}; redirects are not followed")
        )
    if response.status != 200:
        passing = response.status == 429 or response.status >= 500
        raise _NotReadError(_unreachable(f"the host {target.host!r} answers {response.status}", passing=passing))
    encoding = headers.get(b"content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise _NotReadError(
            _unreachable(f"the host {target.host!r} answers in the encoding {quoted(encoding)}; it must be as it is")
        )
    told = headers.get(b"content-length", "")  # h11 has checked that it is a number
    if told and int(told) > bound:
        raise _NotReadError(_too_many(bound, int(told)))


def _host_of(location: str) -> str:
    try:
        return quoted(urlsplit(location).hostname or "itself")
    except ValueError:
        return "no URL"


def _listed(host: str) -> str:
    name = host_name(host)
    if name is None:
        raise ValueError(f"media.fetch.https_hosts has {host!r}, which is no host's name")
    return name


def _unreachable(detail: str, *, passing: bool = False) -> Refused:
    return Refused("unreachable", detail, passing=passing)


def _passes(response: Mapping[str, Any]) -> bool:
    """Whether S3's refusal is of the moment, or of our own credentials, and none that the client could mend."""
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return status >= 500 or status == 429 or response.get("Error", {}).get("Code") in _OURS


def _too_many(bound: int, size: int | None = None) -> Refused:
    told = f"more than {bound} bytes" if size is None else f"{size} bytes"
    return Refused("too_many_bytes", f"uri has {told}, the bound is {bound}", bound)
