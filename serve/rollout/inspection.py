"""`seawall models list|show|ship` and `seawall config check|render`; but for `ship`, looking, changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table
from rich.text import Text

from moderation.console import JsonOption, TopologyOption, VariantArgument, err, out, print_json, progress, show
from moderation.context import Context, open_context
from moderation.metrics import Interval
from moderation.models.card import PROVEN_ROWS, Card, cell_of
from moderation.policy import is_met, removal_threshold, threshold_of
from moderation.topology import Topology
from moderation.yaml_files import read_yaml
from serve.rollout import promotion, serve_config

models = typer.Typer(no_args_is_help=True, help="Look at the registered models.")
config = typer.Typer(no_args_is_help=True, help="Check the configuration, and see what would be deployed.")


@models.command("list")
def list_models(as_json: JsonOption = False, topology: TopologyOption = None) -> None:
    """Every version of every variant, with its aliases."""
    context, _ = open_context(topology)
    found = [
        _summary(context, name, version.version)
        for name in context.topology.variants
        for version in context.registry.versions(name)
    ]
    if as_json:
        print_json(found)
        return
    table = Table("variant", "version", "aliases", "architecture", "labels", "languages", "gate")
    for model in found:
        aliases, labels, languages = (", ".join(model[key]) for key in ("aliases", "labels", "languages"))
        table.add_row(
            model["variant"], str(model["version"]), aliases, model["architecture"], labels, languages, model["gate"]
        )
    out.print(
        table if found else "no model is registered; `seawall up` and `seawall models ship` register those that ship"
    )


@models.command("ship")
def ship_models(topology: TopologyOption = None) -> None:
    """Make the models that ship champions where none fits this release, as `up` does before it deploys."""
    context, cluster = open_context(topology)
    with progress("registering what ships") as say:
        shipped = promotion.ship_all(context, say)
        serve_config.refresh(context, cluster, progress=say)
    out.print(f"registered as champions: {', '.join(shipped)}" if shipped else "every variant has a champion that fits")


@models.command("show")
def show_model(
    variant: VariantArgument,
    version: Annotated[int | None, typer.Option(help="Version; the champion by default.")] = None,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """A model's card: what it scores, its thresholds under the policy, where it came from, how good it is."""
    context, _ = open_context(topology)
    context.topology.variant(variant)
    chosen = context.registry.champion(variant) if version is None else version
    card = context.registry.card(variant, chosen)
    thresholds = _thresholds(context.topology, card)
    shown = _summary(context, variant, chosen) | {
        "thresholds": thresholds,
        "rows": _rows(card),
        "about": card.about,
    }
    if as_json:
        print_json(shown)
        return
    aliases = ", ".join(shown["aliases"]) or "no alias"
    out.print(f"{variant}@{chosen}: {card.architecture}, {card.preprocessing}, {aliases}")
    table = Table("label", "language", "objective", "flagged from", "removed from", "validation rows (harmful)")
    for row in thresholds:
        bounds = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("threshold", "remove_threshold"))
        table.add_row(row["label"], row["language"], row["objective"], *bounds, f"{row['rows']} ({row['harmful']})")
    out.print(table)
    for note in where_it_acts(context.topology, variant, card):
        out.print(note, markup=False)
    cells = card.about.get("test", {})
    if cells:
        out.print(_tests(cells))
    for name, said in card.about.items():
        if name != "test":
            out.print(f"{name}: {said}", markup=False)


@config.command()
def check(topology: TopologyOption = None) -> None:
    """Read topology, policy, lists and models' cards; say what is wrong, and which objectives no threshold meets."""
    context, _ = open_context(topology)
    for name in context.topology.variants:
        card = Card.from_json((context.topology.shipped_folder(name) / "model.json").read_text(encoding="utf-8"))
        missing = sorted(set(context.topology.variant(name).labels) - set(card.labels))
        if missing:
            raise ValueError(f"variant {name!r} should score {missing[0]!r}; the model that ships scores {card.labels}")
        champion = context.registry.alias(name, "champion")
        judging = card if champion is None else context.registry.card(name, champion)
        for warning in out_of_reach(context.topology, name, judging):
            err.print(Text(f"warning: {warning}"), soft_wrap=True)
        for note in where_it_acts(context.topology, name, judging):
            err.print(Text(f"note: {note}"), soft_wrap=True)
    out.print(f"{context.topology.path}: fine; policy {context.topology.policy.version}")


def out_of_reach(topology: Topology, variant: str, card: Card) -> Iterator[str]:
    """What of a policy no threshold of a model meets: it is checked, shipped, and does not do what it says, silently.

    A label's curves, of all rows and of each language that has one of its own, are asked for themselves. A region is
    named where what it asks for is another than what everyone does.

    Args:
        topology: whose policy.
        variant: that scores.
        card: of its model.
    """
    policy = topology.policy
    for region in ("*", *_regions(topology)):
        where = "" if region == "*" else f" in {region}"
        for label in topology.variant(variant).labels:
            rule = policy.rules(region).get(label)
            if rule is None:
                continue
            everyone = policy.rules("*")[label]
            for field, effect in _EFFECTS.items():
                objective = getattr(rule, field)
                told = (getattr(everyone, field), everyone.prevalence) == (objective, rule.prevalence)
                if objective is None or (region != "*" and told):
                    continue
                failing: dict[str, list[str]] = {}
                for language, curve in card.curves.get(label, {}).items():
                    if not is_met(curve, objective, rule.prevalence):
                        lowest = threshold_of(curve, objective, rule.prevalence)
                        said = effect if lowest is None else _AT_LOWEST.get(field, effect)
                        failing.setdefault(said, []).append(cell_of(label, language))
                for said, keys in failing.items():
                    yield (
                        f"{label}{where}: no threshold of {variant} meets {field} {objective} at prevalence"
                        f" {rule.prevalence:g} (curve {', '.join(keys)}): {said}"
                    )


