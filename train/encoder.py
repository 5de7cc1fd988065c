"""The `encoder` architecture, learning: the frozen lower layers run once a row, the adapted upper ones every epoch.

What the lower layers give is kept in memory as float16, some 25 KB a row of 30 tokens with the bundled base; that makes
an epoch about twice as fast as running the whole encoder, and changes nothing but the rounding. What spellings say is
fitted once, after it, and so are heads of languages' own (`train.own`). A retraining keeps its parent's spellings,
learns what is left to say beside them, and trains its heads further.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import ray.train.torch
import torch
from torch import nn

from moderation.models.base import Prepared, TextClassifier
from moderation.models.card import Card
from moderation.models.encoder import (
    EncoderClassifier,
    EncoderConfig,
    EncoderModule,
    batches_by_length,
    load_base,
    padded,
    tokenise,
)
from moderation.models.seen import no_words, remember_words
from moderation.models.spelling import Spelling
from moderation.preprocess.ngrams import hash_words
from train.learner import Learner, Plan, anchored, loss_of
from train.ngram import share_words
from train.rows import lists_of, matrix_of, prepared_of

_HEAD_RATE = 5.0
"""The head starts from nothing, the adapters from a model that knows language: it learns faster by this factor."""
_WARM_UP_STEPS = 50
_TOKENS_A_BATCH = 2048


class _Upper(nn.Module):
    """The trained half as a module of its own: what Ray Train wraps for several workers is `forward`."""

    def __init__(self, module: EncoderModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return self.module.above(hidden, mask, places)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A worker's rows.

    Attributes:
        hidden: states under the adapted layers, (tokens, hidden) a row.
        places: of their heads; (rows,).
        added: what spellings add to the logits; (rows, labels).
        truth, weights: (rows, labels).
    """

    hidden: list[torch.Tensor]
    places: torch.Tensor
    added: torch.Tensor
    truth: torch.Tensor
    weights: torch.Tensor


