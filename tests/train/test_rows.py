"""Labelled rows, as far as no cluster is needed."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from moderation.copies import key_of
from moderation.errors import NotEnoughDataError
from moderation.storage.lake import SCHEMAS
from train.rows import (
    _ROWS,
    MOST_WEIGHT,
    class_weight,
    corpus_path,
    from_lake,
    lines_of,
    lists_of,
    matrix_of,
    merge_copies,
    merge_labels,
    target_of,
    unit_hash,
)

LABELS = ("abuse", "hate")
NAN = float("nan")
CREATED = datetime(2026, 11, 24, 9, 30, 0, 123456, tzinfo=UTC)


def said(labels: dict[str, bool], *, hour: int = 1, seq: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "post_id": "p-1",
        "content_version": 1,
        "author_id": "u-1",
        "created_at": CREATED,
        "text": "You are <b>stupid</b>",
        "features": json.dumps({"language": "en", "words": 3.0}),
        "labels": json.dumps(labels),
        "variant": "text-multi",
        "labelled_at": datetime(2026, 11, 24, hour, tzinfo=UTC),
        "label_seq": seq,
        "media": None,
    } | changes


def merged(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    schema = pa.schema([SCHEMAS["labels"].field(name) for name in rows[0]])
    table = merge_labels(pa.Table.from_pylist(list(rows), schema=schema), LABELS, "text-multi")
    assert table.column_names == ["text", "unit", "created", "language", "truth", "known"]
    assert table["created"].type == "int64"
    return list(table.to_pylist())


def truth_of(*rows: dict[str, Any]) -> list[float | None]:
    [row] = merged(*rows)
    return [None if math.isnan(value) else value for value in row["truth"]]


@pytest.mark.parametrize("media", [None, []])
def test_of_a_post_without_media_every_label_counts(media: Any) -> None:
    assert truth_of(said({"abuse": False, "hate": True}, media=media)) == [0.0, 1.0]


@pytest.mark.parametrize("media", [["ab" * 32], ["ab" * 32, "cd" * 32]])
def test_of_a_post_with_media_only_harmlessness_is_said_of_its_text(media: Any) -> None:
    assert truth_of(said({"abuse": False, "hate": True}, media=media)) == [0.0, None]
    assert merged(said({"hate": True}, media=media)) == []


def test_of_a_post_with_media_an_older_word_does_not_come_back() -> None:
    early, late = said({"hate": False}, hour=1, media=["ab" * 32]), said({"hate": True}, hour=2, media=["ab" * 32])
    assert merged(early, late) == []
    assert truth_of(said({"hate": True}, hour=1, media=["ab" * 32]), early | {"labelled_at": late["labelled_at"]}) == [
        None,
        0.0,
    ]


def test_a_label_becomes_a_row_with_the_raw_text_its_author_and_its_time() -> None:
    [row] = merged(said({"abuse": True, "hate": False}))
    assert row == {
        "text": "You are <b>stupid</b>",
        "unit": "u-1",
        "created": 1_795_512_600_123_456,
        "language": "en",
        "truth": [1.0, 0.0],
        "known": '{"language": "en", "words": 3.0}',
    }
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["created"]) == CREATED


@pytest.mark.parametrize("year", [1, 1500, 3000, 9999])
def test_a_post_may_be_dated_in_any_year(year: int) -> None:
    written = datetime(year, 1, 2, tzinfo=UTC)
    [row] = merged(said({"abuse": True}, created_at=written))
    assert row["created"] == (written - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("labels", "truth"),
    [({"abuse": True}, [1.0, None]), ({"hate": False}, [None, 0.0]), ({"nudity": True, "abuse": False}, [0.0, None])],
)
def test_what_nobody_spoke_of_is_unknown_not_false(labels: dict[str, bool], truth: list[float | None]) -> None:
    assert truth_of(said(labels)) == truth


def test_the_newest_word_on_a_label_counts_in_whatever_order_it_came() -> None:
    early, late = said({"abuse": True}, hour=1, seq=2), said({"abuse": False}, hour=2, seq=1)
    assert truth_of(early, late) == truth_of(late, early) == [0.0, None]


def test_of_words_of_the_same_time_the_one_that_came_last_counts() -> None:
    first, second = said({"abuse": True}, seq=1), said({"abuse": False}, seq=2)
    assert truth_of(first, second) == truth_of(second, first) == [0.0, None]


def test_words_on_different_labels_are_brought_together() -> None:
    assert truth_of(said({"abuse": True}, hour=1), said({"hate": False}, hour=2)) == [1.0, 0.0]
    assert truth_of(said({"abuse": True, "hate": True}, hour=1), said({"hate": False}, hour=2)) == [1.0, 0.0]


def test_what_another_variant_judged_is_left_out() -> None:
    assert merged(said({"abuse": True}, variant="text-other")) == []
    mine, other = said({"abuse": True}), said({"abuse": False}, hour=2, variant="text-other")
    assert truth_of(mine, other) == [1.0, None]


def test_a_post_that_no_variant_judged_is_left_out() -> None:
    assert merged(said({"abuse": True}, variant=None)) == []


def test_a_post_of_which_only_other_labels_are_known_is_left_out() -> None:
    assert merged(said({"nudity": True}), said({"violence": False})) == []


def test_each_post_and_each_version_of_one_becomes_a_row_of_its_own() -> None:
    posts = [
        said({"abuse": True}, post_id="p-2", text="two"),
        said({"abuse": True}, content_version=2, text="one, edited"),
        said({"abuse": False}, hour=2, post_id="p-2", text="two"),
        said({"abuse": False}, text="one"),
        said({"abuse": True}, post_id="p-0", variant="text-other"),
    ]
    rows = merged(*posts)
    assert [(row["text"], row["truth"][0]) for row in rows] == [("one", 0.0), ("one, edited", 1.0), ("two", 0.0)]


def test_a_language_that_was_not_logged_is_undetermined() -> None:
    assert merged(said({"abuse": True}, features="{}"))[0]["language"] == "und"


def copies(*rows: tuple[str, str, int, float | None]) -> list[dict[str, Any]]:
    """Rows of (text, author, hour, whether it is abuse; None: unknown), merged; nothing is known of hate."""
    found = [
        {
            "text": text,
            "unit": author,
            "created": hour,
            "language": "en",
            "truth": [NAN if abuse is None else abuse, NAN],
            "known": json.dumps({"hour": hour}),
            "key": key_of(text),
        }
        for text, author, hour, abuse in rows
    ]
    return list(
        merge_copies(pa.Table.from_pylist(found, schema=_ROWS.append(pa.field("key", pa.string())))).to_pylist()
    )


def test_what_several_people_post_is_one_row_of_who_posted_it_first() -> None:
    found = copies(
        ("you IDIOT!", "u-2", 7, 1.0), ("a fine day", "u-3", 2, 0.0), ("You idiot", "u-1", 5, 1.0), ("", "u-4", 1, 0.0)
    )
    assert [(row["text"], row["unit"], row["created"], row["truth"][0]) for row in found] == [
        ("", "u-4", 1, 0.0),
        ("a fine day", "u-3", 2, 0.0),
        ("You idiot", "u-1", 5, 1.0),
    ]
    assert found[2]["known"] == '{"hour": 5}'
    assert all(math.isnan(row["truth"][1]) for row in found)
    assert "key" not in found[0]


@pytest.mark.parametrize(
    ("said", "truth"),
    [
        ([1.0, 1.0, 0.0], 1.0),
        ([0.0, 1.0, 0.0], 0.0),
        ([0.0, 1.0], 1.0),  # the newest copy's
        ([1.0, 0.0], 0.0),
        ([None, 1.0, None], 1.0),
        ([1.0, None], 1.0),
        ([1.0, 0.0, None], 0.0),
    ],
)
def test_of_copies_the_majority_decides_and_where_they_are_even_the_newest(
    said: list[float | None], truth: float
) -> None:
    [row] = copies(*(("you idiot", f"u-{hour}", hour, abuse) for hour, abuse in enumerate(said)))
    assert row["truth"][0] == truth


def test_no_rows_and_unknown_ones_stay_what_they_are() -> None:
    assert copies() == []
    assert merge_copies(_ROWS.empty_table()).schema == _ROWS
    [row] = copies(("a", "u-1", 1, None), ("a", "u-2", 2, None))
    assert math.isnan(row["truth"][0])


def test_a_place_in_the_hash_never_changes_or_a_holdout_would_leak() -> None:
    assert unit_hash("u-1", "text-multi@1/holdout") == 0.8836918285925373


def test_places_are_even_and_independent_between_salts() -> None:
    units = [f"author-{number}" for number in range(20_000)]
    both = Counter((int(unit_hash(unit, "a") * 10), int(unit_hash(unit, "b") * 10)) for unit in units)
    assert set(both) == {(left, right) for left in range(10) for right in range(10)}
    # Chi-square, 99 degrees of freedom: 148.2 is exceeded once in a thousand.
    assert sum((count - 200) ** 2 / 200 for count in both.values()) < 148.2


def test_a_lake_without_labels_says_where_to_send_some() -> None:
    with pytest.raises(NotEnoughDataError, match="the lake holds no label; send some to POST /v1/labels first"):
        from_lake([], LABELS, variant="text-multi")


def test_a_corpus_stands_under_text_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    with gzip.open(tmp_path / "text" / "one.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"text": "a"}\n')
    assert list(lines_of(corpus_path(tmp_path, "one"))) == [{"text": "a"}]
    with pytest.raises(NotEnoughDataError, match=r"text/two\.jsonl\.gz is missing; the data folder is the one that"):
        corpus_path(tmp_path, "two")


def test_what_is_learned_is_the_share_of_people_who_said_so_where_that_is_known() -> None:
    votes = {"homophobia": 0, "misogyny": 1, "racism": 0, "xenophobia": 0, "insult": 2, "obscene": 0}
    line = {"labels": {"abuse": True, "hate": False}, "votes": votes}
    assert target_of(line, "abuse") == pytest.approx(2 / 3)
    assert target_of(line, "hate") == pytest.approx(1 / 3)
    assert target_of({"labels": {"abuse": True, "hate": False}}, "abuse") == 1
    assert target_of({"labels": {"hate": False}}, "hate") == 0
    assert math.isnan(target_of(line, "violence"))
    assert target_of(line | {"labels": {"violence": True}}, "violence") == 1
    assert target_of(line | {"votes": {"toxic": 1}}, "abuse") == target_of(line | {"votes": None}, "abuse") == 1


def test_harmful_and_harmless_rows_weigh_the_same_within_bounds() -> None:
    assert 10 * class_weight(10, 30) == 30 * class_weight(30, 10) == 20
    assert class_weight(1, 1000) == MOST_WEIGHT
    assert class_weight(10, 0) == 1


def test_lists_and_matrices_keep_each_row_s_values() -> None:
    lists = lists_of(np.array([1, 2, 3, 4, 5]), np.array([0, 2, 2]))
    assert lists.to_pylist() == [[1, 2], [], [3, 4, 5]]
    assert lists_of(np.array([], dtype=np.int64), np.array([0, 0])).to_pylist() == [[], []]
    matrix = matrix_of(pa.chunked_array([[[1.0, 0.0]], [[NAN, 1.0]]]), 2)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[1, 0], [NAN, 1]])
    assert matrix_of(pa.chunked_array([], type=pa.list_(pa.float64())), 2).shape == (0, 2)
