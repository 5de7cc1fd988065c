"""Fitting what the spellings of a language say (see `moderation.models.spelling`): a logistic regression a label."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from moderation.errors import NotEnoughDataError
from moderation.models.base import Prepared
from moderation.models.spelling import Spelling, SpellingConfig, Table, counts, tf_idf

_C = 4.0
"""scikit-learn's inverse of the regularisation; 1 and 10 were within .02 ROC-AUC of it on the validation rows."""

Frame: TypeAlias = pd.DataFrame


def fit_spelling(rows: Frame, labels: int, config: SpellingConfig) -> Spelling:
    """Fit every language's table on its own rows alone; everything is in memory.

    A label of which a language's rows lack a class gets nothing added there.

    Args:
        rows: with `text`, `language`, `truth` and `weight` (see `train.rows`).
        labels: of `truth`.
        config: which languages.

    Raises:
        NotEnoughDataError: a language has no rows.
    """
    tables = {}
    for language in config.languages:
        own = rows[rows["language"] == language]
        if own.empty:
            raise NotEnoughDataError(f"no row is in {language!r}, whose spellings are to be learned")
        tables[language] = _table(own, labels, config)
    return Spelling(config, tables)


def _table(rows: Frame, labels: int, config: SpellingConfig) -> Table:
    folded = Prepared.of(list(rows["text"])).folded
    found = counts(folded, config.ngrams)
    idf = TfidfTransformer().fit(found).idf_.astype(np.float32)
    features = tf_idf(found, idf)
    truth, weight = np.array(rows["truth"].tolist()), np.array(rows["weight"].tolist())
    weights = np.zeros((config.ngrams.buckets, labels), dtype=np.float32)
    intercept = np.zeros(labels, dtype=np.float32)
    for label in range(labels):
        # A row of which a share of people said so counts for them as harmful, and for the others as harmless.
        harmful, harmless = np.flatnonzero(truth[:, label] > 0), np.flatnonzero(truth[:, label] < 1)
        if not len(harmful) or not len(harmless):
            continue
        chosen = np.concatenate([harmful, harmless])
        shares = np.concatenate([truth[harmful, label], 1 - truth[harmless, label]])
        model = LogisticRegression(C=_C, solver="liblinear", random_state=0)
        model.fit(features[chosen], np.arange(len(chosen)) < len(harmful), sample_weight=weight[chosen, label] * shares)
        weights[:, label], intercept[label] = model.coef_[0], model.intercept_[0]
    return Table(*(torch.from_numpy(part).to(torch.float16) for part in (idf, weights, intercept)))
