"""One drift check: Evidently's verdicts, k of n windows, one alert and one request. Everything real but the cluster."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from drift.check import CheckResult, check, compare
from drift.reference import name_of, set_reference
from drift.window import read_traffic
from moderation.context import Context
from moderation.errors import NotEnoughDataError, RegistryError
from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.sections import DriftRules
from moderation.storage import drift, retraining
from moderation.storage.lake import Exported, Lake
from moderation.storage.ledger import Ledger
from moderation.storage.tables import alerts, retrain_requests
from serve.rollout import promotion
from tests.rooms import DAY, SHIPPED, VARIANT, a_post, an_entry, context_in, new_home

RULES = DriftRules(minimum_rows=40, new_word_authors=3)
ONE_OF_ONE = DriftRules(minimum_rows=40, k=1, n=1)
KNOWN = ["the tomatoes are ripe", "when does the library open", "what a lovely day", "the library is lovely"]
SLANG = ["you are a grubnik", "what a grubnik", "the grubnik is ripe", "grubnik and zorp everywhere"]


def a_frame(
    *, shift: float = 0.0, language: str = "en", rows: int = 400, nulls: int = 0, seed: int = 0
) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 9, rows) + shift
    scores[:nulls] = np.nan
    half = rows // 2
    return pd.DataFrame(
        {
            "characters": generator.normal(80, 20, rows),
            "score_abuse": scores,
            "language": ["en"] * half + [language] * (rows - half),
        }
    )


def drifted(columns: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, column in columns.items() if column["drifted"]}


def test_what_is_the_same_has_not_drifted() -> None:
    columns = compare(a_frame(), a_frame(), RULES)
    assert drifted(columns) == set()
    assert [column["score"] for column in columns.values()] == [0.0, 0.0, 0.0]
    assert list(columns) == ["characters", "score_abuse", "language"]
    assert columns["characters"] == {
        "method": "wasserstein",
        "threshold": 0.2,
        "score": 0.0,
        "drifted": False,
        "nulls": 0.0,
        "nulls_reference": 0.0,
    }
    assert (columns["language"]["method"], columns["language"]["threshold"]) == ("jensenshannon", 0.1)


def test_another_sample_of_the_same_has_not_drifted() -> None:
    assert drifted(compare(a_frame(rows=2000, seed=1), a_frame(rows=2000, seed=2), RULES)) == set()


def test_a_shifted_number_has_drifted_alone_by_its_shift_in_standard_deviations() -> None:
    reference = a_frame()
    columns = compare(reference, a_frame(shift=0.1), RULES)
    assert drifted(columns) == {"score_abuse"}
    deviations = 0.1 / reference["score_abuse"].std(ddof=0)
    assert columns["score_abuse"]["score"] == pytest.approx(deviations, rel=0.01)


def test_another_mix_of_languages_has_drifted_alone() -> None:
    columns = compare(a_frame(), a_frame(language="de"), RULES)
    assert drifted(columns) == {"language"}


@pytest.mark.parametrize(("threshold", "expected"), [(0.9, set()), (0.05, {"score_abuse"})])
def test_the_threshold_is_the_configured_one(threshold: float, expected: set[str]) -> None:
    reference = a_frame()
    shift = 0.5 * float(reference["score_abuse"].std(ddof=0))
    columns = compare(reference, a_frame(shift=shift), DriftRules(numeric_threshold=threshold))
    assert columns["score_abuse"]["threshold"] == threshold
    assert columns["score_abuse"]["score"] == pytest.approx(0.5, rel=0.01)
    assert drifted(columns) == expected


def test_nulls_are_told_now_and_in_the_reference() -> None:
    columns = compare(a_frame(nulls=40), a_frame(nulls=100), RULES)
    assert (columns["score_abuse"]["nulls_reference"], columns["score_abuse"]["nulls"]) == (0.1, 0.25)
    assert (columns["characters"]["nulls_reference"], columns["characters"]["nulls"]) == (0.0, 0.0)


@lru_cache(maxsize=1)
def shipped_model() -> TextClassifier:
    return load_text_classifier(SHIPPED)


def traffic(context: Context, day: int, texts: list[str], *, posts: int = 40, version: int = 1) -> datetime:
    """A day's posts, by 20 authors who take turns with the texts; the window's end."""
    model = shipped_model()
    chosen = list(islice(cycle(texts), posts))
    scored = model.score(chosen)
    entries = [
        an_entry(
            f"day{day}-v{version}-{number}",
            a_post(text, minute=day * 1440 + number, author_id=f"u-{number % 20 + number // 20}"),
            scores=dict(zip(model.card.labels, map(float, row), strict=True)),
            unseen=float(unseen),
            version=version,
        )
        for number, (text, row, unseen) in enumerate(
            zip(chosen, scored.confidence, scored.unseen_word_share, strict=True)
        )
    ]
    context.ledger.record(entries)
    return DAY + timedelta(days=day + 1)


def ruled(context: Context, rules: DriftRules = RULES) -> Context:
    """With these rules in its topology."""
    return replace(context, topology=replace(context.topology, drift=rules))


def checked(context: Context, until: datetime, rules: DriftRules = RULES) -> CheckResult:
    return check(ruled(context, rules), read_traffic(context, VARIANT, until - rules.window, until))


def count(context: Context, table: Any) -> int:
    with context.ledger.read() as connection:
        return len(connection.execute(select(table)).all())


@pytest.fixture(scope="module")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the shipped champion, and a first day of traffic that became its reference."""
    home = tmp_path_factory.mktemp("first-day") / "home"
    context = context_in(new_home(tmp_path_factory.getbasetemp(), home))
    promotion.ship(context, VARIANT)
    assert checked(context, traffic(context, 0, KNOWN)).status == "reference set"
    context.ledger.close()
    return home


