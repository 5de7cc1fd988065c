"""Near-duplicates, found by what they mean: a wave of one message is one thing to look at, not a thousand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.cluster import DBSCAN

from moderation.metrics import Floats
from moderation.preprocess.text import normalise

MIN_SIMILARITY = 0.95
"""Of a post to its nearest in the cluster: cosine of multilingual-e5's vectors, which crowd between 0.7 and 1."""
MIN_SIZE = 5
"""Posts that make a cluster."""


def clusters(
    texts: Sequence[str],
    embed: Callable[[Sequence[str]], Floats],
    *,
    min_similarity: float = MIN_SIMILARITY,
    min_size: int = MIN_SIZE,
) -> list[list[int]]:
    """Group texts that are alike (DBSCAN, Ester et al., 1996); texts with the same words are embedded once.

    Args:
        texts: as posted.
        embed: vectors of length 1 (texts, hidden) of cleaned texts.
        min_similarity: cosine to the nearest neighbour in a cluster, in (0, 1).
        min_size: smallest cluster, 2 or more.

    Returns:
        Indices of each cluster, ascending; the largest cluster first. Texts of no cluster are left out.
    """
    if len(texts) < min_size:
        return []
    words = [normalise(text) for text in texts]
    unique, inverse, counts = np.unique(np.array(words, dtype=object), return_inverse=True, return_counts=True)
    vectors = embed([str(text) for text in unique])
    # Rounding can take a distance below 0 by a hair, which the metric refuses.
    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    scan = DBSCAN(eps=1 - min_similarity, min_samples=min_size, metric="precomputed")
    found = scan.fit_predict(distances, sample_weight=counts)[inverse]
    groups = [np.flatnonzero(found == number).tolist() for number in range(int(found.max()) + 1)]
    return sorted(groups, key=lambda members: (-len(members), members))
