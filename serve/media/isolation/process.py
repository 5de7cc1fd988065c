"""One worker, as its replica sees it: started, asked, ended; every wait has a bound."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from moderation.media import Failed, Reading, Refused
from serve.media.isolation.errors import Died, Garbled, Late
from serve.media.isolation.wire import HEAD, MOST_JSON, Note, Task, frame, most_payload, read_answer

_ROOT = Path(__file__).resolve().parents[3]
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONHOME", "TMPDIR")
"""All that a worker gets of the environment: a list of what is kept cannot forget a secret."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PIPE_BYTES = 2**20
_ENDS_WITHIN_S = 5.0


class Process:
    """A worker; used by one thread at a time.

    Args:
        program: its command, to which its arguments are added.
        memory_mb: that it may take beyond what it takes at its start.
    """

    def __init__(self, program: Sequence[str], memory_mb: int) -> None:
        self.read_media = 0
        self._popen = subprocess.Popen(
            [*program, "--memory-mb", str(memory_mb), "--parent", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(os.environ),
            cwd="/",
            bufsize=0,
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._tasks, self._answers = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._tasks, False)
        os.set_blocking(self._answers, False)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def wait_until_ready(self, within_s: float) -> None:
        """Wait for its imports.

        Raises:
            Died: it ended instead.
            Late: they took longer.
            Garbled: it said something else.
        """
        if self._answer(0, time.monotonic() + within_s, taken=False) != Note(said="ready"):
            raise Garbled("its first word is not that it is ready")

    def ask(self, task: Task, within_s: float) -> Reading | Refused | Failed:
        """Have a medium read.

        Raises:
            Died, Late, Garbled: and then it is of no more use.
        """
        until = time.monotonic() + within_s
        self._send(task, until)
        if self._answer(0, until, taken=False) != Note(said="taken"):
            raise Garbled("its first word is not that it has the task")
        answer = self._answer(most_payload(task.rules), until, taken=True)
        if isinstance(answer, Note):
            raise Garbled("a word where an answer belongs")
        self.read_media += 1
        return answer

    def kill(self) -> None:
        """End it, whatever it is doing; whoever asked it finds it dead."""
        self._popen.kill()

    def end(self) -> None:
        """End it, and give its pipes back."""
        self.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_ENDS_WITHIN_S)

    def _send(self, task: Task, until: float) -> None:
        for part in frame(task):
            rest = memoryview(part)
            while rest:
                self._await(self._tasks, select.POLLOUT, until)
                try:
                    rest = rest[os.write(self._tasks, rest) :]
                except BrokenPipeError as error:
                    raise self._died(taken=False) from error

    def _answer(self, most: int, until: float, *, taken: bool) -> Reading | Refused | Failed | Note:
        body_length, payload_length = HEAD.unpack(self._receive(HEAD.size, until, taken))
        if body_length > MOST_JSON or payload_length > most:
            raise Garbled(f"{body_length} and {payload_length} bytes; at most {MOST_JSON} and {most} may be")
        body = bytes(self._receive(body_length, until, taken))
        return read_answer(body, self._receive(payload_length, until, taken))

    def _receive(self, length: int, until: float, taken: bool) -> bytearray:
        found = bytearray(length)
        at = 0
        while at < length:
            self._await(self._answers, select.POLLIN, until)
            with suppress(BlockingIOError):
                some = os.readv(self._answers, [memoryview(found)[at:]])
                if not some:
                    raise self._died(taken=taken)
                at += some
        return found

    def _await(self, descriptor: int, event: int, until: float) -> None:
        waiting = select.poll()
        waiting.register(descriptor, event)
        left = until - time.monotonic()
        if left <= 0 or not waiting.poll(left * 1000):
            raise Late

    def _died(self, *, taken: bool) -> Died:
        try:
            code = self._popen.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            return Died("closed its pipe", taken=taken)
        if code >= 0:
            return Died(f"ended with code {code}", taken=taken)
        with suppress(ValueError):
            return Died(f"ended by {signal.Signals(-code).name}", taken=taken)
        return Died(f"ended by signal {-code}", taken=taken)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment: no secret of ours, one thread, two arenas of memory, which reserve 64 MB each."""
    kept = {name: ours[name] for name in _KEPT if name in ours}
    paths = [str(_ROOT), *filter(None, [ours.get("PYTHONPATH")])]
    return kept | dict.fromkeys(_ONE_THREAD, "1") | {"MALLOC_ARENA_MAX": "2", "PYTHONPATH": os.pathsep.join(paths)}
