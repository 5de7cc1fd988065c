"""What an experiment has shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from moderation.errors import NotFoundError
from moderation.labels import Service
from moderation.metrics import Interval
from moderation.models.operating import Objective
from moderation.posts import MediaDecision, PartDecision
from moderation.storage import experiments, labelling
from moderation.storage.experiments import JudgedPost
from moderation.storage.ledger import Ledger
from serve.experiments.report import ArmReport, ExperimentVerdict, _arm, _rows, _verdict, report
from tests.fresh import fresh_ledger
from tests.rooms import DAY, VARIANT, a_label, a_post, an_entry, judged_traffic

Metric = Literal["precision", "recall"]
PRECISION = Objective("precision", 0.9)
RECALL = Objective("recall", 0.9)
ABUSE = JudgedPost("champion", 1, "u-1", {"abuse": True}, {"abuse": True}, 1.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = fresh_ledger(tmp_path / "ledger.db")
    experiments.create(ledger, "try-2", variant=VARIANT, champion_version=1, challenger_version=2, share=0.5)
    yield ledger
    ledger.close()


def between(low: float | None, high: float | None) -> Interval:
    return Interval(None if low is None or high is None else (low + high) / 2, low, high)


def challenger(precision: float | None, recall: float | None) -> ArmReport:
    return ArmReport(100, 50, 20, Interval(precision, 0.1, 0.99), Interval(recall, 0.1, 0.99))


@pytest.mark.parametrize(
    ("precision", "recall", "kept", "verdict"),
    [
        ((-0.02, 0.02), (0.01, 0.3), 0.95, "better"),
        ((-0.02, 0.02), (0.0, 0.3), 0.95, "no difference shown"),
        ((-0.02, 0.02), (-0.1, 0.1), 0.95, "no difference shown"),
        ((-0.02, 0.02), (-0.1, 0.0), 0.95, "no difference shown"),
        ((-0.02, 0.02), (-0.3, -0.01), 0.95, "worse"),
        ((0.01, 0.05), (-0.3, -0.01), 0.95, "worse"),  # recall is what the objective leaves free to gain
        ((-0.08, -0.01), (0.01, 0.3), 0.89, "worse"),  # precision is lost, and below the bound
        ((-0.08, -0.01), (0.01, 0.3), 0.90, "better"),  # precision is lost, and still at the bound
        ((-0.08, 0.0), (0.01, 0.3), 0.89, "better"),  # a loss of precision is not shown
        ((0.01, 0.05), (-0.1, 0.1), 0.95, "no difference shown"),  # the guarded metric alone cannot win
        ((None, None), (0.01, 0.3), 0.95, "not enough labels"),
        ((-0.02, 0.02), (None, None), 0.95, "not enough labels"),
        ((-0.02, 0.02), (0.01, 0.3), None, "not enough labels"),
    ],
)
def test_under_a_precision_objective_recall_must_gain_and_precision_hold(
    precision: tuple[float | None, float | None],
    recall: tuple[float | None, float | None],
    kept: float | None,
    verdict: ExperimentVerdict,
) -> None:
    differences: dict[Metric, Interval] = {"precision": between(*precision), "recall": between(*recall)}
    assert _verdict(PRECISION, challenger(kept, 0.5), differences) == verdict


@pytest.mark.parametrize(
    ("precision", "recall", "kept", "verdict"),
    [
        ((0.01, 0.3), (-0.02, 0.02), 0.95, "better"),
        ((-0.3, -0.01), (-0.02, 0.02), 0.95, "worse"),
        ((0.01, 0.3), (-0.08, -0.01), 0.89, "worse"),
        ((0.01, 0.3), (-0.08, -0.01), 0.91, "better"),
        ((-0.1, 0.1), (0.01, 0.05), 0.95, "no difference shown"),
    ],
)
def test_under_a_recall_objective_precision_must_gain_and_recall_hold(
    precision: tuple[float, float], recall: tuple[float, float], kept: float, verdict: ExperimentVerdict
) -> None:
    differences: dict[Metric, Interval] = {"precision": between(*precision), "recall": between(*recall)}
    assert _verdict(RECALL, challenger(0.5, kept), differences) == verdict


@pytest.mark.parametrize(
    ("post", "why"),
    [
        (replace(ABUSE, sampling_probability=None), "reported, not drawn at random"),
        (replace(ABUSE, labels={}), "nobody said anything"),
        (replace(ABUSE, labels={"hate": True}), "nobody spoke of this label"),
        (replace(ABUSE, flagged={}), "the model failed"),
    ],
)
def test_a_post_that_shows_nothing_of_the_label_is_left_out(post: JudgedPost, why: str) -> None:
    rows = _rows([ABUSE, post], "abuse")
    assert len(rows.authors) == len(rows.truth) == 1, why
    found = _arm([ABUSE, post], rows)
    assert (found.posts, found.authors, found.labelled) == (2, 1, 1)


def test_a_label_weighs_the_inverse_of_the_probability_that_its_post_was_drawn_with() -> None:
    missed = replace(ABUSE, author_id="u-2", flagged={"abuse": False}, sampling_probability=0.25)
    alarm = replace(ABUSE, author_id="u-3", labels={"abuse": False}, sampling_probability=0.5)
    rows = _rows([ABUSE, missed, alarm], "abuse")
    assert rows.weights.tolist() == [1.0, 4.0, 2.0]
    assert (rows.truth.tolist(), rows.flagged.tolist()) == ([True, True, False], [True, False, True])
    found = _arm([ABUSE, missed, alarm], rows)
    assert found.recall.value == pytest.approx(1 / (1 + 4))
    assert found.precision.value == pytest.approx(1 / (1 + 2))


def test_each_arm_has_its_own_rows() -> None:
    other = replace(ABUSE, arm="challenger", author_id="u-2", labels={"abuse": False}, sampling_probability=0.5)
    rows = _rows([ABUSE, other], "abuse")
    assert (rows.of("champion").authors, rows.of("challenger").authors) == (["u-1"], ["u-2"])
    assert rows.of("challenger").weights.tolist() == [2.0]
    assert rows.of("challenger").truth.tolist() == [False]


def test_what_many_people_of_an_arm_post_word_for_word_counts_once() -> None:
    wave = [replace(ABUSE, author_id=f"u-{n}", key="you idiot", sampling_probability=0.5) for n in range(4)]
    own = [replace(post, key=f"{post.author_id} says so", flagged={"abuse": False}) for post in wave]
    rows = _rows([*wave, *own], "abuse")
    assert rows.weights.tolist() == [0.5] * 4 + [2.0] * 4
    assert rows.authors == ["u-0"] * 4 + ["u-0", "u-1", "u-2", "u-3"]
    found = _arm([*wave, *own], rows)
    assert found.recall.value == pytest.approx(2 / 10)
    assert (found.posts, found.authors, found.labelled) == (8, 4, 8)
    other_arm = [replace(post, arm="challenger") for post in wave[:2]]
    assert _rows([*wave, *other_arm], "abuse").weights.tolist() == [0.5] * 4 + [1.0] * 2


def test_a_wave_of_one_sentence_shows_no_arm_to_be_better(ledger: Ledger) -> None:
    # All else is alike in both arms; the challenger catches the sentence, which two hundred authors of each arm post.
    judged_traffic(ledger, "try-2", champion_recall=0.5, challenger_recall=0.5)
    entries, labels = [], []
    for arm in ("champion", "challenger"):
        for number in range(200):
            post = a_post("you absolute drumvik" + "!" * (number % 3), author_id=f"wave-{arm}-{number}")
            name = f"wave-{arm}-{number}"
            caught = arm == "challenger"
            entries.append(an_entry(name, post, scores={"abuse": 0.9}, flagged=caught, experiment=("try-2", arm)))
            labels.append(a_label(name, True))
    ledger.record(entries)
    labelling.add(ledger, dict(enumerate(labels, start=1)))
    found = report(ledger, "try-2", label="abuse", objective=PRECISION, at=DAY)
    assert found.verdict == "no difference shown"
    assert found.recall_difference.value == pytest.approx(11 / 21 - 10 / 21)


@pytest.mark.parametrize(
    ("champion_recall", "challenger_recall", "verdict"),
    [(0.3, 0.9, "better"), (0.9, 0.3, "worse"), (0.5, 0.5, "no difference shown")],
)
def test_a_verdict_from_the_ledger(
    ledger: Ledger, champion_recall: float, challenger_recall: float, verdict: ExperimentVerdict
) -> None:
    judged_traffic(ledger, "try-2", champion_recall=champion_recall, challenger_recall=challenger_recall)
    found = report(ledger, "try-2", label="abuse", objective=PRECISION, at=DAY)
    assert found.verdict == verdict
    for arm, recall in (("champion", champion_recall), ("challenger", challenger_recall)):
        shown = found.arms["champion" if arm == "champion" else "challenger"]
        assert (shown.posts, shown.authors, shown.labelled) == (40, 40, 40)
        assert shown.recall.value == pytest.approx(recall)
        caught = recall * 20
        assert shown.precision.value == pytest.approx(caught / (caught + 1))
    assert found.recall_difference.value == pytest.approx(challenger_recall - champion_recall)
    assert found.recall_difference.low is not None
    assert found.recall_difference.high is not None
    assert (found.recall_difference.low > 0) is (verdict == "better")
    assert (found.recall_difference.high < 0) is (verdict == "worse")


def test_without_labels_nothing_is_claimed(ledger: Ledger) -> None:
    ledger.record([an_entry("p-1", a_post(), scores={"abuse": 0.9}, flagged=True, experiment=("try-2", "champion"))])
    found = report(ledger, "try-2", label="abuse", objective=PRECISION, at=DAY)
    assert found.verdict == "not enough labels"
    champion = found.arms["champion"]
    assert (champion.posts, champion.authors, champion.labelled) == (1, 1, 0)
    assert champion.precision == champion.recall == Interval(None, None, None)
    assert found.arms["challenger"].posts == 0
    assert found.precision_difference == Interval(None, None, None)


def test_one_arm_without_labels_is_not_enough(ledger: Ledger) -> None:
    for number in range(20):
        flagged = number < 15
        post = a_post(f"text {number}", author_id=f"u-{number}")
        tried = ("try-2", "challenger")
        ledger.record([an_entry(f"p-{number}", post, scores={"abuse": 0.9}, flagged=flagged, experiment=tried)])
    labelling.add(ledger, {number: a_label(f"p-{number}", number < 10) for number in range(20)})
    found = report(ledger, "try-2", label="abuse", objective=PRECISION, at=DAY)
    assert found.verdict == "not enough labels"
    assert (found.arms["challenger"].precision.value, found.arms["champion"].precision.value) == (10 / 15, None)


def test_posts_of_other_experiments_and_of_none_are_left_out(ledger: Ledger) -> None:
    for number, tried in enumerate([("try-2", "champion"), ("try-3", "champion"), None]):
        post = a_post(f"text {number}")
        ledger.record([an_entry(f"p-{number}", post, scores={"abuse": 0.9}, flagged=True, experiment=tried)])
    labelling.add(ledger, {number: a_label(f"p-{number}", True) for number in range(3)})
    found = report(ledger, "try-2", label="abuse", objective=PRECISION, at=DAY)
    assert (found.arms["champion"].posts, found.arms["champion"].labelled) == (1, 1)


def test_the_newest_word_on_a_post_counts_and_a_report_does_not_take_it_out(ledger: Ledger) -> None:
    tried = ("try-2", "champion")
    ledger.record([an_entry("p-1", a_post(), scores={"abuse": 0.9}, flagged=True, experiment=tried)])
    labelling.add(
        ledger,
        {
            1: a_label("p-1", True, probability=0.5),
            2: a_label("p-1", False, id="appeal", source="appeal", probability=None, labelled_at="2026-11-25T00:00Z"),
            3: a_label("p-1", True, id="old", source="report", probability=None, labelled_at="2026-11-23T00:00Z"),
        },
    )
    [post] = experiments.judged_posts(ledger, "try-2")
    assert (post.labels, post.sampling_probability) == ({"abuse": False}, 0.5)
    assert report(ledger, "try-2", label="abuse", objective=PRECISION, at=DAY).arms["champion"].precision.value == 0.0


def test_a_report_is_json_and_says_what_it_is_of(ledger: Ledger) -> None:
    judged_traffic(ledger, "try-2", champion_recall=0.5, challenger_recall=0.5, authors=10)
    shown = report(ledger, "try-2", label="abuse", objective=PRECISION, at=DAY).as_dict()
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert {name: shown[name] for name in ("experiment", "variant", "versions", "share", "status", "label")} == {
        "experiment": "try-2",
        "variant": VARIANT,
        "versions": {"champion": 1, "challenger": 2},
        "share": 0.5,
        "status": "running",
        "label": "abuse",
    }
    assert (shown["objective"], shown["until"]) == ("precision>=0.9", "2026-11-24T00:00:00+00:00")
    assert set(shown["arms"]["champion"]) == {"posts", "authors", "labelled", "precision", "recall"}


def test_an_experiment_that_is_not_there_is_told(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="no experiment named 'try-9'"):
        report(ledger, "try-9", label="abuse", objective=PRECISION, at=DAY)


def part(service: Service, media: int | None, *, flagged: bool, scored: bool = True) -> PartDecision:
    return PartDecision(service=service, media=media, status="scored" if scored else "failed", flagged=flagged)


def with_media(ledger: Ledger, service: Service, parts: list[PartDecision], *, flagged: bool) -> JudgedPost:
    """A post with a picture, as the experiment saw it; people say that it is abuse and no hate."""
    entry = an_entry("p-1", a_post(), scores={"abuse": 0.9}, flagged=flagged, experiment=("try-2", "champion"))
    labels = {"abuse": entry.decision.labels["abuse"].model_copy(update={"parts": parts})}
    media = [MediaDecision(kind="image", sha256="ab" * 32, status="scored")]
    decision = entry.decision.model_copy(update={"media": media, "labels": labels})
    scorings = tuple(replace(scoring, service=service) for scoring in entry.scorings)
    ledger.record([replace(entry, decision=decision, scorings=scorings)])
    labelling.add(ledger, {1: a_label("p-1", True, labels={"abuse": True, "hate": False})})
    [post] = experiments.judged_posts(ledger, "try-2")
    return post


@pytest.mark.parametrize(
    ("service", "parts", "flags"),
    [
        ("text", [part("text", None, flagged=False), part("text", 0, flagged=True)], {"abuse": False}),
        ("text", [part("text", None, flagged=True), part("image", 0, flagged=False)], {"abuse": True}),
        ("text", [part("text", None, flagged=False, scored=False), part("image", 0, flagged=True)], {}),
        ("text", [part("text", 0, flagged=True)], {}),
        ("image", [part("text", None, flagged=True), part("image", 0, flagged=False)], {"abuse": False}),
        ("image", [part("image", 0, flagged=False), part("image", 1, flagged=True)], {"abuse": True}),
        ("image", [part("image", 0, flagged=False, scored=False), part("image", 1, flagged=True)], {"abuse": True}),
        ("video", [part("image", 0, flagged=True)], {}),
    ],
)
def test_an_experiment_looks_at_what_its_own_service_flagged(
    ledger: Ledger, service: Service, parts: list[PartDecision], flags: dict[str, bool]
) -> None:
    post = with_media(ledger, service, parts, flagged=not flags.get("abuse", False))
    assert post.flagged == flags
    assert post.key == ("the tomatoes are ripe" if service == "text" else "ab" * 32)  # what the service looks at


@pytest.mark.parametrize(("service", "labels"), [("text", {"hate": False}), ("image", {"abuse": True, "hate": False})])
def test_a_harm_that_may_be_in_a_picture_is_no_truth_of_a_text(
    ledger: Ledger, service: Service, labels: dict[str, bool]
) -> None:
    assert with_media(ledger, service, [part(service, None, flagged=True)], flagged=True).labels == labels
