"""Which variants learn from the ledger's labels, and are checked for drift: those of texts; what each is judged on.

It imports no model, so that a command knows within a second what it can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moderation.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from moderation.topology import Topology

DEFAULT_LABEL = "abuse"
PICTURE_SERVICES = ("image", "video")
TRAINED_ELSEWHERE = (
    "models of images and videos are neither retrained from the ledger's labels nor checked for drift yet;"
    " `python -m train.champion` trains them"
)


def judges_pictures(topology: Topology, variant: str) -> bool:
    """Whether a variant judges images or videos; one that the topology does not know judges nothing."""
    known = topology.variants.get(variant)
    return known is not None and known.service in PICTURE_SERVICES


def learns_from_labels(topology: Topology, variant: str) -> None:
    """Ask before anything is begun that only a variant of a text service can go through.

    Raises:
        ModelError: it judges images or videos.
    """
    if judges_pictures(topology, variant):
        raise ModelError(f"variant {variant!r} is of service {topology.variant(variant).service}: {TRAINED_ELSEWHERE}")


def label_of(topology: Topology, variant: str) -> str:
    """On which label a variant is judged where none is named: `abuse`, or the first that it scores."""
    known = topology.variants.get(variant)
    return DEFAULT_LABEL if known is None or DEFAULT_LABEL in known.labels else known.labels[0]


def judged_label(topology: Topology, variant: str, label: str | None) -> str:
    """The label that a retraining is judged on: the one that is named, or `label_of` the variant.

    Raises:
        ConfigError: there is no such variant, it does not score the label, or the policy has no rule for it.
    """
    labels = topology.variant(variant).labels
    label = label or label_of(topology, variant)
    if label not in labels:
        problem = f"{variant!r} does not score {label!r}, which it should be judged on; it scores {', '.join(labels)}"
        raise ConfigError(f"{topology.path.name}: variants.{variant}.labels", problem)
    topology.policy.objective(label)
    return label


def no_challenger(topology: Topology, variant: str) -> str:
    """What is told where a variant has no challenger."""
    way = "" if judges_pictures(topology, variant) else f"; `seawall retrain {variant}` may bring one"
    return f"variant {variant!r} has no challenger{way}"
