"""The simulated traffic keeps its promises: shares, languages, order, identity and determinism."""

import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulate.traffic import SimulatedPost, TrafficConfig, day_of_traffic

CONFIG = TrafficConfig()
DAYS = range(1, 7)
LANGUAGES = {"DE": "de", "AT": "de", "CH": "de", "BR": "pt", "RU": "ru", "CN": "zh"}


@pytest.fixture(scope="module")
def days() -> dict[int, list[SimulatedPost]]:
    """Posts of the days 1 to 6, by day."""
    return {day: day_of_traffic(CONFIG, day) for day in DAYS}


@pytest.fixture(scope="module")
def posts(days: dict[int, list[SimulatedPost]]) -> list[SimulatedPost]:
    """All posts of the days 1 to 6."""
    return [post for day in DAYS for post in days[day]]


def language_shares(posts: list[SimulatedPost]) -> dict[str, float]:
    """Share of each language, read off the regions of the authors."""
    counts = Counter(LANGUAGES.get(post.region, "en") for post in posts)
    return {language: count / len(posts) for language, count in counts.items()}


def test_same_config_and_day_give_the_same_posts(days: dict[int, list[SimulatedPost]]) -> None:
    assert day_of_traffic(TrafficConfig(), 4) == days[4]
    assert day_of_traffic(TrafficConfig(seed=8), 4) != days[4]
    assert [post.text for post in days[4]] != [post.text for post in days[5]]


