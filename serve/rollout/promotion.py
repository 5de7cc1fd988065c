"""Who is champion: the shipped model, a challenger that has earned it, or the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from moderation.context import Context
from moderation.errors import ConflictError, RegistryError
from moderation.learning import label_of, no_challenger
from moderation.models.card import CARD, Card
from moderation.registry import Registry
from moderation.running import Running
from moderation.storage import experiments
from moderation.storage.ledger import Ledger, now
from moderation.topology import Topology
from serve.experiments.report import report
from serve.rollout import promotions, serve_config

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was made.

    Attributes:
        variant: whose champion.
        from_version: who was it.
        to_version: who is it.
    """

    variant: str
    from_version: int
    to_version: int


def ship(context: Context, variant: str) -> int | None:
    """Make the model that ships champion where there is none that fits this release and topology.

    That is where the variant has no champion, and where its champion shipped, too, but is of other preprocessing or of
    another architecture than what ships now. A running experiment ends with the champion that it compares, and where
    its challenger is of other preprocessing, which no replica could load.

    Returns:
        The version that became champion; None: the champion stays.

    Raises:
        RegistryError: the champion was trained here, with other preprocessing than this release has.
    """
    with _champion_lock(context.ledger, variant):
        champion = context.registry.alias(variant, "champion")
        card = _shipped_card(context.topology, variant)
        replaced = champion is None or _outdated(context.registry, variant, champion, card)
        _end_what_cannot_run(context, variant, card, replaced=replaced)
        if not replaced:
            return None
        version = _registered(context.registry, variant, card)
        if version is None:
            folder = context.topology.shipped_folder(variant)
            version = context.registry.register(variant, folder, evidence={"shipped": True}).version
        promotions.record(
            context.ledger, variant, "ship", from_version=champion, to_version=version, evidence={"shipped": True}
        )
        context.registry.move_alias(variant, "champion", version, expected=champion)
        return version


def ship_all(context: Context, progress: Progress) -> list[str]:
    """Make what ships champion of every variant that has none that fits; `variant@version` of each that became it."""
    shipped = []
    for variant in context.topology.variants:
        version = ship(context, variant)
        if version is not None:
            shipped.append(f"{variant}@{version}")
            progress(f"registered {shipped[-1]} as champion")
    return shipped


def _shipped_card(topology: Topology, variant: str) -> Card:
    return Card.from_json((topology.shipped_folder(variant) / CARD).read_text(encoding="utf-8"))


def _outdated(registry: Registry, variant: str, champion: int, current: Card) -> bool:
    found = registry.card(variant, champion)
    if (found.preprocessing, found.architecture) == (current.preprocessing, current.architecture):
        return False
    if registry.evidence(variant, champion).get("shipped"):
        return True
    if found.preprocessing == current.preprocessing:
        return False
    raise RegistryError(
        f"the champion of {variant!r}, version {champion}, was trained here with preprocessing {found.preprocessing!r},"
        f" and this release has {current.preprocessing!r}: run the release that it was trained with, or repeat"
        f" `seawall rollback {variant}` until a version that shipped is champion, start, and retrain"
    )


def _end_what_cannot_run(context: Context, variant: str, current: Card, *, replaced: bool) -> None:
    def loadable(version: int) -> bool:
        return context.registry.card(variant, version).preprocessing == current.preprocessing

    running = experiments.running(context.ledger, variant)
    if running is not None and (replaced or not loadable(running.challenger_version)):
        experiments.stop(context.ledger, running.name)
    challenger = context.registry.alias(variant, "challenger")
    if challenger is not None and not loadable(challenger):
        context.registry.move_alias(variant, "challenger", None, expected=challenger)


def _registered(registry: Registry, variant: str, card: Card) -> int | None:
    """The newest version that was registered before of what ships: the same card, and so the same weights."""
    for version in reversed([known.version for known in registry.versions(variant)]):
        shipped = registry.evidence(variant, version).get("shipped")
        if shipped and registry.card(variant, version).to_json() == card.to_json():
            return version
    return None


