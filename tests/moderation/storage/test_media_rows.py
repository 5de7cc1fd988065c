"""What the ledger knows of media: which posts have them, since when, and what was found in them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pytest
from sqlalchemy import select, update

from moderation.media import MediaKind
from moderation.posts import MediaIn
from moderation.storage.lake import SCHEMAS, Lake
from moderation.storage.ledger import Ledger
from moderation.storage.media_rows import MediaScore, keep_scores, known_scores, posts_with
from moderation.storage.media_tables import media, post_media
from serve.statements import rows as statement_rows
from tests.moderation.storage.acts import act
from tests.moderation.storage.media import OTHER, SHA, with_media
from tests.moderation.storage.rows import a_label, an_entry, at, record, say

DAY = datetime(2026, 11, 24, 12, tzinfo=UTC)


def rows(ledger: Ledger, table: Any) -> list[dict[str, Any]]:
    with ledger.read() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]


def medium(ledger: Ledger, sha256: str = SHA) -> dict[str, Any]:
    (found,) = [row for row in rows(ledger, media) if row["sha256"] == sha256]
    return found


def test_a_post_without_media_has_no_rows(ledger: Ledger) -> None:
    record(ledger, an_entry())
    assert rows(ledger, media) == rows(ledger, post_media) == []


def test_a_post_s_media_are_recorded_with_what_is_known_of_them(ledger: Ledger) -> None:
    told = {"format": "png", "width": 640, "height": 480, "perceptual_hash": "0f" * 32}
    record(ledger, with_media(bytes=1234, **told))
    assert rows(ledger, media) == [
        told
        | {"sha256": SHA, "kind": "image", "bytes": 1234, "seconds": None, "removed_at": None}
        | {"first_used_at": at(0), "last_used_at": at(0)}
    ]
    assert rows(ledger, post_media) == [
        {"post_id": "p-1", "content_version": 1, "position": 0, "sha256": SHA, "kind": "image"}
    ]


def test_media_keep_their_order_also_where_one_comes_twice(ledger: Ledger) -> None:
    record(ledger, with_media(media=[OTHER, SHA, OTHER], kinds=["video", "image", "image"]))
    found = [(row["position"], row["sha256"], row["kind"]) for row in rows(ledger, post_media)]
    assert found == [(0, OTHER, "video"), (1, SHA, "image"), (2, OTHER, "image")]
    assert [(row["sha256"], row["kind"]) for row in rows(ledger, media)] == [(SHA, "image"), (OTHER, "video")]
    assert posts_with(ledger, OTHER) == [("p-1", 1)]


def test_a_later_use_adds_what_was_not_known_and_takes_nothing_back(ledger: Ledger) -> None:
    record(ledger, with_media("p-1", format="mp4", seconds=2.5, used_at=at(600)))
    record(ledger, with_media("p-2", width=10, height=20, used_at=at(0)))
    record(ledger, with_media("p-3", format="webm", bytes=7, used_at=at(1200)))
    found = medium(ledger)
    assert (found["format"], found["seconds"], found["width"], found["height"]) == ("mp4", 2.5, 10, 20)
    assert (found["bytes"], found["first_used_at"], found["last_used_at"]) == (7, at(0), at(1200))


def test_the_last_use_is_right_to_within_an_hour(ledger: Ledger) -> None:
    for number, minutes in enumerate((0, 30, 60, 61, 100)):
        record(ledger, with_media(f"p-{number}", used_at=at(minutes)))
        assert at(minutes) - medium(ledger)["last_used_at"] <= timedelta(hours=1)
    assert medium(ledger)["last_used_at"] == at(61)


def test_a_post_that_uses_what_was_removed_brings_it_back(ledger: Ledger) -> None:
    record(ledger, with_media("p-1"))
    with ledger.write() as connection:
        connection.execute(update(media).values(removed_at=at(1)))
    record(ledger, with_media("p-2", used_at=at(2)))
    assert medium(ledger)["removed_at"] is None


def test_an_edit_has_media_of_its_own_and_a_repeat_adds_none(ledger: Ledger) -> None:
    record(ledger, with_media(media=[SHA]))
    record(ledger, with_media(media=[SHA]))
    record(ledger, with_media(media=[SHA, OTHER], minutes=1))
    assert posts_with(ledger, SHA) == [("p-1", 1), ("p-1", 2)]
    assert posts_with(ledger, OTHER) == [("p-1", 2)]
    assert posts_with(ledger, "c" * 64) == []


def test_a_group_may_share_media(ledger: Ledger) -> None:
    ledger.record([with_media(f"p-{number}", used_at=at(number)) for number in range(5)])
    assert posts_with(ledger, SHA) == [(f"p-{number}", 1) for number in range(5)]
    assert (medium(ledger)["first_used_at"], medium(ledger)["last_used_at"]) == (at(0), at(4))


def test_media_that_were_not_kept_fail_the_whole_group(ledger: Ledger) -> None:
    entry = with_media("p-2")
    entry.post.media[0] = MediaIn(kind="image", uri="s3://somewhere/else")
    with pytest.raises(ValueError, match="medium 0 of post 'p-2' has no sha256"):
        ledger.record([with_media("p-1"), entry])
    assert ledger.newest(["p-1", "p-2"]) == {}
    assert rows(ledger, post_media) == []


def test_groups_that_share_media_in_another_order_do_not_wait_for_each_other(ledger: Ledger, neighbour: Ledger) -> None:
    names = [f"{number:064x}" for number in range(8)]

    def work(index: int) -> None:
        for round_ in range(15):
            ordered = names if index % 2 else names[::-1]
            used = at(round_ * 120)
            group = [with_media(f"p-{index}-{round_}-{n}", [name], used_at=used) for n, name in enumerate(ordered)]
            (ledger, neighbour)[index % 2].record(group)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [row["last_used_at"] for row in rows(ledger, media)] == [at(14 * 120)] * 8
    assert len(rows(ledger, post_media)) == 4 * 15 * 8


# Scores.


def found_in(
    sha256: str = SHA, kind: MediaKind = "image", version: int = 1, text: str = '{"nudity":0.1}'
) -> MediaScore:
    return MediaScore((sha256, kind, "image-nsfw", version), text, at(0))


def test_a_score_is_known_by_bytes_kind_variant_and_version(ledger: Ledger) -> None:
    keep_scores(ledger, [found_in(), found_in(version=2, text="2")])
    other: list[Any] = [
        (OTHER, "image", "image-nsfw", 1),
        (SHA, "video", "image-nsfw", 1),
        (SHA, "image", "image-x", 1),
        (SHA, "image", "image-nsfw", 3),
    ]
    known = known_scores(ledger, [found_in().key, found_in(version=2).key, *other])
    assert known == {found_in().key: '{"nudity":0.1}', found_in(version=2).key: "2"}
    assert known_scores(ledger, []) == known_scores(ledger, other) == {}


def test_what_was_found_last_is_known(ledger: Ledger) -> None:
    keep_scores(ledger, [])
    keep_scores(ledger, [found_in(text="1"), found_in(text="2")])
    keep_scores(ledger, [found_in(text="3")])
    assert known_scores(ledger, [found_in().key]) == {found_in().key: "3"}


def test_any_text_that_json_may_hold_is_kept(ledger: Ledger) -> None:
    text = '{"text": "Ж 🍅 \\u0000"}'
    keep_scores(ledger, [found_in(text=text)])
    assert known_scores(ledger, [found_in().key]) == {found_in().key: text}


def test_more_than_one_statement_has_room_for(ledger: Ledger) -> None:
    names = [f"{number:064x}" for number in range(450)]
    keep_scores(ledger, [found_in(name) for name in names])
    assert len(known_scores(ledger, [found_in(name).key for name in names])) == 450


def test_many_that_keep_the_same_scores_at_once_all_can(ledger: Ledger, neighbour: Ledger) -> None:
    names = [f"{number:064x}" for number in range(20)]

    def work(index: int) -> None:
        ordered = names if index % 2 else names[::-1]
        keep_scores((ledger, neighbour)[index % 2], [found_in(name, text=str(index)) for name in ordered])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    known = known_scores(ledger, [found_in(name).key for name in names])
    assert len(set(known.values())) == 1  # one transaction's, all of them
    assert len(known) == 20


# What is made of the rows elsewhere.


@pytest.mark.parametrize(
    ("text", "kinds", "expected"),
    [
        ("look", [], ("text",)),
        ("", [], ("text",)),
        ("look", ["image"], ("text", "image")),
        (" ", ["image", "image"], ("image",)),
        ("", ["video", "image"], ("image", "video")),
    ],
)
def test_a_statement_says_what_the_post_consists_of(
    ledger: Ledger, text: str, kinds: list[str], expected: tuple[str, ...]
) -> None:
    record(ledger, with_media(media=[SHA, OTHER][: len(kinds)], kinds=kinds, text=text))
    act(ledger, when=DAY)
    (removal,) = statement_rows.removals(ledger, DAY.date())
    assert removal.modalities == expected


def test_the_lake_names_the_media_of_each_content(ledger: Ledger, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    record(ledger, with_media("p-1", [OTHER, SHA], kinds=["video", "image"]))
    record(ledger, an_entry("p-1", "without", minutes=1))
    say(ledger, a_label("l-1", content_version=1), a_label("l-2", content_version=1), a_label("l-3"))
    lake.export(ledger)
    both, none = ([OTHER, SHA], ["video", "image"]), ([], [])
    posts = [(row["media"], row["media_kinds"]) for row in lake.get("posts/" + name(1, 2)).to_pylist()]
    assert posts == [both, none]
    labels = [(row["media"], row["media_kinds"]) for row in lake.get("labels/" + name(1, 3)).to_pylist()]
    assert labels == [both, both, none]


def test_files_of_before_there_were_media_are_still_read(ledger: Ledger, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    record(ledger, an_entry())
    lake.export(ledger)
    old = lake.get("posts/" + name(1, 1)).drop_columns(["media", "media_kinds"])
    lake.put("posts/" + name(1, 1), old)
    record(ledger, with_media("p-2"))
    lake.export(ledger)
    table = pa.dataset.dataset(lake.files("posts"), schema=SCHEMAS["posts"]).to_table()
    assert table["media"].to_pylist() == [None, [SHA]]
    assert lake.posts_between(at(-1), at(9), variant="text-multi").num_rows == 2


def name(begin: int, end: int) -> str:
    return f"part-{begin:012d}-{end:012d}.parquet"
