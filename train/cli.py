"""`seawall retrain`."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from moderation.console import (
    JsonOption,
    JudgedLabelOption,
    TopologyOption,
    VariantArgument,
    libraries_on_stderr,
    moment,
    out,
    print_json,
    progress,
)
from moderation.context import Context
from moderation.learning import judged_label, learns_from_labels
from moderation.running import Running, find, own_ray, topology_of
from moderation.sections import Loss
from moderation.settings import Settings
from moderation.topology import Topology

if TYPE_CHECKING:  # it imports Ray, which reads its environment when it is imported
    from train.retrain import Retrained


def retrain(
    variant: VariantArgument,
    label: JudgedLabelOption = None,
    until: Annotated[str, typer.Option(help="Leave out posts created later (ISO 8601).")] = "",
    loss: Annotated[
        Loss | None,
        typer.Option(
            help="Focal loss turns to the rows that are still judged wrongly; by default what the topology says.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Retrain from the champion on the lake's labels; the gate decides whether the result may challenge it."""
    settings = Settings.from_environment()
    running = find(settings)
    loaded = Topology.load(topology_of(running, topology))
    learns_from_labels(loaded, variant)
    label = judged_label(loaded, variant, label)
    if loss is not None:
        loaded = replace(loaded, retrain=loaded.retrain.model_copy(update={"loss": loss}))
    context = Context.open(settings, loaded)  # before Ray starts: without a ledger there is nothing to do
    # What is printed to standard output is the result alone: Ray's loggers write there, and may until they are gone.
    with libraries_on_stderr(), progress("retraining") as say:
        say("joining the Ray cluster")
        _join(settings, running)
        import ray  # not before: it reads its environment when it is imported

        from train.retrain import retrain as run

        newest = moment(until) if until else None
        outcome = run(context, variant, label=label, until=newest, progress=say)
        say("leaving the Ray cluster")
        ray.shutdown()
    _tell(outcome, as_json)


def _tell(outcome: Retrained, as_json: bool) -> None:
    verdict = outcome.verdict
    if as_json:
        print_json(
            {
                "request": outcome.request.request_id,
                "version": outcome.version,
                "passed": verdict.passed,
                "rows": outcome.rows,
                "gate": verdict.as_dict(),
            }
        )
        return
    table = Table("check", "passed", "reason")
    for check in verdict.checks:
        table.add_row(check.name, "[green]yes[/]" if check.passed else "[red]no[/]", Text(check.reason))
    out.print(table)
    said = "may challenge the champion" if verdict.passed else "is refused"
    out.print(f"{outcome.request.variant}@{outcome.version} {said}; rows {outcome.rows}")


def _join(settings: Settings, running: Running | None) -> None:
    """Join the running cluster, or start one for the time of the command."""
    os.environ.update(settings.environment() | (own_ray() if running is None else running.environment()))
    import ray
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if running is not None:
        ray.init(address=running.address, **quiet)
    else:
        ray.init("local", num_cpus=max(4, os.cpu_count() or 1), include_dashboard=False, **quiet)