def test_posts_do_not_depend_on_the_hash_seed() -> None:
    script = (
        "import hashlib; from simulate.traffic import *;"
        "print(hashlib.sha256(repr(day_of_traffic(TrafficConfig(posts_per_day=200), 3)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            cwd=Path(__file__).resolve().parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_every_day_has_its_posts_in_ascending_order_within_the_day(days: dict[int, list[SimulatedPost]]) -> None:
    for day, posts in days.items():
        midnight = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=day - 1)
        times = [post.created_at for post in posts]
        assert len(posts) == CONFIG.posts_per_day
        assert times == sorted(times)
        assert midnight <= times[0]
        assert times[-1] < midnight + timedelta(days=1)
        assert all(time.utcoffset() == timedelta(0) for time in times)
        by_quarter = Counter(time.hour // 6 for time in times)
        assert all(0.2 < by_quarter[quarter] / len(posts) < 0.3 for quarter in range(4))


def test_start_moves_the_calendar_and_nothing_else() -> None:
    here = day_of_traffic(TrafficConfig(posts_per_day=50), 2)
    there = day_of_traffic(TrafficConfig(posts_per_day=50, start=date(2027, 1, 1)), 2)
    assert [post.text for post in here] == [post.text for post in there]
    assert {post.created_at.date() for post in there} == {date(2027, 1, 2)}


def test_ids_are_unique_across_days(posts: list[SimulatedPost]) -> None:
    assert len({post.post_id for post in posts}) == len(posts)
    assert all(re.fullmatch(r"d\d\d-\d{5}", post.post_id) for post in posts)


def test_shares_of_abuse_and_slang(days: dict[int, list[SimulatedPost]]) -> None:
    for day, posts in days.items():
        abuse = sum(post.harmful and not post.slang for post in posts) / len(posts)
        slang = sum(post.slang for post in posts) / len(posts)
        assert abuse == pytest.approx(CONFIG.abuse_share, abs=0.03)
        assert slang == (pytest.approx(CONFIG.slang_share, abs=0.03) if day >= 3 else 0)
        assert all(post.harmful for post in posts if post.slang)


def test_slang_arrives_on_its_day() -> None:
    config = TrafficConfig(slang_from_day=5, slang_share=0.3, posts_per_day=200)
    assert [any(post.slang for post in day_of_traffic(config, day)) for day in DAYS] == [False] * 4 + [True] * 2


def test_without_slang_the_other_posts_stay_and_benign_ones_fill_up(days: dict[int, list[SimulatedPost]]) -> None:
    config = TrafficConfig(slang_share=0)
    for day in (1, 3, 6):
        quiet = day_of_traffic(config, day)
        assert not any(post.slang for post in quiet)
        for before, after in zip(days[day], quiet, strict=True):
            assert after == before if not before.slang else not after.harmful


def test_benign_texts_are_varied(days: dict[int, list[SimulatedPost]]) -> None:
    texts = [post.text for day in (1, 2, 3) for post in days[day] if not post.harmful]
    assert len(set(texts)) >= 0.8 * len(texts)


@pytest.mark.parametrize("slang", [False, True])
def test_harmful_texts_are_varied(posts: list[SimulatedPost], slang: bool) -> None:
    texts = [post.text for post in posts if post.harmful and post.slang == slang]
    assert len(set(texts)) >= 0.8 * len(texts)


def test_texts_are_complete_and_of_the_promised_length(posts: list[SimulatedPost]) -> None:
    lengths = []
    for post in posts:
        assert not re.search(r"[{}|=;\n]", post.text)
        if post.region == "CN":
            assert 4 <= len(post.text) <= 100
        else:
            lengths.append(len(post.text.split()))
    assert min(lengths) >= 4
    assert max(lengths) <= 45
    assert sum(length > 20 for length in lengths) > 0.1 * len(lengths)
    assert sum(length < 8 for length in lengths) > 0.05 * len(lengths)


def test_texts_carry_mentions_links_emoji_and_upper_case(posts: list[SimulatedPost]) -> None:
    texts = [post.text for post in posts]
    for pattern in (r"@\w+\d", r"https://example\.org/\w+/\d+", "[\U0001f300-\U0001faff]", r"\b[A-Z]{4,} [A-Z]{4,}\b"):
        assert sum(bool(re.search(pattern, text)) for text in texts) > 0.01 * len(texts), pattern


def test_language_mix(posts: list[SimulatedPost]) -> None:
    shares = language_shares([post for post in posts if not post.slang])
    expected = {"en": 0.70, "de": 0.12, "pt": 0.10, "ru": 0.04, "zh": 0.04}
    assert shares == {language: pytest.approx(share, abs=0.02) for language, share in expected.items()}
    assert language_shares([post for post in posts if post.slang])["en"] == pytest.approx(0.85, abs=0.05)
    for post in posts:
        assert bool(re.search("[а-яА-Я]", post.text)) == (post.region == "RU")
        assert bool(re.search("[\u4e00-\u9fff]", post.text)) == (post.region == "CN")


def test_an_author_stays_in_one_region(posts: list[SimulatedPost]) -> None:
    regions: dict[str, set[str]] = {}
    for post in posts:
        regions.setdefault(post.author_id, set()).add(post.region)
    assert len(regions) <= CONFIG.authors
    assert all(len(found) == 1 for found in regions.values())


def test_ordinary_abuse_is_concentrated_and_slang_is_spread(posts: list[SimulatedPost]) -> None:
    abuse = Counter(post.author_id for post in posts if post.harmful and not post.slang)
    top = sum(count for _, count in abuse.most_common(CONFIG.authors // 5))
    assert top > 0.7 * abuse.total()
    assert len(abuse) > CONFIG.authors // 5
    assert len({post.author_id for post in posts if post.slang}) >= 150


def test_slang_words_appear_in_no_other_post(posts: list[SimulatedPost]) -> None:
    words = r"drumvik|skolvey|vundrel|wenquil|quilvar|plonvex|yarvidge|melkvar|frulgen|blavorn|jolvint|thrumbek"
    slang = [post for post in posts if post.slang and post.region != "RU"]
    found = [post for post in slang if re.search(words, post.text, re.IGNORECASE)]
    assert 0.6 * len(slang) < len(found) < len(slang)  # the rest is spelled in other ways
    assert not any(re.search(words, post.text, re.IGNORECASE) for post in posts if not post.slang)


def test_few_authors_still_write_every_language() -> None:
    posts = day_of_traffic(TrafficConfig(authors=3, posts_per_day=300), 3)
    assert {post.author_id for post in posts} == {"user-0000", "user-0001", "user-0002"}
    assert set(language_shares(posts)) == {"en", "de", "pt", "ru", "zh"}


def test_extreme_shares() -> None:
    everything = day_of_traffic(TrafficConfig(posts_per_day=50, abuse_share=0, slang_share=1), 3)
    assert all(post.slang for post in everything)
    nothing = day_of_traffic(TrafficConfig(posts_per_day=50, abuse_share=0, slang_share=0), 3)
    assert not any(post.harmful for post in nothing)
    assert day_of_traffic(TrafficConfig(posts_per_day=0), 3) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"posts_per_day": -1}, "posts_per_day"),
        ({"authors": 0}, "authors"),
        ({"abuse_share": -0.1}, "abuse_share"),
        ({"abuse_share": 0.6, "slang_share": 0.6}, "slang_share"),
    ],
)
def test_impossible_configurations_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrafficConfig(**config)


def test_days_count_from_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        day_of_traffic(CONFIG, 0)
