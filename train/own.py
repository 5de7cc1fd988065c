"""Fitting what a language has to itself, on its own rows alone: what its spellings say, and a head on the encoder.

Each is a logistic regression a label. What the two say is added up (see `moderation.models.spelling`). A row of which a
share of people said so counts for them as harmful, and for the others as harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from moderation.errors import NotEnoughDataError
from moderation.models.base import Prepared
from moderation.models.encoder import EncoderClassifier
from moderation.models.spelling import Spelling, SpellingConfig, Table, counts, tf_idf

_SPELLING_C, _HEAD_C = 4.0, 0.001
"""scikit-learn's inverse of the regularisation. Of spellings, 1 and 10 were within .02 ROC-AUC of it on the validation
rows; of heads, a third and three times as much within .01."""

Frame: TypeAlias = pd.DataFrame


def fit_spelling(rows: Frame, labels: int, config: SpellingConfig) -> Spelling:
    """Fit every language's table on its own rows alone; everything is in memory.

    A label of which a language's rows lack a class gets nothing added there.

    Args:
        rows: with `text`, `language`, `truth`, in [0, 1] or NaN, and `weight` (see `train.rows`).
        labels: of `truth`.
        config: which languages.

    Raises:
        NotEnoughDataError: a language has no rows.
    """
    return Spelling(config, {code: _table(_rows_in(rows, code), labels, config) for code in config.languages})


def fit_heads(model: EncoderClassifier, rows: Frame, languages: Sequence[str]) -> dict[str, nn.Linear]:
    """Fit a head for each language on what the encoder makes of its rows.

    A label of which a language's rows lack a class is judged there as it is in all others.

    Args:
        model: whose layers are read.
        rows: as of `fit_spelling`.
        languages: which.

    Raises:
        NotEnoughDataError: a language has no rows.
    """
    return {code: _head(model, _rows_in(rows, code)) for code in languages}


def _rows_in(rows: Frame, language: str) -> Frame:
    own = rows[rows["language"] == language]
    if own.empty:
        raise NotEnoughDataError(f"no row is in {language!r}, of which something of its own is to be learned")
    return own


def _head(model: EncoderClassifier, rows: Frame) -> nn.Linear:
    shared = model.module.head
    states = model.states(Prepared.of(list(rows["text"]))).astype(np.float64)
    scaler = StandardScaler().fit(states)
    scaled = scaler.transform(states)
    head = nn.Linear(states.shape[1], shared.out_features)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[:, -shared.in_features :] = shared.weight  # the last layer stands last
        head.bias.copy_(shared.bias)
        for label in range(shared.out_features):
            fitted = _regression(scaled, rows, label, C=_HEAD_C, max_iter=1000)
            if fitted is not None:
                slopes = fitted.coef_[0] / scaler.scale_
                head.weight[label] = torch.from_numpy(slopes)
                head.bias[label] = float(fitted.intercept_[0] - slopes @ scaler.mean_)
    return head


def _table(rows: Frame, labels: int, config: SpellingConfig) -> Table:
    folded = Prepared.of(list(rows["text"])).folded
    found = counts(folded, config.ngrams)
    idf = TfidfTransformer().fit(found).idf_.astype(np.float32)
    features = tf_idf(found, idf)
    weights = np.zeros((config.ngrams.buckets, labels), dtype=np.float32)
    intercept = np.zeros(labels, dtype=np.float32)
    for label in range(labels):
        fitted = _regression(features, rows, label, C=_SPELLING_C, solver="liblinear", random_state=0)
        if fitted is not None:
            weights[:, label], intercept[label] = fitted.coef_[0], fitted.intercept_[0]
    return Table(*(torch.from_numpy(part).to(torch.float16) for part in (idf, weights, intercept)))


def _regression(features: Any, rows: Frame, label: int, **settings: Any) -> LogisticRegression | None:
    """Of one label on features (rows, any); None where the rows lack a class."""
    truth, weight = (np.array(rows[column].tolist(), dtype=np.float64)[:, label] for column in ("truth", "weight"))
    harmful, harmless = np.flatnonzero(truth > 0), np.flatnonzero(truth < 1)
    if not len(harmful) or not len(harmless):
        return None
    chosen = np.concatenate([harmful, harmless])
    shares: npt.NDArray[np.float64] = np.concatenate([truth[harmful], 1 - truth[harmless]])
    return LogisticRegression(**settings).fit(
        features[chosen], np.arange(len(chosen)) < len(harmful), sample_weight=weight[chosen] * shares
    )
