"""Links in a text: found however they are written, and brought to one form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moderation.preprocess.links.blocklist import Blocklist
from moderation.preprocess.links.canonical import canonical
from moderation.preprocess.links.hosts import Host, read_host
from moderation.preprocess.links.reading import LinkText, read
from moderation.preprocess.text import SOLID

_ZONES = """
com net org edu gov mil info biz io dev co tv eu ru su рф xn--p1ai укр xn--j1amh бел xn--90ais de at ch li uk ie br pt
ao mz cn hk tw jp kr sg au nz ca mx ar cl pe uy fr nl lu dk fi cz sk hu pl ro bg gr ua kz kg uz lv ee tr ir il ae
sa eg ng ke za ph vn th ly gg gd ai fm ws vc onion
"""
"""With the most names, or of the countries whose languages are served and of those around them."""
_CHEAP_ZONES = """
xyz top icu online site shop store live club vip click bid win loan men party faith trade science racing cricket
accountant space website tech fun pro pw tk ml ga cf gq lat digital surf life world pics garden gdn sbs cfd cyou coupons
bet monster quest buzz lol wiki casino christmas vu uno best bond mom hair skin boats autos homes yachts beauty makeup
rent cam webcam news press agency network
"""
"""That lists of harmful names are full of."""
COMMON_SUFFIXES = frozenset(f"{_ZONES} {_CHEAP_ZONES}".split())
"""Last labels with which a bare name of two labels is a link. Left out, however common: words of the languages served
(`it`, `is`, `me`, `us`, `my`, `in`, `to`, `be`, `no`, `es`, `se`, `one`, `you`), which follow a full stop where the
space is missing, and what programs write behind a dot (`py`, `md`, `sh`, `rs`, `cc`, `zip`; `name`, `id`, `data`,
`app`, `run`, `link`, `date`, `host`). With a path, a hyphen, or a suffix of two labels (`co.in`), those count too."""

_FILE_ENDINGS = "py md rs sh pl cc so ps zip mov pm tf mm st la do mk ms hs vi sc cpp js ts"
_FILES = frozenset(_FILE_ENDINGS.split())
"""No link for a hyphen alone, as in `my-tool.py`."""

MOST_LINKS = 500
"""Different links after which no more are looked for, of those with a scheme and of those without each."""

# A name in another script may begin or end right beside the characters of a solid one.
_LETTER = rf"[^\W{SOLID}]"
_NOT_IN_HOST = (
    r"\s\x00-\x1f/?#\\<>\"'`|()\[\]{}@:,;!*&=+$^~\u00ab\u00bb\u00b7\u2010-\u2027\u2030-\u205e"
    r"\u3000\u3001\u3003\u3008-\u3020\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff60\uff62-\uff65"
)
_MARKED = re.compile(
    rf"(?:h(?:tt|xx|\*\*|__)p(?P<tls>s|\[s\]|\(s\))?|(?P<ftp>ftps?|fxps?)):[/\\]{{1,4}}"
    rf"|(?<!{_LETTER})(?<![.@/\\-])(?=www\d{{0,2}}\.)",
    re.IGNORECASE,
)
_ANY_MARK = re.compile(r":[/\\]|www", re.IGNORECASE)
_ANY_NAME = re.compile(r"\w\.\w")
_LONGEST_USER = 500
_HOST = (
    rf"(?P<host>\[[0-9A-Fa-f:.]{{2,45}}\]|[^{_NOT_IN_HOST}]+)"
    r"(?::(?P<port>\d{1,5})(?!\d))?"
)
_AUTHORITY = re.compile(rf"(?:(?P<user>[^\s/?#\\<>\"`|()\[\]{{}}]{{0,{_LONGEST_USER}}})@)?" + _HOST)
_WITHOUT_USER = re.compile(r"(?P<user>(?!))?" + _HOST)
_BARE = re.compile(
    rf"(?<!{_LETTER})(?<![\u0300-\u036f@\\$%-])(?<!{_LETTER}\.)(?<!-\.)(?<!(?<![/:])/)"
    rf"(?:{_LETTER}|[\u0300-\u036f-])++(?:\.(?:{_LETTER}|[\u0300-\u036f-])++)++(?!@)"
)
_PORT = re.compile(r":(\d{1,5})(?=[/?#\s]|$)")
_TAIL = re.compile(
    r"[/?#\\](?:[^\s\x00-\x1f<>\"'`|\]\u00ab\u00bb\u2018-\u201f\u2026\u3001\u3002\u3008-\u3011\u3014-\u301b\uff01\uff08\uff09"
    r"\uff0c\uff1b\uff61-\uff64]|\](?!\())*"
)
_GOES_ON = frozenset("/?=&:%+#|,;~!@$*._-\\")
"""Before a scheme: it belongs to the link that holds it, as in a redirect."""
_MARKDOWN = re.compile(r"\[([^\[\]]{1,300})\]\(\s{0,3}<?")
_TRAILING = frozenset(".,;:!?*'")
_AT_ENDS = ".-_\u3002\uff61"
_CLOSING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class FoundLink:
    """A link as found in a text.

    Attributes:
        url: as written, without what only stands beside it.
        canonical: the one form of all the ways to write it; a link without a scheme is read as `http`.
        host: lower case and ASCII, an IPv4 address in decimal, an IPv6 address without brackets.
        domain: the registered domain of the host; the host where the snapshot knows no public suffix.
        text_host: the host that a Markdown link's text names, where it belongs to another domain.
        userinfo: what stands before an `@` and the host.
    """

    url: str
    canonical: str
    host: str
    domain: str
    text_host: str | None = None
    userinfo: str | None = None


@dataclass(slots=True)
class _Place:
    """A link's place in what was read."""

    start: int
    end: int
    host: Host
    scheme: str
    port: str = ""
    tail: str = ""
    userinfo: str | None = None


