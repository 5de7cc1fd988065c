"""A worker's side: limits first, then one task after the other."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from moderation.media import Failed, MediaKind, Reading, ReadRules, Refused
from serve.media.isolation.wire import HEAD, Note, Task, answer_of, frame

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS
_OPEN_FILES = 64

Read = Callable[[Path, MediaKind, ReadRules], Reading | Refused]


def serve(read: Read, *, memory_mb: int, parent: int) -> None:
    """Answer tasks from standard input until it ends.

    Args:
        read: what reads a medium; whatever it needs is imported by now.
        memory_mb: address space beyond what the process takes already (300 MB with all decoders imported, of which 70
            are resident), in 2^20 bytes.
        parent: the process to die with.
    """
    tasks, answers = _own_pipes()
    _limit(memory_mb)
    _die_with(parent)
    _send(answers, frame(Note(said="ready")))
    while True:
        head = _receive(tasks, HEAD.size)
        if head is None:
            return
        body = _receive(tasks, HEAD.unpack(head)[0])
        if body is None:
            return
        task = Task.model_validate_json(body)
        _send(answers, frame(Note(said="taken")))
        outcome, spent = _answer(read, task, memory_mb)
        _send(answers, _answer_parts(outcome))
        if spent:
            return


def _answer(read: Read, task: Task, memory_mb: int) -> tuple[Reading | Refused | Failed, bool]:
    """The outcome, and whether this process had better end."""
    try:
        return read(Path(task.path), task.kind, task.rules), False
    except MemoryError:
        return Failed(f"its decoder ran out of memory: it may take {memory_mb} MB"), True
    except OSError as error:  # without the path, which is nobody's business
        return Failed(f"its bytes could not be read: {error.strerror}"), False
    except Exception as error:
        return Failed(f"its decoder failed: {type(error).__name__}: {str(error)[:300]}"), False


def _answer_parts(outcome: Reading | Refused | Failed) -> list[bytes | memoryview]:
    """An outcome as parts to write; what cannot be told, as a decoder that says nonsense, costs this medium alone."""
    try:
        return answer_of(outcome)
    except ValueError as error:  # pydantic's among them
        return answer_of(Failed(f"its decoder says what cannot be: {str(error)[:300]}"))


def _own_pipes() -> tuple[int, int]:
    """Take the pipes away from descriptors 0 and 1: libraries print to 1, and a line of theirs would be no answer."""
    tasks, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    sys.stdout.flush()
    for taken in (0, 1, 2):
        os.dup2(nowhere, taken)
    os.close(nowhere)
    return tasks, answers


def _limit(memory_mb: int) -> None:
    os.nice(19)
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    most = taken + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def _die_with(parent: int) -> None:
    """Have the system end this process when its parent ends, even while a decoder hangs."""
    system = ctypes.CDLL(None, use_errno=True)
    system.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def _receive(source: int, length: int) -> bytes | None:
    """Exactly so many bytes; None: the pipe ended."""
    found = bytearray()
    while len(found) < length:
        some = os.read(source, length - len(found))
        if not some:
            return None
        found += some
    return bytes(found)


def _send(target: int, parts: Sequence[bytes | memoryview]) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(target, rest) :]
