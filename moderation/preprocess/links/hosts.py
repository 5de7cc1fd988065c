"""Hosts as a browser reads them, and the registered domain that each belongs to.

The public suffixes are those of the snapshot inside `tldextract`: nothing is fetched, so the same text gives the same
links on every machine. Its private part counts too: `user.github.io` is a site of its own.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

import idna
import tldextract

_SUFFIXES = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=(), include_psl_private_domains=True)

_LONGEST_WRITTEN = 1000
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_SMALLEST_NUMBER = 1 << 24
"""A lone number below is no address that anybody writes: 1.0.0.0 is the first."""

INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
)
"""What a reader does not see and a browser leaves out of a host; for a character class."""

_UNSEEN = re.compile(f"[{INVISIBLE}]")
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
_PLAIN = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z0-9_-]{1,63}")
_TOP_LABEL = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")


@dataclass(frozen=True, slots=True)
class Host:
    """A host that a link can lead to.

    Attributes:
        name: lower case and ASCII (IDNA 2008); an IPv4 address with four decimal numbers, an IPv6 address without
            brackets.
        domain: the registered domain, `bbc.co.uk` of `news.bbc.co.uk`; all of the name where the snapshot knows no
            suffix, and for an address.
        suffix: the public suffix; empty where the snapshot knows none.
        label: the registered label, `bbc`; empty for an address and for a host that is itself a public suffix.
        below: the labels left of it.
        is_address: the host is no name.
    """

    name: str
    domain: str
    suffix: str
    label: str
    below: tuple[str, ...]
    is_address: bool = False


def read_host(written: str) -> Host | None:
    """Read a host as a browser would: percent-decoded, NFKC, lower case, IDNA, numbers as IPv4 addresses.

    Args:
        written: without port; an IPv6 address in brackets.

    Returns:
        None: nothing on the public net can have that name (one label, an empty or too long one, 300.0.0.1).
    """
    return _read_host(written) if len(written) <= _LONGEST_WRITTEN else None


def read_name(written: str) -> str | None:
    """The name of a host alone: for long lists, most of whose lines are names in ASCII.

    Args:
        written: without port and brackets; an IPv6 address is known by its colons.
    """
    name = written.lower()
    if len(name) <= _LONGEST_NAME and _PLAIN.fullmatch(name) and name[-1].isalpha() and ".0x" not in name:
        return name
    host = read_host(f"[{name}]" if ":" in name else name)
    return None if host is None else host.name


@lru_cache(maxsize=4096)
def _read_host(written: str) -> Host | None:
    if written.startswith("["):
        return _address6(written[1:-1]) if written.endswith("]") else None
    name = written.lower()
    if not _PLAIN.fullmatch(name):
        if "%" in name:
            name = unquote(name, errors="replace")
        name = unicodedata.normalize("NFKC", _UNSEEN.sub("", name)).translate(_DOTS).lower().rstrip(".")
        encoded = _to_ascii(name)
        if encoded is None:
            return None
        name = encoded
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _address4(labels)
    if len(name) > _LONGEST_NAME or not _PLAIN.fullmatch(name) or not _TOP_LABEL.fullmatch(labels[-1]):
        return None
    split = _SUFFIXES.extract_str(name)
    if not split.suffix:
        return Host(name, name, "", labels[-2], tuple(labels[:-2]))
    below = tuple(split.subdomain.split(".")) if split.subdomain else ()
    return Host(name, split.top_domain_under_public_suffix or name, split.suffix, split.domain, below)


def _to_ascii(name: str) -> str | None:
    if name.isascii():
        return name
    if len(name) > _LONGEST_NAME:
        return None
    try:
        return idna.encode(name, uts46=True, std3_rules=False).decode("ascii").lower()
    except UnicodeError:
        pass
    try:  # names that IDNA 2008 forbids and that some zones sell all the same, such as those of emoji
        name.encode()  # no lone surrogates
        labels = [
            label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}" for label in name.split(".")
        ]
    except UnicodeError:
        return None
    return ".".join(labels) if max(map(len, labels)) <= _LONGEST_LABEL else None


def _address4(labels: list[str]) -> Host | None:
    """Of one to four numbers, decimal, octal or hexadecimal, the last of which fills what is left (WHATWG URL)."""
    if len(labels) > 4:
        return None
    numbers: list[int] = []
    for label in labels:
        if not _NUMBER.fullmatch(label):
            return None
        base = 16 if label.startswith("0x") else 8 if label.startswith("0") and len(label) > 1 else 10
        try:
            numbers.append(int(label, base) if label != "0x" else 0)
        except ValueError:
            return None
    if max(numbers[:-1], default=0) > 255 or numbers[-1] >= 256 ** (5 - len(numbers)):
        return None
    value = numbers[-1] + sum(number << (8 * (3 - place)) for place, number in enumerate(numbers[:-1]))
    if len(numbers) == 1 and value < _SMALLEST_NUMBER:
        return None
    return _address(str(ipaddress.IPv4Address(value)))


def _address6(written: str) -> Host | None:
    try:
        return _address(ipaddress.IPv6Address(written).compressed)
    except ValueError:
        return None


def _address(name: str) -> Host:
    return Host(name, name, "", "", (), is_address=True)


def to_unicode(label: str) -> str | None:
    """A label as a browser may show it: punycode decoded; None: it is no valid punycode."""
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except ValueError:
        return None
