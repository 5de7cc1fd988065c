"""Which words training showed a model, in 128 KB: a Bloom filter (Bloom 1970) with one hash function.

The share of a post's words that its model never saw is logged with every decision, and is one of the features that
drift is measured on: a model has no opinion of a word that it has never seen.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from moderation.preprocess.ngrams import Int64s, UInt64s

Bits: TypeAlias = npt.NDArray[np.uint8]

SEEN_BITS = 2**20
"""Bits of the filter; a power of two."""


def no_words() -> Bits:
    """A filter that has seen nothing; shape (SEEN_BITS / 8,)."""
    return np.zeros(SEEN_BITS // 8, dtype=np.uint8)


def remember_words(seen: Bits, words: UInt64s) -> None:
    """Mark word hashes as seen, in place."""
    bits = words & np.uint64(SEEN_BITS - 1)
    np.bitwise_or.at(seen, (bits >> np.uint64(3)).astype(np.int64), (1 << (bits & np.uint64(7))).astype(np.uint8))


def unseen_word_share(seen: Bits, words: UInt64s, word_offsets: Int64s) -> npt.NDArray[np.float32]:
    """Share of each text's words that are not marked; 0 for a text without words; shape (texts,).

    Args:
        seen: the filter.
        words: hashes of all texts' words, one text after the other.
        word_offsets: where each text's words begin; shape (texts,).
    """
    bits = words & np.uint64(SEEN_BITS - 1)
    known = (seen[(bits >> np.uint64(3)).astype(np.int64)] >> (bits & np.uint64(7)).astype(np.uint8)) & 1
    counts = np.diff(word_offsets, append=len(words))
    owners = np.repeat(np.arange(len(counts)), counts)
    unseen = np.bincount(owners, weights=1 - known, minlength=len(counts))
    return (unseen / np.maximum(counts, 1)).astype(np.float32)
