"""What is to be said of a link: on the blocklist, an imitation of something, shortened, a video, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote

from moderation.preprocess.links.blocklist import Blocklist
from moderation.preprocess.links.find import FoundLink, find_links
from moderation.preprocess.links.hosts import Host, read_host, to_unicode
from moderation.preprocess.links.twins import as_ascii, mixes, one_edit_apart, scripts, shortened, skeleton

LinkVerdict = Literal["blocked", "suspicious", "shortener", "external_video", "unlisted"]
_GRAVEST_FIRST: tuple[LinkVerdict, ...] = get_args(LinkVerdict)
Remark = tuple[LinkVerdict, str]

EXECUTABLES = (*("exe", "scr", "msi", "bat", "cmd", "pif", "vbs", "hta", "lnk", "ps1", "jar", "apk", "xapk", "dmg"),)
"""Endings of files that run when they are opened."""

_DOCUMENT_ENDINGS = "pdf doc docx xls xlsx ppt pptx txt rtf csv jpg jpeg png gif webp mp3 mp4 avi mov zip rar"
_DOCUMENTS = frozenset(_DOCUMENT_ENDINGS.split())
_PAGES = re.compile(r"/(?:wiki|blob|tree|search|questions)/")
_CARRIED = re.compile(r"(?:https?|ftp)://(?:[^/?#&\s\"'<>@]*@)?([^/?#&\s\"'<>:@]+)", re.IGNORECASE)
_MOST_CARRIED = 5
_SHORTEST_LIKENESS = 4
_SHORTEST_NEAR = 6


@dataclass(frozen=True, slots=True)
class CheckedLink:
    """A link, checked.

    Attributes:
        url: as written.
        domain: the registered domain.
        verdict: the gravest that holds.
        reasons: short sentences with the value, the gravest first; none where nothing is known against the link.
    """

    url: str
    domain: str
    verdict: LinkVerdict
    reasons: tuple[str, ...] = ()


class KnownDomains:
    """Domains that many people know, and that others therefore imitate.

    Args:
        near: domains of whose names a spelling one edit apart is taken for an imitation, too.
        exact: domains whose names are near ordinary words: only what looks the same imitates them.
    """

    def __init__(self, near: Sequence[str] = (), exact: Sequence[str] = ()) -> None:
        self._domains: set[str] = set()
        self._labels: set[str] = set()
        self._alike: dict[str, str] = {}
        self._whole: dict[tuple[str, ...], str] = {}
        self._near: dict[str, list[tuple[str, str]]] = {}
        for domain in (*near, *exact):
            host = read_host(domain)
            if host is None:
                continue
            self._domains.add(host.name)
            if not host.label:  # a public suffix: what stands before it belongs to others
                continue
            label = to_unicode(host.label) or host.label
            self._labels.add(label)
            self._alike.setdefault(skeleton(label), domain)
            self._whole.setdefault(tuple(map(skeleton, domain.split("."))), domain)
            if domain in near and len(label) >= _SHORTEST_NEAR:
                for piece in shortened(label):
                    self._near.setdefault(piece, []).append((label, domain))

    @classmethod
    def load(cls, path: Path) -> KnownDomains:
        """Read one domain a line, `#` begins a comment, the word `exact` may follow a domain.

        Raises:
            OSError: the file cannot be read.
            UnicodeDecodeError: it is not UTF-8.
        """
        entries = [line.split() for line in read_lines(path)]
        return cls(
            [entry[0] for entry in entries if "exact" not in entry[1:]],
            [entry[0] for entry in entries if "exact" in entry[1:]],
        )

    def covers(self, host: str) -> bool:
        """Whether a host is one of these or below one."""
        return any(parent in self._domains for parent in _parents(host))

    def imitated_by(self, label: str) -> str | None:
        """The known domain that a registered label imitates; None: it is known itself, or like no other."""
        if label in self._labels:
            return None
        alike = self._alike.get(skeleton(label))
        if alike is not None and (len(label) >= _SHORTEST_LIKENESS or not label.isascii()):
            return alike
        if len(label) < _SHORTEST_NEAR - 1:
            return None
        for piece in shortened(label):
            for known, domain in self._near.get(piece, ()):
                if one_edit_apart(label, known):
                    return domain
        return None

    def named_in(self, labels: Sequence[str]) -> str | None:
        """The known domain that stands among labels, between dots or hyphens: `www.paypal.com-login`."""
        whole = [skeleton(label) for label in labels]
        split = [skeleton(piece) for label in labels for piece in label.split("-")]
        for pieces, shortest in ((whole, 1), (split, _SHORTEST_LIKENESS)):
            for start, first in enumerate(pieces):
                for end in range(start + 2, min(start + 4, len(pieces)) + 1) if len(first) >= shortest else ():
                    domain = self._whole.get(tuple(pieces[start:end]))
                    if domain is not None:
                        return domain
        return None


@dataclass(frozen=True, slots=True)
class LinkRules:
    """What links are checked against.

    Attributes:
        known: domains that others imitate.
        shorteners: hosts that hide where a link leads.
        videos: hosts of videos, each with the beginnings of the paths that hold them.
        executables: endings of files that run when they are opened, without dot.
        max_links: links of a post that are examined.
    """

    known: KnownDomains
    shorteners: frozenset[str]
    videos: dict[str, tuple[str, ...]]
    executables: frozenset[str] = frozenset(EXECUTABLES)
    max_links: int = 20


def check_links(links: str | Sequence[FoundLink], blocklist: Blocklist, rules: LinkRules) -> list[CheckedLink]:
    """Check a text's links, or links found before.

    Args:
        links: a text, or what `find_links` found in one.
        blocklist: domains whose links are blocked.
        rules: everything else.

    Returns:
        One for each of the first `rules.max_links` links; the caller counts the rest.
    """
    found = find_links(links, blocklist) if isinstance(links, str) else links
    return [_checked(link, blocklist, rules) for link in found[: rules.max_links]]


def _checked(link: FoundLink, blocklist: Blocklist, rules: LinkRules) -> CheckedLink:
    host = read_host(f"[{link.host}]" if ":" in link.host else link.host)
    if host is None:  # not one that find_links made
        return CheckedLink(link.url, link.domain, "unlisted")
    remarks = [*_blocked(link, blocklist), *_suspicions(link, host, rules), *_elsewhere(link, rules)]
    remarks.sort(key=lambda remark: _GRAVEST_FIRST.index(remark[0]))
    verdict = remarks[0][0] if remarks else "unlisted"
    return CheckedLink(link.url, link.domain, verdict, tuple(reason for _, reason in remarks))


def _blocked(link: FoundLink, blocklist: Blocklist) -> Iterator[Remark]:
    listed = blocklist.matches(link.host)
    if listed is not None:
        yield "blocked", f"{listed} is on the blocklist"
    path = _after_host(link.canonical)
    if "://" in path or "%3A" in path:
        for written in _CARRIED.findall(unquote(path))[:_MOST_CARRIED]:
            target = read_host(written)
            listed = None if target is None else blocklist.matches(target.name)
            if listed is not None:
                yield "blocked", f"it passes on to {_short(written)}, and {listed} is on the blocklist"


def _suspicions(link: FoundLink, host: Host, rules: LinkRules) -> Iterator[Remark]:
    for reason in (*_tricks(link, host), *_imitations(host, rules.known), *_download(link, rules)):
        yield "suspicious", reason
    if link.text_host is not None and not rules.known.covers(host.name):
        yield "suspicious", f"its text names {_short(link.text_host)}, but it leads to {_short(link.domain)}"


def _tricks(link: FoundLink, host: Host) -> Iterator[str]:
    """What is odd about the link whatever its name resembles."""
    if link.userinfo:
        user = link.userinfo.partition(":")[0]
        named = read_host(user)
        if named is not None and named.suffix:
            yield f"it begins like a link to {_short(named.name)}, but leads to {_short(link.domain)}"
        else:
            yield f"a user name stands before the host {_short(host.name)}"
    if host.is_address:
        plain = ":" in host.name or all(number in link.url for number in host.name.split("."))
        yield f"the host is the bare address {host.name}" + ("" if plain else ", written in another way")


def _imitations(host: Host, known: KnownDomains) -> Iterator[str]:
    if host.is_address:
        return
    ends_in_ascii = not host.name.rsplit(".", 1)[1].startswith("xn--")
    for label in host.name.split("."):
        if label.startswith("xn--"):
            yield from _punycode(label, whole_script=ends_in_ascii)
    if known.covers(host.name):
        return
    imitated = known.imitated_by(to_unicode(host.label) or host.label) if host.label else None
    if imitated is not None:
        yield f"{_short(_legible(host.domain))} looks like {imitated}"
    labels = [to_unicode(label) or label for label in (*host.below, *((host.label,) if "-" in host.label else ()))]
    named = known.named_in(labels)
    if named is not None:
        owner = host.domain if host.suffix else f"{host.label}.{host.name.rpartition('.')[2]}"
        yield f"{_short(_legible(host.name))} contains {named}, but belongs to {_short(_legible(owner))}"


def _punycode(label: str, *, whole_script: bool) -> Iterator[str]:
    """Whether a label in another script is written to be taken for an ASCII one."""
    shown = to_unicode(label)
    if shown is None or shown.isascii():
        yield f"{label} is no valid punycode"
        return
    found = scripts(shown)
    if mixes(found):
        names = " and ".join(sorted(name.capitalize() for name in found))
        yield f"{shown} mixes {names} letters"
    elif whole_script and found and "LATIN" not in found and as_ascii(shown).isascii():
        yield f"{shown} in {min(found).capitalize()} letters looks like {as_ascii(shown)}"


def _download(link: FoundLink, rules: LinkRules) -> Iterator[str]:
    path = _after_host(link.canonical).partition("?")[0]
    name = unquote(path.rsplit("/", 1)[1])
    stem, dot, ending = name.lower().rpartition(".")
    if not dot or ending.strip() not in rules.executables:
        return
    if _PAGES.search(path) and rules.known.covers(link.host):
        return  # a page about the file
    before = stem.rpartition(".")[2].strip()
    if before in _DOCUMENTS and before != stem:
        yield f"it downloads a program that passes for a .{before} file: {_short(name)}"
    else:
        yield f"it downloads a program: {_short(name)}"


def _elsewhere(link: FoundLink, rules: LinkRules) -> Iterator[Remark]:
    path = _after_host(link.canonical)
    for parent in _parents(link.host):
        if parent in rules.shorteners and path != "/":
            yield "shortener", f"{parent} shortens links: where it leads is unknown"
        if any(path.lower().startswith(prefix) for prefix in rules.videos.get(parent, ())):
            yield "external_video", f"{parent} shows videos, which are not analysed"
            return


def _parents(host: str) -> Iterator[str]:
    """The host and what it stands below, the longest first."""
    yield host
    dot = host.find(".")
    while dot >= 0:
        host = host[dot + 1 :]
        yield host
        dot = host.find(".")


def _after_host(canonical: str) -> str:
    return canonical[canonical.index("/", canonical.index("//") + 2) :]


def _legible(host: str) -> str:
    return ".".join(to_unicode(label) or label for label in host.split("."))


def _short(value: str) -> str:
    return value if len(value) <= 80 else f"{value[:79]}…"


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without comments and empty ones.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line]


def read_video_hosts(path: Path) -> dict[str, tuple[str, ...]]:
    """A list of video hosts, each with the beginning of the path after it where only some of its pages are videos.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    hosts: dict[str, tuple[str, ...]] = {}
    for line in read_lines(path):
        host, slash, rest = line.lower().partition("/")
        hosts[host] = (*hosts.get(host, ()), slash + rest)
    return hosts