def promote(
    context: Context,
    variant: str,
    *,
    cluster: Running | None,
    expected: int | None,
    without_experiment: bool,
    label: str | None,
    progress: Progress,
) -> Change:
    """Make the challenger champion; running replicas load it, and its experiment ends.

    Args:
        context: what is touched.
        variant: whose challenger.
        cluster: whose replicas load it; None: nothing runs.
        expected: the version that must be champion now; None: whichever is.
        without_experiment: True: promote whatever an experiment says, or without one.
        label: on which the experiment is judged; None: `label_of` the variant.
        progress: told what is waited for.

    Raises:
        ConflictError: the champion is another one than expected, or no experiment says that the
            challenger is better than this champion.
        RegistryError: there is no champion or no challenger, or it is of other preprocessing than what ships.
    """
    with _champion_lock(context.ledger, variant):
        champion = _expected_champion(context.registry, variant, expected)
        challenger = context.registry.alias(variant, "challenger")
        if challenger is None:
            raise RegistryError(no_challenger(context.topology, variant))
        _refuse_other_preprocessing(context, variant, challenger)
        evidence = {"gate": context.registry.evidence(variant, challenger).get("gate")} | _experiment_evidence(
            context, variant, (champion, challenger), label=label, without_experiment=without_experiment
        )
        promotions.record(
            context.ledger, variant, "promote", from_version=champion, to_version=challenger, evidence=evidence
        )
        context.registry.move_alias(variant, "champion", challenger, expected=champion)
        context.registry.move_alias(variant, "challenger", None, expected=challenger)
        running = experiments.running(context.ledger, variant)
        if running is not None:
            experiments.stop(context.ledger, running.name)
    serve_config.refresh(context, cluster, progress=progress)
    return Change(variant, champion, challenger)


def _experiment_evidence(
    context: Context, variant: str, versions: tuple[int, int], *, label: str | None, without_experiment: bool
) -> dict[str, object]:
    """What the challenger's latest experiment says, where there is one; `versions` are champion and challenger."""
    champion, challenger = versions
    experiment = experiments.latest(context.ledger, variant, challenger)
    if experiment is None:
        if not without_experiment:
            raise ConflictError(
                f"version {challenger} was in no experiment; create one, or promote with --without-experiment"
            )
        return {}
    label = label or label_of(context.topology, variant)
    objective = context.topology.policy.objective(label)
    found = report(context.ledger, experiment.name, label=label, objective=objective, at=now())
    if found.verdict != "better" and not without_experiment:
        raise ConflictError(
            f"experiment {experiment.name!r} says of version {challenger}: {found.verdict};"
            " wait for more labels, or overrule it with --without-experiment"
        )
    if experiment.champion_version != champion and not without_experiment:
        raise ConflictError(
            f"experiment {experiment.name!r} compared version {challenger} with version"
            f" {experiment.champion_version}, and version {champion} is champion now; create another one,"
            " or overrule it with --without-experiment"
        )
    return {"experiment": found.as_dict()}


def rollback(
    context: Context, variant: str, *, cluster: Running | None, expected: int | None, progress: Progress
) -> Change:
    """Bring back the champion before this one.

    Raises:
        ConflictError: the champion is another one than expected, or nothing came before it.
        RegistryError: the one before is of other preprocessing than what ships, and this champion is not.
    """
    with _champion_lock(context.ledger, variant):
        champion = _expected_champion(context.registry, variant, expected)
        before = promotions.predecessor(context.ledger, variant, champion)
        if before is None:
            raise ConflictError(
                f"version {champion} of {variant!r} took over from nobody: there is nothing to go back to"
            )
        shipped = _shipped_card(context.topology, variant)
        # From a champion that cannot be loaded either, the way back to what shipped is open: `ship` replaces that.
        if context.registry.card(variant, champion).preprocessing == shipped.preprocessing:
            _refuse_other_preprocessing(context, variant, before)
        promotions.record(context.ledger, variant, "rollback", from_version=champion, to_version=before, evidence={})
        context.registry.move_alias(variant, "champion", before, expected=champion)
        running = experiments.running(context.ledger, variant)
        if running is not None:
            experiments.stop(context.ledger, running.name)
    serve_config.refresh(context, cluster, progress=progress)
    return Change(variant, champion, before)


def _refuse_other_preprocessing(context: Context, variant: str, version: int) -> None:
    found = context.registry.card(variant, version).preprocessing
    current = _shipped_card(context.topology, variant).preprocessing
    if found != current:
        raise RegistryError(
            f"version {version} of {variant!r} was trained with preprocessing {found!r}, and this release has"
            f" {current!r}: it cannot become champion"
        )


@contextmanager
def _champion_lock(ledger: Ledger, variant: str) -> Iterator[None]:
    with ledger.lock(f"champion:{variant}", wait=timedelta(seconds=30), hold=timedelta(minutes=5)):
        yield


def _expected_champion(registry: Registry, variant: str, expected: int | None) -> int:
    champion = registry.champion(variant)
    if expected is not None and champion != expected:
        raise ConflictError(
            f"champion of {variant!r} is version {champion}, expected was {expected}; look again, then decide"
        )
    return champion
