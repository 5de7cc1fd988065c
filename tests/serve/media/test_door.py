"""Where media come in: whichever way, their bytes are in the store, and the post names them by their SHA-256."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from PIL import Image

from moderation.media import MediaRules, ReadRules, Refused
from moderation.posts import PostIn
from moderation.settings import DEPLOYMENTS
from moderation.storage.media_store import ASIDE, MediaStore
from moderation.topology import Topology
from serve.context import current
from serve.errors import RefusedMediumError
from serve.http.handlers import add_handlers
from serve.http.wire import json_reply
from serve.media.door import MediaDoor, carries_media
from serve.media.routes import router
from serve.posts.moderator import Answer
from serve.posts.routes import router as posts
from tests.fresh import fresh_ledger
from tests.media_samples import IMAGES, clip, encoded, picture
from tests.moderation.storage.media import with_media
from tests.rooms import run

PNG = encoded(picture(64, 64), "PNG")
RULES = MediaRules(max_media=3, max_json_body_bytes=200_000, read=ReadRules(max_image_bytes=50_000))


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def a_post(**changes: Any) -> dict[str, Any]:
    return {
        "author_id": "u-1",
        "community": "c",
        "region": "US",
        "created_at": "2026-11-24T09:30:00Z",
        "text": "hello",
    } | changes


class World:
    """The door behind routes: one that takes a post, the one that gives bytes back, and those of posts."""

    moderator: Any

    def __init__(self, folder: Path) -> None:
        self.store = MediaStore(folder / "media")
        self.ledger = fresh_ledger(folder / "ledger.db")
        self.incoming = folder / "incoming"
        self.door = MediaDoor(RULES, self.store, self.incoming, self.ledger)
        self.topology = replace(Topology.load(DEPLOYMENTS / "light.yaml"), media=RULES)
        app = FastAPI()

        @app.put("/post")
        async def put(request: Request) -> Response:
            self.held = await self.door.read_post(request, 20_000)
            return json_reply(self.held.model_dump_json())

        add_handlers(app)
        app.include_router(router)
        app.include_router(posts)
        app.dependency_overrides[current] = lambda: self
        self.client = TestClient(app)

    def put(self, post: dict[str, Any], *files: tuple[str, bytes, str]) -> PostIn:
        response = self.send(post, *files)
        assert response.status_code == 200, response.text
        assert self.arriving() == []
        assert response.text == self.held.model_dump_json()
        return self.held

    def arriving(self) -> list[Path]:
        return [path for path in self.incoming.glob("*/*") if path.name != ".lock"]

    def record(self, *sha256s: str, post_id: str = "p-1") -> None:
        """What the moderator does with a post that is not refused."""
        self.ledger.record([with_media(post_id, sha256s)])

    def had(self, data: bytes) -> int:
        """The status with which bytes are answered to who asks for them."""
        return int(self.client.get(f"/v1/media/{digest(data)}").status_code)

    def send(self, post: dict[str, Any], *files: tuple[str, bytes, str]) -> Any:
        if not files:
            return self.client.put("/post", json=post)
        parts: list[Any] = [("post", (None, json.dumps(post), "application/json"))]
        return self.client.put("/post", files=parts + [("f", file) for file in files])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.client:
        yield world
    world.door.close()
    world.ledger.close()


def test_a_post_without_media_passes(world: World) -> None:
    assert world.put(a_post()).media == []


def test_base64_is_held_before_the_post_goes_on(world: World) -> None:
    [medium] = world.put(a_post(media=[{"kind": "image", "data": base64_of(PNG)}])).media
    assert (medium.kind, medium.sha256, medium.data) == ("image", digest(PNG), None)
    with world.store.open(digest(PNG)) as path:
        assert path.read_bytes() == PNG


def test_uploads_come_first_and_their_kind_is_told_or_seen(world: World) -> None:
    video = clip(seconds=1)
    listed = [{"kind": "image", "data": base64_of(PNG)}]
    post = world.put(
        a_post(media=listed), ("a", video, "application/octet-stream"), ("../../b", PNG + b" ", "image/whatever")
    )
    assert [(medium.kind, medium.sha256) for medium in post.media] == [
        ("video", digest(video)),
        ("image", digest(PNG + b" ")),
        ("image", digest(PNG)),
    ]


def test_held_bytes_may_be_named_once_a_post_has_them(world: World) -> None:
    world.put(a_post(media=[{"kind": "image", "data": base64_of(PNG)}]))
    unjudged = world.send(a_post(media=[{"kind": "image", "sha256": digest(PNG)}])).json()
    assert (unjudged["status"], unjudged["code"]) == (422, "unknown_media")
    world.record(digest(PNG))
    [medium] = world.put(a_post(media=[{"kind": "image", "sha256": digest(PNG)}])).media
    assert medium.sha256 == digest(PNG)


@pytest.mark.parametrize(
    ("media", "status", "code", "pointer"),
    [
        ([{"kind": "image", "sha256": "0" * 64}], 422, "unknown_media", "/media/0/sha256"),
        ([{"kind": "image", "data": "*"}], 422, "broken", "/media/0/data"),
        ([{"kind": "image", "data": base64_of(b"x" * 50_001)}], 413, "too_many_bytes", "/media/0/data"),
        ([{"kind": "image", "uri": "ftp://a/b"}], 422, "not_allowed", "/media/0/uri"),
    ],
)
def test_what_is_refused_is_told_at_its_place(
    world: World, media: list[dict[str, str]], status: int, code: str, pointer: str
) -> None:
    response = world.send(a_post(media=media))
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert problem["errors"][0]["pointer"] == pointer
    assert world.arriving() == []


def test_files_and_listed_media_count_together(world: World) -> None:
    listed = [{"kind": "image", "data": base64_of(PNG)}] * 3
    problem = world.send(a_post(media=listed), ("a", PNG, "image/png")).json()
    assert (problem["status"], problem["bound"]) == (422, 3)


def test_a_file_that_is_nothing_known_is_refused(world: World) -> None:
    problem = world.send(a_post(), ("a", b"just some words", "application/octet-stream")).json()
    assert (problem["status"], problem["code"]) == (422, "unknown_format")


def test_a_long_body_is_for_media_alone(world: World) -> None:
    response = world.send(a_post(text="x" * 30_000))
    assert (response.status_code, response.json()["bound"]) == (413, 20_000)
    assert world.send(a_post(media=[{"kind": "image", "data": base64_of(b"x" * 160_000)}])).status_code == 413


def test_what_is_held_can_be_had_and_is_never_a_page(world: World) -> None:
    world.put(a_post(media=[{"kind": "image", "data": base64_of(PNG)}]))
    world.record(digest(PNG))
    response = world.client.get(f"/v1/media/{digest(PNG)}")
    assert response.content == PNG
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert world.client.get(f"/v1/media/{'0' * 64}").status_code == 404
    assert world.client.get("/v1/media/ABC").status_code == 422


def test_bytes_are_given_to_nobody_before_a_post_is_recorded_with_them(world: World) -> None:
    world.put(a_post(media=[{"kind": "image", "data": base64_of(PNG)}]))
    assert world.store.has(digest(PNG))  # or nobody could judge them
    assert world.had(PNG) == 404
    world.record(digest(PNG))
    assert world.had(PNG) == 200


def test_bytes_of_a_refused_post_are_put_aside_but_those_that_a_post_has(world: World) -> None:
    other, third = PNG + b" ", PNG + b"  "
    world.record(digest(other))
    files = [("a", data, "image/png") for data in (PNG, other, third)]
    post = world.put(a_post(), *files)
    run(world.door.let_go(post))
    assert sorted(stored.name for stored in world.store.place.listing(ASIDE)) == sorted(
        f"{ASIDE}/{digest(data)}" for data in (PNG, third)
    )
    assert [world.had(data) for data in (PNG, other, third)] == [404, 200, 404]
    world.put(a_post(), files[0])  # posted again, and not refused this time
    world.record(digest(PNG), post_id="p-2")
    assert world.had(PNG) == 200


def test_one_refused_file_puts_the_others_of_its_post_aside(world: World) -> None:
    response = world.send(a_post(), ("a", PNG, "image/png"), ("b", b"just some words", "application/octet-stream"))
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/media/1")
    assert [stored.name for stored in world.store.place.listing()] == [f"{ASIDE}/{digest(PNG)}"]
    assert world.had(PNG) == 404


@pytest.mark.parametrize("name", ["png_one_row_of_a_million", "png_header_bomb", "gif_header_bomb"])
def test_what_its_header_refuses_never_comes_into_the_store(world: World, name: str) -> None:
    data = IMAGES[name][0]()
    response = world.send(a_post(), ("a", PNG, "image/png"), ("b", data, "image/png"))
    problem = response.json()
    assert (response.status_code, problem["code"], problem["errors"][0]["pointer"]) == (
        422,
        "too_many_pixels",
        "/media/1",
    )
    assert str(problem["bound"]) in problem["detail"]
    assert not world.store.has(digest(data))


def test_work_is_told_by_headers_and_by_what_is_recorded(world: World) -> None:
    wide, moving = encoded(Image.new("L", (4000, 2500)), "PNG"), clip(seconds=1)
    post = world.put(a_post(), ("a", wide, "image/png"), ("b", PNG, "image/png"), ("c", moving, "video/mp4"))
    assert [medium.work for medium in post.media] == [10, 1, 50]
    world.ledger.record([with_media("p-1", [digest(wide)], width=4000, height=2500)])
    world.record(digest(PNG), post_id="p-2")
    named = [{"kind": "image", "sha256": digest(data)} for data in (wide, PNG)]
    assert [medium.work for medium in world.put(a_post(media=named)).media] == [10, 1]


def test_more_megapixels_than_a_post_may_have_are_told_at_the_medium_that_is_too_much(world: World) -> None:
    world.door.rules = RULES.model_copy(update={"max_post_megapixels": 25})
    wide = encoded(Image.new("L", (4000, 2500)), "PNG")
    files = [("a", wide + b" " * number, "image/png") for number in range(3)]
    assert len(world.put(a_post(), *files[:2]).media) == 2
    problem = world.send(a_post(), *files).json()
    assert (problem["status"], problem["code"], problem["bound"]) == (422, "too_many_pixels", 25)
    assert problem["errors"] == [
        {
            "pointer": "/media/2",
            "detail": "it and those before it are 30 megapixels to decode, the bound of a post is 25",
        }
    ]


def test_a_store_that_fails_to_put_aside_leaves_the_refusal_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_name: str, _to: str) -> bool:
        raise OSError("the disk is gone")

    monkeypatch.setattr(world.store.place, "move", fails)
    response = world.send(a_post(), ("a", PNG, "image/png"), ("b", b"just some words", "application/octet-stream"))
    assert response.status_code == 422


def test_what_the_decoder_refuses_is_let_go_by_the_gateway(world: World) -> None:
    async def refuses(_post_id: str, _post: PostIn, **_told: object) -> Answer:
        raise RefusedMediumError(0, Refused("broken", "the decoder refuses it"))

    world.moderator = SimpleNamespace(moderate=refuses)
    response = world.client.put("/v1/posts/p-1", json=a_post(media=[{"kind": "image", "data": base64_of(PNG)}]))
    assert (response.status_code, response.json()["code"]) == (422, "broken")
    assert [stored.name for stored in world.store.place.listing()] == [f"{ASIDE}/{digest(PNG)}"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-type": "multipart/form-data; boundary=x"}, True),
        ({"content-type": "application/json", "content-length": "20001"}, True),
        ({"content-type": "application/json", "content-length": "20000"}, False),
        ({"content-type": "application/json"}, False),
        ({"content-type": "application/json", "content-length": "a lot"}, False),
    ],
)
def test_what_carries_media_is_told_by_its_head(headers: dict[str, str], expected: bool) -> None:
    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    assert carries_media(Request(scope), 20_000) is expected


def test_media_that_are_only_looked_at_find_room_or_are_told_to_come_again(world: World) -> None:
    body = {"features": [{"id": str(number), "data": base64_of(b"no picture")} for number in range(2)]}
    with world.door.room_for(RULES.max_waiting_posts - 1):
        response = world.client.post("/v1/image/moderate", json=body)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["bound"] == RULES.max_waiting_posts
    with world.door.room_for(RULES.max_waiting_posts + 1):  # alone it is never too large
        pass
    with world.door.room_for(RULES.max_waiting_posts):  # what ended counts no more
        pass
