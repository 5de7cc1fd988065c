"""Work that is killed at random points, in processes of its own: what is left must be what was promised.

Run as `python -m tests.killing WORK SEED KILLS LEAST MOST ARGUMENT...`. It imports what the work needs once, and then
forks: a process that is killed half a second after it began must not spend that time on imports. Prints one JSON
document: how many were killed, and how many ended by themselves before.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from moderation.sections import Webhook
from moderation.settings import REPOSITORY
from moderation.storage import lake as lake_module
from moderation.storage.lake import Lake
from moderation.storage.ledger import Ledger
from moderation.storage.media_store import MediaStore
from serve.outbox import sender as sender_module
from serve.outbox.sender import Sender


def export_lake(ready: Callable[[], None], ledger_url: str, lake_url: str) -> None:
    """An exporter, with small files and a lock that is soon overtaken."""
    lake_module.ROWS_A_FILE = 3
    lake_module.LOCK_HOLD = timedelta(seconds=0.4)
    ledger, lake = Ledger(ledger_url), Lake(lake_url)
    ready()
    lake.export(ledger)


def send(ready: Callable[[], None], ledger_url: str, webhook: str, secret: str) -> None:
    """A sender, whose leases end soon after it."""
    sender_module.LEDGER_S = 1.0
    ledger, endpoint = Ledger(ledger_url), Webhook.model_validate_json(webhook)
    sender = Sender(ledger, [endpoint], {endpoint.name: secret})
    ready()
    asyncio.run(sender.run(asyncio.Event()))


def keep_media(ready: Callable[[], None], media_url: str) -> None:
    """An upload after the other, of bytes that nobody has seen; on S3 in pieces."""
    store = MediaStore(media_url)
    ready()
    while True:
        store.keep_bytes(os.urandom(9_000_000))


WORK: dict[str, Callable[..., None]] = {"export_lake": export_lake, "send": send, "keep_media": keep_media}


def killed(work: str, *arguments: str, seed: int, kills: int, least: float, most: float) -> dict[str, int]:
    """Kill a work so many times, each between `least` and `most` seconds after it began."""
    numbers = map(str, (seed, kills, least, most))
    command = [sys.executable, "-W", "ignore", "-m", "tests.killing", work, *numbers, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return said


def main() -> None:
    work, seed, kills, least, most, *arguments = sys.argv[1:]
    chance = random.Random(int(seed))
    said = {"killed": 0, "ended": 0}
    while said["killed"] < int(kills):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                WORK[work](lambda end=writing: os.write(end, b"."), *arguments)
            except BaseException as error:  # it would end the forked copy of all this otherwise
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                os._exit(1)
            os._exit(0)
        os.close(writing)
        assert os.read(reading, 1) == b".", "it ended before it began"
        os.close(reading)
        time.sleep(chance.uniform(float(least), float(most)))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            said["killed"] += 1
        else:
            assert os.WEXITSTATUS(status) == 0, "it failed"
            said["ended"] += 1
            if said["ended"] > 5 * int(kills):
                break
    print(json.dumps(said))


if __name__ == "__main__":
    main()