@pytest.fixture
def watched(first_day: Path, context: Context, tmp_path: Path) -> Context:
    """`context`, as it is after the first day: the champion has a reference."""
    context.ledger.close()
    shutil.copytree(first_day, tmp_path / "home", dirs_exist_ok=True)
    return context


def test_the_first_window_becomes_the_reference_of_a_champion_that_has_none(context: Context, tmp_path: Path) -> None:
    promotion.ship(context, VARIANT)
    until = traffic(context, 0, KNOWN)
    found = checked(context, until)
    assert (found.status, found.version, found.rows, found.columns) == ("reference set", 1, 40, {})
    assert (found.window_from, found.window_to) == (DAY, until)
    assert found.note == "version 1 had no reference: from now on it is compared with these 40 posts"
    assert drift.get_reference(context.ledger, VARIANT, 1) == drift.Reference(DAY, until, 40)
    frame = pd.read_parquet(tmp_path / "home" / "lake" / name_of(VARIANT, 1))
    assert frame["text"].tolist() == [KNOWN[number % 4] for number in range(40)]
    assert set(frame["author_id"]) == {f"u-{number}" for number in range(21)}
    expected = shipped_model().score(frame["text"].tolist())
    np.testing.assert_allclose(frame["score_abuse"], expected.confidence[:, 0], atol=1e-6)
    assert drift.last_windows(context.ledger, VARIANT, 1, until=until, count=9) == []


def test_traffic_as_it_was_has_not_drifted(watched: Context) -> None:
    found = checked(watched, traffic(watched, 1, KNOWN))
    assert (found.status, found.alert_id, found.request_id) == ("no drift", None, None)
    assert drifted(found.columns) == set()
    assert {"characters", "score_abuse", "score_hate", "novel_word_share", "language"} <= set(found.columns)
    [window] = drift.last_windows(watched.ledger, VARIANT, 1, until=found.window_to, count=9)
    assert (window.drifted, window.rows, window.columns) == (False, 40, found.columns)
    assert json.loads(json.dumps(asdict(found), default=str))["status"] == "no drift"


