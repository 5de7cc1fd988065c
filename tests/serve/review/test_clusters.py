"""Near-duplicates, by the real encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sqlalchemy import select

from moderation.metrics import Floats
from moderation.policy import Policy
from moderation.review import ReviewRules
from moderation.settings import DEPLOYMENTS
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import reviews
from serve.review import near_duplicates
from serve.review.clusters import clusters
from tests.fresh import fresh_ledger
from tests.moderation.storage.rows import a_label, an_entry, record, say

pytestmark = pytest.mark.slow

WAVE = [
    "Miracle drops cured my diabetes in a week, order now",
    "Order now: these miracle drops cured my diabetes within a week!",
    "my diabetes was cured in one week by miracle drops - order now",
    "Miracle drops cured my diabetes in a week, order today",
    "These miracle drops cured diabetes in just a week. Order now",
    "MIRACLE drops cured my diabetes in a week!!! order now",
]
OTHERS = [
    "The tomatoes are ripe, come over on Sunday",
    "Which bus goes to the museum after nine?",
    "Our team lost again, the keeper had a bad day",
    "Ich suche ein Rezept für Linsensuppe",
    "今天下班路上看到了很美的晚霞",
    "How do I sharpen a kitchen knife without a stone?",
    "Посадили чеснок под зиму",
    "The library opens at ten on weekdays",
]
POLICY = Policy.load(DEPLOYMENTS / "policies" / "default.yaml")


@pytest.fixture(scope="module")
def embed() -> Any:
    from serve.review.embed import embed

    return embed


def test_vectors_have_length_one_and_do_not_depend_on_their_mates(embed: Any) -> None:
    vectors = embed([*WAVE, *OTHERS])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert vectors[0] @ embed(WAVE[:1])[0] == pytest.approx(1, abs=1e-4)


def test_a_wave_is_one_cluster_and_what_is_unlike_is_none(embed: Any) -> None:
    assert clusters([*OTHERS[:4], *WAVE, *OTHERS[4:]], embed) == [list(range(4, 10))]


def test_copies_are_embedded_once(embed: Any) -> None:
    asked: list[int] = []

    def counting(texts: Sequence[str]) -> Floats:
        asked.append(len(texts))
        found: Floats = embed(texts)
        return found

    assert clusters([OTHERS[0]] * 500 + OTHERS[1:], counting) == [list(range(500))]
    assert asked == [len(OTHERS)]


def test_few_texts_are_no_cluster() -> None:
    assert clusters(["same"] * 4, lambda _: pytest.fail("nothing to embed")) == []


@pytest.fixture
def ledger(tmp_path: Any) -> Any:
    made = fresh_ledger(tmp_path / "ledger.db")
    yield made
    made.close()


def surface(ledger: Ledger, embed: Any, **changes: Any) -> list[near_duplicates.Surfaced]:
    wanted: dict[str, Any] = {"policy": POLICY, "rules": ReviewRules(), "since": now() - timedelta(hours=1)}
    return near_duplicates.surface(ledger, embed, **(wanted | changes))


def post(ledger: Ledger, texts: Sequence[str], prefix: str = "p") -> None:
    for number, text in enumerate(texts):
        entry = an_entry(f"{prefix}-{number}", text=text, author=f"u-{number}")
        record(ledger, replace(entry, decision=entry.decision.model_copy(update={"decided_at": now()})))


def test_a_wave_is_surfaced_once_however_often_it_is_looked_for(ledger: Ledger, embed: Any) -> None:
    post(ledger, [*OTHERS, *WAVE])
    assert [found.posts for found in surface(ledger, embed)] == [len(WAVE)]
    post(ledger, WAVE, "later")
    assert surface(ledger, embed) == []
    with ledger.read() as connection:
        (row,) = connection.execute(select(reviews)).all()
    assert (row.kind, row.impressions) == ("cluster", 100.0 * len(WAVE))


@pytest.mark.parametrize(("severity", "weight"), [("low", 1.0), ("high", 10.0)])
def test_a_cluster_weighs_as_the_policy_says(
    ledger: Ledger, embed: Any, tmp_path: Path, severity: str, weight: float
) -> None:
    raw = yaml.safe_load((DEPLOYMENTS / "policies" / "default.yaml").read_text(encoding="utf-8"))
    raw["labels"]["abuse"]["severity"] = severity
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    post(ledger, [*OTHERS, *WAVE])
    assert len(surface(ledger, embed, policy=Policy.load(path))) == 1
    with ledger.read() as connection:
        assert connection.execute(select(reviews.c.severity)).scalar_one() == weight


def test_a_wave_that_somebody_labelled_is_known(ledger: Ledger, embed: Any) -> None:
    post(ledger, [*OTHERS, *WAVE])
    assert say(ledger, a_label("l-1", f"p-{len(OTHERS) + 2}")).accepted == 1
    assert surface(ledger, embed) == []


def test_what_is_old_or_beyond_the_limit_is_not_looked_at(ledger: Ledger, embed: Any) -> None:
    post(ledger, [*WAVE, *OTHERS])
    assert surface(ledger, embed, limit=len(OTHERS)) == []
    assert surface(ledger, embed, since=now() + timedelta(hours=1)) == []
