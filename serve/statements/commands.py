"""`seawall statements export`: a day's statements of reasons, or retractions, as JSON Lines in a file."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from moderation.console import JsonOption, TopologyOption, out, print_json
from moderation.running import find, topology_of
from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.statements.export import retraction_lines, statement_lines

app = typer.Typer(no_args_is_help=True, help="Statements of reasons, as the EU's DSA Transparency Database takes them.")


@app.callback()
def _group() -> None:
    """One command is a group too: more will come."""


@app.command()
def export(
    day: Annotated[str, typer.Option(help="Of the removals, in UTC, as 2026-11-24.", show_default=False)],
    file: Annotated[Path, typer.Option("--out", help="File that is written.", show_default=False)],
    retractions: Annotated[bool, typer.Option("--retractions", help="What was restored that day instead.")] = False,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Write a day's statements of reasons, a line each. The file appears when it is complete."""
    settings = Settings.from_environment()
    loaded = Topology.load(topology_of(find(settings), topology))
    lines = retraction_lines if retractions else statement_lines
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as written:
            for line in lines(Ledger(settings.ledger_url), loaded, _day(day)):
                written.write(line)
                count += 1
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    if as_json:
        print_json({"day": day, "file": str(file), "lines": count})
    else:
        out.print(f"{count} lines in {file}", markup=False)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"day is {text!r}; it must be a date, such as 2026-11-24") from error
