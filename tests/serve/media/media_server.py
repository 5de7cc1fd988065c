"""A server of media over TLS, with a certificate authority of its own, that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "media.example"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@cache
def certificates(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a client trusts, and what a server of that name shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.pem"
        pair.write_bytes(secret + shown)
        server.load_cert_chain(pair)
    return ssl.create_default_context(cadata=shown.decode()), server


@dataclass
class Server:
    """A running server.

    Attributes:
        port: that it listens on, at every address of the loopback.
        requests: the head of each, as it came.
        reached: the address of ours that each connection came to.
    """

    port: int = 0
    requests: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)


@asynccontextmanager
async def serving(answer: bytes | Answer, *, name: str = HOST) -> AsyncIterator[Server]:
    """A server whose certificate is of that name, and that answers each request with these bytes, or so."""
    server = Server()
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            server.reached.append(writer.get_extra_info("sockname")[0])
            server.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(talk, "0.0.0.0", 0, ssl=certificates(name)[1])
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


@dataclass
class Resolver:
    """Gives these addresses, one list a look-up, the last one for ever."""

    answers: Sequence[Sequence[str]] = (("127.0.0.1",),)
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def reply(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A reply with its Content-Length, or another."""
    told = (f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers)
    return "\r\n".join([*told, "", ""]).encode() + body
