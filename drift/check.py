"""One drift check: the last window of logged features against the champion's reference, by Evidently.

One window that differs may be a football final. An alert needs the same column to drift in k of the last n windows that
do not overlap; then there is an alert row and, unless one is active or was done for this champion, a retrain request.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from drift import novelty
from drift.novelty import NewWord, Vocabulary
from drift.reference import AUTHOR, TEXT, name_of, set_reference
from drift.window import Traffic, columns_of, logged_features
from moderation.context import Context
from moderation.errors import NotEnoughDataError
from moderation.sections import DriftRules
from moderation.storage import drift
from moderation.storage.drift import Window
from moderation.storage.ledger import Ledger

Status = Literal["reference set", "no drift", "drift", "alert"]


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


def check(context: Context, traffic: Traffic) -> CheckResult:
    """Compare the window with the champion's reference, by the topology's rules; without one, the window becomes it.

    Raises:
        NotEnoughDataError: too few posts in the window.
    """
    ledger, rules = context.ledger, context.topology.drift
    variant, version = traffic.variant, traffic.champion
    posts = traffic.of_champion()
    if posts.num_rows < rules.minimum_rows:
        raise NotEnoughDataError(
            f"version {version} judged {posts.num_rows} posts between {traffic.begin.isoformat()} and"
            f" {traffic.end.isoformat()}; a check takes {rules.minimum_rows}"
        )
    if drift.get_reference(ledger, variant, version) is None:
        reference = set_reference(context, traffic)
        note = f"version {version} had no reference: from now on it is compared with these {reference.rows} posts"
        return _result("reference set", traffic, reference.rows, {}, note=note)
    vocabulary, columns = _compared(traffic, posts, rules)
    drifted = any(column["drifted"] for column in columns.values())
    window = Window(traffic.begin, traffic.end, posts.num_rows, drifted, columns)
    drift.put_window(ledger, variant, version, window)
    # The others end before this one begins: a post that lies in two windows is no evidence of drift that stays.
    recent = [window, *drift.last_windows(ledger, variant, version, until=traffic.begin, count=rules.n - 1)]
    counts = {name: sum(bool(w.columns.get(name, {}).get("drifted")) for w in recent) for name in columns}
    persistent = {name: count for name, count in counts.items() if count >= rules.k}
    result = _result("drift" if drifted else "no drift", traffic, posts.num_rows, columns)
    if not drifted or not persistent:
        return result
    new_words = vocabulary.new_words(
        posts[TEXT].to_pylist(),
        posts[AUTHOR].to_pylist(),
        minimum_authors=rules.new_word_authors,
        most=rules.new_words,
    )
    return _alert(ledger, result, persistent, new_words, rules)


def _result(
    status: Status, traffic: Traffic, rows: int, columns: dict[str, dict[str, Any]], *, note: str = ""
) -> CheckResult:
    return CheckResult(status, traffic.variant, traffic.champion, traffic.begin, traffic.end, rows, columns, note=note)


def _compared(traffic: Traffic, posts: pa.Table, rules: DriftRules) -> tuple[Vocabulary, dict[str, dict[str, Any]]]:
    """The reference's words, and the verdict on every column of the champion's posts against the reference."""
    reference = traffic.lake.get(name_of(traffic.variant, traffic.champion)).to_pandas()
    texts, authors = reference[TEXT].tolist(), reference[AUTHOR].tolist()
    vocabulary = Vocabulary(texts, authors)
    columns = compare(
        _with_novelty(reference, vocabulary, texts, authors),
        _with_novelty(logged_features(posts), vocabulary, posts[TEXT].to_pylist(), posts[AUTHOR].to_pylist()),
        rules,
    )
    return vocabulary, columns


def _with_novelty(features: pd.DataFrame, vocabulary: Vocabulary, texts: list[str], authors: list[str]) -> pd.DataFrame:
    return features.assign(**{novelty.COLUMN: vocabulary.novel_share(texts, authors)})


def _alert(
    ledger: Ledger,
    result: CheckResult,
    persistent: Mapping[str, int],
    new_words: Sequence[NewWord],
    rules: DriftRules,
) -> CheckResult:
    said = ", ".join(f"{name} in {count} of the last {rules.n} windows" for name, count in persistent.items())
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


def compare(reference: pd.DataFrame, current: pd.DataFrame, rules: DriftRules) -> dict[str, dict[str, Any]]:
    """Evidently's verdict on every column, and the nulls, which no distance shows.

    Returns:
        Per column: method, score, threshold, drifted, the share of nulls now and in the reference.
    """
    numeric, categorical = columns_of(reference)
    methods = dict.fromkeys(numeric, (rules.numeric_method, rules.numeric_threshold))
    methods |= dict.fromkeys(categorical, (rules.categorical_method, rules.categorical_threshold))
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
