"""`make bench`, as far as nothing is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

from moderation.settings import REPOSITORY

HERE = Path(__file__).parent
BENCHMARKS = {path.stem for path in HERE.glob("*.py") if "\n    typer.run(main)\n" in path.read_text("utf-8")}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/ready", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def named(text: str) -> set[str]:
    return BENCHMARKS & set(text.replace('"', " ").replace(";", " ").split())


def test_all_benchmarks_are_run_with_data_and_those_that_want_some_are_named_without() -> None:
    wants_data = {name for name in BENCHMARKS if "data: DataOption" in (HERE / f"{name}.py").read_text("utf-8")}
    with_data, without = make("bench", "DATA=some where"), make("bench", "DATA=")
    assert named(with_data.stdout) == BENCHMARKS
    assert '--data "some where"' in with_data.stdout
    lines = without.stdout.splitlines()
    assert named("\n".join(lines[:-1])) == BENCHMARKS - wants_data
    assert lines[-1].startswith('echo "left out, for want of DATA=path/to/corpora: ')
    assert named(lines[-1]) == wants_data


def test_what_cannot_do_without_data_says_so() -> None:
    for target in ("quality", "champion"):
        done = make(target, "DATA=")
        assert done.returncode == 2
        assert f"holds text/, image/ and video/: make {target} DATA=path/to/corpora.  Stop." in done.stderr
