"""One drift check: the last window of logged features against the champion's reference, by Evidently.

One window that differs may be a football final. An alert needs the same column to drift in k of the last n windows that
do not overlap;
then an alert row and, unless the variant has one that is active or was done for this champion, a retrain request.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from drift import novelty
from drift.novelty import NewWord, Vocabulary
from drift.reference import AUTHOR, TEXT, name_of, set_reference
from drift.window import Traffic, columns_of, logged_features
from moderation.context import Context
from moderation.errors import NotEnoughDataError
from moderation.storage import drift
from moderation.storage.drift import Window
from moderation.storage.ledger import Ledger

Status = Literal["reference set", "no drift", "drift", "alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """How drift is judged."""

    window: timedelta = timedelta(hours=24)
    """Length of a window."""
    minimum_rows: int = 200
    """Posts below which a window says nothing."""
    numeric_method: str = "wasserstein"
    """Evidently's method for numbers: here, the distance in standard deviations of the reference."""
    numeric_threshold: float = 0.2
    """Beyond it a numeric column has drifted."""
    categorical_method: str = "jensenshannon"
    """Evidently's method for categories."""
    categorical_threshold: float = 0.1
    """Beyond it a categorical column has drifted."""
    k: int = 2
    """Windows in which the same column must have drifted ..."""
    n: int = 3
    """... among the last n."""
    new_word_authors: int = 5
    """Authors who must use a word that the reference lacks before an alert names it."""
    new_words: int = 50
    """Words that an alert names, at most."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise ValueError(f"k is {self.k} and n is {self.n}; 1 <= k <= n must hold")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        status: `reference set`: the champion had none, so this window became it; `drift`: in fewer than k windows yet.
        variant: checked.
        version: of the champion.
        window_from: begin of the window.
        window_to: its end, excluded.
        rows: posts compared.
        columns: per column its method, score, threshold and verdict.
        alert_id: the alert that was raised, or None.
        request_id: the retrain request that was opened, or None.
        note: for people.
    """

    status: Status
    variant: str
    version: int
    window_from: datetime
    window_to: datetime
    rows: int
    columns: dict[str, dict[str, Any]]
    alert_id: int | None = None
    request_id: int | None = None
    note: str = ""


def check(context: Context, traffic: Traffic, *, config: DriftConfig) -> CheckResult:
    """Compare the window with the champion's reference; where it has none, the window becomes it.

    Raises:
        NotEnoughDataError: too few posts in the window.
    """
    ledger, variant, version = context.ledger, traffic.variant, traffic.champion
    posts = traffic.of_champion()
    if posts.num_rows < config.minimum_rows:
        raise NotEnoughDataError(
            f"version {version} judged {posts.num_rows} posts between {traffic.begin.isoformat()} and"
            f" {traffic.end.isoformat()}; a check takes {config.minimum_rows}"
        )
    if drift.get_reference(ledger, variant, version) is None:
        reference = set_reference(context, traffic, minimum=config.minimum_rows)
        note = f"version {version} had no reference: from now on it is compared with these {reference.rows} posts"
        return _result("reference set", traffic, reference.rows, {}, note=note)
    vocabulary, columns = _compared(traffic, posts, config)
    drifted = any(column["drifted"] for column in columns.values())
    window = Window(traffic.begin, traffic.end, posts.num_rows, drifted, columns)
    drift.put_window(ledger, variant, version, window)
    # The others end before this one begins: a post that lies in two windows is no evidence of drift that stays.
    recent = [window, *drift.last_windows(ledger, variant, version, until=traffic.begin, count=config.n - 1)]
    counts = {name: sum(bool(w.columns.get(name, {}).get("drifted")) for w in recent) for name in columns}
    persistent = {name: count for name, count in counts.items() if count >= config.k}
    result = _result("drift" if drifted else "no drift", traffic, posts.num_rows, columns)
    if not drifted or not persistent:
        return result
    new_words = vocabulary.new_words(
        posts[TEXT].to_pylist(),
        posts[AUTHOR].to_pylist(),
        minimum_authors=config.new_word_authors,
        most=config.new_words,
    )
    return _alert(ledger, result, persistent, new_words, config)


