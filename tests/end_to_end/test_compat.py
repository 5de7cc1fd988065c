"""The real clients of OpenAI and Google against a running Seawall: nothing is changed but the host."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import textwrap
import uuid
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from sqlalchemy import select

from moderation.settings import REPOSITORY
from moderation.storage.ledger import Ledger
from moderation.storage.tables import labels, posts
from serve.compat.labels import CATEGORIES
from simulate.service import PATIENT_S, Service
from tests.media_samples import encoded, picture

pytestmark = pytest.mark.slow

ABUSE = "you are such a stupid bitch, shut the fuck up you worthless piece of trash"
KIND = "The train leaves at nine and arrives before noon."


@pytest.fixture
def moderations(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def perspective(service: Service) -> Iterator[Any]:
    where = f"{service.url}/$discovery/rest?version=v1alpha1"
    key = "no-key"
    with build(
        "commentanalyzer", "v1alpha1", developerKey=key, discoveryServiceUrl=where, static_discovery=False
    ) as client:
        yield client


def analyze(client: Any, text: str, **more: Any) -> dict[str, Any]:
    body = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}} | more
    answer: dict[str, Any] = client.comments().analyze(body=body).execute()
    return answer


def test_openai_s_client_parses_one_text(moderations: openai.OpenAI) -> None:
    response = moderations.moderations.create(model="omni-moderation-latest", input=ABUSE)
    assert response.id.startswith("modr-")
    assert response.model.startswith("text-multi@")
    [result] = response.results
    assert result.flagged is True
    assert result.categories.harassment is True
    assert result.category_scores.harassment > 0.5
    assert result.category_applied_input_types.harassment == ["text"]
    assert result.categories.hate in (True, False)
    shown = result.to_dict()
    for part in ("categories", "category_scores"):
        of_part = shown[part]
        assert isinstance(of_part, dict)
        assert set(of_part) == set(CATEGORIES)
        assert {name for name, value in of_part.items() if value is not None} == {"harassment", "hate"}
    assert result.categories.sexual_minors is None
    assert result.category_scores.violence is None
    assert result.category_applied_input_types.sexual == []


def test_openai_s_client_sends_lists_and_parts(moderations: openai.OpenAI) -> None:
    texts = [ABUSE if number % 3 == 0 else f"{KIND} {number}" for number in range(30)]
    response = moderations.moderations.create(input=texts)
    scores = [result.category_scores.harassment for result in response.results]
    assert min(scores[::3]) > max(scores[1::3] + scores[2::3])
    [whole] = moderations.moderations.create(
        input=[
            {"type": "text", "text": ABUSE},
            {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        ]
    ).results
    assert whole.flagged is True
    assert whole.category_applied_input_types.violence == []
    assert whole.category_applied_input_types.sexual == []  # the host is not listed


def test_openai_s_client_sends_an_image(moderations: openai.OpenAI) -> None:
    url = f"data:image/png;base64,{b64encode(encoded(picture(128, 128), 'PNG')).decode()}"
    response = moderations.moderations.create(input=[{"type": "image_url", "image_url": {"url": url}}])
    [result] = response.results
    assert response.model.startswith("image-multi@")
    assert result.flagged is False
    assert 0 <= result.category_scores.sexual < 0.5
    assert result.category_applied_input_types.sexual == ["image"]
    assert result.category_scores.harassment is None


def test_openai_s_flags_are_those_of_a_post_s_decision(moderations: openai.OpenAI, service: Service) -> None:
    texts = [ABUSE, KIND, "what an idiot I am", "shut up already", "Ihr seid alle widerliche Ratten", "你这个蠢货"]
    results = moderations.moderations.create(input=texts).results
    with httpx.Client(base_url=service.url, timeout=PATIENT_S, trust_env=False) as client:
        for text, result in zip(texts, results, strict=True):
            post = {
                "author_id": "u-compat",
                "community": "c",
                "region": "US",
                "created_at": "2020-01-01T00:00:00Z",
                "text": text,
            }
            decided = client.put(f"/v1/posts/compat-{uuid.uuid4().hex}", json=post).json()["labels"]
            said = (result.categories.harassment, result.categories.hate)
            assert said == (decided["abuse"]["flagged"], decided["hate"]["flagged"])
            assert result.category_scores.harassment == pytest.approx(decided["abuse"]["score"], abs=1e-4)


def test_openai_s_client_raises_its_own_errors(moderations: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as images:
        moderations.moderations.create(
            input=[{"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}]
        )
    assert (images.value.param, images.value.code) == ("input", "unsupported_input_type")
    assert images.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="40001 characters, the bound is 40000"):
        moderations.moderations.create(input="x" * 40_001)
    with pytest.raises(openai.BadRequestError, match="1001 items"):
        moderations.moderations.create(input=["a"] * 1001)
    with pytest.raises(openai.BadRequestError, match="at least 1 item"):
        moderations.moderations.create(input=[])
    with pytest.raises(openai.APIStatusError) as large:
        moderations.moderations.create(input=["x" * 30_000] * 40)
    assert large.value.status_code == 413


def test_openai_s_asynchronous_client_works_too(service: Service) -> None:
    async def flags() -> list[bool]:
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
            calls = [client.moderations.create(input=text) for text in [ABUSE, KIND] * 8]
            return [response.results[0].flagged for response in await asyncio.gather(*calls)]

    assert asyncio.run(flags()) == [True, False] * 8


def test_google_s_client_analyzes(perspective: Any) -> None:
    answer = analyze(perspective, ABUSE, clientToken="t", languages=["en"], doNotStore=True)
    assert answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"] > 0.5
    assert (answer["clientToken"], answer["languages"], answer["detectedLanguages"]) == ("t", ["en"], ["en"])
    assert analyze(perspective, KIND)["attributeScores"]["TOXICITY"]["summaryScore"]["value"] < 0.5
    several = {"TOXICITY": {}, "INSULT": {}, "IDENTITY_ATTACK": {}, "MISINFORMATION": {"scoreThreshold": 0}}
    found = analyze(perspective, ABUSE, requestedAttributes=several)["attributeScores"]
    assert set(found) == set(several)


def test_google_s_client_gets_spans_that_fit_its_text(perspective: Any) -> None:
    text = f"\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 {KIND} {ABUSE}! \U0001f345 Bye."
    found = analyze(perspective, text, spanAnnotations=True)["attributeScores"]["TOXICITY"]
    units = text.encode("utf-16-le")
    cut = [units[2 * span["begin"] : 2 * span["end"]].decode("utf-16-le") for span in found["spanScores"]]
    assert cut == [f"\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 {KIND}", f"{ABUSE}!", "\U0001f345 Bye."]
    values = [span["score"]["value"] for span in found["spanScores"]]
    assert values[1] == max(values)
    whole = analyze(perspective, text)["attributeScores"]["TOXICITY"]
    [span] = whole["spanScores"]
    assert (span["begin"], span["end"]) == (0, len(units) // 2)
    assert span["score"] == whole["summaryScore"] == found["summaryScore"]


def test_google_s_client_gets_what_is_scored_of_the_usual_attributes(perspective: Any) -> None:
    usual = ("TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT")
    found = analyze(perspective, ABUSE, requestedAttributes={name: {} for name in usual})["attributeScores"]
    assert set(found) == {"TOXICITY", "IDENTITY_ATTACK", "INSULT"}
    assert analyze(perspective, "Bu sabah bahçede domatesler sonunda kızardı")["attributeScores"]["TOXICITY"]


def test_google_s_client_raises_perspective_s_errors(perspective: Any) -> None:
    with pytest.raises(HttpError) as unknown:
        analyze(perspective, KIND, requestedAttributes={"TOXICITY": {}, "NEW": {}})
    assert unknown.value.status_code == 400
    assert unknown.value.reason.startswith("Unknown requested attribute: NEW")
    with pytest.raises(HttpError) as language:
        analyze(perspective, "Bu sabah bahçede domatesler sonunda kızardı, herkese teşekkürler", languages=["tr"])
    assert language.value.reason == "Attribute TOXICITY does not support request languages: tr"
    [detail] = language.value.error_details
    assert detail["errorType"] == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"
    assert detail["languageNotSupportedByAttributeError"] == {
        "attribute": "TOXICITY",
        "supportedLanguages": ["de", "en", "pt", "ru", "zh"],
        "requestedLanguages": ["tr"],
    }
    with pytest.raises(HttpError, match="Comment must be non-empty"):
        analyze(perspective, "")


def test_google_s_client_builds_from_the_older_path_and_without_a_key(service: Service) -> None:
    where = f"{service.url}/discovery/v1/apis/{{api}}/{{apiVersion}}/rest"
    with build("commentanalyzer", "v1alpha1", discoveryServiceUrl=where, static_discovery=False) as client:
        assert analyze(client, KIND)["attributeScores"]


def test_what_the_page_for_clients_shows_works_as_it_stands(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (
        (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8").replace("http://127.0.0.1:8000", service.url)
    )
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE)]
    python = [block for block in blocks if "import " in block]
    shell = [block for block in blocks if block.lstrip().startswith("curl")]
    assert (len(python), len(shell)) == (2, 1)
    for block in python:
        names: dict[str, Any] = {}
        exec(compile(block, "docs/clients.md", "exec"), names)
        names["client"].close()
    openai_said, perspective_said = capsys.readouterr().out.splitlines()
    flagged, score = openai_said.split()
    assert flagged in ("True", "False")
    assert 0 <= float(score) <= 1
    assert 0 <= float(perspective_said) <= 1
    done = subprocess.run(["bash", "-c", shell[0].strip()], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["attributeScores"]["TOXICITY"]["summaryScore"]["value"] == float(perspective_said)


def recorded(service: Service, text: str) -> tuple[list[Any], list[Any]]:
    ledger = Ledger(f"sqlite:///{service.home / 'ledger.db'}")
    try:
        with ledger.read() as connection:
            found = list(connection.execute(select(posts).where(posts.c.text == text)))
            ids = [row.post_id for row in found]
            return found, list(connection.execute(select(labels).where(labels.c.post_id.in_(ids))))
    finally:
        ledger.close()


def test_a_suggested_score_becomes_one_label_however_often_it_is_sent(perspective: Any, service: Service) -> None:
    text = f"You people from house number {uuid.uuid4().int} are all the same, and nobody here likes you \U0001f345"
    body = {
        "comment": {"text": text},
        "attributeScores": {
            "TOXICITY": {"summaryScore": {"value": 1}},
            "IDENTITY_ATTACK": {"summaryScore": {"value": 0}},
        },
        "clientToken": "comment-1",
        "languages": ["en"],
    }
    answer = perspective.comments().suggestscore(body=body).execute()
    assert answer == {"clientToken": "comment-1", "detectedLanguages": ["en"], "requestedLanguages": ["en"]}
    with ThreadPoolExecutor(8) as pool:
        where = f"{service.url}/v1alpha1/comments:suggestscore?key=k"
        again = list(pool.map(lambda _: httpx.post(where, json=body, timeout=PATIENT_S, trust_env=False), range(16)))
    assert {response.text for response in again} == {json.dumps(answer, separators=(",", ":"))}
    [post], [label] = recorded(service, text)
    assert label.labels == {"abuse": True, "hate": False}
    assert (label.source, label.post_id) == ("platform", post.post_id)
    with httpx.Client(base_url=service.url, timeout=PATIENT_S, trust_env=False) as client:
        assert client.get(f"/v1/posts/{post.post_id}").json()["labels"]["abuse"]["status"] == "scored"


def test_what_must_not_be_stored_is_in_no_ledger(perspective: Any, service: Service) -> None:
    text = f"A private note {uuid.uuid4().hex}"
    analyze(perspective, text, doNotStore=True, languages=["en"])
    scores = {"TOXICITY": {"summaryScore": {"value": 0}}}
    body = {"comment": {"text": text}, "attributeScores": scores, "doNotStore": True}
    perspective.comments().suggestscore(body=body).execute()
    assert recorded(service, text) == ([], [])
