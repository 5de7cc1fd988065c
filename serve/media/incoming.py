"""Where bytes lie while they arrive: a folder for each process of the gateway, gone with it, however it ends.

A process holds a lock on its folder for as long as it lives, and the system lets go of it when it dies. So whoever
comes later knows what nobody writes to any more, and removes it: a gateway at its start, and `seawall media collect`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

INCOMING = "incoming"
"""Name of the folder in SEAWALL_HOME under which all of them are."""
_LOCK = ".lock"
_MAKING = ".making-"
_ABANDONED_S = 3600.0
"""After that long a folder that has no lock yet, or never had one, is nobody's: making one takes no time."""


class IncomingFolder:
    """A folder of this process's own.

    Args:
        root: under which every process has one; made where absent.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        making = root / f"{_MAKING}{name}"
        making.mkdir()
        self._lock = os.open(making / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = root / name
        making.rename(self.folder)  # locked before anybody can take it for abandoned

    def close(self) -> None:
        """Remove it, with all that is in it; may be called again."""
        if self._lock >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def sweep(root: Path) -> int:
    """Remove what processes that are dead left under a folder; how many of them had left something."""
    removed = 0
    for left in sorted(root.iterdir()) if root.is_dir() else []:
        with contextlib.suppress(OSError):  # another one sweeps as well
            if _is_abandoned(left):
                removed += any(child.name != _LOCK for child in left.iterdir())
                shutil.rmtree(left)
    return removed


def _is_abandoned(folder: Path) -> bool:
    if folder.name.startswith(_MAKING) or not (folder / _LOCK).exists():
        return folder.stat().st_mtime < time.time() - _ABANDONED_S
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
