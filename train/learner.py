"""What training is told, and what every architecture must do to be trained: read rows, learn, become a model.

The loss is binary cross-entropy a label, or focal loss (Lin et al., "Focal Loss for Dense Object Detection", 2017).
From a champion's weights it adds `anchor_strength * ||w - w_champion||^2` (L2-SP: Li, Grandvalet and Davoine, "Explicit
Inductive Bias for Transfer Learning", ICML 2018): what the new labels do not speak about stays as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import pyarrow as pa
import torch

from moderation.models.base import Prepared, TextClassifier
from moderation.models.card import Card
from moderation.preprocess.ngrams import NgramConfig
from moderation.sections import Loss

if TYPE_CHECKING:  # transformers takes seconds to import
    from moderation.models.encoder import EncoderConfig

ModelConfig: TypeAlias = "NgramConfig | EncoderConfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a model is trained."""

    epochs: int = 4
    """Passes over the training rows."""
    batch_size: int = 256
    """Rows a step and worker."""
    learning_rate: float = 0.02
    """At the start; falls linearly to a fiftieth, step by step."""
    anchor_strength: float = 0.0
    """Pull towards the parent's weights; 0 where there is no parent."""
    loss: Loss = "cross_entropy"
    """Focal loss turns to the rows that are still judged wrongly."""
    focal_gamma: float = 2.0
    """How much focal loss discounts a row that is judged rightly; 0 is cross-entropy."""
    interpolation: float = 1.0
    """How much of what training changed is kept, in (0, 1]: less of it keeps more of what the base knew of other kinds
    of text (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). For adapters alone."""
    language_rows: int = 1000
    """Harmful, and harmless, validation rows from which a language is calibrated, and gets thresholds, of its own. Few
    harmless rows cannot show a low rate of false positives, so a strict objective then costs recall."""
    balance: bool = False
    """Let harmful and harmless rows of each language weigh the same: labelled sets have priors of their own making."""
    workers: int = 1
    """Ray Train workers; more share the rows and average their gradients."""
    use_gpu: bool = False
    """A GPU for each worker."""
    threads: int = 2
    """CPU threads of each worker."""
    seed: int = 0
    """Of the order of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is trained, as the workers are told."""

    labels: tuple[str, ...]
    languages: tuple[str, ...]
    model: ModelConfig
    fit: FitConfig
    about: dict[str, Any]
    parent: tuple[str, int] | None = None
    """Variant and version whose weights are the start."""


class Learner(ABC):
    """One architecture, learning.

    Args:
        plan: what and how.
        parent: whose weights are the start; None: from the architecture's own beginning.
    """

    architecture: ClassVar[str]

    @abstractmethod
    def __init__(self, plan: Plan, parent: TextClassifier | None) -> None: ...

    @staticmethod
    @abstractmethod
    def encode(texts: Prepared, config: Any) -> dict[str, pa.Array]:
        """The columns that learning reads, one entry a text. Runs in Ray Data tasks."""

    @abstractmethod
    def learn(self, shard: Any, rows: int) -> float:
        """Train on this worker's shard of about `rows` rows; return the mean loss of the last epoch."""

    @abstractmethod
    def model(self, card: Card) -> TextClassifier:
        """The model as it will be stored, its weights rounded as they will be."""


def loss_of(logits: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor, config: FitConfig) -> torch.Tensor | None:
    """Mean loss over the labels that people spoke of; None where they spoke of none.

    Args:
        logits: (rows, labels).
        truth: 1, 0 or NaN; (rows, labels).
        weights: of each row on each label; (rows, labels).
        config: which loss.
    """
    known = ~torch.isnan(truth)
    if not known.any():
        return None
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], truth[known], reduction="none")
    if config.loss == "focal":
        losses = losses * (1 - torch.exp(-losses)) ** config.focal_gamma
    return (losses * weights[known]).sum() / weights[known].sum()


def anchored(
    loss: torch.Tensor, parameters: Sequence[torch.Tensor], anchors: Sequence[torch.Tensor], strength: float
) -> torch.Tensor:
    """Add the pull towards the parent's weights."""
    for parameter, anchor in zip(parameters, anchors, strict=True):
        loss = loss + strength * (parameter - anchor).square().sum().to(loss.device)
    return loss