def test_drift_in_k_of_n_windows_raises_one_alert_and_one_request(watched: Context) -> None:
    first = checked(watched, traffic(watched, 1, SLANG))
    assert (first.status, first.alert_id) == ("drift", None)
    assert first.columns["novel_word_share"]["drifted"]

    second = checked(watched, traffic(watched, 2, SLANG))
    assert (second.status, second.alert_id, second.request_id) == ("alert", 1, 1)
    assert "novel_word_share in 2 of the last 3 windows" in second.note
    assert second.note.endswith("; new words: grubnik, and, everywhere, you, zorp")

    request = retraining.active_request(watched.ledger, VARIANT)
    assert request is not None
    assert (request.status, request.alert_id, request.reason) == ("open", 1, f"drift: {second.note}")
    assert request.evidence["new_words"][0] == {"word": "grubnik", "authors": 21}
    assert request.evidence["persistent"]["novel_word_share"] == 2
    assert request.evidence["columns"] == second.columns

    third = checked(watched, traffic(watched, 3, SLANG))
    assert (third.status, third.alert_id, third.request_id) == ("drift", None, None)
    assert third.note.endswith("an alert on version 1 was answered already, or is being answered")
    assert (count(watched, alerts), count(watched, retrain_requests)) == (1, 1)


def checked_before(context: Context, day: int, *columns: str) -> None:
    """A day's window that was checked, and in which these columns drifted."""
    found = {name: {"drifted": name in columns} for name in ("novel_word_share", "characters", "language")}
    begin = DAY + timedelta(days=day)
    window = drift.Window(begin, begin + timedelta(days=1), 40, bool(columns), found)
    drift.put_window(context.ledger, VARIANT, 1, window)


@pytest.mark.parametrize(
    ("before", "status"),
    [
        ([["novel_word_share"], []], "alert"),  # the last but one of three
        ([["novel_word_share"], [], []], "drift"),  # too long ago
        ([["language"], []], "drift"),  # another column each time
    ],
)
def test_the_same_column_must_drift_in_two_of_the_last_three_windows(
    watched: Context, before: list[list[str]], status: str
) -> None:
    for day, columns in enumerate(before, start=1):
        checked_before(watched, day, *columns)
    found = checked(watched, traffic(watched, len(before) + 1, SLANG))
    assert found.columns["novel_word_share"]["drifted"]
    assert not found.columns["language"]["drifted"]
    assert found.status == status
    assert count(watched, alerts) == (status == "alert")


def test_what_drifted_before_and_is_as_usual_by_now_raises_no_alert(watched: Context) -> None:
    checked_before(watched, 1, "novel_word_share")
    checked_before(watched, 2, "novel_word_share")
    assert checked(watched, traffic(watched, 3, KNOWN)).status == "no drift"
    assert count(watched, alerts) == 0


def test_a_window_that_is_checked_again_counts_once(watched: Context) -> None:
    until = traffic(watched, 1, SLANG)
    assert [checked(watched, until).status for _ in range(2)] == ["drift"] * 2
    assert len(drift.last_windows(watched.ledger, VARIANT, 1, until=until, count=9)) == 1


def test_a_window_that_overlaps_another_is_no_second_one(watched: Context) -> None:
    until = traffic(watched, 1, SLANG)
    hour = timedelta(hours=1)
    ends = [until - 6 * hour, until, until - hour]
    assert [checked(watched, end).status for end in ends] == ["drift"] * 3
    assert count(watched, alerts) == 0
    found = checked(watched, traffic(watched, 2, SLANG))
    assert found.status == "alert"
    assert "novel_word_share in 2 of the last 3 windows" in found.note  # of day 1 and day 2


def test_an_alert_beside_an_active_request_opens_no_second_one(watched: Context) -> None:
    retraining.begin_request(watched.ledger, VARIANT, reason="asked for by hand")
    found = checked(watched, traffic(watched, 1, SLANG), ONE_OF_ONE)
    assert (found.status, found.alert_id, found.request_id) == ("alert", 1, None)
    assert count(watched, retrain_requests) == 1


