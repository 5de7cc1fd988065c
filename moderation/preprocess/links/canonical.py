"""One form for the many ways to write the same link (RFC 3986, section 6)."""

from __future__ import annotations

import re

_DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
_TRACKING = re.compile(r"(?:utm_[^=]*|fbclid|gclid)(?:=|$)", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([/_*~()\[\]])")
_ODD = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def canonical(scheme: str, host: str, port: str, tail: str) -> str:
    """Write a link in its canonical form.

    Args:
        scheme: `http`, `https` or `ftp`.
        host: as `Host.name`.
        port: digits, or nothing.
        tail: path, query and fragment, as written.

    Returns:
        Without default port, fragment, dot segments and tracking parameters (`utm_*`, `fbclid`, `gclid`); what is left
        of the query keeps its order; percent-encoding only where it is needed, with upper-case digits.
    """
    path, _, query = tail.partition("#")[0].partition("?")
    first = "/" if path[:1] == "\\" and path[1:2] != "/" else ""
    path = first + _ESCAPED.sub(r"\1", path[len(first) :])
    path = _without_dots(_encoded(path.replace("\\", "/")))
    kept = "&".join(part for part in _ESCAPED.sub(r"\1", query).split("&") if part and not _TRACKING.match(part))
    shown = f"[{host}]" if ":" in host else host
    if port and int(port) != _DEFAULT_PORTS[scheme]:
        shown += f":{int(port)}"
    return f"{scheme}://{shown}{path}" + (f"?{_encoded(kept)}" if kept else "")


def _encoded(text: str) -> str:
    return _ODD.sub(_encode, text)


def _encode(found: re.Match[str]) -> str:
    piece = found.group()
    if len(piece) == 3:
        value = int(piece[1:], 16)
        return chr(value) if value in _UNRESERVED else piece.upper()
    return "".join(f"%{byte:02X}" for byte in piece.encode("utf-8", "surrogatepass"))


def _without_dots(path: str) -> str:
    if "/." not in path:
        return path or "/"
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
