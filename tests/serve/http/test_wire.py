"""Bodies within their bounds, media types, replies."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from moderation.events import EventIn
from moderation.posts import BatchPost, LabelIn, ModerateIn, ModerateMediaIn, PostIn, TextFeature
from moderation.sections import Gateway as Bounds
from serve.http import admission
from serve.http.problems import Problem
from serve.http.wire import (
    MOST_VALUES,
    Doorkeeper,
    body_schema,
    check_media_type,
    client_of,
    json_reply,
    parsed,
    read_json,
    read_parsed,
)
from serve.review.models import LeaseIn, VerdictIn
from tests.rooms import run
from tests.serve.http.requests import a_request


@pytest.mark.parametrize("chunks", [[b"0123456789"], [b"01234", b"56789"], [b"0"] * 10, [b""]])
def test_a_body_within_its_bound_is_read_whole(chunks: list[bytes]) -> None:
    request, left = a_request(chunks)
    assert run(read_parsed(request, bytes, 10)) == b"".join(chunks)
    assert left == []


def test_a_body_that_says_it_is_too_large_is_not_read_at_all() -> None:
    request, left = a_request([b"x" * 11], {"content-length": "11"})
    with pytest.raises(Problem, match="the body has 11 bytes or more, the bound is 10") as refused:
        run(read_parsed(request, bytes, 10))
    assert (refused.value.status, refused.value.members) == (413, {"bound": 10})
    assert left == [b"x" * 11]


@pytest.mark.parametrize("told", ["9" * 20, "9" * 5000])
def test_a_length_of_very_many_digits_is_too_large_too(told: str) -> None:
    request, left = a_request([b"x"], {"content-length": told})
    with pytest.raises(Problem, match="the bound is 10") as refused:
        run(read_parsed(request, bytes, 10))
    assert refused.value.status == 413
    assert left == [b"x"]


@pytest.mark.parametrize("told", ["²", "0²", "", "0", "1" * 3 + "³", "0" * 5000, "0" * 5000 + "3"])
def test_a_length_that_says_nothing_or_little_is_no_error(told: str) -> None:
    request, left = a_request([b"abc"], {"content-length": told})
    assert run(read_parsed(request, bytes, 10)) == b"abc"
    assert left == []


@pytest.mark.parametrize("told", [None, "3", "none", "-5", "²", "11³"])
def test_a_body_that_grows_beyond_the_bound_is_left_as_soon_as_that_is_known(told: str | None) -> None:
    headers = {} if told is None else {"content-length": told}
    request, left = a_request([b"01234", b"56789", b"x", b"never read"], headers)
    with pytest.raises(Problem, match="the body has 11 bytes or more") as refused:
        run(read_parsed(request, bytes, 10))
    assert refused.value.status == 413
    assert left == [b"never read"]


@pytest.mark.parametrize(
    "told",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", "text/json", "text/JSON;charset=UTF-8"],
)
def test_a_media_type_is_accepted_however_it_is_written(told: str) -> None:
    request, _ = a_request(headers={"content-type": told})
    check_media_type(request, "application/json")


@pytest.mark.parametrize(
    ("told", "shown"),
    [(None, "'missing'"), ("", "'missing'"), ("text/plain", "'text/plain'"), ("application/jsonx", "jsonx")],
)
def test_another_media_type_is_refused_with_the_accepted_ones(told: str | None, shown: str) -> None:
    request, _ = a_request(headers={} if told is None else {"content-type": told})
    with pytest.raises(Problem, match="must be application/x-ndjson or application/jsonl") as refused:
        check_media_type(request, "application/x-ndjson", "application/jsonl")
    assert refused.value.status == 415
    assert shown in refused.value.detail


def test_a_reply_is_the_json_that_it_was_given() -> None:
    reply = json_reply('{"a": 1}', {"Seawall-Replayed": "true"})
    assert (reply.status_code, bytes(reply.body)) == (200, b'{"a": 1}')
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["seawall-replayed"] == "true"


@pytest.mark.parametrize(
    ("model", "media_type"),
    [(PostIn, "application/json"), (ModerateIn, "application/json"), (LabelIn, "application/x-ndjson")],
)
def test_a_body_is_documented_without_definitions_of_its_own(
    model: type[PostIn | ModerateIn | LabelIn], media_type: str
) -> None:
    body = body_schema(model, media_type)["requestBody"]
    assert body["required"] is True
    assert list(body["content"]) == [media_type]
    schema = body["content"][media_type]["schema"]
    assert "$defs" not in schema
    assert set(schema["properties"]) == set(model.model_fields)


def test_the_parts_of_a_body_stand_in_its_schema() -> None:
    schema = body_schema(ModerateIn)["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    assert set(schema["properties"]["features"]["items"]["properties"]) == set(TextFeature.model_fields)


def test_a_line_becomes_a_model_or_a_problem() -> None:
    line = b'{"features": [{"id": "1", "text": "a"}]}'
    assert parsed(ModerateIn, line).features[0].text == "a"
    for raw, status in ((b"{", 400), (b"{}", 422), (b"\xff", 400)):
        with pytest.raises(Problem) as refused:
            parsed(ModerateIn, raw)
        assert refused.value.status == status


MANY = 100_000


@pytest.mark.parametrize(
    ("model", "raw"),
    [
        (ModerateIn, b'{"features": [' + b"{}," * MANY + b"{}]}"),
        (ModerateIn, b'{"features": [' + b"1," * MANY + b"1]}"),
        (ModerateMediaIn, b'{"features": [' + b"{}," * MANY + b"{}]}"),
        (PostIn, b'{"media": [' + b"{}," * MANY + b"{}]}"),
        (PostIn, b'{"author": {' + b'"a":1,' * MANY + b'"a":1}}'),
        (BatchPost, b"[" * MANY),
        (LabelIn, b'{"labels": {' + b'"abuse":true,' * MANY + b'"abuse":true}}'),
        (EventIn, b'{"detail": {' + b'"a":[],' * MANY + b'"a":[]}}'),
        (VerdictIn, b'{"labels": {' + b'"a":1,' * MANY + b'"a":1}}'),
        (LeaseIn, b'{"labels": [' + b'"a",' * MANY + b'"a"]}'),
        (PostIn, b"{" + b'"unknown":1,' * MANY + b'"unknown":1}'),
        (PostIn, b"[" + b"{}," * MANY),
    ],
)
def test_a_body_of_very_many_values_is_refused_before_anything_is_made_of_them(
    model: type[BaseModel], raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "model_validate_json", lambda _raw: pytest.fail("it was parsed"))
    with pytest.raises(Problem, match="more than 1000 JSON values, which is the bound") as refused:
        parsed(model, raw)
    assert (refused.value.status, refused.value.members) == (413, {"bound": MOST_VALUES})


@pytest.mark.parametrize(
    ("model", "raw"),
    [
        (ModerateIn, b'{"features": [' + b"{}," * 400 + b"{}]}"),
        (ModerateMediaIn, b'{"features": [' + b"1," * 900 + b"1]}"),
        (PostIn, b'{"media": [' + b"1," * 900 + b"1]}"),
        (LeaseIn, b'{"labels": [' + b"1," * 900 + b"1]}"),
    ],
)
def test_of_a_list_of_wrong_items_no_more_errors_are_built_than_are_told(model: type[BaseModel], raw: bytes) -> None:
    with pytest.raises(Problem) as refused:
        parsed(model, raw)
    caused = refused.value.__cause__
    assert isinstance(caused, ValidationError)
    assert caused.error_count() <= 20
    assert refused.value.status == 422


def test_commas_in_texts_are_no_values() -> None:
    text = 'so, [he] said {to, me} "no",' * 1000
    body = json.dumps({"features": [{"id": "1", "text": text}]}).encode()
    assert parsed(ModerateIn, body).features[0].text == text


def test_a_post_with_all_that_it_may_have_is_within_the_bound_of_values() -> None:
    media = [{"kind": "image", "data": None, "uri": None, "sha256": f"{number:064}"} for number in range(100)]
    author = {f"feature {number}": 1.5 for number in range(50)}
    post = {"author_id": "u", "community": "c", "region": "US", "created_at": "2026-11-24T00:00:00Z", "text": ""}
    body = json.dumps(post | {"media": media, "author": author}).encode()
    assert len(parsed(PostIn, body).media) == 100


@pytest.mark.parametrize(("characters", "aside"), [(10, False), (20_000, True)])
def test_a_long_body_is_parsed_on_a_thread(characters: int, aside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    parse = ModerateIn.model_validate_json

    def seen(raw: bytes) -> ModerateIn:
        threads.append(threading.current_thread().name)
        return parse(raw)

    monkeypatch.setattr(ModerateIn, "model_validate_json", seen)
    body = json.dumps({"features": [{"id": "1", "text": "a" * characters}]}).encode()
    request, _ = a_request([body], {"content-type": "application/json"})
    assert len(run(read_json(request, ModerateIn, 100_000)).features[0].text) == characters
    assert [thread.startswith("bodies") for thread in threads] == [aside]


def test_clients_are_told_apart_by_their_key_or_not_at_all() -> None:
    def client(**headers: str) -> str | None:
        return client_of(a_request(headers={name.replace("_", "-"): value for name, value in headers.items()})[0])

    key, bearer = client(x_api_key="one"), client(authorization="Bearer one")
    assert key is not None
    assert bearer is not None
    assert client(x_api_key="one") == key
    assert client(x_api_key="one", authorization="Bearer one") == key
    assert len({key, bearer, client(x_api_key="two"), client(x_api_key="Bearer one"), client(x_api_key="\xe9")}) == 5
    assert "one" not in key
    assert client() is None
    assert client(x_api_key="", authorization="") is None


def test_clients_without_a_key_are_told_apart_by_the_address_that_the_proxy_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def client(forwarded: str) -> str | None:
        return client_of(a_request(headers={"x-forwarded-for": forwarded})[0])

    seen = client("10.0.0.1")
    assert seen is not None
    assert client("10.0.0.2") not in (None, seen)
    # What a client writes itself stands before what the proxy adds.
    assert client("10.9.9.9, 10.0.0.1") == client("nonsense, 10.0.0.1") == client("1," * 9999 + "10.0.0.1") == seen
    # Of IPv6 one client has very many.
    assert client("2001:db8::1") == client("2001:db8::2:3") != client("2001:db8:0:1::1")
    assert client("") is client("nonsense") is client("10.0.0.1, nonsense") is None
    monkeypatch.setenv("SEAWALL_BEHIND_PROXY", "192.168.0.0/16,fd00::/8")
    assert client("10.0.0.1, 192.168.7.7") == client("10.0.0.1, fd00::1, 192.168.7.7") == seen
    assert client("192.168.7.7") is None


async def answered(path: str, *, held: int, bounds: Bounds, **headers: str) -> tuple[int, dict[str, str]]:
    """What a doorkeeper answers while so many requests are under way: the status, and the headers."""
    inside, leave = asyncio.Event(), asyncio.Event()
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            inside.set()
            await leave.wait()
        await Response("all right")(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def ask(door: Doorkeeper, path: str, into: list[Message]) -> None:
        async def send(message: Message) -> None:
            into.append(message)

        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await door({"type": "http", "method": "GET", "path": path, "headers": raw}, receive, send)

    admission.HERE.bounds, before = bounds, admission.HERE.bounds
    try:
        door = Doorkeeper(app)
        slow = [asyncio.create_task(ask(door, "/slow", [])) for _ in range(held)]
        if slow:
            await inside.wait()
        await ask(door, path, messages)
        leave.set()
        await asyncio.gather(*slow)
        assert admission.HERE._requests == 0
        assert not admission.HERE._asking
    finally:
        admission.HERE.bounds = before
    return messages[0]["status"], {name.decode(): value.decode() for name, value in messages[0]["headers"]}


@pytest.mark.parametrize(
    ("path", "held", "status"),
    [("/v1/x", 2, 503), ("/v1/x", 1, 200), ("/healthz", 2, 200), ("/readyz", 2, 200)],
)
def test_no_more_requests_than_the_bound_are_under_way_but_health_is_always_told(
    path: str, held: int, status: int
) -> None:
    found, headers = run(answered(path, held=held, bounds=Bounds(max_ongoing_requests=2)))
    assert found == status
    if status == 503:
        assert (headers["retry-after"], headers["content-type"]) == ("1", "application/problem+json")


def test_one_client_holds_its_share_of_the_requests() -> None:
    bounds = Bounds(max_ongoing_requests=4, client_share=0.5)
    assert run(answered("/v1/x", held=2, bounds=bounds, x_api_key="a"))[0] == 429
    assert run(answered("/v1/x", held=2, bounds=bounds))[0] == 200