@pytest.mark.parametrize(("outcome", "status"), [("done", "drift"), ("refused", "alert")])
def test_an_alert_is_raised_again_unless_a_retraining_has_answered_it(
    watched: Context, outcome: retraining.RequestEnd, status: str
) -> None:
    _, request = drift.raise_alert(watched.ledger, VARIANT, 1, window_to=DAY, evidence={}, reason="drift: words")
    assert request is not None
    retraining.end_request(watched.ledger, request, outcome, {})
    found = checked(watched, traffic(watched, 1, SLANG), ONE_OF_ONE)
    assert found.status == status
    assert count(watched, alerts) == (1 if status == "drift" else 2)


def test_windows_that_were_checked_against_an_earlier_reference_no_longer_count(watched: Context) -> None:
    checked_before(watched, 1, "novel_word_share")
    until = traffic(watched, 2, SLANG)
    set_reference(ruled(watched), read_traffic(watched, VARIANT, until - RULES.window, until))
    # Drifts from the new reference for the first time; the window of day 1 drifted from another one.
    found = checked(watched, traffic(watched, 3, KNOWN))
    assert found.columns["novel_word_share"]["drifted"]
    assert found.status == "drift"
    assert count(watched, alerts) == 0


def test_a_new_champion_begins_with_a_reference_of_its_own(watched: Context) -> None:
    watched.registry.register(VARIANT, SHIPPED, evidence={})
    watched.registry.move_alias(VARIANT, "champion", 2, expected=1)
    found = checked(watched, traffic(watched, 2, SLANG, version=2))
    assert (found.status, found.version) == ("reference set", 2)
    assert drift.last_windows(watched.ledger, VARIANT, 2, until=found.window_to, count=9) == []


def test_a_promotion_while_a_check_reads_changes_nothing_of_it(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion is looked up once, and the lake exported once: what a check says is of one version."""
    promotion.ship(context, VARIANT)
    context.registry.register(VARIANT, SHIPPED, evidence={})
    until = traffic(context, 0, KNOWN)
    exported: list[Ledger] = []
    export = Lake.export

    def promoted_meanwhile(lake: Lake, ledger: Ledger) -> Exported:
        exported.append(ledger)
        if context.registry.champion(VARIANT) != 2:
            context.registry.move_alias(VARIANT, "champion", 2, expected=1)
        return export(lake, ledger)

    monkeypatch.setattr(Lake, "export", promoted_meanwhile)
    found = checked(context, until)
    assert (found.status, found.version, found.rows) == ("reference set", 1, 40)
    assert drift.get_reference(context.ledger, VARIANT, 1) == drift.Reference(DAY, until, 40)
    assert drift.get_reference(context.ledger, VARIANT, 2) is None
    assert exported == [context.ledger]


def test_posts_that_another_version_judged_are_not_compared(watched: Context) -> None:
    until = traffic(watched, 1, SLANG, version=2)
    with pytest.raises(NotEnoughDataError, match="version 1 judged 0 posts between 2026-11-25"):
        checked(watched, until)


@pytest.mark.parametrize("posts", [0, 39])
def test_too_few_posts_say_nothing(watched: Context, posts: int) -> None:
    until = traffic(watched, 1, SLANG, posts=posts)
    with pytest.raises(NotEnoughDataError, match=rf"version 1 judged {posts} posts between .*; a check takes 40"):
        checked(watched, until)
    assert drift.last_windows(watched.ledger, VARIANT, 1, until=until, count=9) == []


def test_too_few_posts_are_no_reference(context: Context, tmp_path: Path) -> None:
    promotion.ship(context, VARIANT)
    until = traffic(context, 0, KNOWN, posts=39)
    with pytest.raises(NotEnoughDataError, match=r"39 posts between .*; a reference takes 40"):
        set_reference(ruled(context), read_traffic(context, VARIANT, DAY, until))
    assert drift.get_reference(context.ledger, VARIANT, 1) is None
    assert not (tmp_path / "home" / "lake" / name_of(VARIANT, 1)).exists()


def test_without_a_champion_there_is_nothing_to_check(context: Context, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="'text-multi' has no champion"):
        checked(context, DAY)
