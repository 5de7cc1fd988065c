"""`seawall experiment create|ramp|report|stop`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from moderation.console import (
    JsonOption,
    JudgedLabelOption,
    TopologyOption,
    out,
    print_json,
    progress,
    show,
)
from moderation.context import Context, open_context
from moderation.errors import RegistryError
from moderation.learning import label_of, no_challenger
from moderation.running import Running
from moderation.storage import experiments
from moderation.storage.experiments import Experiment
from moderation.storage.ledger import now
from serve.experiments.report import Report
from serve.experiments.report import report as measure
from serve.rollout import serve_config

app = typer.Typer(no_args_is_help=True, help="Compare the challenger with the champion on live traffic.")

NameArgument = Annotated[str, typer.Argument(help="Name of the experiment.", show_default=False)]
ShareOption = Annotated[float, typer.Option(help="Share of authors in the challenger's arm.", min=0, max=1)]


@app.command()
def create(
    name: NameArgument,
    variant: Annotated[str, typer.Option(help="Variant whose challenger is tried.")] = "text-multi",
    share: ShareOption = 0.1,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Begin: the challenger gets a deployment of its own, then a share of the authors."""
    context, cluster = open_context(topology)
    context.topology.variant(variant)
    challenger = context.registry.alias(variant, "challenger")
    if challenger is None:
        raise RegistryError(no_challenger(context.topology, variant))
    created = experiments.create(
        context.ledger,
        name,
        variant=variant,
        champion_version=context.registry.champion(variant),
        challenger_version=challenger,
        share=share,
    )
    try:
        _refresh(context, cluster)
    except BaseException:
        experiments.stop(context.ledger, name)  # nothing half done: an experiment without its challenger is none
        raise
    _tell(created, as_json)


@app.command()
def ramp(name: NameArgument, share: ShareOption, as_json: JsonOption = False, topology: TopologyOption = None) -> None:
    """Give the challenger a larger share; authors already there stay."""
    context, cluster = open_context(topology)
    ramped = experiments.ramp(context.ledger, name, share)
    _refresh(context, cluster)
    _tell(ramped, as_json)


@app.command()
def report(
    name: NameArgument,
    label: JudgedLabelOption = None,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Precision and recall an arm, with 95 % intervals, on posts that were drawn for labelling at random."""
    context, _ = open_context(topology)
    label = label or label_of(context.topology, experiments.get(context.ledger, name).variant)
    found = measure(context.ledger, name, label=label, objective=context.topology.policy.objective(label), at=now())
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)


@app.command()
def stop(name: NameArgument, as_json: JsonOption = False, topology: TopologyOption = None) -> None:
    """End: all authors go back to the champion, and the challenger's deployment goes."""
    context, cluster = open_context(topology)
    stopped = experiments.stop(context.ledger, name)
    _refresh(context, cluster)
    _tell(stopped, as_json)


def _refresh(context: Context, cluster: Running | None) -> None:
    with progress("deploying") as say:
        serve_config.refresh(context, cluster, progress=say)


def _tell(experiment: Experiment, as_json: bool) -> None:
    said = {
        "experiment": experiment.name,
        "variant": experiment.variant,
        "champion": experiment.champion_version,
        "challenger": experiment.challenger_version,
        "share": experiment.share,
        "status": experiment.status,
    }
    if as_json:
        print_json(said)
    else:
        told = (
            f"{experiment.name} is {experiment.status}: {experiment.variant} version {experiment.challenger_version}"
            f" for {experiment.share:.0%} of authors, version {experiment.champion_version} for the others"
        )
        out.print(Text(told))  # a name is no markup


def _print(report: Report) -> None:
    versions = {
        "champion": report.experiment.champion_version,
        "challenger": report.experiment.challenger_version,
    }
    table = Table("arm", "version", "posts", "authors", "labelled", f"precision ({report.label})", "recall")
    for name, arm in report.arms.items():
        counts = (arm.posts, arm.authors, arm.labelled)
        table.add_row(name, str(versions[name]), *map(str, counts), show(arm.precision), show(arm.recall))
    table.add_row("difference", "", "", "", "", show(report.precision_difference), show(report.recall_difference))
    out.print(table)
    out.print(f"under {report.objective}, the challenger is: {report.verdict}")
