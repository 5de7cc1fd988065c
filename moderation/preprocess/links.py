"""Links in a text: found, brought to one form, and checked against a list of domains.

Embedded content of other sites is not analysed; a link on the list sends its post to review.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from moderation.preprocess.text import URL


@dataclass(frozen=True, slots=True)
class FoundLink:
    """A link as found in a text.

    Attributes:
        url: as written, without trailing punctuation.
        domain: the host in lower case, in ASCII (IDNA) where it can be encoded.
    """

    url: str
    domain: str


def find_links(text: str) -> list[FoundLink]:
    """Find the links of a raw text, in order, each once. A thing that only looks like a link is left out."""
    found: dict[str, FoundLink] = {}
    for match in URL.finditer(text):
        url = match.group().rstrip(".,;:!?)]}")
        domain = _domain(url)
        if domain is not None:
            found.setdefault(url, FoundLink(url, domain))
    return list(found.values())


def _domain(url: str) -> str | None:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname
    except ValueError:
        return None
    if not host or "." not in host.strip("."):
        return None
    host = host.strip(".").lower()
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


class Blocklist:
    """Domains that people or feeds have named harmful; a listed domain covers its subdomains."""

    def __init__(self, domains: frozenset[str]) -> None:
        self.domains = domains

    @classmethod
    def load(cls, path: Path) -> Blocklist:
        """Read one domain a line; `#` begins a comment."""
        lines = (line.split("#", 1)[0].strip().lower() for line in path.read_text(encoding="utf-8").splitlines())
        return cls(frozenset(line for line in lines if line))

    def matches(self, domain: str) -> str | None:
        """The listed domain that covers `domain`, or None."""
        parts = domain.split(".")
        for start in range(len(parts) - 1):
            candidate = ".".join(parts[start:])
            if candidate in self.domains:
                return candidate
        return None