def find_links(text: str, listed: Blocklist | None = None) -> list[FoundLink]:
    """Find the links of a raw text, in order, each once.

    With a scheme or `www.`, any name of two labels or more counts, and so does an address. Without, a name counts if
    its public suffix is known and either it is defanged, or a path follows, or its last label is one of
    `COMMON_SUFFIXES`; and if it is `listed`. Defanged forms, entities, fullwidth and invisible characters are read as
    what they stand for. Takes time in proportion to the text's length; never raises. Ends after `MOST_LINKS`.

    Example:
        >>> [link.canonical for link in find_links("see hxxps://Example[.]com/a/../b?utm_source=x, not main.py")]
        ['https://example.com/b']
    """
    reading = read(text)
    marked = list(_marked(reading.text))
    places = sorted([*marked, *_bare(reading, marked, listed)], key=lambda place: place.start)
    named_hosts = _named_in_link_texts(reading.text, places)
    found: dict[tuple[str, str | None], FoundLink] = {}
    for place in places:
        if named_hosts.get(place.start, "") is None:
            continue
        named = named_hosts.get(place.start)
        url = reading.as_written(place.start, place.end)
        if (url, named) not in found:
            form = canonical(place.scheme, place.host.name, place.port, place.tail)
            found[url, named] = FoundLink(url, form, place.host.name, place.host.domain, named, place.userinfo)
    return list(found.values())


def _marked(text: str) -> Iterator[_Place]:
    """What has a scheme or begins with `www.`."""
    if not _ANY_MARK.search(text):
        return
    marks = list(_MARKED.finditer(text))
    # A link ends, at the latest, where the next scheme is glued to it.
    bounds = [len(text)] * len(marks)
    for index in range(len(marks) - 1, 0, -1):
        mark = marks[index]
        glued = mark.end() > mark.start() and text[mark.start() - 1] not in _GOES_ON
        bounds[index - 1] = mark.start() if glued else bounds[index]
    end = 0
    different: set[str] = set()
    for mark, bound in zip(marks, bounds, strict=True):
        if mark.start() < end:
            continue
        place = _after_mark(text, mark, bound)
        if place is not None:
            end = place.end
            different.add(text[place.start : end])
            if len(different) > MOST_LINKS:
                return
            yield place


def _after_mark(text: str, mark: re.Match[str], bound: int) -> _Place | None:
    # Only where there is an `@`: `www.` may begin in every other letter, and a user is looked for in many that follow.
    named = text.find("@", mark.end(), min(bound, mark.end() + _LONGEST_USER + 1)) >= 0
    authority = (_AUTHORITY if named else _WITHOUT_USER).match(text, mark.end(), bound)
    if authority is None:
        return None
    bare = mark.end() == mark.start()
    written = authority["host"].rstrip(_AT_ENDS)
    host = read_host(written)
    cut = None if host is not None and host.suffix else _without_glued(written)
    if cut is not None:
        written, host = cut
    if host is None or (bare and not _begins_a_link(text, authority, host)):
        return None
    scheme = "ftp" if mark["ftp"] else "https" if mark["tls"] else "http"
    end = authority.start("host") + len(written)
    place = _Place(mark.start(), end, host, scheme, userinfo=authority["user"])
    if cut is None:
        place.port = authority["port"] or ""
        _extend(text, place, authority.end(), bound)
    return place


