"""Where bytes lie while they arrive: a folder a process, and what killed processes left goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from serve.media.commands import app
from serve.media.incoming import INCOMING, IncomingFolder, sweep
from tests.processes import a_process

ROOT = Path(__file__).resolve().parents[3]
A_PROCESS = """
import sys
from pathlib import Path
from serve.media.incoming import IncomingFolder
incoming = IncomingFolder(Path(sys.argv[1]))
(incoming.folder / "half").write_bytes(b"half of an upload")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def a_gateway(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process's, in the middle of an upload."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with a_process([sys.executable, "-c", A_PROCESS, str(root)], env=environment, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process


def test_what_a_living_process_writes_stays_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    with a_gateway(tmp_path):
        assert sweep(tmp_path) == 0
        [half] = tmp_path.glob("*/half")
        assert half.read_bytes() == b"half of an upload"
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_one_s_own_folder_stays_until_it_is_closed(tmp_path: Path) -> None:
    ours, other = IncomingFolder(tmp_path), IncomingFolder(tmp_path)
    assert sweep(tmp_path) == 0
    assert ours.folder.is_dir()
    ours.close()
    ours.close()
    assert list(tmp_path.iterdir()) == [other.folder]
    other.close()


def test_an_empty_folder_of_a_dead_process_goes_and_is_not_counted(tmp_path: Path) -> None:
    with a_gateway(tmp_path) as process:
        pass
    assert process.returncode
    [half] = tmp_path.glob("*/half")
    half.unlink()
    assert sweep(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_lock_goes_after_an_hour(tmp_path: Path) -> None:
    """Folders of releases before there were locks, and one whose maker was killed while it made it."""
    for name in ("seawall-media-abc", ".making-abc"):
        (tmp_path / name / "deep").mkdir(parents=True)
    (tmp_path / "no folder").write_bytes(b"left alone")
    assert sweep(tmp_path) == 0
    for left in tmp_path.iterdir():
        os.utime(left, (time.time() - 3700,) * 2)
    assert sweep(tmp_path) == 2
    assert [left.name for left in tmp_path.iterdir()] == ["no folder"]
    assert sweep(tmp_path / "absent") == 0


def test_the_collector_sweeps_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with a_gateway(home / INCOMING):
        pass
    shown = CliRunner().invoke(app, ["collect"], env={"SEAWALL_HOME": str(home)})
    assert (shown.exit_code, "1 leftovers deleted" in shown.output) == (0, True), shown.output
    assert list((home / INCOMING).iterdir()) == []