class EncoderLearner(Learner):
    """See `Learner`. Its columns: `tokens` (ids) and `words` (hashes), a list a row."""

    architecture = EncoderClassifier.architecture

    def __init__(self, plan: Plan, parent: TextClassifier | None) -> None:
        if not isinstance(plan.model, EncoderConfig):
            raise TypeError(f"model is {type(plan.model).__name__}; the encoder learner takes an EncoderConfig")
        self._plan = plan
        base, self._tokenizer = load_base(plan.model.base)
        self._module = EncoderModule(base, len(plan.labels), plan.model)
        self._seen = no_words()
        self._spelling: Spelling | None = None
        if parent is not None:
            if not isinstance(parent, EncoderClassifier) or parent.config != plan.model:
                raise ValueError(f"the parent has another architecture or configuration than {plan.model}")
            with torch.no_grad():
                for name, parameter in self._module.learned().items():
                    parameter.copy_(parent.module.learned()[name])
            self._seen = parent.seen.copy()
            self._spelling = parent.spelling

    @staticmethod
    def encode(texts: Prepared, config: EncoderConfig) -> dict[str, pa.Array]:
        """See `Learner.encode`."""
        tokens = tokenise(load_base(config.base)[1], texts.cleaned, config.max_tokens)
        begins = np.concatenate(([0], np.cumsum([len(ids) for ids in tokens])[:-1])).astype(np.int64)
        flat = np.fromiter((token for ids in tokens for token in ids), dtype=np.int32)
        return {"tokens": lists_of(flat, begins), "words": lists_of(*hash_words(texts.folded))}

    def learn(self, shard: Any, rows: int) -> float:
        """See `Learner.learn`."""
        fit = self._plan.fit
        device = ray.train.torch.get_device()
        read = self._read(shard, device)
        upper = ray.train.torch.prepare_model(_Upper(self._module))
        parameters = list(self._module.learned().values())
        anchors = [parameter.detach().clone() for parameter in parameters]
        optimizer, schedule = self._optimizer(fit.epochs * (rows // fit.workers // fit.batch_size + 1))
        losses: list[float] = []
        for epoch in range(fit.epochs):
            losses = []
            upper.train()
            for given, added, truth, weights in self._batches(read, fit.seed + epoch):
                loss = loss_of(upper(*(each.to(device) for each in given)).cpu() + added, truth, weights, fit)
                if loss is None:
                    continue
                losses.append(float(loss.detach()))
                if fit.anchor_strength:
                    loss = anchored(loss, parameters, anchors, fit.anchor_strength)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
        self._module.cpu().eval()
        share_words(self._seen)
        return float(np.mean(losses)) if losses else float("nan")

    def model(self, card: Card) -> EncoderClassifier:
        """See `Learner.model`."""
        tensors = EncoderClassifier(card, self._module, self._tokenizer, self._seen, self._spelling).tensors()
        kept = self._plan.fit.interpolation
        # An adapter adds B A to a weight: scaling B moves the weight along the line from the base to what was trained.
        tensors |= {name: value * kept for name, value in tensors.items() if ".lora_B." in name}
        return EncoderClassifier.from_tensors(card, tensors)

    def _read(self, shard: Any, device: torch.device) -> _Rows:
        tokens: list[list[int]] = []
        languages: list[str] = []
        added, truth, weights = [], [], []
        table: pa.Table
        for table in shard.iter_batches(batch_size=4096, batch_format="pyarrow"):
            tokens += table["tokens"].to_pylist()
            languages += table["language"].to_pylist()
            truth.append(matrix_of(table["truth"], len(self._plan.labels)))
            weights.append(matrix_of(table["weight"], len(self._plan.labels)))
            if self._spelling is None:
                added.append(np.zeros_like(truth[-1]))
            else:
                added.append(self._spelling.logits(prepared_of(table), len(self._plan.labels)))
            remember_words(self._seen, table["words"].combine_chunks().flatten().to_numpy())
        hidden: list[torch.Tensor] = [torch.empty(0)] * len(tokens)
        self._module.to(device).eval()
        with torch.inference_mode():
            for rows in batches_by_length([len(ids) for ids in tokens], _TOKENS_A_BATCH):
                ids, mask = padded([tokens[row] for row in rows])
                below = self._module.below(ids.to(device), mask.to(device)).to("cpu", torch.float16)
                for place, row in enumerate(rows):
                    hidden[row] = below[place, : len(tokens[row])].clone()
        numbers = (torch.from_numpy(np.concatenate(parts)) for parts in (added, truth, weights))
        return _Rows(hidden, self._module.places(languages), *numbers)

    def _optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        rate = self._plan.fit.learning_rate
        learned = self._module.learned()
        groups = [
            {"params": [value for name, value in learned.items() if not name.startswith("head.")], "lr": rate},
            {"params": [value for name, value in learned.items() if name.startswith("head.")], "lr": rate * _HEAD_RATE},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / _WARM_UP_STEPS) * max(0.02, 1 - step / steps)

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def _batches(
        self, rows: _Rows, seed: int
    ) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor, torch.Tensor]]:
        """((hidden, mask, places), added, truth, weights) of like length, in random order; as many for each worker."""
        generator = random.Random(seed)  # noqa: S311  # an order of rows, not a secret
        # Lengths are blurred, so that batches are not the same ones every epoch.
        order = sorted(range(len(rows.hidden)), key=lambda row: len(rows.hidden[row]) + 4 * generator.random())
        size = self._plan.fit.batch_size
        starts = list(range(0, len(order), size))
        generator.shuffle(starts)
        for start in starts:
            chosen = order[start : start + size]
            longest = max(len(rows.hidden[row]) for row in chosen)
            hidden = torch.zeros(len(chosen), longest, rows.hidden[chosen[0]].shape[1])
            mask = torch.zeros(len(chosen), longest)
            for place, row in enumerate(chosen):
                found = rows.hidden[row]
                hidden[place, : len(found)] = found
                mask[place, : len(found)] = 1
            given = (hidden, mask, rows.places[chosen])
            yield given, rows.added[chosen], rows.truth[chosen], rows.weights[chosen]
