"""The `ngram` architecture, learning: a few passes of Adam over hashed n-grams, all of them in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.train
import ray.train.torch
import torch

from moderation.models.base import Prepared, TextClassifier
from moderation.models.card import Card
from moderation.models.ngram import NgramClassifier, NgramModule, numbers_for
from moderation.models.seen import no_words, remember_words
from moderation.preprocess.ngrams import NgramConfig, hash_ngrams
from train.learner import Learner, Plan, anchored, loss_of
from train.rows import lists_of, matrix_of

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, npt.NDArray[np.uint64], torch.Tensor, torch.Tensor]


class NgramLearner(Learner):
    """See `Learner`. Its columns: `ids` (bucket numbers), `words` (hashes) and `numbers`, a list a row."""

    architecture = NgramClassifier.architecture

    def __init__(self, plan: Plan, parent: TextClassifier | None) -> None:
        if not isinstance(plan.model, NgramConfig):
            raise TypeError(f"model is {type(plan.model).__name__}; the ngram learner takes an NgramConfig")
        self._plan = plan
        self._module = NgramModule(plan.model.buckets, len(plan.labels), len(plan.model.inputs))
        self._seen = no_words()
        if parent is not None:
            if not isinstance(parent, NgramClassifier) or parent.config != plan.model:
                raise ValueError(f"the parent has another architecture or other n-grams than {plan.model}")
            self._module.load_state_dict(parent.module.state_dict())
            self._seen = parent.seen.copy()

    @staticmethod
    def encode(texts: Prepared, config: NgramConfig) -> dict[str, pa.Array]:
        """See `Learner.encode`."""
        bags = hash_ngrams(texts.folded, config)
        numbers = numbers_for(config.inputs, texts.known)
        begins = np.arange(len(numbers), dtype=np.int64) * len(config.inputs)
        return {
            "ids": lists_of(bags.ids.astype(np.int32), bags.offsets),
            "words": lists_of(bags.words, bags.word_offsets),
            "numbers": lists_of(numbers.reshape(-1), begins),
        }

    def learn(self, shard: Any, rows: int) -> float:
        """See `Learner.learn`."""
        fit = self._plan.fit
        steps = fit.epochs * math.ceil(rows / fit.workers / fit.batch_size)
        prepared = ray.train.torch.prepare_model(self._module)
        device = ray.train.torch.get_device()
        parameters = list(prepared.parameters())
        anchors = [parameter.detach().clone() for parameter in parameters]
        optimizer = torch.optim.Adam(parameters, lr=fit.learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=max(steps, 1))
        losses: list[float] = []
        for epoch in range(fit.epochs):
            losses = []
            for ids, offsets, numbers, words, truth, weights in self._batches(shard, fit.seed + epoch):
                if epoch == 0:
                    remember_words(self._seen, words)
                loss = loss_of(
                    prepared(ids.to(device), offsets.to(device), numbers.to(device)).cpu(), truth, weights, fit
                )
                if loss is None:
                    continue
                losses.append(float(loss.detach()))
                if fit.anchor_strength:
                    loss = anchored(loss, parameters, anchors, fit.anchor_strength)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
                schedule.step()
        self._module.cpu()
        share_words(self._seen)
        return float(np.mean(losses)) if losses else float("nan")

    def model(self, card: Card) -> NgramClassifier:
        """See `Learner.model`."""
        return NgramClassifier.from_tensors(card, NgramClassifier(card, self._module, self._seen).tensors())

    def _batches(self, shard: Any, seed: int) -> Iterator[Batch]:
        """Batches of (ids, offsets, numbers (rows, inputs), word hashes, truth and weights (rows, labels))."""
        size = self._plan.fit.batch_size
        table: pa.Table
        for table in shard.iter_batches(
            batch_size=size,
            batch_format="pyarrow",
            local_shuffle_buffer_size=20 * size,
            local_shuffle_seed=seed,
        ):
            ids = table["ids"].combine_chunks()
            lengths = np.array(ids.value_lengths())
            yield (
                torch.from_numpy(ids.flatten().to_numpy().astype(np.int64)),
                torch.from_numpy(np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)),
                torch.from_numpy(matrix_of(table["numbers"], self._module.inputs.shape[0])),
                table["words"].combine_chunks().flatten().to_numpy(),
                torch.from_numpy(matrix_of(table["truth"], len(self._plan.labels))),
                torch.from_numpy(matrix_of(table["weight"], len(self._plan.labels))),
            )


def share_words(seen: npt.NDArray[np.uint8]) -> None:
    """Bring together the words that the workers saw, in place."""
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and ray.train.get_context().get_world_size() > 1
    ):
        bits = torch.from_numpy(np.unpackbits(seen))
        torch.distributed.all_reduce(bits, op=torch.distributed.ReduceOp.MAX)
        seen[:] = np.packbits(bits.numpy())
