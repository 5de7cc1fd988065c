"""`seawall fuse list|reset`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from moderation.console import JsonOption, out, print_json
from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from serve.fuse import fuses

app = typer.Typer(no_args_is_help=True, help="Automatic removals that went beyond what is expected.")


@app.command("list")
def list_fuses(as_json: JsonOption = False) -> None:
    """Which fuses have blown; until they are reset, removals for their label in their region wait for people."""
    found = fuses.all_fuses(Ledger(Settings.from_environment().ledger_url))
    if as_json:
        print_json([fuse.model_dump(mode="json") for fuse in found])
        return
    table = Table("fuse", "label", "region", "blown at", "removals / posts", "expected", "reset")
    for fuse in found:
        seen = f"{fuse.evidence['removals']} / {fuse.evidence['posts']}"
        expected = f"{fuse.evidence['expected_rate']:.2%} ({fuse.evidence['expected_by']})"
        reset = "no" if fuse.reset_at is None else f"{fuse.reset_at:%Y-%m-%d %H:%M} by {fuse.reset_by}"
        at = f"{fuse.tripped_at:%Y-%m-%d %H:%M}"
        table.add_row(*(Text(cell) for cell in (str(fuse.fuse_id), fuse.label, fuse.region, at, seen, expected, reset)))
    out.print(table)


@app.command()
def reset(
    fuse: Annotated[int, typer.Argument(help="Its number, as `list` shows it.", show_default=False)],
    by: Annotated[str, typer.Option(help="Who says so; recorded.", show_default=False)],
) -> None:
    """Let removals be automatic again."""
    done = fuses.reset(Ledger(Settings.from_environment().ledger_url), fuse, by)
    out.print(Text(f"{done.label} in {done.region} is removed automatically again"))