def _result(
    status: Status, traffic: Traffic, rows: int, columns: dict[str, dict[str, Any]], *, note: str = ""
) -> CheckResult:
    return CheckResult(status, traffic.variant, traffic.champion, traffic.begin, traffic.end, rows, columns, note=note)


def _compared(traffic: Traffic, posts: pa.Table, config: DriftConfig) -> tuple[Vocabulary, dict[str, dict[str, Any]]]:
    """The reference's words, and the verdict on every column of the champion's posts against the reference."""
    reference = traffic.lake.get(name_of(traffic.variant, traffic.champion)).to_pandas()
    texts, authors = reference[TEXT].tolist(), reference[AUTHOR].tolist()
    vocabulary = Vocabulary(texts, authors)
    columns = compare(
        _with_novelty(reference, vocabulary, texts, authors),
        _with_novelty(logged_features(posts), vocabulary, posts[TEXT].to_pylist(), posts[AUTHOR].to_pylist()),
        config,
    )
    return vocabulary, columns


def _with_novelty(features: pd.DataFrame, vocabulary: Vocabulary, texts: list[str], authors: list[str]) -> pd.DataFrame:
    return features.assign(**{novelty.COLUMN: vocabulary.novel_share(texts, authors)})


def _alert(
    ledger: Ledger,
    result: CheckResult,
    persistent: Mapping[str, int],
    new_words: Sequence[NewWord],
    config: DriftConfig,
) -> CheckResult:
    said = ", ".join(f"{name} in {count} of the last {config.n} windows" for name, count in persistent.items())
    if new_words:
        said += f"; new words: {', '.join(found.word for found in new_words[:8])}"
    evidence = {
        "columns": result.columns,
        "persistent": dict(persistent),
        "new_words": [{"word": found.word, "authors": found.authors} for found in new_words],
    }
    alert_id, request_id = drift.raise_alert(
        ledger, result.variant, result.version, window_to=result.window_to, evidence=evidence, reason=f"drift: {said}"
    )
    if alert_id is None:
        note = f"{said}; an alert on version {result.version} was answered already, or is being answered"
        return replace(result, note=note)
    return replace(result, status="alert", alert_id=alert_id, request_id=request_id, note=said)


def compare(reference: pd.DataFrame, current: pd.DataFrame, config: DriftConfig) -> dict[str, dict[str, Any]]:
    """Evidently's verdict on every column, and the nulls, which no distance shows.

    Returns:
        Per column: method, score, threshold, drifted, the share of nulls now and in the reference.
    """
    numeric, categorical = columns_of(reference)
    methods = dict.fromkeys(numeric, (config.numeric_method, config.numeric_threshold))
    methods |= dict.fromkeys(categorical, (config.categorical_method, config.categorical_threshold))
    verdicts = _evidently(reference, current, methods, numeric, categorical)
    return {
        name: {
            "method": methods[name][0],
            "threshold": methods[name][1],
            "score": round(score, 4),
            "drifted": drifted,
            "nulls": round(float(current[name].isna().mean()), 4),
            "nulls_reference": round(float(reference[name].isna().mean()), 4),
        }
        for name, (score, drifted) in verdicts.items()
    }


def _evidently(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    methods: Mapping[str, tuple[str, float]],
    numeric: list[str],
    categorical: list[str],
) -> dict[str, tuple[float, bool]]:
    """Score and Evidently's own verdict per column: the direction of a threshold differs by method."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that Evidently imports
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
        names = [*numeric, *categorical]
        metrics = [ValueDrift(column=name, method=methods[name][0], threshold=methods[name][1]) for name in names]
        report = Report(metrics, include_tests=True)
        found = report.run(
            Dataset.from_pandas(current.reindex(columns=names), data_definition=definition),
            Dataset.from_pandas(reference[names], data_definition=definition),
        ).dict()
    scores = {metric["config"]["column"]: float(metric["value"]) for metric in found["metrics"]}
    failed = {
        test["metric_config"]["params"]["column"]: str(test["status"]).endswith("FAIL") for test in found["tests"]
    }
    return {name: (scores[name], failed[name]) for name in names}
