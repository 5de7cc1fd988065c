"""Media by their `uri`: a real server over TLS, a real server of S3, and whatever either may do wrong."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from moderation.media import FetchRules, Refused
from serve.http.problems import Problem
from serve.media import fetch as module
from serve.media.fetch import Fetcher
from serve.media.sink import Sink
from tests.rooms import run
from tests.serve.media.media_server import HOST, Answer, Resolver, Server, certificates, reply, serving

BODY = bytes(range(256)) * 1000


def loopback(address: str) -> bool:
    """What stands for public in these tests, but for the address that stands for private."""
    return address.startswith("127.") and address != "127.0.0.66"


def fetcher(server: Server, resolver: Resolver | None = None, timeout_s: float = 60.0, concurrency: int = 4) -> Fetcher:
    rules = FetchRules(https_hosts=(HOST,), https_ports=(server.port,), timeout_s=timeout_s)
    resolve = Resolver() if resolver is None else resolver
    return Fetcher(rules, concurrency=concurrency, resolve=resolve, vet=loopback, trust=certificates(HOST)[0])


async def fetched(
    answer: bytes | Answer,
    to: Path,
    *,
    bound: int = 1_000_000,
    name: str = HOST,
    resolver: Resolver | None = None,
    timeout_s: float = 60.0,
) -> tuple[Sink | Refused, Server]:
    async with serving(answer, name=name) as server:
        uri = f"https://{HOST}:{server.port}/a.jpg?b=c"
        return await fetcher(server, resolver, timeout_s).fetch(uri, to, bound), server


def refused(answer: bytes | Answer, to: Path, **kwargs: Any) -> Refused:
    """Why it is, having left nothing."""
    found, _ = run(fetched(answer, to, **kwargs))
    assert isinstance(found, Refused)
    assert not to.exists()
    assert "127." not in found.detail
    return found


def test_a_medium_of_a_listed_host_is_read(tmp_path: Path) -> None:
    resolver = Resolver()
    sink, server = run(fetched(reply(BODY), tmp_path / "m", resolver=resolver))
    assert isinstance(sink, Sink)
    assert (tmp_path / "m").read_bytes() == BODY
    assert (sink.size, sink.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    assert resolver.asked == [(HOST, server.port)]
    head = server.requests[0].lower().split("\r\n")
    assert head[0] == "get /a.jpg?b=c http/1.1"
    assert f"host: {HOST}:{server.port}" in head
    assert "accept-encoding: identity" in head


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and what follows",
    ],
)
def test_a_body_may_come_in_any_way(answer: bytes, tmp_path: Path) -> None:
    assert isinstance(run(fetched(answer, tmp_path / "m", bound=5))[0], Sink)
    assert (tmp_path / "m").read_bytes() == b"hello"


def test_an_empty_body_is_for_the_reader_to_judge(tmp_path: Path) -> None:
    sink, _ = run(fetched(reply(b""), tmp_path / "m"))
    assert isinstance(sink, Sink)
    assert sink.size == 0
    assert (tmp_path / "m").read_bytes() == b""


def test_the_environments_proxy_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert isinstance(run(fetched(reply(BODY), tmp_path / "m"))[0], Sink)


def test_a_name_is_looked_up_once_and_its_vetted_address_connected_to(tmp_path: Path) -> None:
    resolver = Resolver((("127.0.0.5",), ("127.0.0.66",)))  # rebinding: public at first, then private
    sink, server = run(fetched(reply(BODY), tmp_path / "m", resolver=resolver))
    assert isinstance(sink, Sink)
    assert len(resolver.asked) == 1
    assert server.reached == ["127.0.0.5"]


@pytest.mark.parametrize("addresses", [("127.0.0.66",), ("127.0.0.1", "127.0.0.66"), ("127.0.0.66", "127.0.0.1")])
def test_a_name_with_any_address_that_is_not_public_is_not_connected_to(
    addresses: Sequence[str], tmp_path: Path
) -> None:
    found, server = run(fetched(reply(BODY), tmp_path / "m", resolver=Resolver((addresses,))))
    assert found == Refused("not_allowed", f"the host '{HOST}' has an address that is not a public one")
    assert server.reached == []


def test_by_default_what_is_inside_is_not_reached(tmp_path: Path) -> None:
    async def work() -> tuple[Sink | Refused, Server]:
        async with serving(reply(BODY), name="localhost") as server:
            rules = FetchRules(https_hosts=("localhost",), https_ports=(server.port,))
            safe = Fetcher(rules, trust=certificates("localhost")[0])
            return await safe.fetch(f"https://localhost:{server.port}/", tmp_path / "m", 10), server

    found, server = run(work())
    assert isinstance(found, Refused)
    assert found.code == "not_allowed"
    assert server.reached == []


def test_an_address_that_does_not_answer_is_followed_by_the_next(tmp_path: Path) -> None:
    resolver = Resolver((("::1", "127.0.0.7"),))  # the server listens on IPv4 alone

    async def work() -> tuple[Sink | Refused, Server]:
        async with serving(reply(BODY)) as server:
            rules = FetchRules(https_hosts=(HOST,), https_ports=(server.port,))
            found = Fetcher(rules, resolve=resolver, vet=lambda _: True, trust=certificates(HOST)[0])
            return await found.fetch(f"https://{HOST}:{server.port}/", tmp_path / "m", len(BODY)), server

    sink, server = run(work())
    assert isinstance(sink, Sink)
    assert server.reached == ["127.0.0.7"]


@pytest.mark.parametrize("addresses", [(), OSError("no such name at 10.0.0.53")])
def test_a_name_without_an_address_is_unreachable(addresses: Sequence[str] | OSError, tmp_path: Path) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if isinstance(addresses, OSError):
            raise addresses
        return addresses

    rules = FetchRules(https_hosts=(HOST,))
    found = run(_fetch(Fetcher(rules, resolve=resolve), f"https://{HOST}/", tmp_path / "m"))
    assert found == Refused("unreachable", f"the host '{HOST}' has no address")


def test_a_name_that_cannot_be_looked_up_now_may_be_later(tmp_path: Path) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    found = run(_fetch(Fetcher(FetchRules(https_hosts=(HOST,)), resolve=resolve), f"https://{HOST}/", tmp_path / "m"))
    assert found == Refused("unreachable", f"the host '{HOST}' has no address", passing=True)


async def _fetch(fetcher: Fetcher, uri: str, to: Path, bound: int = 1_000_000) -> Sink | Refused:
    return await fetcher.fetch(uri, to, bound)


def test_nobody_listens(tmp_path: Path) -> None:
    async def work() -> Sink | Refused:
        async with serving(b"") as server:
            pass
        return await fetcher(server).fetch(f"https://{HOST}:{server.port}/", tmp_path / "m", 10)

    assert run(work()) == Refused("unreachable", f"the host '{HOST}' cannot be connected to", passing=True)
    assert not (tmp_path / "m").exists()


def test_a_certificate_of_another_name_or_authority_is_not_trusted(tmp_path: Path) -> None:
    found = refused(reply(BODY), tmp_path / "m", name="other.example")
    assert found == Refused("unreachable", f"the host '{HOST}' shows no certificate of that name that can be trusted")

    async def work() -> tuple[Sink | Refused, Server]:
        async with serving(reply(BODY)) as server:
            rules = FetchRules(https_hosts=("localhost",), https_ports=(server.port,))
            trusting = Fetcher(rules, resolve=Resolver(), vet=loopback, trust=certificates(HOST)[0])
            return await trusting.fetch(f"https://localhost:{server.port}/", tmp_path / "m", 10), server

    wrong_name, server = run(work())
    assert isinstance(wrong_name, Refused)
    assert "no certificate of that name" in wrong_name.detail
    assert server.requests == []


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "304 Same"]
)
def test_a_redirect_is_told_and_not_followed(status: str, tmp_path: Path) -> None:
    answer = reply(b"", "Location: http://169.254.169.254/latest/meta-data", status=status)
    found, server = run(fetched(answer, tmp_path / "m"))
    assert isinstance(found, Refused)
    assert found.code == "not_allowed"
    assert "redirects to '169.254.169.254'" in found.detail
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("location", "said"), [("/there", "'itself'"), ("http://[", "no URL"), ("//" + "a" * 500, "…'")]
)
def test_a_redirect_may_say_anything(location: str, said: str, tmp_path: Path) -> None:
    found = refused(reply(b"", f"Location: {location}", status="302 Found"), tmp_path / "m")
    assert said in found.detail
    assert len(found.detail) < 250


@pytest.mark.parametrize(
    ("status", "passing"),
    [
        ("204 No Content", False),
        ("206 Partial Content", False),
        ("401 Who", False),
        ("403 No", False),
        ("404 None", False),
        ("429 Slower", True),
        ("500 Oh", True),
        ("503 Busy", True),
    ],
)
def test_an_answer_other_than_200_is_unreachable(status: str, passing: bool, tmp_path: Path) -> None:
    found = refused(reply(b"", status=status), tmp_path / "m")
    assert found == Refused("unreachable", f"the host '{HOST}' answers {status[:3]}", passing=passing)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip", "identity, gzip"])
def test_a_compressed_answer_is_refused_and_not_inflated(encoding: str, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(5_000_000))
    found = refused(reply(bomb, f"Content-Encoding: {encoding}"), tmp_path / "m")
    assert (found.code, found.passing) == ("unreachable", False)
    assert f"in the encoding '{encoding.lower()}'" in found.detail


def test_a_length_beyond_the_bound_is_refused_before_the_body(tmp_path: Path) -> None:
    found = refused(reply(b"", length=10**12), tmp_path / "m", bound=1000)
    assert found == Refused("too_many_bytes", "uri has 1000000000000 bytes, the bound is 1000", 1000)


@pytest.mark.parametrize("bound", [0, 1, 1000, len(BODY) - 1])
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_body_of_no_told_length_is_cut_off_at_the_bound(head: bytes, bound: int, tmp_path: Path) -> None:
    found = refused(head + BODY, tmp_path / "m", bound=bound)
    assert found == Refused("too_many_bytes", f"uri has more than {bound} bytes, the bound is {bound}", bound)


def test_an_endless_body_is_cut_off(tmp_path: Path) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    assert refused(endless, tmp_path / "m", bound=1_000_000).code == "too_many_bytes"
    assert sent < 20_000_000  # what the sockets between us hold


def test_a_medium_of_exactly_the_bound_is_read(tmp_path: Path) -> None:
    assert isinstance(run(fetched(reply(BODY), tmp_path / "m", bound=len(BODY)))[0], Sink)


@pytest.mark.parametrize(
    "answer",
    [
        reply(BODY, length=len(BODY) + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=["short", "short chunk", "no chunk", "two lengths", "negative", "endless header", "silent", "ssh", "upgrade"],
)
def test_an_answer_that_breaks_off_or_is_no_http_is_unreachable(answer: bytes, tmp_path: Path) -> None:
    found = refused(answer, tmp_path / "m")
    assert (found.code, found.passing) == ("unreachable", True)


def test_a_connection_that_is_reset_midway_is_unreachable(tmp_path: Path) -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        writer.write(reply(BODY, length=10 * len(BODY)))
        await writer.drain()
        writer.transport.abort()

    assert refused(reset, tmp_path / "m", bound=10**9).code == "unreachable"


@pytest.mark.parametrize("where", ["head", "body", "nothing"])
def test_a_server_that_drips_is_cut_off(where: str, tmp_path: Path) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        if where == "body":
            writer.write(reply(b"", length=1000))
        while True:
            await asyncio.sleep(0.05)
            if where != "nothing":
                writer.write(b"H")
                await writer.drain()

    if where == "head":  # one letter of it after another, so that no single wait is long
        found = refused(_spelled, tmp_path / "m", timeout_s=0.5)
    else:
        found = refused(drip, tmp_path / "m", timeout_s=0.5)
    assert found == Refused("unreachable", "uri was not read within 0.5 s", passing=True)


async def _spelled(writer: asyncio.StreamWriter) -> None:
    for letter in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.05)


def test_a_look_up_that_hangs_is_cut_off(tmp_path: Path) -> None:
    async def hangs(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    slow = Fetcher(FetchRules(https_hosts=(HOST,), timeout_s=0.1), resolve=hangs)
    assert run(_fetch(slow, f"https://{HOST}/", tmp_path / "m")) == Refused(
        "unreachable", "uri was not read within 0.1 s", passing=True
    )


def test_no_more_are_read_at_a_time_than_there_are_places(tmp_path: Path) -> None:
    reading = most = 0
    full = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        if reading == 2:
            full.set()
        await full.wait()  # fewer are not enough
        await asyncio.sleep(0.02)  # a third would come meanwhile
        reading -= 1
        writer.write(reply(b"hello"))
        await writer.drain()

    async def work() -> list[Sink | Refused]:
        async with serving(slowly) as server:
            few = fetcher(server, concurrency=2)
            uri = f"https://{HOST}:{server.port}/"
            return await asyncio.gather(*(few.fetch(uri, tmp_path / str(number), 10) for number in range(6)))

    assert all(isinstance(found, Sink) for found in run(work()))
    assert most == 2


def test_whoever_finds_no_place_in_time_is_told_to_come_again(tmp_path: Path) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def work() -> list[Sink | Refused | BaseException]:
        async with serving(silent) as server:
            one = fetcher(server, concurrency=1, timeout_s=0.2)
            uri = f"https://{HOST}:{server.port}/"
            jobs = [one.fetch(uri, tmp_path / str(number), 10) for number in range(3)]
            return await asyncio.gather(*jobs, return_exceptions=True)

    found = run(work())
    problems = [item for item in found if isinstance(item, Problem)]
    assert {(problem.status, problem.retry_after) for problem in problems} == {(503, 1)}
    assert problems[0].members == {"bound": 1}


def test_who_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(3_000_000))
        await writer.drain()
        await asyncio.Event().wait()

    async def work() -> None:
        async with serving(endless) as server:
            uri = f"https://{HOST}:{server.port}/"
            task = asyncio.create_task(fetcher(server).fetch(uri, tmp_path / "m", 10**7))
            while not (tmp_path / "m").exists() or not (tmp_path / "m").stat().st_size:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(work())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://media.example/a",
        "file:///etc/passwd",
        "ftp://media.example/",
        "gopher://x/",
        "https:media.example",
        "",
        "a",
    ],
)
def test_another_scheme_is_not_allowed(uri: str, tmp_path: Path) -> None:
    found = run(_fetch(Fetcher(FetchRules(https_hosts=(HOST,))), uri, tmp_path / "m"))
    assert isinstance(found, Refused)
    assert (found.code, "must begin with s3:// or https://" in found.detail) == ("not_allowed", True)


def test_no_host_is_listed_by_default(tmp_path: Path) -> None:
    found = run(_fetch(Fetcher(FetchRules()), f"https://{HOST}/", tmp_path / "m"))
    assert isinstance(found, Refused)
    assert found.code == "not_allowed"


def test_no_bucket_is_listed_by_default(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service's credentials can read is nobody else's to have looked at, unless the operator says so."""
    fetcher = Fetcher(FetchRules())
    monkeypatch.setattr(fetcher, "_client", lambda: pytest.fail("S3 was asked"))
    found = run(_fetch(fetcher, f"s3://{bucket}/a/b c?.jpg", tmp_path / "m"))
    assert isinstance(found, Refused)
    assert (found.code, found.passing) == ("not_allowed", False)
    assert f"the bucket '{bucket}', which is not listed in media.fetch.buckets" in found.detail


