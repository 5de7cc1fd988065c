"""The list of domains that people or feeds have named harmful: read from a file, and read again when that changes."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from moderation.preprocess.links.hosts import read_name

logger = logging.getLogger(__name__)


class Blocklist:
    """Domains that people or feeds have named harmful; a listed domain covers its subdomains.

    Args:
        domains: lower case, ASCII.
        path: of the file that they came from; None: the list never changes.
        check_every: seconds between two looks at the file.
    """

    def __init__(self, domains: frozenset[str], path: Path | None = None, *, check_every: float = 1.0) -> None:
        self.domains = domains
        self._path = path
        self._check_every = check_every
        self._next_check = 0.0
        self._seen = _signature(path)
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._unwatched = threading.Event()

    @classmethod
    def load(cls, path: Path, *, check_every: float = 1.0) -> Blocklist:
        """Read one domain a line; `#` begins a comment. A name in another script is matched by its IDNA form.

        Raises:
            OSError: the file cannot be read.
            UnicodeDecodeError: it is not UTF-8.
        """
        # The signature is taken before the content is read: what is written meanwhile is read at the next look.
        blocklist = cls(frozenset(), path, check_every=check_every)
        blocklist.domains = read_domains(path)
        return blocklist

    def matches(self, domain: str) -> str | None:
        """The listed domain that covers `domain`, or None."""
        domains = self.domains
        if domain in domains:
            return domain
        dot = domain.find(".")
        while dot >= 0:
            candidate = domain[dot + 1 :]
            if candidate in domains and "." in candidate:
                return candidate
            dot = domain.find(".", dot + 1)
        return None

    def watch(self) -> None:
        """From now on, look at the file every `check_every` seconds from a thread of its own: no post waits for it.

        So a change holds for every post from a moment after it, also for the first one after a quiet night.
        """
        if self._path is None or self._watcher is not None:
            return
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{self._path.name}", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._unwatched.wait(self._check_every):
            try:
                self.reload_if_changed()
            except Exception:  # whatever a file can do to its reader, the next version of it is read again
                logger.exception("%s: the look at it failed", self._path)

    def unwatch(self) -> None:
        """End what `watch` began."""
        if self._watcher is not None:
            self._unwatched.set()
            self._watcher.join()
            self._unwatched.clear()
            self._watcher = None

    def reload_if_changed(self) -> bool:
        """Read the file again if it has another time or size; looks at most once every `check_every` seconds.

        Any thread may call this at any time; one reloads, the others go on with the list that there is. A file that
        cannot be read is logged as an error, once, and the old list holds.

        Returns:
            Whether there is a new list.
        """
        if self._path is None or time.monotonic() < self._next_check or not self._lock.acquire(blocking=False):
            return False
        try:
            self._next_check = time.monotonic() + self._check_every
            signature = _signature(self._path)
            if signature == self._seen:
                return False
            self._seen = signature
            try:
                domains = read_domains(self._path)
            except (OSError, UnicodeError) as error:
                logger.error("%s cannot be read, its %d old domains hold: %s", self._path, len(self.domains), error)
                return False
            logger.info("%s: %d domains, %d before", self._path, len(domains), len(self.domains))
            self.domains = domains
            return True
        finally:
            self._lock.release()


def read_domains(path: Path) -> frozenset[str]:
    """The domains of a file, in lower case and ASCII; lines that hold none are left out, which is logged once.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    domains = set()
    odd: list[tuple[int, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        entry = line.split("#", 1)[0].strip()
        if not entry:
            continue
        name = read_name(entry)
        if name is None:
            odd.append((number, entry))
        else:
            domains.add(name)
    if odd:
        logger.warning("%s: %d lines are no domain and left out, the first is %d: %.80r", path, len(odd), *odd[0])
    return frozenset(domains)


def _signature(path: Path | None) -> tuple[int, int, int] | None:
    """What changes whenever a file does; None: there is none."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
