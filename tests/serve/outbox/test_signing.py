"""The signature of a webhook, as a receiver checks it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from serve.outbox.signing import headers_of, sign, verify

SECRET = "a secret of sixteen characters or more"
BODY = '{"post_id":"p-1","text":"Ж"}'.encode()
AT = 1_795_512_600


def signed(**changes: Any) -> dict[str, str]:
    return headers_of(SECRET, timestamp=AT, delivery_id="d-1", body=BODY) | changes


def test_the_signature_is_what_the_documentation_says() -> None:
    expected = hmac.new(SECRET.encode(), b"1795512600.d-1." + BODY, hashlib.sha256).hexdigest()
    assert signed() == {
        "Seawall-Delivery": "d-1",
        "Seawall-Timestamp": "1795512600",
        "Seawall-Signature": f"v1={expected}",
    }


def test_it_is_the_same_everywhere_and_always() -> None:
    # Reckoned with another tool: printf '1.d.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
    found = sign("0123456789abcdef", timestamp=1, delivery_id="d", body=b"{}")
    assert found == "v1=a9445b6a17b660aeffcc6b049ea8b41c0157436fa18e250381c92a01355906b6"


def test_what_was_signed_is_accepted_and_header_names_have_no_case() -> None:
    assert verify(SECRET, signed(), BODY, now=AT)
    assert verify(SECRET, {name.upper(): value for name, value in signed().items()}, BODY, now=AT)


@pytest.mark.parametrize("late", [-300, 300, 0.5])
def test_a_clock_may_be_some_minutes_off(late: float) -> None:
    assert verify(SECRET, signed(), BODY, now=AT + late)


@pytest.mark.parametrize("late", [-301, 300.5, 1e9])
def test_an_old_request_or_one_from_the_future_is_refused(late: float) -> None:
    assert not verify(SECRET, signed(), BODY, now=AT + late)
    assert verify(SECRET, signed(), BODY, now=AT + late, tolerance_s=abs(late))


@pytest.mark.parametrize(
    "changed",
    [
        {"Seawall-Delivery": "d-2"},
        {"Seawall-Delivery": ""},
        {"Seawall-Timestamp": "1795512601"},
        {"Seawall-Timestamp": "1795512600.0"},
        {"Seawall-Timestamp": "-1"},
        {"Seawall-Timestamp": "١٧٩٥٥١٢٦٠٠"},
        {"Seawall-Timestamp": ""},
        {"Seawall-Timestamp": "9" * 400},
        {"Seawall-Signature": ""},
        {"Seawall-Signature": "v1="},
        {"Seawall-Signature": "v2=" + "0" * 64},
        {"Seawall-Signature": "Ж"},
    ],
)
def test_whatever_was_changed_is_refused(changed: dict[str, str]) -> None:
    assert not verify(SECRET, signed(**changed), BODY, now=AT)


def test_another_body_or_another_secret_is_refused() -> None:
    assert not verify(SECRET, signed(), BODY + b" ", now=AT)
    assert not verify("another secret, as long as the first", signed(), BODY, now=AT)
    assert not verify([], signed(), BODY, now=AT)


def test_a_missing_header_is_refused() -> None:
    for name in signed():
        left = {other: value for other, value in signed().items() if other != name}
        assert not verify(SECRET, left, BODY, now=AT)


def test_while_a_secret_is_changed_either_is_accepted() -> None:
    assert verify(["the new secret, not used yet", SECRET], signed(), BODY, now=AT)


def test_the_clock_is_asked_where_no_time_is_told() -> None:
    assert not verify(SECRET, signed(), BODY, tolerance_s=1)
