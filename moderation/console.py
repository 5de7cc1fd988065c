"""What the rooms' commands share: where they print, how they show progress, how an error ends them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from moderation.errors import LedgerError, SeawallError, ServiceError
from moderation.metrics import Interval
from moderation.settings import Settings
from moderation.storage import dialect
from moderation.storage.ledger import SETTING

_WIDTH = None if sys.stdout.isatty() else 140
out = Console(soft_wrap=True, width=_WIDTH)
"""Results."""
err = Console(stderr=True, soft_wrap=True)
"""Progress and errors."""

VariantArgument = Annotated[str, typer.Argument(help="Variant, as named in the topology.", show_default=False)]
JudgedLabelOption = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="Label that is judged; by default abuse, or the first that the variant scores.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
TopologyOption = Annotated[
    Path | None,
    typer.Option(help="Topology file; by default the one that runs, else deployments/local.yaml.", show_default=False),
]


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is waited for: a spinner on a terminal, else a line whenever it changes."""
    if err.is_terminal:
        with err.status(what) as status:
            yield lambda message: status.update(f"{what}: {message}")
        return
    said = ""

    def say(message: str) -> None:
        nonlocal said
        if message != said:
            said = message
            err.print(f"{what}: {message}")

    yield say


@contextmanager
def errors_told() -> Iterator[None]:
    """End with status 1 and the error's text, instead of a traceback, for errors meant for people."""
    try:
        yield
    except (SeawallError, ValueError, NotImplementedError) as error:
        _tell(type(error), str(error))
        raise SystemExit(1) from error
    except httpx.TransportError as error:
        _tell(ServiceError, f"{error.request.url} does not answer: {str(error) or type(error).__name__}")
        raise SystemExit(1) from error
    except OSError as error:  # a home that cannot be written to, a full disk
        _tell(type(error), f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise SystemExit(1) from error
    except SQLAlchemyError as error:  # while a command was under way: opening a ledger tells its own
        place = dialect.parse(Settings.from_environment().ledger_url, setting=SETTING)
        _tell(LedgerError, f"{dialect.redacted_url(place)} failed: {dialect.error_message(error, place)}")
        raise SystemExit(1) from error


def _tell(kind: type[Exception], text: str) -> None:
    err.print(f"[bold red]error:[/] {kind.__name__}:", end=" ")
    err.print(text, markup=False, emoji=False)


@contextmanager
def libraries_on_stderr() -> Iterator[None]:
    """Send whatever is written to standard output meanwhile, also by other processes' loggers, to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")


def moment(text: str) -> datetime:
    """Parse an ISO 8601 time with an offset, such as 2026-11-24T00:00Z.

    Raises:
        ValueError: it is none, or has no offset.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"time is {text!r}; it must be ISO 8601, such as 2026-11-24T00:00Z") from error
    if parsed.tzinfo is None:
        raise ValueError(f"time {text!r} has no offset; append Z for UTC")
    return parsed


def show(interval: Interval) -> str:
    """An estimate and its interval, for a table."""
    if interval.value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
