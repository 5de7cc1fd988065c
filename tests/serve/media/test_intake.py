"""Media of a JSON body: base64 and `uri` become files, each within its bound, each refused for itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.media import FetchRules, MediaKind, MediaRules, ReadRules, Refused
from moderation.posts import MediaIn
from serve.http.problems import Problem, refusal
from serve.media.fetch import Fetcher
from serve.media.intake import Incoming, bound_of, decode, receive, scratch, source_of
from serve.media.sink import Sink, entered_on_thread, on_thread
from tests.rooms import run
from tests.serve.media.media_server import HOST, Resolver, certificates, reply, serving

RULES = MediaRules(max_media=4, read=ReadRules(max_image_bytes=1000, max_video_bytes=2000))


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def received(media: Sequence[MediaIn], folder: Path, rules: MediaRules = RULES) -> list[Any]:
    return await receive(media, rules=rules, fetcher=Fetcher(FetchRules()), folder=folder)


def test_each_medium_is_received_for_itself_and_in_order(tmp_path: Path) -> None:
    async def work() -> list[Any]:
        async with serving(reply(b"from afar")) as server:
            fetch = FetchRules(https_hosts=(HOST,), https_ports=(server.port,))
            fetcher = Fetcher(fetch, resolve=Resolver(), vet=lambda _: True, trust=certificates(HOST)[0])
            media = [
                MediaIn(kind="video", uri=f"https://{HOST}:{server.port}/v"),
                MediaIn(kind="image", data=encoded(b"from here")),
                MediaIn(kind="image", sha256="0" * 64),
                MediaIn(kind="image", uri="http://169.254.169.254/"),
            ]
            return await receive(media, rules=RULES, fetcher=fetcher, folder=tmp_path)

    afar, here, held, elsewhere = run(work())
    assert (afar.kind, afar.size, afar.sha256) == ("video", 9, hashlib.sha256(b"from afar").hexdigest())
    assert afar.path.read_bytes() == b"from afar"
    assert (here.kind, here.size, here.sha256) == ("image", 9, hashlib.sha256(b"from here").hexdigest())
    assert here.path.read_bytes() == b"from here"
    assert held == MediaIn(kind="image", sha256="0" * 64)
    assert elsewhere.code == "not_allowed"
    assert sorted(tmp_path.iterdir()) == sorted([afar.path, here.path])


def test_media_are_fetched_at_the_same_time(tmp_path: Path) -> None:
    async def work() -> list[Any]:
        everybody = asyncio.Barrier(4)

        async def together(writer: asyncio.StreamWriter) -> None:
            await everybody.wait()  # one after the other, nobody would ever be answered
            writer.write(reply(b"hello"))
            await writer.drain()

        async with serving(together) as server:
            fetch = FetchRules(https_hosts=(HOST,), https_ports=(server.port,), timeout_s=60)
            fetcher = Fetcher(fetch, resolve=Resolver(), vet=lambda _: True, trust=certificates(HOST)[0])
            media = [MediaIn(kind="image", uri=f"https://{HOST}:{server.port}/{number}") for number in range(4)]
            return await receive(media, rules=RULES, fetcher=fetcher, folder=tmp_path)

    assert [item.size for item in run(work())] == [5] * 4


def test_where_one_breaks_off_the_others_are_stopped(tmp_path: Path) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        async with serving(silent) as server:
            fetch = FetchRules(https_hosts=(HOST,), https_ports=(server.port,), timeout_s=0.3)
            trust = certificates(HOST)[0]
            fetcher = Fetcher(fetch, concurrency=1, resolve=Resolver(), vet=lambda _: True, trust=trust)
            media = [MediaIn(kind="image", uri=f"https://{HOST}:{server.port}/{number}") for number in range(4)]
            await receive(media, rules=RULES, fetcher=fetcher, folder=tmp_path)

    with pytest.raises(Problem, match="the bound is 1") as busy:
        run(work())
    assert busy.value.status == 503
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=2000))
def test_base64_gives_the_bytes_that_went_in(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "decoded"
    sink = decode(encoded(content), path, len(content))
    assert isinstance(sink, Sink)
    assert path.read_bytes() == content
    assert (sink.size, sink.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    path.unlink()
    if content:
        refused = decode(encoded(content), path, len(content) - 1)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.bound) == ("too_many_bytes", len(content) - 1)


@given(st.text(alphabet="AZaz09+/=-_ \n\u00fc", max_size=24))
def test_what_is_no_base64_is_refused_and_leaves_nothing(tmp_path_factory: pytest.TempPathFactory, data: str) -> None:
    path = tmp_path_factory.getbasetemp() / "perhaps"
    found = decode(data, path, 1000)
    if isinstance(found, Refused):
        assert found.code == "broken"
        assert not path.exists()
    else:
        # Trailing bits that are not zero are let pass, as the RFC allows: so only the length is certain.
        assert path.stat().st_size == len(base64.b64decode(data, validate=True))
        path.unlink()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("QUJD\nQUJD", "character 4 is '\\n'"),
        (" QUJ", "character 0 is ' '"),
        ("QUI", "it has 3 characters, which is no multiple of 4"),
        ("QUI=QUI=", "character 3 is '='"),
        ("Q===", "character 1 is '='"),
        ("====", "character 0 is '='"),
        ("QUI-", "character 3 is '-'"),
        ("QU_D", "character 2 is '_'"),
        ("QUüD", "character 2 is 'ü'"),
        ("data:image/png;base64,QUJD", "character 4 is ':'"),
        ("QUJD" * 300_000 + "QU=D" + "QUJD" * 300_000, "character 1200002 is '='"),
        ("QUJD" * 262_143 + "QUI=" + "QUJD", "character 1048575 is '='"),
    ],
)
def test_where_base64_is_wrong_is_told(data: str, why: str, tmp_path: Path) -> None:
    refused = decode(data, tmp_path / "m", 10**7)
    assert refused == Refused("broken", f"data is not base64 (RFC 4648, section 4): {why}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [786_431, 786_432, 786_433, 5_000_000])
def test_base64_longer_than_a_piece(size: int, tmp_path: Path) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    data = encoded(content)
    tracemalloc.start()
    try:
        sink = decode(data, tmp_path / "m", size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(sink, Sink)
    assert (tmp_path / "m").read_bytes() == content
    assert peak < 4_000_000


@pytest.mark.parametrize(("kind", "bound"), [("image", 1000), ("video", 2000), (None, 2000)])
def test_the_bound_is_the_kinds(kind: MediaKind | None, bound: int, tmp_path: Path) -> None:
    assert bound_of(kind, RULES.read) == bound
    if kind is not None:
        good, bad = run(received([MediaIn(kind=kind, data=encoded(bytes(bound + more))) for more in (0, 1)], tmp_path))
        assert isinstance(good, Incoming)
        assert bad == Refused("too_many_bytes", f"data has {bound + 1} bytes, the bound is {bound}", bound)


def test_an_empty_medium_is_for_the_reader_to_judge(tmp_path: Path) -> None:
    (empty,) = run(received([MediaIn(kind="image", data="")], tmp_path))
    assert (empty.size, empty.path.read_bytes()) == (0, b"")


def test_too_many_media_are_refused_before_any_is_written(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="/media: 5 media, the bound is 4") as refused:
        run(received([MediaIn(kind="image", data="QUJD")] * 5, tmp_path))
    assert (refused.value.status, refused.value.members) == (422, {"bound": 4})
    assert refused.value.errors == [{"pointer": "/media", "detail": "5 media, the bound is 4"}]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("refused", "status", "members"),
    [
        (Refused("unreachable", "why"), 422, {"code": "unreachable"}),
        (Refused("unreachable", "why", passing=True), 503, {"code": "unreachable"}),
        (Refused("too_many_bytes", "why", 1000), 413, {"code": "too_many_bytes", "bound": 1000}),
        (Refused("too_long", "why", 60.5), 422, {"code": "too_long", "bound": 60.5}),
        (Refused("too_many_frames", "why", 20.0), 422, {"code": "too_many_frames", "bound": 20}),
    ],
)
def test_a_post_is_told_which_medium_and_why(refused: Refused, status: int, members: dict[str, Any]) -> None:
    problem = refusal(2, refused, "uri")
    assert problem.status == status
    assert problem.body() == {
        "type": "about:blank",
        "title": problem.body()["title"],
        "status": status,
        "detail": "/media/2/uri: why",
        **members,
        "errors": [{"pointer": "/media/2/uri", "detail": "why"}],
    }
    assert problem.retry_after == (5 if status == 503 else None)
    assert refusal(0, refused).body()["errors"][0]["pointer"] == "/media/0"


@pytest.mark.parametrize("source", ["data", "uri", "sha256"])
def test_where_a_medium_comes_from(source: str) -> None:
    value = "0" * 64
    assert source_of(MediaIn.model_validate({"kind": "image", source: value})) == source


def test_a_scratch_folder_goes_with_what_is_in_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with scratch(tmp_path) as folder:
            (folder / "a").write_bytes(b"x")
            assert folder.parent == tmp_path
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(work())
    assert list(tmp_path.iterdir()) == []


def test_who_is_cancelled_waits_for_its_thread() -> None:
    async def work() -> list[str]:
        said = []
        begun = threading.Event()

        def slowly() -> None:
            begun.set()
            time.sleep(0.1)
            said.append("written")

        task = asyncio.create_task(on_thread(slowly))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(said)  # as it is now: the loop waits for its threads when it ends

    assert run(work()) == ["written"]


def test_a_context_that_is_entered_while_whoever_asked_goes_is_left_again() -> None:
    begun, let_in, left = threading.Event(), threading.Event(), threading.Event()

    @contextmanager
    def slow() -> Iterator[None]:
        begun.set()
        let_in.wait()
        try:
            yield
        finally:
            left.set()

    async def use() -> None:
        async with entered_on_thread(slow()):
            pytest.fail("nobody is there to use it")

    async def work() -> bool:
        task = asyncio.create_task(use())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        let_in.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return left.is_set()

    assert run(work())
