"""A worker whose decoder does what the medium says: the same process as the real one, but for what reads."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from moderation.media import MediaKind, Reading, ReadRules, Refused
from serve.media.isolation.worker import serve

kept: list[object] = []


def read(path: Path, kind: MediaKind, rules: ReadRules) -> Reading | Refused:
    wish = path.read_text()
    if wish == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif wish == "exit":
        os._exit(3)
    elif wish == "hang":
        path.with_name(f"{path.name}-taken-by-{os.getpid()}").touch()
        time.sleep(1000)
    elif wish == "slow":
        time.sleep(0.3)
    elif wish == "memory":
        kept.append(np.ones(2**30, dtype=np.uint8))
    elif wish == "raise":
        raise KeyError("a decoder's own")
    elif wish == "print":
        os.write(1, b"frame= 1 fps=0.0" * 100)
        print("noise", flush=True)
    elif wish == "write":
        with (path.parent / "written").open("wb") as file:
            file.write(b"x")
            file.flush()
    elif wish.startswith("garble"):
        for descriptor in range(3, 32):
            with suppress(OSError):
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    os.write(descriptor, wish.removeprefix("garble").encode("latin-1"))
    elif wish == "too_much":
        side = np.zeros((60, 1280, 1280, 3), dtype=np.uint8)
        return Reading("image", "jpeg", 9, 9, 1, None, side, np.zeros(60, np.float32), None, None, None, "pillow")
    elif wish == "not_a_number":
        times = np.full(1, np.nan, dtype=np.float32)
        pixels = np.zeros((1, 9, 9, 3), dtype=np.uint8)
        return Reading("image", "jpeg", 9, 9, 1, None, pixels, times, None, None, None, "pillow")
    elif wish == "nonsense":
        pixels = np.zeros((1, 9, 9, 3), dtype=np.uint8)
        times = np.zeros(1, dtype=np.float32)
        return Reading("image", "jpeg", 2_000_000, 9, 1, None, pixels, times, None, None, None, "pillow")
    elif wish == "tell":
        core, files = resource.getrlimit(resource.RLIMIT_CORE)[1], resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        told = {"secrets": [name for name in os.environ if name.startswith(("AWS_", "SEAWALL_"))], "nice": os.nice(0)}
        return Refused("broken", json.dumps(told | {"core": core, "files": files}))
    return Refused("broken", str(os.getpid()), 1.5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-mb", type=int)
    parser.add_argument("--parent", type=int)
    told = parser.parse_args()
    serve(read, memory_mb=told.memory_mb, parent=told.parent)
