"""Direct uploads, through real requests: in pieces of any size, whole and broken, within bounds and beyond."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message

from moderation.media import MediaRules, ReadRules
from serve.http.problems import Problem
from serve.media.intake import scratch
from serve.media.upload import Upload, read_upload
from tests.rooms import run

RULES = MediaRules(max_media=3, max_body_bytes=100_000, read=ReadRules(max_image_bytes=10_000, max_video_bytes=20_000))
MAX_POST = 2000
TYPE = "multipart/form-data; boundary=edge"
POST = b'{"text": "look"}'


def part(name: str, content: bytes, *headers: str, filename: str | None = None, disposition: str = "") -> bytes:
    """A part with its boundary before it."""
    named = "" if filename is None else f'; filename="{filename}"'
    lines = [disposition or f'Content-Disposition: form-data; name="{name}"{named}', *headers]
    return "\r\n".join(["--edge", *lines, "", ""]).encode() + content + b"\r\n"


def photo(content: bytes = b"jpeg", content_type: str = "image/jpeg", filename: str = "a.jpg") -> bytes:
    return part("file", content, f"Content-Type: {content_type}", filename=filename)


THE_POST = part("post", POST)
END = b"--edge--\r\n"


class Receiver:
    """An application that takes uploads into folders below its own."""

    def __init__(self, folder: Path, rules: MediaRules = RULES) -> None:
        self._folder = folder
        self._rules = rules
        self.app = Starlette(routes=[Route("/", self._take, methods=["PUT"])])

    async def _take(self, request: Request) -> Response:
        async with scratch(self._folder) as folder:
            try:
                upload = await read_upload(request, self._rules, folder, max_post_bytes=MAX_POST)
            except Problem as problem:
                assert list(folder.iterdir()) == []
                return problem.response()
            assert sorted(file.path for file in upload.files) == sorted(folder.iterdir())
            return JSONResponse(
                {"post": upload.post.decode(), "files": [self._described(file) for file in upload.files]}
            )

    @staticmethod
    def _described(file: Any) -> dict[str, Any]:
        with file.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        assert (file.sha256, file.size) == (digest, file.path.stat().st_size)
        return {"kind": file.kind, "size": file.size, "sha256": digest, "name": file.name}

    def put(self, pieces: Sequence[bytes], content_type: str = TYPE, headers: dict[str, str] | None = None) -> Any:
        """Its answer to a body that comes in these pieces: status and JSON."""

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        async def work() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://seawall") as client:
                return await client.put("/", content=body(), headers={"content-type": content_type} | (headers or {}))

        reply = run(work())
        assert list(self._folder.iterdir()) == []
        return reply.status_code, reply.json()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    return Receiver(tmp_path_factory.mktemp("uploads"))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 10**6])
def test_parts_become_files_however_the_body_is_cut(receiver: Receiver, size: int) -> None:
    image, video = b"\r\n--edg" * 300 + b"\r\n--edge\r", bytes(range(256)) * 40
    body = photo(image) + THE_POST + photo(video, "Video/MP4; codecs=avc1", "b.mp4") + photo(b"", "x/y", "") + END
    status, said = receiver.put([body[start : start + size] for start in range(0, len(body), size)])
    assert status == 200
    assert said == {
        "post": POST.decode(),
        "files": [
            {"kind": "image", "size": len(image), "sha256": digest(image), "name": "a.jpg"},
            {"kind": "video", "size": len(video), "sha256": digest(video), "name": "b.mp4"},
            {"kind": None, "size": 0, "sha256": digest(b""), "name": ""},
        ],
    }


def test_what_httpx_sends_is_read(receiver: Receiver) -> None:
    request = httpx.Request(
        "PUT",
        "http://seawall",
        files=[("post", (None, POST)), ("media", ("猫.png", b"png", "image/png")), ("media", ("b", b"unknown"))],
    )
    status, said = receiver.put([request.read()], request.headers["content-type"])
    assert status == 200
    assert [(file["kind"], file["size"], file["name"]) for file in said["files"]] == [
        ("image", 3, "猫.png"),
        (None, 7, "b"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a\\b",
        "C:\\x",
        "a/b",
        "nul\u200b",
        "ü" * 300,
        "x\x00y",
        "\x1b[2J",
        "a;b",
        "%2e%2e",
    ],
)
def test_a_files_name_is_for_people_and_never_a_path(receiver: Receiver, name: str) -> None:
    status, said = receiver.put([THE_POST + photo(filename=name) + END])
    assert status == 200
    assert said["files"][0]["sha256"] == digest(b"jpeg")
    assert len(said["files"][0]["name"]) <= 100
    assert said["files"][0]["name"].isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n" + THE_POST + END,
        b"\r\n\r\n" + THE_POST + b"--edge--",
        THE_POST + END + b"an epilogue " * 100,
        THE_POST.replace(b"--edge\r\n", b"--edge\r\n", 1) + END,
        THE_POST.replace(b"Content-Disposition", b"CONTENT-disposition") + END,
        part("post", POST, "Content-Type: application/json", filename="post.json") + END,
        part("post", POST, "Content-Transfer-Encoding: binary") + END,
    ],
)
def test_a_post_without_files_may_come_so(receiver: Receiver, body: bytes) -> None:
    assert receiver.put([body]) == (200, {"post": POST.decode(), "files": []})


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "ends before its last boundary"),
        (THE_POST, "ends before its last boundary"),
        (THE_POST + b"--edge", "ends before its last boundary"),
        (THE_POST + photo()[:-1], "ends before its last boundary"),
        (THE_POST + b"--edge\r\nContent-Dispos", "ends before its last boundary"),
        (THE_POST[:-2] + b"\r\n--edg--\r\n", "ends before its last boundary"),
        (b"a preamble\r\n" + THE_POST + END, "is not multipart/form-data"),
        (b"--other\r\n\r\n--other--", "is not multipart/form-data"),
        ((THE_POST + END).replace(b"\r\n", b"\n"), "is not multipart/form-data"),
        (POST, "is not multipart/form-data"),
        (bytes(1000), "is not multipart/form-data"),
        (part("post", POST, "X: " + "y" * 5000) + END, "Maximum header size exceeded"),
        (part("post", POST, *(f"X{number}: y" for number in range(40))) + END, "Maximum header count exceeded"),
        (b"--edge\r\n" + b"x" * 90_000, "Maximum header size exceeded"),
        (part("post", POST, "no colon") + END, "is not multipart/form-data"),
        (part("post", POST, 'Content-Disposition: form-data; name="x"') + END, "two headers"),
        (part("post", POST, disposition="X: y") + END, "no header Content-Disposition"),
        (part("post", POST, disposition="Content-Disposition: form-data") + END, "no header Content-Disposition"),
        (part("post", POST, disposition='Content-Disposition: attachment; name="post"') + END, "no header"),
        (b"--edge\r\n\r\n" + POST + b"\r\n" + END, "no header Content-Disposition"),
    ],
)
def test_a_body_that_is_no_multipart_is_malformed(receiver: Receiver, body: bytes, why: str) -> None:
    for pieces in ([body], [body[index : index + 1] for index in range(min(len(body), 300))] + [body[300:]]):
        status, said = receiver.put(pieces)
        assert status == 400
        assert why in said["detail"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ('multipart/form-data; boundary=""', 400),
        (f"multipart/form-data; boundary={'x' * 71}", 400),
        (f"multipart/form-data; boundary={'x' * 5000}", 400),
        ("multipart/form-data; boundary*=utf-8''edge", 400),
        ("multipart/mixed; boundary=edge", 415),
        ("image/jpeg", 415),
        ('multipart/form-data; boundary="edge"; charset=utf-7', 200),
    ],
)
def test_the_boundary_must_be_told(receiver: Receiver, content_type: str, status: int) -> None:
    assert receiver.put([THE_POST + END], content_type)[0] == status


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (END, "no part named 'post'"),
        (photo() + END, "no part named 'post'"),
        (THE_POST + photo() + THE_POST + END, "two parts named 'post'"),
        (THE_POST + part("other", b"x") + END, "part 'other' is neither named 'post' nor a file"),
        (THE_POST + part("a", b"x", "Content-Type: multipart/mixed; boundary=in") + END, "neither"),
        (THE_POST + part("\x1b" * 500, b"x") + END, "part '?"),
        (THE_POST + photo() * 4 + END, "4 media, the bound is 3"),
        (part("post", POST, "Content-Transfer-Encoding: base64") + END, "Content-Transfer-Encoding is 'base64'"),
    ],
)
def test_an_upload_of_other_parts_is_invalid(receiver: Receiver, body: bytes, why: str) -> None:
    status, said = receiver.put([body])
    assert status == 422
    assert why in said["detail"]


@pytest.mark.parametrize(
    ("content_type", "bound"), [("image/png", 10_000), ("video/mp4", 20_000), ("application/octet-stream", 20_000)]
)
def test_a_file_has_its_kinds_bound(receiver: Receiver, content_type: str, bound: int) -> None:
    assert receiver.put([THE_POST + photo(bytes(bound), content_type) + END])[0] == 200
    status, said = receiver.put([THE_POST + photo() + photo(bytes(bound + 1), content_type, "big")])
    assert (status, said["code"], said["bound"]) == (413, "too_many_bytes", bound)
    assert said["errors"][0]["pointer"] == "/media/1"
    assert said["errors"][0]["detail"] == f"the file 'big' has {bound + 1} bytes or more, the bound is {bound}"


def test_the_post_has_its_bound(receiver: Receiver) -> None:
    assert receiver.put([part("post", b"x" * MAX_POST) + END])[0] == 200
    status, said = receiver.put([photo() + part("post", b"x" * (MAX_POST + 1)) + END])
    assert (status, said["bound"]) == (413, MAX_POST)
    assert "the part 'post' has 2001 bytes or more" in said["detail"]


def test_the_body_has_its_bound(receiver: Receiver) -> None:
    whole = THE_POST + photo() + END
    assert receiver.put([whole + bytes(100_000 - len(whole))])[0] == 200
    status, said = receiver.put([whole, bytes(100_001 - len(whole))])
    assert (status, said["bound"]) == (413, 100_000)


def asked(pieces: Sequence[bytes], headers: dict[str, str], *, gone: bool = False) -> tuple[Request, list[bytes]]:
    """A request whose body comes in pieces, after which the client may be gone; what was not asked for yet."""
    left = list(pieces)

    async def receive() -> Message:
        if not left and gone:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left) or gone}

    raw = [(name.encode(), value.encode()) for name, value in ({"content-type": TYPE} | headers).items()]
    return Request({"type": "http", "method": "PUT", "headers": raw}, receive), left


async def read(request: Request, folder: Path, rules: MediaRules = RULES) -> Upload:
    return await read_upload(request, rules, folder, max_post_bytes=MAX_POST)


def test_a_body_that_says_it_is_too_large_is_not_read_at_all(tmp_path: Path) -> None:
    request, left = asked([THE_POST], {"content-length": "100001"})
    with pytest.raises(Problem, match="the body has 100001 bytes or more, the bound is 100000"):
        run(read(request, tmp_path))
    assert left == [THE_POST]


def test_what_is_refused_is_refused_before_the_rest_has_come(tmp_path: Path) -> None:
    request, left = asked([THE_POST, photo() * 3, photo(), b"the rest", b"of it"], {})
    with pytest.raises(Problem, match="4 media"):
        run(read(request, tmp_path))
    assert left == [b"the rest", b"of it"]
    assert list(tmp_path.iterdir()) == []


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    request, _ = asked([THE_POST + photo(), photo(bytes(5000))[:-100]], {}, gone=True)
    with pytest.raises(ClientDisconnect):
        run(read(request, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        written = asyncio.Event()
        pieces = [THE_POST, photo(bytes(9000))[:-20]]

        async def receive() -> Message:
            if not pieces:
                written.set()
                await asyncio.Event().wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

        request = Request({"type": "http", "method": "PUT", "headers": [(b"content-type", TYPE.encode())]}, receive)
        task = asyncio.create_task(read(request, tmp_path))
        await written.wait()
        assert len(list(tmp_path.iterdir())) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_ours_to_mend(tmp_path: Path) -> None:
    request, _ = asked([THE_POST + photo() + END], {})
    with pytest.raises(FileNotFoundError):
        run(read(request, tmp_path / "gone"))


@pytest.mark.parametrize("piece", [1 << 16, 1 << 22])
def test_an_upload_is_never_held_in_memory(piece: int, tmp_path: Path) -> None:
    size = 60_000_000
    head, block = THE_POST + photo(b"", "video/mp4")[:-2], bytes(piece)
    rules = MediaRules(read=ReadRules(max_video_bytes=size))

    async def receive(sent: list[int] = [0]) -> Message:  # noqa: B006 - what it has sent so far
        if sent[0] == 0:
            sent[0] = 1
            return {"type": "http.request", "body": head, "more_body": True}
        if sent[0] > size:
            return {"type": "http.request", "body": b"\r\n" + END, "more_body": False}
        body = block[: size + 1 - sent[0]]
        sent[0] += len(body)
        return {"type": "http.request", "body": body, "more_body": True}

    request = Request({"type": "http", "method": "PUT", "headers": [(b"content-type", TYPE.encode())]}, receive)
    tracemalloc.start()
    try:
        upload = run(read(request, tmp_path, rules))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert upload.files[0].size == size
    assert peak < 4_000_000


@given(st.binary(max_size=400), st.integers(1, 50))
@example(b"\r\n--edge", 1)
@example(b"\r\n--edge--", 1)
@example(b"\r\n--edge\r\n", 3)
@example(b"\r\n--edge  \r\n\r\n", 2)
def test_whatever_a_body_holds_it_is_read_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    for body in (content, b"--edge" + content, THE_POST + photo(content) + END, THE_POST[:-2] + content + END):
        request, _ = asked([body[start : start + size] for start in range(0, len(body), size)], {})
        found = run(tried(request, folder))
        if isinstance(found, Problem):
            assert found.status in (400, 413, 422)
        else:
            for file in found.files:
                assert file.path.read_bytes() in body
                file.path.unlink()
        assert list(folder.iterdir()) == []


async def tried(request: Request, folder: Path) -> Upload | Problem:
    try:
        return await read(request, folder)
    except Problem as problem:
        return problem


def test_the_post_is_json_as_it_came(receiver: Receiver) -> None:
    told = json.dumps({"text": "ü\r\n--edg"}).encode()
    assert json.loads(receiver.put([part("post", told) + END])[1]["post"]) == {"text": "ü\r\n--edg"}
