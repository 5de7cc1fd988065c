"""What the spellings of a language say, beside what a text means: tf-idf over hashed n-grams, and a weight a label.

A late fusion: the logit of a linear n-gram model is added to the encoder's. An encoder that was shown a few thousand
rows of a language knows its meaning, and too little of its slurs and of how they are written; n-grams know just that.
Added up they judge the kind of text that was trained on better than either; on another kind n-grams mislead, so they
are for languages in which the gain was measured to be worth it. A language that has no table is judged by the encoder
alone. Of a long text, tables read everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any  # Any: SciPy says nothing of its sparse arrays' types

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from moderation.models.base import Prepared
from moderation.preprocess.ngrams import NgramConfig, chunks, hash_ngrams


@dataclass(frozen=True, slots=True, kw_only=True)
class SpellingConfig:
    """Which languages' spellings are read. Part of a model: changing it needs new weights."""

    languages: tuple[str, ...]
    """Each has a table of its own."""
    ngrams: NgramConfig = field(default_factory=NgramConfig)
    """Which runs are hashed, and into how many buckets a language."""

    def __post_init__(self) -> None:
        if self.ngrams.inputs:
            raise ValueError(f"ngrams.inputs is {self.ngrams.inputs}; spellings are of texts alone")


@dataclass(frozen=True, slots=True)
class Table:
    """One language's, as float16.

    Attributes:
        idf: inverse document frequency of each bucket; (buckets,).
        weights: of each bucket on each label; (buckets, labels).
        intercept: (labels,).
    """

    idf: torch.Tensor
    weights: torch.Tensor
    intercept: torch.Tensor


_PARTS = tuple(part.name for part in fields(Table))


class Spelling:
    """A table a language.

    Args:
        config: which languages, which n-grams.
        tables: by language, all of the configuration's.
    """

    def __init__(self, config: SpellingConfig, tables: Mapping[str, Table]) -> None:
        self.config = config
        self._tables = {language: tables[language] for language in config.languages}
        self._numbers = {
            language: tuple(getattr(table, part).float().numpy() for part in _PARTS)
            for language, table in self._tables.items()
        }

    def logits(self, texts: Prepared, labels: int) -> npt.NDArray[np.float32]:
        """What is added to a model's logits, (texts, labels); 0 where the language has no table."""
        added = np.zeros((len(texts.folded), labels), dtype=np.float32)
        languages = np.array(texts.languages, dtype=str)
        for language, (idf, weights, intercept) in self._numbers.items():
            rows = np.flatnonzero(languages == language)
            own = [texts.folded[row] for row in rows]
            for begin, end in chunks(own):
                found = tf_idf(counts(own[begin:end], self.config.ngrams), idf)
                added[rows[begin:end]] = found @ weights + intercept
        return added

    @classmethod
    def from_tensors(cls, config: SpellingConfig, tensors: Mapping[str, torch.Tensor]) -> Spelling:
        """Build from what `tensors` returned."""
        return cls(
            config,
            {code: Table(*(tensors[f"spelling.{code}.{part}"] for part in _PARTS)) for code in config.languages},
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tables as they are stored, named `spelling.LANGUAGE.PART`."""
        return {
            f"spelling.{code}.{part}": getattr(table, part).contiguous()
            for code, table in self._tables.items()
            for part in _PARTS
        }


def shapes_of(config: SpellingConfig | None, labels: int) -> dict[str, tuple[int, ...]]:
    """The shapes of `Spelling.tensors`."""
    if config is None:
        return {}
    buckets = config.ngrams.buckets
    shapes = ((buckets,), (buckets, labels), (labels,))
    return {
        f"spelling.{code}.{part}": shape
        for code in config.languages
        for part, shape in zip(_PARTS, shapes, strict=True)
    }


def counts(folded: Sequence[str], config: NgramConfig) -> Any:
    """How often each n-gram stands in each text; a sparse array (texts, buckets) of float32."""
    bags = hash_ngrams(folded, config)
    ids, begins = bags.ids.astype(np.int32), np.append(bags.offsets, len(bags.ids)).astype(np.int32)
    found = csr_array((np.ones(len(ids), np.float32), ids, begins), shape=(len(folded), config.buckets))
    found.sum_duplicates()
    return found


def tf_idf(found: Any, idf: npt.NDArray[np.float32]) -> Any:
    """Counts (rows, buckets) -> (1 + log count) * idf, each row of unit length, in place.

    Sublinear tf-idf: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, 6.4.
    """
    found.data = (1 + np.log(found.data)) * idf[found.indices]
    lengths = np.sqrt(found.multiply(found).sum(axis=1))
    found.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(found.indptr))
    return found