def where_it_acts(topology: Topology, variant: str, card: Card) -> Iterator[str]:
    """In which languages a model's labels may remove or hide a post, and what is flagged in the others means.

    Args:
        topology: whose policy.
        variant: that scores.
        card: of its model; one that reads no text has nothing to tell.
    """
    for label in topology.variant(variant).labels if card.languages else ():
        rule = topology.policy.rules("*").get(label)
        if rule is None:
            continue
        proven = [code for code in card.languages if card.is_proven(label, code)]
        unproven = [code for code in card.languages_of(label) if code not in proven]
        said = [f"{label} of {variant} may remove or hide posts in {', '.join(proven) or 'no language'}"]
        if unproven:
            said.append(
                f"is reviewed in {', '.join(unproven)}, with fewer than {PROVEN_ROWS} validation rows of a class"
            )
        said.append(f"and elsewhere is {'reviewed' if rule.untrained == 'review' else 'ignored'}")
        yield ", ".join(said)


def _regions(topology: Topology) -> list[str]:
    """Regions with rules of their own, as the policy's file names them."""
    policy, _ = read_yaml(topology.path.parent / read_yaml(topology.path)[0]["policy"])
    return list(policy.get("regions") or {})


_EFFECTS = {
    "objective": "nothing is flagged",
    "remove_objective": "nothing is removed beyond it",
    "review_objective": "nothing is queued for it",
}
_AT_LOWEST = {
    "objective": "flagged from the lowest threshold on, though that recall is not shown",
    "review_objective": "queued from the lowest threshold on, though that recall is not shown",
}


@config.command("render")
def render_config(
    port: Annotated[int, typer.Option(help="Port for HTTP.", min=1, max=65535)] = 8000,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Print the Ray Serve config of what should run now, as `serve deploy` takes it."""
    context, cluster = open_context(topology)
    port = cluster.port if cluster else port
    rendered = serve_config.render(context, port=port, champion=_champion_of(context))
    if as_json:
        print_json(rendered)
    else:
        typer.echo(yaml.safe_dump(rendered, sort_keys=False, allow_unicode=True), nl=False)


def _champion_of(context: Context) -> Callable[[str], int]:
    """Each variant's champion; of one that was never registered, what will be it."""

    def champion(variant: str) -> int:
        if context.registry.versions(variant):
            return context.registry.champion(variant)
        note = f"note: no version of {variant!r} is registered; `seawall models ship` or `seawall up` makes version 1"
        err.print(Text(note), soft_wrap=True)
        return 1

    return champion


def _tests(cells: Mapping[str, Any]) -> Table:
    """A row a cell, a column for each figure that any of them has: models of texts and of pictures have others."""
    flat = {name: dict(_figures(found)) for name, found in cells.items()}
    columns = list(dict.fromkeys(key for figures in flat.values() for key in figures))
    table = Table("test cell", *columns)
    for name, figures in flat.items():
        table.add_row(Text(name), *(figures.get(key, "-") for key in columns))
    return table


_AT_EVEN = {"roc_auc": "ROC-AUC", "precision": "precision at 0.5", "recall": "recall at 0.5"}
"""What the intervals are of that evaluations write."""


def _figures(found: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    for key, value in sorted(found.items(), key=lambda item: isinstance(item[1], Mapping)):
        if not isinstance(value, Mapping):
            yield under + key, f"{value:g}" if isinstance(value, int | float) else str(value)
        elif set(value) == {field.name for field in fields(Interval)}:
            yield under + _AT_EVEN.get(key, key), show(Interval(**value))
        else:
            yield from _figures(value, f"{under}{key}, ")


def _summary(context: Context, variant: str, version: int) -> dict[str, Any]:
    registered = context.registry.version(variant, version)
    card = context.registry.card(variant, version)
    return {
        "variant": variant,
        "version": version,
        "aliases": list(registered.aliases),
        "architecture": card.architecture,
        "preprocessing": card.preprocessing,
        "labels": list(card.labels),
        "languages": list(card.languages),
        "gate": registered.tags.get("gate", "-"),
    }


def _rows(card: Card) -> list[dict[str, Any]]:
    """Per label and language that calibrated a model: the rows, and whether they are enough for it to act there."""
    return [
        {"label": label, "language": language, "harmful": harmful, "harmless": harmless}
        | {"acts": card.is_proven(label, language)}
        for label, counts in sorted(card.rows.items())
        for language, (harmful, harmless) in sorted(counts.items())
    ]


def _thresholds(topology: Topology, card: Card) -> list[dict[str, Any]]:
    """Per operating curve, what the policy's rule comes to where no region changes it."""
    rows = []
    for label, curves in card.curves.items():
        rule = topology.policy.rules("*").get(label)
        if rule is None:
            continue
        for language, curve in curves.items():
            rows.append(
                {
                    "label": label,
                    "language": language,
                    "objective": rule.objective,
                    "threshold": threshold_of(curve, rule.objective, rule.prevalence),
                    "remove_threshold": removal_threshold(curve, rule),
                    "rows": curve.positives + curve.negatives,
                    "harmful": curve.positives,
                }
            )
    return rows
