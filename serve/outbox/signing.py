"""How a webhook proves who sent it: an HMAC over what it says, when, and under which delivery.

The signed bytes are the timestamp, the delivery's id and the body, with a full stop between them:

    1795512600.3f0c…-….{"delivery_id": …}

and the headers of the request are

    Seawall-Delivery: 3f0c…-…        the same in every attempt: whoever saw it before may drop it
    Seawall-Timestamp: 1795512600    seconds since 1970, of this attempt
    Seawall-Signature: v1=5d41…      HMAC-SHA256 in hexadecimal, under the endpoint's secret in UTF-8

As the timestamp is signed, a request that was recorded cannot be sent again much later. Knows nothing of Seawall, so
that a receiver written in Python may use it as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping

DELIVERY, TIMESTAMP, SIGNATURE = "Seawall-Delivery", "Seawall-Timestamp", "Seawall-Signature"
VERSION = "v1"
TOLERANCE_S = 300
"""How far a receiver's clock may be from the timestamp, in seconds, unless it says otherwise."""
SHORTEST_SECRET = 16
"""Characters of a secret at least."""

_SECONDS = re.compile(r"^[0-9]{1,12}$", re.ASCII)


def sign(secret: str, *, timestamp: int, delivery_id: str, body: bytes) -> str:
    """The value of `Seawall-Signature`.

    Args:
        secret: the endpoint's.
        timestamp: seconds since 1970, as in `Seawall-Timestamp`.
        delivery_id: as in `Seawall-Delivery`.
        body: of the request, byte for byte.
    """
    signed = f"{timestamp}.{delivery_id}.".encode() + body
    return f"{VERSION}={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def headers_of(secret: str, *, timestamp: int, delivery_id: str, body: bytes) -> dict[str, str]:
    """The three headers of a signed request."""
    return {
        DELIVERY: delivery_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: sign(secret, timestamp=timestamp, delivery_id=delivery_id, body=body),
    }


def verify(
    secrets: str | Iterable[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> bool:
    """Whether a request came from who holds the secret, and lately. For receivers.

    Compares in constant time, so that how long a refusal takes says nothing of the right signature.

    Args:
        secrets: the endpoint's secret; several while it is being changed: one that fits is enough.
        headers: of the request, in any case.
        body: of the request, byte for byte: what was parsed and written again is another one.
        tolerance_s: how far the timestamp may be from `now`, either way, in seconds.
        now: seconds since 1970; None: the clock's.

    Example:
        >>> secret, body = "sixteen or more characters", b'{"action": "remove"}'
        >>> headers = headers_of(secret, timestamp=1795512600, delivery_id="d-1", body=body)
        >>> verify(secret, headers, body, now=1795512601), verify(secret, headers, b"other", now=1795512601)
        (True, False)
    """
    found = {name.lower(): value for name, value in headers.items()}
    timestamp, delivery_id = found.get(TIMESTAMP.lower(), ""), found.get(DELIVERY.lower(), "")
    given = found.get(SIGNATURE.lower(), "").encode()
    if not _SECONDS.match(timestamp) or not delivery_id:
        return False
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance_s:
        return False
    fits = False
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        expected = sign(secret, timestamp=int(timestamp), delivery_id=delivery_id, body=body)
        fits |= hmac.compare_digest(expected.encode(), given)
    return fits
