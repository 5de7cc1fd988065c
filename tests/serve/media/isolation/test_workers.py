"""Workers, real ones and such as crash, hang, eat memory and lie: each costs one medium."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from moderation.media import Failed, Reading, ReadRules, Refused
from moderation.preprocess.media import read
from moderation.settings import REPOSITORY
from serve.media.isolation import Workers
from serve.media.isolation.errors import Garbled
from serve.media.isolation.process import environment
from serve.media.isolation.wire import answer_of, read_answer
from tests.media_samples import samples
from tests.moderation.waiting import LONG_S, wait_until
from tests.processes import a_process

RULES = ReadRules()
MISBEHAVING = (sys.executable, "-P", str(Path(__file__).with_name("misbehaving.py")))
Ask = Callable[[str], Reading | Refused | Failed]


@pytest.fixture(scope="module")
def bad_workers() -> Iterator[Workers]:
    with Workers(2, timeout_s=LONG_S, memory_mb=600, program=MISBEHAVING) as workers:
        yield workers


@pytest.fixture
def ask(bad_workers: Workers, tmp_path: Path) -> Ask:
    return partial(asked_of, bad_workers, tmp_path)


def asked_of(workers: Workers, folder: Path, wish: str) -> Reading | Refused | Failed:
    path = folder / uuid.uuid4().hex
    path.write_text(wish)
    return workers.read(path, "image", RULES)


def taken_by(hanging: Path) -> int:
    """The number of the worker that hangs on a medium, once one does."""
    wait_until(lambda: list(hanging.parent.glob(f"{hanging.name}-taken-by-*")))
    (taken,) = hanging.parent.glob(f"{hanging.name}-taken-by-*")
    return int(taken.name.rpartition("-")[2])


def pid_of(outcome: Reading | Refused | Failed) -> int:
    assert isinstance(outcome, Refused), outcome
    return int(outcome.detail)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("crash", "SIGSEGV"),
        ("exit", "code 3"),
        ("memory", "ran out of memory: it may take 600 MB"),
        ("raise", "KeyError"),
        ("nonsense", "its decoder says what cannot be"),
        ("garble!" + "x" * 200, "sent"),
        ("garble" + "\0" * 4 + "\xff" * 8, "sent"),
        ("garble" + "\0\0\0\2" + "\0" * 8 + "{}", "sent"),
        ("too_much", "sent"),
        ("not_a_number", "sent"),
        ("write", "could not be read"),
    ],
    ids=lambda value: value[:8].encode("unicode_escape").decode(),
)
def test_a_decoder_that_misbehaves_costs_one_medium(ask: Ask, wish: str, reason: str) -> None:
    costs_one_medium(ask, wish, reason)


def test_a_decoder_that_hangs_costs_one_medium(tmp_path: Path) -> None:
    with Workers(2, timeout_s=5.0, memory_mb=600, program=MISBEHAVING) as workers:
        costs_one_medium(partial(asked_of, workers, tmp_path), "hang", "longer than 5 s")


def costs_one_medium(ask: Ask, wish: str, reason: str) -> None:
    with ThreadPoolExecutor(3) as callers:
        bad, *good = callers.map(ask, [wish, "good", "slow"])
    assert isinstance(bad, Failed)
    assert reason in bad.reason
    assert all(isinstance(outcome, Refused) and outcome.bound == 1.5 for outcome in good)
    assert pid_of(ask("good"))


def wanted(folder: Path, wish: str) -> Path:
    path = folder / uuid.uuid4().hex
    path.write_text(wish)
    return path


def test_large_media_leave_a_worker_to_the_small_ones(tmp_path: Path) -> None:
    hanging = [wanted(tmp_path, "hang") for _ in range(2)]
    with (
        Workers(2, timeout_s=LONG_S, memory_mb=600, program=MISBEHAVING) as workers,
        ThreadPoolExecutor(2) as callers,
    ):
        large = [callers.submit(workers.read, path, "image", RULES, large=True) for path in hanging]
        wait_until(lambda: list(tmp_path.glob("*-taken-by-*")))
        for _ in range(3):
            assert pid_of(asked_of(workers, tmp_path, "good"))
        assert len(list(tmp_path.glob("*-taken-by-*"))) == 1  # the other one waits, though a worker is free
        workers.close()
        assert all(isinstance(future.result(), Failed) for future in large)


def test_where_one_reads_small_media_go_before_large_ones(tmp_path: Path) -> None:
    first, second = wanted(tmp_path, "hang"), wanted(tmp_path, "hang")
    with (
        Workers(1, timeout_s=LONG_S, memory_mb=600, program=MISBEHAVING) as workers,
        ThreadPoolExecutor(3) as callers,
    ):
        callers.submit(workers.read, first, "image", RULES, large=True)
        pid = taken_by(first)
        callers.submit(workers.read, second, "image", RULES, large=True)
        small = callers.submit(asked_of, workers, tmp_path, "good")
        wait_until(lambda: workers._small_waiting == 1)
        os.kill(pid, signal.SIGKILL)
        assert pid_of(small.result())  # it came last; a large one would never have ended
        taken_by(second)  # whose turn it is now
        workers.close()


def test_a_large_medium_that_waits_too_long_is_told(tmp_path: Path) -> None:
    hanging = wanted(tmp_path, "hang")
    with (
        Workers(2, timeout_s=LONG_S, memory_mb=600, program=MISBEHAVING) as workers,
        ThreadPoolExecutor(1) as callers,
    ):
        callers.submit(workers.read, hanging, "image", RULES, large=True)
        taken_by(hanging)
        found = workers.read(wanted(tmp_path, "good"), "image", RULES, wait_s=0.0, large=True)
        assert found == Failed("no reader was free within 0 s")
        workers.close()


def test_what_a_library_prints_is_no_answer(ask: Ask) -> None:
    assert pid_of(ask("print"))


def test_a_worker_has_no_secrets_and_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("SEAWALL_LEDGER_URL", "x")
    path = tmp_path / "medium"
    path.write_text("tell")
    with Workers(1, timeout_s=LONG_S, memory_mb=300, program=MISBEHAVING) as workers:
        outcome = workers.read(path, "image", RULES)
    assert isinstance(outcome, Refused)
    assert json.loads(outcome.detail) == {"secrets": [], "nice": 19, "core": 0, "files": 0}


def test_the_environment_is_a_list_of_what_is_kept() -> None:
    made = environment({"PATH": "/bin", "SECRET_TOKEN": "x", "PYTHONPATH": "/somewhere"})
    assert "SECRET_TOKEN" not in made
    assert made["PATH"] == "/bin"
    assert made["PYTHONPATH"].endswith(f"{os.pathsep}/somewhere")


def test_a_worker_is_used_again_and_replaced_in_time(tmp_path: Path) -> None:
    path = tmp_path / "medium"
    path.write_text("good")
    with Workers(1, timeout_s=LONG_S, memory_mb=300, recycle_after=3, program=MISBEHAVING) as workers:
        pids = [pid_of(workers.read(path, "image", RULES)) for _ in range(12)]
    assert max(pids.count(pid) for pid in pids) == 3


def test_workers_that_died_while_idle_cost_nothing(ask: Ask) -> None:
    pid_of(ask("good"))
    for child in psutil.Process().children():
        if "misbehaving.py" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)
    with ThreadPoolExecutor(4) as callers:
        assert all(pid_of(outcome) for outcome in callers.map(ask, ["good"] * 8))


def test_who_waits_too_long_for_a_worker_is_told(tmp_path: Path) -> None:
    slow, quick = tmp_path / "slow", tmp_path / "quick"
    slow.write_text("hang")
    quick.write_text("good")
    with Workers(1, timeout_s=LONG_S, memory_mb=300, program=MISBEHAVING) as workers, ThreadPoolExecutor(2) as callers:
        assert pid_of(workers.read(quick, "image", RULES))
        hanging = callers.submit(workers.read, slow, "image", RULES)
        busy = taken_by(slow)
        late = workers.read(quick, "image", RULES, wait_s=0.1)
        assert isinstance(late, Failed)
        assert "0.1 s" in late.reason
        os.kill(busy, signal.SIGKILL)
        assert pid_of(workers.read(quick, "image", RULES, wait_s=LONG_S)) != busy
        assert isinstance(hanging.result(), Failed)


def test_closing_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "medium"
    path.write_text("hang")
    workers = Workers(1, timeout_s=2 * LONG_S, memory_mb=300, program=MISBEHAVING)
    with ThreadPoolExecutor(2) as callers:
        asked = [callers.submit(workers.read, path, "image", RULES) for _ in range(2)]
        taken_by(path)
        workers.close()
        assert all(isinstance(each.result(LONG_S), Failed) for each in asked)
    assert isinstance(workers.read(path, "image", RULES), Failed)


def test_a_program_that_never_starts_is_told_after_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "medium"
    path.write_text("good")
    with Workers(1, timeout_s=5, memory_mb=300, program=(sys.executable, "-c", "raise SystemExit(1)")) as workers:
        assert isinstance(workers.read(path, "image", RULES, wait_s=0.5), Failed)


def test_workers_die_with_their_parent_even_while_they_hang(tmp_path: Path) -> None:
    path = tmp_path / "medium"
    path.write_text("hang")
    program = textwrap.dedent(f"""
        import threading, time
        from pathlib import Path
        from serve.media.isolation import Workers
        from moderation.media import ReadRules
        workers = Workers(1, timeout_s={4 * LONG_S}, memory_mb=300, program={MISBEHAVING!r})
        threading.Thread(target=workers.read, args=(Path({str(path)!r}), "image", ReadRules())).start()
        time.sleep({4 * LONG_S})
    """)
    with a_process([sys.executable, "-c", program], cwd=REPOSITORY) as parent:
        busy = taken_by(path)
        wait_until(lambda: len(psutil.Process(parent.pid).children()) == 2)
        children = psutil.Process(parent.pid).children()
        assert busy in {child.pid for child in children}
    _, alive = psutil.wait_procs(children, timeout=LONG_S)
    assert not alive


@pytest.mark.parametrize("count", [0, -1])
def test_no_workers_are_no_workers(count: int) -> None:
    with pytest.raises(ValueError, match=f"count is {count}"):
        Workers(count, timeout_s=1, memory_mb=300)


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"", b""),
        (b"[]", b""),
        (b'{"said":"ready","more":1}', b""),
        (b'{"said":"refused","code":"no_such","detail":"","bound":null}', b""),
        (b'{"said":"failed","reason":"x"}', b"payload"),
    ],
)
def test_what_is_no_answer_is_told(body: bytes, payload: bytes) -> None:
    with pytest.raises(Garbled):
        read_answer(body, bytearray(payload))


@pytest.mark.parametrize("outcome", [Refused("too_long", "why", 60.0), Refused("broken", "ü"), Failed("x")])
def test_an_outcome_crosses_unchanged(outcome: Refused | Failed) -> None:
    _, body = answer_of(outcome)
    assert read_answer(bytes(body), bytearray()) == outcome


def test_real_workers_say_what_this_process_says(tmp_path: Path) -> None:
    """All samples in one batch, good and bad, by four callers at once."""
    chosen = samples()[::3]
    paths = []
    for sample in chosen:
        paths.append(tmp_path / sample.name)
        paths[-1].write_bytes(sample.make())
    with Workers(2, timeout_s=LONG_S, memory_mb=1500) as workers, ThreadPoolExecutor(4) as callers:
        found = list(callers.map(lambda path, s: workers.read(path, s.kind, RULES), paths, chosen))
    for sample, path, outcome in zip(chosen, paths, found, strict=True):
        here = read(path, sample.kind, RULES)
        if isinstance(here, Refused):
            assert isinstance(outcome, Refused), sample.name
            assert (outcome.code, outcome.bound) == (here.code, here.bound)
            continue
        assert isinstance(outcome, Reading), (sample.name, outcome)
        for name in ("pictures", "times", "followers", "step"):
            np.testing.assert_array_equal(getattr(outcome, name), getattr(here, name))
        for name in ("kind", "format", "width", "height", "frames", "seconds", "perceptual_hash", "reader", "codec"):
            assert getattr(outcome, name) == getattr(here, name)
