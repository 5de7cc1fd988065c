"""`seawall drift check|reference`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from moderation.console import JsonOption, TopologyOption, VariantArgument, moment, out, print_json, progress
from moderation.context import Context
from moderation.learning import learns_from_labels
from moderation.running import find, topology_of
from moderation.settings import Settings
from moderation.storage.ledger import now
from moderation.topology import Topology

if TYPE_CHECKING:  # pandas takes a second to import
    from drift.window import Traffic

app = typer.Typer(no_args_is_help=True, help="Compare the last window of traffic with the champion's reference.")

UntilOption = Annotated[
    str,
    typer.Option(
        help="End of the window (ISO 8601); by default of the last one that is over: for 24 hours, midnight UTC.",
        show_default=False,
    ),
]
HoursOption = Annotated[
    float | None,
    typer.Option(help="Length of the window; by default the topology's.", min=0.01, show_default=False),
]


@app.command()
def check(
    variant: VariantArgument,
    until: UntilOption = "",
    window_hours: HoursOption = None,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Check one window; k drifted windows of the last n that do not overlap raise an alert and a retrain request."""
    from drift.check import check as run

    context = _context(variant, topology, window_hours)
    with progress("checking drift") as say:
        say("reading the logged features")
        result = run(context, _traffic(context, variant, until))
    if as_json:
        print_json(asdict(result))
        return
    if result.columns:
        table = Table("column", "method", "score", "threshold", "drifted")
        for name, column in result.columns.items():
            drifted = "[red]yes[/]" if column["drifted"] else "no"
            table.add_row(name, column["method"], f"{column['score']:.3f}", f"{column['threshold']:g}", drifted)
        out.print(table)
    # The note names words that people wrote, which are no markup.
    out.print(Text(f"{result.status}: {result.variant}@{result.version}, {result.rows} posts. {result.note}"))
    if result.request_id is not None:
        out.print(f"retrain request {result.request_id} is open: `seawall retrain {variant}` answers it")


@app.command()
def reference(
    variant: VariantArgument,
    until: UntilOption = "",
    window_hours: HoursOption = None,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Compare the champion from now on with this window of traffic."""
    from drift.reference import set_reference

    context = _context(variant, topology, window_hours)
    with progress("setting the reference") as say:
        say("reading the window")
        traffic = _traffic(context, variant, until)
        found = set_reference(context, traffic)
    if as_json:
        print_json(asdict(found))
    else:
        out.print(f"{variant} is compared with {found.rows} posts of {found.window_from} to {found.window_to}")


def _context(variant: str, topology: Path | None, window_hours: float | None) -> Context:
    """What the commands work with; for a variant that drift cannot be measured of, nothing is opened."""
    settings = Settings.from_environment()
    loaded = Topology.load(topology_of(find(settings), topology))
    learns_from_labels(loaded, variant)
    if window_hours is not None:
        loaded = replace(loaded, drift=loaded.drift.model_copy(update={"window_hours": window_hours}))
    return Context.open(settings, loaded)


def _traffic(context: Context, variant: str, until: str) -> Traffic:
    """The window that ends at `until` or, where nothing is said, the last one that is over."""
    from drift.window import last_full, read_traffic

    length = context.topology.drift.window
    end = moment(until) if until else last_full(now(), length)
    return read_traffic(context, variant, end - length, end)
