"""What texts mean, as vectors: the encoder's base, unadapted, so that likeness does not follow one model's labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from moderation.metrics import Floats
from moderation.models.encoder import BUNDLED, batches_by_length, load_base, padded, tokenise

_MAX_TOKENS = 128
_TOKENS_A_BATCH = 2048


def embed(cleaned: Sequence[str], base: str = BUNDLED) -> Floats:
    """Vectors of length 1 (texts, hidden) of cleaned texts; their dot product is how alike two texts are, at most 1.

    The mean over tokens of texts that begin with `query: `, as the base was trained (Wang et al., 2024).

    Args:
        cleaned: at least one text.
        base: hub id, local folder, or `bundled`.

    Raises:
        ModelError: the base cannot be loaded.
    """
    model, tokenizer = load_base(base)
    tokens = tokenise(tokenizer, [f"query: {text}" for text in cleaned], _MAX_TOKENS)
    vectors: list[Floats] = [np.zeros(0)] * len(tokens)
    with torch.inference_mode():
        for rows in batches_by_length([len(ids) for ids in tokens], _TOKENS_A_BATCH):
            ids, mask = padded([tokens[row] for row in rows])
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            for row, vector in zip(rows, torch.nn.functional.normalize(pooled, dim=1).double().numpy(), strict=True):
                vectors[row] = vector
    return np.stack(vectors)
