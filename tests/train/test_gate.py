"""May a retrained model challenge? Each check at its bounds."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from moderation.copies import key_of
from moderation.sections import GateRules
from train.evaluate import Paired
from train.gate import Check, GateVerdict, difference, judge
from train.rows import _ROWS, merge_copies

RULES = GateRules()


def rows(
    harmful: int,
    harmless: int,
    *,
    champion: tuple[int, int] = (0, 0),
    challenger: tuple[int, int] = (0, 0),
    drifted: int = 0,
    first_caught_by_challenger: int = 0,
) -> Paired:
    """Harmful rows, each of an author of its own, then harmless ones, ten of an author; the first have new words.

    Args:
        harmful: how many.
        harmless: how many.
        champion: of the harmful and of the harmless, how many it flags, from the first.
        challenger: likewise.
        drifted: rows with new words.
        first_caught_by_challenger: number of the first harmful row that the challenger flags.
    """
    truth = np.array([True] * harmful + [False] * harmless, dtype=bool)

    def flags(caught: int, raised: int, first: int = 0) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        found = np.zeros(harmful + harmless, dtype=bool)
        found[first : first + caught] = True
        found[harmful : harmful + raised] = True
        return found

    return Paired(
        truth=truth,
        champion=flags(*champion),
        challenger=flags(*challenger, first_caught_by_challenger),
        units=[f"author-{number}" for number in range(harmful)] + [f"other-{n // 10}" for n in range(harmless)],
        drifted=np.arange(harmful + harmless) < drifted,
    )


GOOD = rows(60, 200, champion=(20, 2), challenger=(50, 2), drifted=30)
ANCHOR = rows(50, 50, champion=(40, 2), challenger=(40, 2))


def verdict(
    holdout: Paired = GOOD,
    anchor: Paired = ANCHOR,
    *,
    threshold: float | None = 0.8,
    new_words: bool = False,
    rules: GateRules = RULES,
) -> GateVerdict:
    return judge(holdout, anchor, threshold=threshold, has_new_words=new_words, rules=rules)


def check(found: GateVerdict, name: str) -> Check:
    [one] = [item for item in found.checks if item.name == name]
    return one


def failed(found: GateVerdict) -> list[str]:
    return [item.name for item in found.checks if not item.passed]


def test_a_challenger_that_is_better_and_forgets_nothing_passes() -> None:
    found = verdict()
    assert found.passed
    assert found.refusals == []
    assert [item.name for item in found.checks] == [
        "harmful holdout rows",
        "harmless holdout rows",
        "objective",
        "recall",
        "precision",
        "anchor recall",
        "anchor false positives",
    ]
    assert found.figures["holdout"] == {
        "rows": 260,
        "harmful": 60,
        "champion": {"precision": round(20 / 22, 4), "recall": round(20 / 60, 4), "false_positive_rate": 0.01},
        "challenger": {"precision": round(50 / 52, 4), "recall": round(50 / 60, 4), "false_positive_rate": 0.01},
    }
    assert found.figures["recall_difference"]["value"] == 0.5


@pytest.mark.parametrize(("harmful", "passed"), [(19, False), (20, True), (21, True)])
def test_there_must_be_enough_harmful_rows(harmful: int, passed: bool) -> None:
    found = verdict(rows(harmful, 200, champion=(2, 2), challenger=(17, 2)))
    one = check(found, "harmful holdout rows")
    assert (one.passed, one.value, one.bound) == (passed, harmful, 20)
    assert one.reason == f"{harmful} harmful holdout rows, 20 are needed"
    assert found.passed is passed


@pytest.mark.parametrize(("harmless", "passed"), [(49, False), (50, True)])
def test_there_must_be_enough_harmless_rows(harmless: int, passed: bool) -> None:
    found = verdict(rows(60, harmless, champion=(20, 1), challenger=(50, 1)))
    one = check(found, "harmless holdout rows")
    assert (one.passed, one.value) == (passed, harmless)
    assert one.reason == f"{harmless} harmless holdout rows, 50 are needed"
    assert found.passed is passed


@pytest.mark.parametrize(("threshold", "passed"), [(None, False), (0.0, True), (0.97, True)])
def test_a_threshold_must_meet_the_objective(threshold: float | None, passed: bool) -> None:
    one = check(verdict(threshold=threshold), "objective")
    assert (one.passed, one.value) == (passed, threshold)
    assert one.reason.startswith("a threshold meets" if passed else "no threshold meets")


def test_no_rows_at_all_are_refused_for_every_reason_and_nothing_is_claimed() -> None:
    found = verdict(rows(0, 0), rows(0, 0), threshold=None, new_words=True)
    assert not found.passed
    assert failed(found) == [item.name for item in found.checks]
    assert check(found, "recall").value is None
    assert check(found, "recall").reason.endswith("cannot be told from these rows")
    assert found.figures["holdout"]["champion"] == {"precision": None, "recall": None, "false_positive_rate": None}


@pytest.mark.parametrize("anchor", [rows(0, 0), rows(0, 50), rows(50, 0)])
def test_what_cannot_be_told_of_the_anchors_has_no_value_and_does_not_pass(anchor: Paired) -> None:
    # As for a label that no anchor text carries. JSON has no word for what is not a number.
    found = verdict(anchor=anchor)
    unknown = {
        "anchor recall": not anchor.truth.any(),
        "anchor false positives": bool(anchor.truth.all()),
    }
    for name, cannot_be_told in unknown.items():
        one = check(found, name)
        assert one.passed is not cannot_be_told
        assert (one.value is None) is cannot_be_told
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["passed"] is False


@pytest.mark.parametrize(
    ("challenger", "first", "passed"),
    [(50, 0, True), (10, 0, False), (24, 20, False)],
)
def test_recall_must_be_better_by_the_whole_interval(challenger: int, first: int, passed: bool) -> None:
    holdout = rows(60, 200, champion=(20, 2), challenger=(challenger, 2), first_caught_by_challenger=first)
    one = check(verdict(holdout), "recall")
    assert one.passed is passed
    assert one.value == difference(holdout, "recall").low
    assert one.value is not None
    assert (one.value > 0) is passed
    gain = (challenger - 20) / 60
    assert one.reason.startswith(f"recall on the holdout, challenger minus champion: {gain:+.3f}, 95 % interval")
    assert one.reason.endswith("the lower end must exceed +0.000")


def test_two_equal_models_are_not_better() -> None:
    found = verdict(rows(60, 200, champion=(50, 2), challenger=(50, 2)))
    assert check(found, "recall").value == 0.0
    assert failed(found) == ["recall"]


@pytest.mark.parametrize(("raised", "passed"), [(2, True), (3, True), (30, False)])
def test_precision_must_not_be_worse_beyond_the_margin(raised: int, passed: bool) -> None:
    found = verdict(rows(60, 200, champion=(40, 2), challenger=(58, raised)))
    one = check(found, "precision")
    assert (one.passed, one.bound) == (passed, -0.05)
    assert one.reason.endswith("the lower end must exceed -0.050")
    assert found.passed is passed


def test_a_wider_margin_lets_more_pass() -> None:
    holdout = rows(60, 200, champion=(40, 2), challenger=(58, 30))
    assert check(verdict(holdout, rules=GateRules(precision_margin=0.9)), "precision").passed


def test_a_precision_that_cannot_be_told_does_not_pass() -> None:
    found = verdict(rows(60, 200, champion=(0, 0), challenger=(50, 0)))
    one = check(found, "precision")
    assert (one.passed, one.value) == (False, None)
    assert one.reason == "precision on the holdout, challenger minus champion: cannot be told from these rows"


@pytest.mark.parametrize(("caught", "passed"), [(3, True), (2, False)])
def test_no_more_recall_than_the_margin_is_lost_on_the_anchors(caught: int, passed: bool) -> None:
    anchor = rows(4, 4, champion=(4, 0), challenger=(caught, 0))
    found = verdict(anchor=anchor, rules=GateRules(anchor_margin=0.25))
    one = check(found, "anchor recall")
    assert (one.passed, one.value, one.bound) == (passed, 1 - caught / 4, 0.25)
    assert one.reason == f"recall lost on the anchor texts: {1 - caught / 4:+.3f}, at most 0.25"
    assert found.passed is passed


@pytest.mark.parametrize(("raised", "passed"), [(1, True), (2, False)])
def test_no_more_false_positives_than_the_margin_are_added_on_the_anchors(raised: int, passed: bool) -> None:
    anchor = rows(4, 4, champion=(4, 0), challenger=(4, raised))
    found = verdict(anchor=anchor, rules=GateRules(anchor_margin=0.25))
    one = check(found, "anchor false positives")
    assert (one.passed, one.value) == (passed, raised / 4)
    assert one.reason == f"false positives added on the anchor texts: {raised / 4:+.3f}, at most 0.25"
    assert found.passed is passed


def test_being_better_on_the_anchors_is_no_fault() -> None:
    found = verdict(anchor=rows(50, 50, champion=(10, 40), challenger=(50, 0)))
    assert found.passed
    assert check(found, "anchor recall").value == pytest.approx(-0.8)
    assert check(found, "anchor false positives").value == pytest.approx(-0.8)


@pytest.mark.parametrize(("drifted", "passed"), [(9, False), (10, True), (30, True)])
def test_there_must_be_enough_harmful_rows_with_new_words(drifted: int, passed: bool) -> None:
    holdout = rows(60, 200, champion=(20, 2), challenger=(50, 2), first_caught_by_challenger=5, drifted=drifted)
    one = check(verdict(holdout, new_words=True), "harmful rows with new words")
    assert (one.passed, one.value, one.bound) == (passed, drifted, 10)
    assert one.reason == f"{drifted} harmful rows with new words, 10 are needed"


@pytest.mark.parametrize(("first", "passed"), [(0, True), (30, False)])
def test_what_the_alert_named_must_have_been_learned(first: int, passed: bool) -> None:
    # The first 20 rows hold the new words. The challenger catches them and some more, or others alone.
    holdout = rows(60, 200, champion=(0, 2), challenger=(28, 2), first_caught_by_challenger=first, drifted=20)
    assert check(verdict(holdout, new_words=True), "recall").passed
    one = check(verdict(holdout, new_words=True), "new words")
    assert one.passed is passed
    assert one.value == (1.0 if passed else 0.0)
    assert one.reason.startswith("recall on posts with new words, challenger minus champion: ")


def test_without_new_words_nobody_asks_for_them() -> None:
    assert not [item for item in verdict(new_words=False).checks if "new words" in item.name]


def test_what_was_learned_from_flipped_labels_is_refused() -> None:
    # It flags what is harmless and lets pass what is harmful; the anchors see it whatever the holdout's labels say.
    flipped = rows(60, 200, champion=(50, 2), challenger=(2, 180))
    anchor = rows(50, 50, champion=(40, 2), challenger=(3, 45))
    found = verdict(flipped, anchor)
    assert failed(found) == ["recall", "precision", "anchor recall", "anchor false positives"]

    as_people_said = Paired(~flipped.truth, flipped.champion, flipped.challenger, flipped.units, flipped.drifted)
    assert failed(verdict(as_people_said, anchor)) == ["anchor recall", "anchor false positives"]


def test_rows_of_one_author_stand_or_fall_together() -> None:
    alone = rows(60, 200, champion=(20, 2), challenger=(50, 2))
    together = Paired(
        alone.truth,
        alone.champion,
        alone.challenger,
        [f"author-{number // 20}" for number in range(260)],
        alone.drifted,
    )
    narrow, wide = difference(alone, "recall"), difference(together, "recall")
    assert narrow.value == wide.value == 0.5
    assert None not in (narrow.low, narrow.high, wide.low, wide.high)
    assert (wide.high or 0) - (wide.low or 0) > (narrow.high or 0) - (narrow.low or 0)


def holdout_of(posts: Sequence[tuple[str, str, bool]], *, champion: set[str], challenger: set[str]) -> Paired:
    """Posts of (text, author, harmful) as the gate gets them; each model flags the texts that it knows."""
    lines = [
        {
            "text": text,
            "unit": author,
            "created": number,
            "language": "en",
            "truth": [float(harmful)],
            "known": "{}",
            "key": key_of(text),
        }
        for number, (text, author, harmful) in enumerate(posts)
    ]
    table = pa.Table.from_pylist(lines, schema=_ROWS.append(pa.field("key", pa.string())))
    kept = merge_copies(table).to_pylist()
    return Paired(
        truth=np.array([row["truth"] == [1.0] for row in kept]),
        champion=np.array([row["text"] in champion for row in kept]),
        challenger=np.array([row["text"] in challenger for row in kept]),
        units=[row["unit"] for row in kept],
        drifted=np.array(["drumvik" in row["text"] for row in kept]),
    )


SENTENCE = "What an absolute drumvik you are"
KNOWN = [(f"you are an idiot, number {n}", f"known-{n}", True) for n in range(60)]
HARMLESS = [(f"my tomatoes are ripe in week {n}", f"gardener-{n}", False) for n in range(200)]
CAUGHT = {text for text, _, _ in KNOWN[:40]}


@pytest.mark.parametrize("others", [[], KNOWN], ids=["the sentence alone", "the sentence among others"])
def test_four_hundred_authors_with_one_sentence_show_no_more_than_one_author(
    others: list[tuple[str, str, bool]],
) -> None:
    wave = [(SENTENCE, f"wave-{n}", True) for n in range(400)]
    holdout = holdout_of(wave + others + HARMLESS, champion=CAUGHT, challenger=CAUGHT | {SENTENCE})
    assert (len(holdout.units), int(holdout.truth.sum())) == (201 + len(others), 1 + len(others))
    found = verdict(holdout, new_words=True)
    assert not found.passed
    assert not check(found, "recall").passed
    assert check(found, "harmful rows with new words").value == 1
    assert found.figures["recall_difference"]["value"] == pytest.approx(1 / (1 + len(others)), abs=1e-4)


def test_who_learned_what_many_authors_say_in_their_own_words_still_passes() -> None:
    wave = [(f"{SENTENCE}, {n} times over", f"wave-{n}", True) for n in range(40)]
    learned = CAUGHT | {text for text, _, _ in wave[:30]}
    found = verdict(holdout_of(wave + KNOWN + HARMLESS, champion=CAUGHT, challenger=learned), new_words=True)
    assert found.passed, found.refusals
    assert found.figures["recall_difference"]["value"] == 0.3


@pytest.mark.parametrize(("authors", "passed"), [(1, False), (4, False), (5, True)])
def test_a_difference_is_believed_of_so_many_authors_however_many_texts_each_posts(authors: int, passed: bool) -> None:
    # Where all of them agree the interval is a point: one author's texts would show anything.
    wave = [(f"{SENTENCE}, {n} times over", f"wave-{n % authors}", True) for n in range(40)]
    found = verdict(holdout_of(wave + HARMLESS, champion=set(), challenger={text for text, _, _ in wave}))
    one = check(found, "recall")
    assert (one.value, one.passed) == (1.0, passed)
    assert passed or one.reason.endswith(f"+1.000, of too few authors: {authors}, 5 are needed")


def test_one_author_s_many_texts_among_others_are_still_one_author_s() -> None:
    wave = [(f"{SENTENCE}, {n} times over", "wave", True) for n in range(40)]
    learned = CAUGHT | {text for text, _, _ in wave}
    found = verdict(holdout_of(wave + KNOWN + HARMLESS, champion=CAUGHT, challenger=learned))
    assert failed(found) == ["recall"]


def test_a_verdict_is_json_with_its_reasons() -> None:
    found = verdict(threshold=None)
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["passed"] is False
    assert [item["name"] for item in document["checks"] if not item["passed"]] == ["objective"]
    assert found.refusals == ["no threshold meets the policy's objective on validation rows"]


@pytest.mark.parametrize(
    ("passed", "expected"), [([], True), ([True], True), ([True, False], False), ([False, False], False)]
)
def test_a_verdict_passes_only_if_every_check_does(passed: Sequence[bool], expected: bool) -> None:
    checks = tuple(Check(f"check {n}", ok, 0.0, 0.0, f"reason {n}") for n, ok in enumerate(passed))
    found = GateVerdict(checks, {})
    assert found.passed is expected
    assert found.refusals == [f"reason {n}" for n, ok in enumerate(passed) if not ok]
