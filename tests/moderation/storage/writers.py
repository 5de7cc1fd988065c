"""Gateways that write at the same time: in processes of their own, or held just before a commit."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from moderation.posts import LabelIn
from moderation.storage.ledger import Entry, Ledger, Recorded
from tests.moderation.storage.rows import an_entry, say
from tests.moderation.waiting import LONG_S


def in_processes(count: int, work: Callable[..., list[Any]], *arguments: Any) -> list[Any]:
    """Call work(*arguments, seed) in processes of their own; what they return, one after the other."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(work, *arguments, seed) for seed in range(count)]
        return [item for future in futures for item in future.result()]


def put_posts(url: str, rounds: int, seed: int) -> list[tuple[str, str, int, bool]]:
    """A gateway: puts groups of posts that others put too; text, version and freshness of what is recorded then."""
    ledger, chance = Ledger(url), random.Random(seed)
    seen: list[tuple[str, str, int, bool]] = []
    for _ in range(rounds):
        group = [an_entry(f"p-{chance.randrange(20)}", f"text {chance.randrange(6)}") for _ in range(8)]
        for entry, result in zip(group, ledger.record(group), strict=True):
            assert isinstance(result, Recorded)
            seen.append((entry.decision.post_id, entry.content_hash, result.content_version, result.fresh))
            assert result.content_hash == entry.content_hash
    ledger.close()
    return seen


def add_rows(url: str, rounds: int, enough: Path, seed: int) -> list[str]:
    """A gateway that takes its time between the insert and the commit, and loses some transactions.

    It goes on for so many rounds, and until there is a file `enough`.
    """
    ledger, chance = Ledger(url), random.Random(seed)
    give_up = time.monotonic() + LONG_S
    added: list[str] = []

    @event.listens_for(ledger.engine, "commit")
    def _late(_connection: Connection) -> None:
        time.sleep(chance.random() * 0.02)
        if chance.random() < 0.2:
            raise ConnectionAbortedError("lost")

    for number in itertools.count():
        if number >= rounds and (enough.exists() or time.monotonic() > give_up):
            break
        group = [an_entry(f"p-{seed}-{number}-{index}") for index in range(chance.randrange(1, 5))]
        with suppress(ConnectionAbortedError):
            ledger.record(group)
            added += [entry.decision.post_id for entry in group]
    ledger.close()
    return added


@contextmanager
def held_open(ledger: Ledger, what: Entry | LabelIn | Callable[[], object], *, lose: bool = False) -> Iterator[None]:
    """Do something in a thread, and hold its first transaction just before the commit, which is lost or goes on."""
    about_to, go_on = threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        if not about_to.is_set():
            about_to.set()
            assert go_on.wait(LONG_S)
            if lose:
                raise ConnectionAbortedError("lost")

    def work() -> None:
        if isinstance(what, Entry):
            ledger.record([what])
        elif isinstance(what, LabelIn):
            say(ledger, what)
        else:
            what()

    event.listen(ledger.engine, "commit", hold)
    try:
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            assert about_to.wait(LONG_S)
            try:
                yield
            finally:
                go_on.set()
            if lose:
                with pytest.raises(ConnectionAbortedError):
                    working.result(LONG_S)
            else:
                working.result(LONG_S)
    finally:
        event.remove(ledger.engine, "commit", hold)
