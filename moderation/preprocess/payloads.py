"""Files that are two things at once: a picture with an archive, a program or a page behind it.

A platform that stores such a file hosts the other half of it, too. Readers of archives look for the end of the file,
readers of PDF for its first kilobyte, and readers of pages take anything; so all of these are looked at. What cameras
append (a motion photo's film, previews, padding) passes. Magic numbers of two or four bytes come by chance in megabytes
of compressed film, so each is believed only together with the fields that follow it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

_ANYWHERE: Mapping[str, re.Pattern[bytes]] = {
    "a ZIP archive": re.compile(rb"PK\x03\x04[\x00-\x3f]\x00..[\x00\x08\x09\x0c\x0e\x5d\x5f\x63]\x00", re.DOTALL),
    "a RAR archive": re.compile(rb"Rar!\x1a\x07[\x00\x01]"),
    "a 7z archive": re.compile(rb"7z\xbc\xaf\x27\x1c\x00"),
    "a PDF": re.compile(rb"%PDF-\d\.\d"),
    "a program": re.compile(rb"\x7fELF[\x01\x02][\x01\x02]\x01"),
    "a page or a script": re.compile(rb"<(?:script[\s>]|!doctype\s+html|html[\s>]|iframe\s|\?php\s)", re.IGNORECASE),
}
_AT_THE_BEGINNING: Mapping[str, re.Pattern[bytes]] = {
    "a gzip archive": re.compile(rb"\s*\x1f\x8b\x08"),
    "a program": re.compile(rb"\s*#!\s*/"),
    "a Windows program": re.compile(rb"MZ.{61}\x00", re.DOTALL),
    "a ZIP archive": re.compile(rb"PK(?:\x05\x06|\x07\x08)"),
}
_PDF_HEAD = 1024
_PHP_HEAD = 65_536
_ZIP_END = 22
_ZIP_COMMENT = 65_535


def hidden_payload(data: bytes, end: int) -> str | None:
    """What else a picture's file is.

    Args:
        data: the whole file.
        end: where the picture ends.

    Returns:
        For people, such as `a ZIP archive`; None: nothing that is known to harm.
    """
    behind = memoryview(data)[end:]
    for name, pattern in _AT_THE_BEGINNING.items():
        if pattern.match(behind):
            return name
    for name, pattern in _ANYWHERE.items():
        if pattern.search(behind):
            return name
    if _ANYWHERE["a PDF"].search(data, 0, _PDF_HEAD):
        return "a PDF"
    if data.find(b"<?php", 0, _PHP_HEAD) >= 0:
        return "a page or a script"
    return "a ZIP archive" if _ends_as_zip(data) else None


def _ends_as_zip(data: bytes) -> bool:
    """Whether a ZIP's end record stands at the end of the file, wherever the rest of the archive is hidden."""
    at = data.rfind(b"PK\x05\x06", max(0, len(data) - _ZIP_END - _ZIP_COMMENT))
    if at < 0 or at + _ZIP_END > len(data):
        return False
    comment = struct.unpack_from("<H", data, at + 20)[0]
    return at + _ZIP_END + int(comment) == len(data)
