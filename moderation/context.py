"""What the commands of every room work with: where the state is, what should run, the models and the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from moderation.registry import Registry
from moderation.running import Running, find, topology_of
from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from moderation.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One Seawall, as a command sees it, whether or not it runs.

    Attributes:
        settings: places of its state.
        topology: what should run.
        registry: the models' versions, and which is champion.
        ledger: the truth of posts, decisions, labels.
    """

    settings: Settings
    topology: Topology
    registry: Registry
    ledger: Ledger

    @classmethod
    def open(cls, settings: Settings, topology: Topology) -> Self:
        """Open the registry and the ledger, which is made where there is none.

        Raises:
            LedgerError: the ledger cannot be opened.
        """
        return cls(
            settings=settings, topology=topology, registry=Registry(settings), ledger=Ledger(settings.ledger_url)
        )


def open_context(topology: Path | None = None) -> tuple[Context, Running | None]:
    """Everything that a command needs, from the environment, and the cluster that runs there, if one does.

    The cluster is looked for once: the topology, where none is named, is the one that it runs.

    Args:
        topology: file that the command was told; None: the one that runs, else the local one.

    Raises:
        ConfigError: the topology cannot be read, or a field of it is wrong.
        LedgerError: the ledger cannot be opened.
    """
    settings = Settings.from_environment()
    cluster = find(settings)
    return Context.open(settings, Topology.load(topology_of(cluster, topology))), cluster
