"""Which address of a medium may be read: what an `https://` or `s3://` URI names, and whether an IP address is public.

What is not understood is refused: a URI that two readers could read differently is how one gets past a list of hosts.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

from moderation.media import Refused

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_UNSEEN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\]")
_LONGEST_KEY = 1024  # bytes, of S3
_SHOWN = 100

# IANA's registries of special-purpose addresses (RFC 6890 and its successors), as of 2026, whatever they say of
# reachability: none of them is a host that serves pictures. And one address that is public by its number only: Azure's
# host answers its guests there.
_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
    )
)
# Only this is handed out for hosts; what lies outside is loopback, mapped, local, link-local, multicast or nobody's.
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214: the IPv4 address of a tunnel's end follows


@dataclass(frozen=True, slots=True)
class HttpsTarget:
    """What an `https://` URI names.

    Attributes:
        host: in ASCII, lower case, without a trailing dot.
        port: in [1, 65535].
        path: with its query, percent-encoded; begins with `/`.
    """

    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class S3Target:
    """What an `s3://` URI names."""

    bucket: str
    key: str


def is_public(address: str) -> bool:
    """Whether an IP address is one of a host on the public internet.

    Of addresses that carry an IPv4 address, NAT64's (RFC 6052) are judged by it, because a machine with IPv6 alone
    reaches the rest of the world so. Those of 6to4, Teredo and ISATAP, mapped and compatible ones never are public.

    Args:
        address: as a resolver gives it; what is no address, or has a zone, is not public.

    Example:
        >>> is_public("93.184.216.34"), is_public("64:ff9b::a00:1"), is_public("::ffff:93.184.216.34")
        (True, False, False)
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _NOT_PUBLIC_4)
    if parsed.scope_id is not None:
        return False
    if parsed in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    if parsed not in _PUBLIC_6 or any(parsed in network for network in _NOT_PUBLIC_6):
        return False
    return (int(parsed) >> 32) & 0xFFFFFFFF not in _ISATAP


def host_name(written: str) -> str | None:
    """A host's name in the one form that is compared: ASCII (IDNA 2008, UTS 46), lower case, no dot at its end.

    None: it is no name. An IPv6 address is none.

    Example:
        >>> host_name("Bücher.Example."), host_name("[::1]")
        ('xn--bcher-kva.example', None)
    """
    name = written
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except UnicodeError:
            return None
    name = name.lower().removesuffix(".")
    return name if _NAME.fullmatch(name) else None


def read_https(uri: str, hosts: Container[str], ports: Container[int]) -> HttpsTarget | Refused:
    """What an `https://` URI names, where that is allowed.

    Args:
        uri: that begins so.
        hosts: that it may name, as `host_name` writes them.
        ports: that it may name.
    """
    if _UNSEEN.search(uri):
        return _not_allowed("uri has a blank, a control character or a backslash; percent-encode it")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return _not_allowed(f"uri is {quoted(uri)}, which is no URL")
    if "@" in parts.netloc:
        return _not_allowed("uri has user information before its host; it may not")
    host = host_name(parts.hostname or "")
    if host is None or host not in hosts:
        return _not_allowed(
            f"uri names the host {quoted(parts.hostname or '')}, which is not listed in media.fetch.https_hosts"
        )
    port = 443 if port is None else port
    if port not in ports:
        return _not_allowed(f"uri names the port {port}, which is not listed in media.fetch.https_ports")
    # What is encoded already stays so: `%` is among the safe.
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~") if parts.query else ""
    return HttpsTarget(host, port, path + query)


def read_s3(uri: str, buckets: Container[str]) -> S3Target | Refused:
    """What an `s3://` URI names, where that is allowed. The key is taken as written: `%`, `?` and `#` are its own.

    Args:
        uri: that begins so.
        buckets: that it may name; `*` among them: any.
    """
    bucket, _, key = uri[len("s3://") :].partition("/")
    if not _BUCKET.fullmatch(bucket) or not ("*" in buckets or bucket in buckets):
        return _not_allowed(f"uri names the bucket {quoted(bucket)}, which is not listed in media.fetch.buckets")
    size = len(key.encode(errors="replace"))
    if not 1 <= size <= _LONGEST_KEY:
        return _not_allowed(f"uri has a key of {size} bytes; the bound is 1 to {_LONGEST_KEY}")
    # A server that resolves dots, as a proxy before one may, would leave the bucket that was checked.
    if any(part in (".", "..") for part in key.split("/")) or not key.isprintable():
        return _not_allowed("uri has a key with a segment '.' or '..', or a character that cannot be shown")
    return S3Target(bucket, key)


def quoted(text: str) -> str:
    """What somebody else wrote, quoted, and cut where it is long."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _not_allowed(detail: str) -> Refused:
    return Refused("not_allowed", detail)