def test_a_listed_host_must_be_a_name() -> None:
    with pytest.raises(ValueError, match=r"https_hosts has 'https://x', which is no host's name"):
        Fetcher(FetchRules(https_hosts=("https://x",)))


@pytest.fixture
def bucket(bucket_url: str) -> str:
    """A bucket with a medium `a/b c?.jpg`, and an empty one."""
    import boto3

    name = bucket_url.split("/")[2]
    client = boto3.client("s3")
    client.put_object(Bucket=name, Key="a/b c?.jpg", Body=BODY)
    client.put_object(Bucket=name, Key="empty", Body=b"")
    return name


def test_a_medium_of_a_bucket_is_read(bucket: str, tmp_path: Path) -> None:
    sink = run(_fetch(Fetcher(FetchRules(buckets=("*",))), f"s3://{bucket}/a/b c?.jpg", tmp_path / "m", len(BODY)))
    assert isinstance(sink, Sink)
    assert (tmp_path / "m").read_bytes() == BODY
    assert (sink.size, sink.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    empty = run(_fetch(Fetcher(FetchRules(buckets=(bucket,))), f"s3://{bucket}/empty", tmp_path / "n"))
    assert isinstance(empty, Sink)
    assert empty.size == 0


@pytest.mark.parametrize(
    ("uri", "bound", "code", "detail"),
    [
        ("s3://{}/none", 10, "unreachable", "uri was not read: there is no such object"),
        ("s3://no-such-bucket-here/none", 10, "unreachable", "uri was not read: there is no such object"),
        ("s3://{}/a/b c?.jpg", 255_999, "too_many_bytes", "uri has 256000 bytes, the bound is 255999"),
    ],
)
def test_what_a_bucket_has_not_or_too_much_of(
    uri: str, bound: int, code: str, detail: str, bucket: str, tmp_path: Path
) -> None:
    found = run(_fetch(Fetcher(FetchRules(buckets=("*",))), uri.format(bucket), tmp_path / "m", bound))
    assert isinstance(found, Refused)
    assert (found.code, found.detail, found.passing) == (code, detail, False)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_hangs_is_cut_off(bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> Sink | Refused:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # until the client gives up
            writer.close()
            closed.set()

        closed = asyncio.Event()
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        async with server:
            hurried = Fetcher(FetchRules(buckets=("*",), timeout_s=0.5))
            await asyncio.to_thread(hurried._client)  # which takes a while, and what hangs must be the store
            found = await hurried.fetch("s3://some-bucket/key", tmp_path / "m", 10)
            await closed.wait()  # the thread that was given up ends too
            return found

    found = run(work())
    assert isinstance(found, Refused)
    assert (found.code, found.passing) == ("unreachable", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code", "passing"),
    [
        (503, "SlowDown", True),
        (500, "InternalError", True),
        (400, "ExpiredToken", True),
        (403, "InvalidAccessKeyId", True),
        (403, "AccessDenied", False),
        (403, "InvalidObjectState", False),
    ],
)
def test_what_s3_may_answer_otherwise_later(
    status: int, code: str, passing: bool, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"

    async def work() -> Sink | Refused:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        async with server:
            fetcher = Fetcher(FetchRules(buckets=("some-bucket",), timeout_s=60))
            return await fetcher.fetch("s3://some-bucket/key", tmp_path / "m", 10)

    assert run(work()) == Refused("unreachable", f"uri was not read: S3 answers '{code}'", passing=passing)


def test_the_systems_resolver_gives_numbers() -> None:
    assert "127.0.0.1" in run(module.resolve("localhost", 443))
