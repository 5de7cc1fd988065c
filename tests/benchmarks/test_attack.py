"""What the figures of the attacks are made with, and that what is sent is what it is said to be."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from tests.benchmarks.attack import Attacked, Probe, healthy, keyed, recovered_s
from tests.benchmarks.attackers import KEY, head_of, list_of, picture_of, shed_share, text_of
from tests.benchmarks.load import Exchange, put_request


def an_exchange(intended: float, took_s: float, status: int = 200) -> Exchange:
    return Exchange(b"", intended=intended, sent=intended, done=intended + took_s, status=status)


def probes(*times: tuple[float, float], dead: tuple[float, ...] = ()) -> list[Probe]:
    return [Probe(begun, ended, begun not in dead) for begun, ended in times]


def test_a_silence_lasts_from_one_good_answer_to_the_next() -> None:
    seen = probes((0.0, 0.01), (1.0, 1.01), (1.2, 3.7), (3.8, 3.81), (4.0, 4.01))
    found = healthy(seen, 1.0, 4.0)
    assert found == {"healthz_worst_ms": 2500.0, "healthz_silent_s": pytest.approx(2.59), "healthz_failed": 0}


def test_an_answer_that_says_no_breaks_no_silence() -> None:
    seen = probes((1.0, 1.01), (1.2, 1.21), (1.4, 1.41), (3.0, 3.01), dead=(1.2, 1.4))
    found = healthy(seen, 1.0, 3.0)
    assert found == {"healthz_worst_ms": 10.0, "healthz_silent_s": pytest.approx(1.89), "healthz_failed": 2}


def test_what_is_never_answered_again_is_silent_to_the_end() -> None:
    assert healthy(probes((0.5, 0.51)), 1.0, 9.0)["healthz_silent_s"] == 8.0
    assert healthy([], 1.0, 9.0) == {"healthz_worst_ms": None, "healthz_silent_s": 8.0, "healthz_failed": 0}


def test_recovery_lasts_until_the_last_post_that_fails_or_takes_too_long() -> None:
    seen = [an_exchange(9, 5), an_exchange(10, 0.1), an_exchange(12, 0.9), an_exchange(13, 0.1), an_exchange(14, 0.2)]
    assert recovered_s(seen, 10, 500) == 2
    assert recovered_s([*seen, an_exchange(15.5, 0.1, 503)], 10, 500) == 5.5
    assert recovered_s(seen, 10, 1000) == 0


def test_an_attack_is_told_by_what_was_due_while_it_lasted() -> None:
    exchanges = [an_exchange(at, 0.1) for at in range(10)] + [an_exchange(at, 0.25) for at in range(10, 20)]
    exchanges += [an_exchange(20, 0.9), an_exchange(21, 0.1)]
    seen = [Probe(at / 10, at / 10 + 0.005, True) for at in range(300)]
    told = Attacked("flood", 10, 20, exchanges, seen, {200: 30, 503: 60, 429: 10, 0: 7}).figures(100)
    assert told["honest_p99_ms"] == 250
    assert told["honest_p99_over_calm"] == 2.5
    assert (told["honest_posts"], told["honest_failed"]) == (10, 0)
    assert told["attack_shed_share"] == 0.7
    assert told["recovered_s"] == 0.0
    assert told["met"] == {"honest_p99_over_calm": True, "healthz_silent_s": True, "recovered_s": True}
    failed = Attacked("flood", 10, 20, [*exchanges, an_exchange(15, 0.1, 503)], seen, {}).figures(100)
    assert not failed["met"]["honest_p99_over_calm"]
    assert failed["attack_shed_share"] is None


def test_of_what_was_not_answered_no_share_was_shed() -> None:
    assert shed_share([(0, 5)]) is None
    assert shed_share([]) is None
    assert shed_share([(0, 5), (503, 1), (200, 1)]) == 0.5


def test_bodies_are_what_they_are_said_to_be() -> None:
    assert json.loads(list_of(3, b"{}")) == {"features": [{}, {}, {}]}
    assert len(list_of(5_000_000, b"{}")) == pytest.approx(15_000_000, rel=0.01)
    assert [len(text_of(characters)) for characters in (1, 120, 39_000)] == [1, 120, 39_000]
    picture = picture_of(1000)
    assert len(picture) < 10_000
    assert Image.open(io.BytesIO(picture)).size == (1000, 1000)


def test_who_attacks_and_who_is_honest_are_two_clients() -> None:
    head = head_of("PUT /v1/posts/p", 3)
    assert f"X-Api-Key: {KEY}".encode() in head
    assert head.endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\n")
    honest = keyed(put_request("p", "{}"))
    assert honest.request.startswith(b"PUT /v1/posts/p HTTP/1.1\r\nX-Api-Key: honest\r\nHost: ")
    assert honest.request.endswith(b"\r\n\r\n{}")