def _begins_a_link(text: str, authority: re.Match[str], host: Host) -> bool:
    """Whether `www.` does: before an `@`, it is rather a mail address, unless a path follows."""
    if authority["user"] is not None:
        return text.startswith("/", authority.end())
    return bool(host.suffix) or host.name.count(".") > 1


def _without_glued(written: str) -> tuple[str, Host] | None:
    """A host before characters of another script that follow it without a space; None: there is no such host."""
    begin, dot, last = written.rpartition(".")
    ascii_part = re.match(r"[A-Za-z0-9-]+", last)
    if not dot or ascii_part is None or ascii_part.end() == len(last):
        return None
    shorter = f"{begin}.{ascii_part.group()}"
    host = read_host(shorter)
    return (shorter, host) if host is not None and host.suffix else None


def _bare(reading: LinkText, marked: Sequence[_Place], listed: Blocklist | None) -> Iterator[_Place]:
    """What is only a name, outside of what was found already."""
    text, index, end = reading.text, 0, 0
    different: set[str] = set()
    if not _ANY_NAME.search(text):
        return
    for match in _BARE.finditer(text):
        while index < len(marked) and marked[index].end <= match.start():
            index += 1
        bound = marked[index].start if index < len(marked) else len(text)
        if match.start() < end or match.end() > bound:
            continue
        written = match.group().rstrip(_AT_ENDS)
        place = _bare_place(reading, match.start(), match.start() + len(written), bound, listed)
        if place is not None:
            end = place.end
            different.add(text[place.start : end])
            if len(different) > MOST_LINKS:
                return
            yield place


def _bare_place(reading: LinkText, start: int, end: int, bound: int, listed: Blocklist | None) -> _Place | None:
    text = reading.text
    written = text[start:end]
    last = written.rpartition(".")[2]
    if last[:1].isdigit() and not re.fullmatch(r"\d{1,3}(?:\.\d{1,3}){3}", written):
        return None
    host = read_host(written)
    if host is None:
        return None
    port = _PORT.match(text, end, bound)
    after = port.end() if port else end
    if not _counts(host, last, reading.is_defanged(start, end), text[after : after + 8]) and not (
        listed is not None and listed.matches(host.name)
    ):
        return None
    place = _Place(start, end, host, "http", port=port[1] if port else "")
    _extend(text, place, after, bound)
    return place


def _counts(host: Host, last: str, defanged: bool, following: str) -> bool:
    """Whether a bare name is a link: see `find_links`. `last` is its last label as written."""
    if not (host.suffix or host.is_address):
        return False
    if defanged:
        return True
    path = following.startswith("/")
    if host.is_address:
        return path and not re.match(r"/\d{1,3}(?!\w)", following)  # 10.0.0.0/8 is a network
    ending = last.lower()
    if path:
        return True
    if (
        following.startswith("(")
        or (last[:1].isupper() and last[1:].islower())
        or (last == "NET" and len(host.label) <= 5)
    ):
        return False  # a call in a program; a full stop without a space, and the next sentence; ASP.NET
    if "." in host.suffix or ending in COMMON_SUFFIXES:
        return True
    return "-" in host.name and ending not in _FILES


def _extend(text: str, place: _Place, after: int, bound: int) -> None:
    """Add path, query and fragment to a place, and take off what only stands beside the link."""
    tail = _TAIL.match(text, after, bound)
    if tail is not None:
        place.end = max(after, _trimmed(text, place.start, tail.end()))
        place.tail = text[after : place.end]
    elif place.port:
        place.end = after


def _trimmed(text: str, start: int, end: int) -> int:
    """The end of a link without punctuation and without brackets that were opened before it."""
    surplus = {
        closing: text.count(closing, start, end) - text.count(opening, start, end)
        for closing, opening in _CLOSING.items()
    }
    while end > start:
        last = text[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return end


def _named_in_link_texts(text: str, places: Sequence[_Place]) -> dict[int, str | None]:
    """What the texts of Markdown links name: host by the place of the target; None at the places inside such texts."""
    named_hosts: dict[int, str | None] = {}
    if "](" not in text:
        return named_hosts
    by_start = {place.start: place for place in places}
    index = 0
    for match in _MARKDOWN.finditer(text):
        target = by_start.get(match.end())
        while index < len(places) and places[index].start < match.start(1):
            index += 1
        while index < len(places) and places[index].start < match.end(1):
            named = places[index]
            index += 1
            if target is not None:
                named_hosts[named.start] = None
                if named.host.domain != target.host.domain and target.start not in named_hosts:
                    named_hosts[target.start] = named.host.name
    return named_hosts
