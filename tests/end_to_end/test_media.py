"""Images and videos through the running service: uploads, addresses, reposts, bad ones among good ones."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import matplotlib
import pytest
from PIL import Image, ImageDraw, ImageFont
from sqlalchemy import select

from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from moderation.storage.media_store import MediaStore
from moderation.storage.media_tables import media_scores, post_media
from simulate.service import PATIENT_S, SEAWALL, Service
from tests.media_samples import IMAGES, clip, encoded, film, picture, samples, slide

pytestmark = pytest.mark.slow

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
INSULT = "you are a fucking idiot\nand everybody hates you"


def a_picture(shade: int = 0) -> bytes:
    return encoded(picture(320, 240, shift=shade), "PNG")


def a_meme(text: str) -> bytes:
    image = Image.new("RGB", (640, 400), (40, 90, 60))
    ImageDraw.Draw(image).multiline_text((30, 120), text, font=ImageFont.truetype(str(FONT), 40), fill="white")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def a_post(text: str = "", **more: Any) -> dict[str, Any]:
    return {
        "author_id": f"u-{uuid4().hex[:8]}",
        "community": "pictures",
        "region": "US",
        "created_at": "2026-11-24T09:30:00Z",
        "text": text,
    } | more


def inline(kind: str, data: bytes) -> dict[str, str]:
    return {"kind": kind, "data": base64.b64encode(data).decode()}


def put(
    service: Service, post: dict[str, Any], *files: tuple[str, bytes], post_id: str | None = None
) -> httpx.Response:
    url = f"{service.url}/v1/posts/{post_id or f'm-{uuid4().hex}'}"
    if not files:
        return httpx.put(url, json=post, timeout=PATIENT_S, trust_env=False)
    parts: list[tuple[str, Any]] = [("post", (None, json.dumps(post), "application/json"))]
    parts += [("file", ("name", data, content_type)) for content_type, data in files]
    return httpx.put(url, files=parts, timeout=PATIENT_S, trust_env=False)


def decision_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


@pytest.fixture(scope="module")
def ledger(service: Service) -> Ledger:
    return Ledger(f"sqlite:///{service.home / 'ledger.db'}")


@pytest.fixture(scope="module")
def store(service: Service) -> MediaStore:
    return MediaStore(Settings(service.home, "", "").media_url)


def test_an_upload_is_judged_kept_and_answered_as_text_is(service: Service, ledger: Ledger, store: MediaStore) -> None:
    data = a_picture(1)
    decision = decision_of(put(service, a_post("look at this"), ("image/png", data), post_id="m-upload"))
    nudity = decision["labels"]["nudity"]
    assert (nudity["status"], nudity["input_types"], nudity["flagged"]) == ("scored", ["image"], False)
    assert 0 <= nudity["score"] <= 1
    assert decision["labels"]["abuse"]["input_types"] == ["text"]
    [medium] = decision["media"]
    assert medium | {"perceptual_hash": None} == {
        "kind": "image",
        "sha256": sha256(data).hexdigest(),
        "status": "scored",
        "reason": None,
        "format": "png",
        "bytes": len(data),
        "width": 320,
        "height": 240,
        "seconds": None,
        "perceptual_hash": None,
        "text": None,
        "looked_at": None,
        "not_looked_at": [],
        "text_not_read": [],
    }
    assert decision["models"].keys() == {"text", "image", "misinformation"}
    with store.open(medium["sha256"]) as path:
        assert path.read_bytes() == data
    with ledger.read() as connection:
        rows = connection.execute(select(post_media).where(post_media.c.post_id == "m-upload")).all()
    assert [(row.sha256, row.kind) for row in rows] == [(medium["sha256"], "image")]
    assert httpx.get(f"{service.url}/v1/posts/m-upload", timeout=PATIENT_S, trust_env=False).json() == decision


def test_a_meme_is_judged_by_its_words(service: Service) -> None:
    decision = decision_of(put(service, a_post(media=[inline("image", a_meme(INSULT))])))
    typed = decision_of(put(service, a_post(INSULT.replace("\n", " "))))
    abuse = decision["labels"]["abuse"]
    assert abuse["flagged"]
    assert abuse["input_types"] == ["image"]
    assert decision["decision"] == typed["decision"]
    assert "idiot" in decision["media"][0]["text"]
    [seen] = [item for item in decision["evidence"] if item["label"] == "abuse"]
    left, top, right, bottom = seen["box"]
    assert 0 <= left < 0.1
    assert left < right <= 1
    assert 0.2 < top < bottom < 0.8
    assert (seen["media"], seen["t"]) == (0, None)


def test_a_video_names_the_second(service: Service) -> None:
    data = clip(seconds=3)
    decision = decision_of(put(service, a_post("my clip"), ("video/mp4", data)))
    assert decision["labels"]["violence"]["status"] == "scored"
    assert decision["labels"]["violence"]["input_types"] == ["video"]
    [medium] = decision["media"]
    assert (medium["kind"], medium["format"]) == ("video", "mp4")
    assert medium["seconds"] == pytest.approx(3, abs=0.2)
    assert decision["models"]["video"].startswith("video-multi@")
    for item in decision["evidence"]:
        assert 0 <= item["t"] <= 3.2


def test_the_fourth_of_ten_slides_is_read(service: Service) -> None:
    """Half a minute, one key frame: sampling alone neither looks at it for sure nor reads it."""
    names = ("tomatoes", "roses", "beans", INSULT, "lilies", "pears", "apples", "herbs", "peas", "figs")
    slides = [slide(name if name == INSULT else f"how to grow {name}\nin a garden", (640, 360), 36) for name in names]
    decision = decision_of(put(service, a_post(), ("video/mp4", film([s for s in slides for _ in range(6)], rate=2))))
    [medium] = decision["media"]
    assert (medium["looked_at"], medium["not_looked_at"], medium["text_not_read"]) == (1.0, [], [])
    assert "idiot" in medium["text"]
    assert decision["labels"]["abuse"]["flagged"]
    assert 9 <= next(seen["t"] for seen in decision["evidence"] if seen["label"] == "abuse") < 12


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("http://example.org/a.png", "not_allowed"),
        ("https://example.org/a.png", "not_allowed"),
        ("https://127.0.0.1/a.png", "not_allowed"),
        ("file:///etc/passwd", "not_allowed"),
        ("s3://no-bucket-is-listed-here/key.png", "not_allowed"),
    ],
)
def test_an_address_that_may_not_be_read_is_refused(service: Service, uri: str, code: str) -> None:
    problem = put(service, a_post(media=[{"kind": "image", "uri": uri}])).json()
    assert (problem["status"], problem["code"]) == (422, code)


def test_a_repost_reuses_what_was_found(service: Service, ledger: Ledger) -> None:
    data = a_picture(2)
    digest = sha256(data).hexdigest()

    def scored() -> list[Any]:
        with ledger.read() as connection:
            return list(connection.execute(select(media_scores).where(media_scores.c.sha256 == digest)))

    first = decision_of(put(service, a_post(), ("image/png", data)))
    before = scored()
    assert len(before) == 1
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda _: decision_of(put(service, a_post(), ("image/png", data))), range(8)))
    by_hash = decision_of(put(service, a_post(media=[{"kind": "image", "sha256": digest}])))
    assert all(other["labels"] == first["labels"] for other in [*again, by_hash])
    assert scored() == before


def test_the_same_content_is_answered_from_the_ledger_however_it_comes(service: Service) -> None:
    data, post_id = a_picture(3), f"m-{uuid4().hex}"
    post = a_post("the same")
    first = put(service, post, ("image/png", data), post_id=post_id)
    again = put(service, post | {"media": [inline("image", data)]}, post_id=post_id)
    assert "Seawall-Replayed" not in first.headers
    assert again.headers["Seawall-Replayed"] == "true"
    assert again.json() == first.json()
    other = put(service, post, ("image/png", a_picture(4)), post_id=post_id)
    assert other.json()["content_version"] == 2


def test_bad_media_among_good_ones_each_get_their_own_problem(service: Service) -> None:
    bad = [sample for sample in samples() if sample.expect not in (None, "too_many_bytes")]
    assert len(bad) >= 40
    good = {"image": a_picture(5), "video": clip(seconds=1)}
    lines, expected = [], []
    for number, sample in enumerate(bad):
        for kind, data, code in ((sample.kind, sample.make(), sample.expect), (sample.kind, good[sample.kind], None)):
            post_id = f"bad-{number}-{'good' if code is None else sample.name}"
            lines.append(json.dumps(a_post(media=[inline(kind, data)]) | {"post_id": post_id}))
            expected.append((post_id, code))
    response = httpx.post(
        f"{service.url}/v1/posts:batch",
        content="\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
        timeout=2 * PATIENT_S,
        trust_env=False,
    )
    assert response.status_code == 200, response.text[:500]
    answers = [json.loads(line) for line in response.text.splitlines()]
    found = [(answer["post_id"], (answer.get("problem") or {}).get("code")) for answer in answers]
    assert found == expected
    for answer in answers:
        if answer.get("problem") is None:
            assert (answer["status"], answer["decision"]["media"][0]["status"]) == (200, "scored")
        else:
            assert answer["status"] in (413, 422)
            assert answer["problem"]["errors"][0]["pointer"].startswith("/media/0")


def test_refused_bytes_are_given_to_nobody(service: Service) -> None:
    """The decoder alone refuses these, so they were in the store by then."""
    good, bad = a_picture(7), IMAGES["png_rows_are_noise"][0]()

    def status_of(data: bytes) -> int:
        url = f"{service.url}/v1/media/{sha256(data).hexdigest()}"
        return httpx.get(url, timeout=PATIENT_S, trust_env=False).status_code

    assert put(service, a_post(), ("image/png", good), ("image/png", bad)).status_code == 422
    assert (status_of(good), status_of(bad)) == (404, 404)
    assert put(service, a_post(), ("image/png", good)).status_code == 200
    assert (status_of(good), status_of(bad)) == (200, 404)


def test_a_file_that_is_too_large_is_told_so(service: Service) -> None:
    [large] = [sample for sample in samples() if sample.expect == "too_many_bytes"]
    response = put(service, a_post(), ("image/png", large.make()))
    problem = response.json()
    assert (response.status_code, problem["code"], problem["bound"]) == (413, "too_many_bytes", 20_000_000)


def test_the_stateless_routes_have_the_shape_of_the_services_and_keep_nothing(
    service: Service, store: MediaStore
) -> None:
    data = a_picture(6)
    features = [
        {"id": "good", "data": base64.b64encode(data).decode()},
        {"id": "bad", "data": base64.b64encode(b"no picture at all").decode()},
        {"id": "meme", "data": base64.b64encode(a_meme(INSULT)).decode()},
        {"id": "where", "uri": "https://example.org/a.png"},
    ]
    response = httpx.post(
        f"{service.url}/v1/image/moderate", json={"features": features}, timeout=PATIENT_S, trust_env=False
    )
    good, bad, meme, where = response.json()["results"]
    assert (good["id"], good["model"], good["problem"]) == ("good", "image-multi@1", None)
    assert "nudity" in {item["label"] for item in good["labels"]}
    assert (bad["labels"], bad["problem"]["code"]) == ([], "unknown_format")
    assert max(item["confidence"] for item in meme["labels"] if item["label"] == "abuse") > 0.5
    assert where["problem"]["code"] == "not_allowed"
    assert not store.has(sha256(data).hexdigest())
    video = [{"id": "clip", "data": base64.b64encode(clip(seconds=1)).decode()}]
    [found] = httpx.post(
        f"{service.url}/v1/video/moderate", json={"features": video}, timeout=PATIENT_S, trust_env=False
    ).json()["results"]
    assert {"violence", "nudity"} <= {item["label"] for item in found["labels"]}


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([("image/png", b"")], 422),
        ([("image/png", b"\x89PNG")] * 11, 422),
        ([("text/plain", b"hello")], 422),
    ],
)
def test_an_upload_out_of_bounds_is_a_problem(service: Service, files: list[tuple[str, bytes]], status: int) -> None:
    response = put(service, a_post(), *files)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_the_command_takes_files(service: Service, tmp_path: Path) -> None:
    image, video = tmp_path / "a.png", tmp_path / "b.mp4"
    image.write_bytes(a_meme(INSULT))
    video.write_bytes(clip(seconds=1))
    decision = service.ask("moderate", "--image", str(image), "--video", str(video))
    assert [medium["kind"] for medium in decision["media"]] == ["image", "video"]
    assert decision["labels"]["abuse"]["flagged"]
    shown = subprocess.run(
        [SEAWALL, "moderate", "--image", str(image)],
        env=service.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a.png" in shown.stdout
    missing = service.run("moderate", "--image", str(tmp_path / "none.png"))
    assert missing.returncode != 0
    assert "none.png" in missing.stderr


def test_every_kind_of_model_is_ready(service: Service) -> None:
    assert {"image-multi/champion", "video-multi/champion"} <= set(
        httpx.get(f"{service.url}/readyz", timeout=PATIENT_S, trust_env=False).json()["models"]
    )
