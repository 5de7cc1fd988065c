"""Hashed n-grams: character runs and word runs of a text as bucket numbers.

Why n-grams: a character run survives misspelling and needs no vocabulary or segmentation, so one table serves every
language; a word run catches a phrase of two. What they cost: no meaning beyond the run. Every run is a substring, and
the hash of a substring is the difference of two prefix hashes (Karp and Rabin, 1987), so a whole batch is hashed in a
handful of NumPy calls: no Python loop touches a character.

Chinese, Japanese and Korean characters count as a word each, so that "word" means something there too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64s: TypeAlias = npt.NDArray[np.int64]
UInt64s: TypeAlias = npt.NDArray[np.uint64]

CHUNK_CHARACTERS = 1 << 20
"""Of texts hashed at once; a character takes some 340 bytes meanwhile."""
_BASE = 0x9E3779B97F4A7C15
_SPACE = 0x20
_WORD_SALT = 100
"""Of word runs, plus their length: a word and the same characters inside another one are not the same run."""
_SINGLE_WORD = _WORD_SALT + 1


@dataclass(frozen=True, slots=True)
class NgramConfig:
    """Which runs are hashed, and into how many buckets. Part of a model: changing it needs new weights."""

    buckets: int = 2**17
    """Rows of the embedding table; a power of two. More buckets, fewer collisions, more bytes."""
    char_lengths: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Character run lengths; spaces count, so a run may reach across a word's edge."""
    word_lengths: tuple[int, ...] = (1, 2)
    """Word run lengths."""
    inputs: tuple[str, ...] = ()
    """Logged numeric features that are read beside the text; counts and ages, 0 or more."""

    def __post_init__(self) -> None:
        if self.buckets < 2 or self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets is {self.buckets}; it must be a power of two, 2 or more")


@dataclass(frozen=True, slots=True)
class Bags:
    """The n-grams of a batch of texts, in the layout that `torch.nn.EmbeddingBag` takes."""

    ids: Int64s
    """Bucket numbers of all texts, one after the other; shape (total,), each in [0, buckets)."""
    offsets: Int64s
    """Where each text's run of `ids` begins; shape (texts,)."""
    words: UInt64s
    """64-bit hashes of single words, all texts one after the other; shape (total words,)."""
    word_offsets: Int64s
    """Where each text's run of `words` begins; shape (texts,)."""


def hash_ngrams(texts: Sequence[str], config: NgramConfig) -> Bags:
    """Hash the n-grams of normalised texts.

    Args:
        texts: as `preprocess.text.normalise` returned them; any may be empty.
        config: which runs, how many buckets.

    Returns:
        The batch's bags; that of an empty text holds the edge of a word and nothing else.
    """
    codes, lengths = _codes(texts)
    ends = np.cumsum(lengths)
    document_end = np.repeat(ends, lengths)
    prefix = _prefix_hashes(codes)
    starts = np.arange(len(codes), dtype=np.int64)

    runs: list[tuple[Int64s, Int64s, int]] = []
    for length in config.char_lengths:
        begin = starts[starts + length <= document_end]
        if length == 1:
            begin = begin[codes[begin] != _SPACE]
        runs.append((begin, begin + length, length))
    word_begin, word_end = _words(codes)
    word_document = np.searchsorted(ends, word_begin, side="right")
    for length in config.word_lengths:
        last = len(word_begin) - length + 1
        if last <= 0:
            continue
        begin, end = word_begin[:last], word_end[length - 1 :]
        same = word_document[:last] == word_document[length - 1 :]
        runs.append((begin[same], end[same], _WORD_SALT + length))

    nothing = np.zeros(0, dtype=np.int64)
    hashes = np.concatenate(
        [nothing.astype(np.uint64), *(_mix(_substring(prefix, begin, end), salt) for begin, end, salt in runs)]
    )
    owners = np.concatenate([nothing, *(np.searchsorted(ends, begin, side="right") for begin, _, _ in runs)])
    order = np.argsort(owners, kind="stable")
    return Bags(
        ids=(hashes[order] & np.uint64(config.buckets - 1)).astype(np.int64),
        offsets=_offsets(owners, len(texts)),
        words=_mix(_substring(prefix, word_begin, word_end), _SINGLE_WORD),
        word_offsets=_offsets(word_document, len(texts)),
    )


def chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Begin and end of runs of texts, so that one run's arrays stay small however long the texts are."""
    begin, size = 0, 0
    for index, text in enumerate(texts):
        size += len(text) + 2
        if size >= CHUNK_CHARACTERS:
            yield begin, index + 1
            begin, size = index + 1, 0
    if begin < len(texts):
        yield begin, len(texts)


def hash_words(texts: Sequence[str]) -> tuple[UInt64s, Int64s]:
    """`Bags.words` and `Bags.word_offsets` alone, for models that read no n-grams."""
    codes, lengths = _codes(texts)
    begin, end = _words(codes)
    owners = np.searchsorted(np.cumsum(lengths), begin, side="right")
    return _mix(_substring(_prefix_hashes(codes), begin, end), _SINGLE_WORD), _offsets(owners, len(texts))


def _codes(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], Int64s]:
    """Code points of all texts, one after the other, and how many are each text's.

    A space on both sides of a text marks the edges of its words, and keeps runs from reaching into the neighbour.
    """
    codes = np.frombuffer("".join(f" {text} " for text in texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return codes, np.fromiter((len(text) + 2 for text in texts), dtype=np.int64, count=len(texts))


def _words(codes: npt.NDArray[np.uint32]) -> tuple[Int64s, Int64s]:
    """Begin and end of every word: a run without white space, or a single CJK character."""
    space = codes == _SPACE
    cjk = ((codes >= 0x3040) & (codes <= 0x9FFF)) | ((codes >= 0xAC00) & (codes <= 0xD7AF))
    inside = ~space & ~cjk
    before = np.concatenate(([False], inside[:-1]))
    after = np.concatenate((inside[1:], [False]))
    begin = np.flatnonzero((inside & ~before) | cjk)
    end = np.flatnonzero((inside & ~after) | cjk) + 1
    return begin.astype(np.int64), end.astype(np.int64)


@lru_cache(maxsize=1)
def _powers(count: int) -> UInt64s:
    powers = np.full(count, _BASE, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _table(length: int) -> UInt64s:
    """Powers of the base modulo 2**64, at least `length` of them; grown in steps so that the cache holds."""
    return _powers(1 << max(16, (length - 1).bit_length()))


def _prefix_hashes(codes: npt.NDArray[np.uint32]) -> UInt64s:
    """prefix[i] = sum of codes[k] * base**k for k < i, modulo 2**64; shape (len(codes) + 1,)."""
    prefix = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * _table(len(codes) + 1)[: len(codes)], out=prefix[1:])
    return prefix


@lru_cache(maxsize=1)
def _inverse_powers(count: int) -> UInt64s:
    inverses = np.full(count, pow(_BASE, -1, 2**64), dtype=np.uint64)
    inverses[0] = 1
    return np.cumprod(inverses, dtype=np.uint64)


def _substring(prefix: UInt64s, begin: Int64s, end: Int64s) -> UInt64s:
    """Hash of codes[begin:end], the same wherever it stands: the base is odd, so it divides out modulo 2**64."""
    inverse = _inverse_powers(len(_table(len(prefix))))
    difference: UInt64s = (prefix[end] - prefix[begin]) * inverse[begin]
    return difference


def _mix(values: UInt64s, salt: int) -> UInt64s:
    """Spread every bit over all others (SplitMix64's finaliser, Steele et al. 2014), apart for each kind of run."""
    values = values + np.uint64((salt * 0xBF58476D1CE4E5B9) % 2**64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _offsets(owners: Int64s, count: int) -> Int64s:
    sizes = np.bincount(owners, minlength=count)[:count]
    return np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64) if count else np.zeros(0, dtype=np.int64)
