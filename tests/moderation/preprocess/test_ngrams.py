"""Hashed n-grams against a slow and obvious way to count them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moderation.preprocess.ngrams import Bags, Int64s, NgramConfig, UInt64s, hash_ngrams, hash_words
from moderation.preprocess.text import normalise
from tests.moderation.properties import any_text, few, many, tricky_text

WIDE = NgramConfig(buckets=2**62)
"""So many buckets that two n-grams never meet in one by chance."""

WORD = re.compile("[\u3040-\u9fff\uac00-\ud7af]|[^ \u3040-\u9fff\uac00-\ud7af]+", re.DOTALL)

short_text = st.one_of(
    st.text("ab你 ", max_size=12).map(lambda text: " ".join(text.split())),
    tricky_text.map(normalise),
    any_text.map(normalise),
)
batches = st.lists(short_text, max_size=6)


def slow_grams(text: str, config: NgramConfig) -> Counter[Hashable]:
    """Every run of characters and of words, by what it is: kind, length and substring."""
    padded = f" {text} "
    grams: Counter[Hashable] = Counter()
    for length in config.char_lengths:
        runs = [padded[begin : begin + length] for begin in range(len(padded) - length + 1)]
        grams.update(("characters", length, run) for run in runs if run != " ")
    words = [match.span() for match in WORD.finditer(padded)]
    for length in config.word_lengths:
        for first, last in zip(words, words[length - 1 :], strict=False):
            grams[("words", length, padded[first[0] : last[1]])] += 1
    return grams


def slow_words(text: str) -> Counter[Hashable]:
    return Counter(WORD.findall(text))


def split(values: Int64s | UInt64s, offsets: Int64s) -> list[list[int]]:
    edges = [*offsets.tolist(), len(values)]
    return [values[begin:end].tolist() for begin, end in pairwise(edges)]


def split_ids(texts: list[str], config: NgramConfig) -> list[list[int]]:
    bags = hash_ngrams(texts, config)
    return split(bags.ids, bags.offsets)


def bags_of(bags: Bags) -> list[Counter[Hashable]]:
    return [Counter(ids) for ids in split(bags.ids, bags.offsets)]


def profile(counters: Sequence[Counter[Hashable]]) -> Counter[tuple[int, ...]]:
    """How often each key occurs in each text, without the keys: equal if one key stands for exactly one other."""
    keys = {key for counter in counters for key in counter}
    return Counter(tuple(counter[key] for counter in counters) for key in keys)


@many
@given(batches)
@example(["", "a", "", "b a", "你a好"])
def test_the_fast_way_counts_what_the_slow_way_counts(texts: list[str]) -> None:
    texts = [text for text in texts if text]
    bags = hash_ngrams(texts, WIDE)
    assert profile(bags_of(bags)) == profile([slow_grams(text, WIDE) for text in texts])
    words: list[Counter[Hashable]] = [Counter(words) for words in split(bags.words, bags.word_offsets)]
    assert profile(words) == profile([slow_words(text) for text in texts])


@few
@given(
    batches,
    st.lists(st.integers(1, 7), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True),
)
def test_any_lengths_are_counted(texts: list[str], char_lengths: list[int], word_lengths: list[int]) -> None:
    config = NgramConfig(2**62, tuple(char_lengths), tuple(word_lengths))
    texts = [text for text in texts if text]
    assert profile(bags_of(hash_ngrams(texts, config))) == profile([slow_grams(text, config) for text in texts])


@many
@given(batches)
@example(["a", "", "a"])
@example(["", ""])
def test_a_text_has_the_same_bag_whoever_is_beside_it(texts: list[str]) -> None:
    config = NgramConfig(buckets=2**10)
    together = hash_ngrams(texts, config)
    bags = split(together.ids, together.offsets)
    words = split(together.words, together.word_offsets)
    assert len(bags) == len(words) == len(texts)
    for text, bag, word in zip(texts, bags, words, strict=True):
        alone = hash_ngrams([text], config)
        assert bag == alone.ids.tolist()
        assert word == alone.words.tolist()


@few
@given(batches)
def test_words_alone_are_hashed_as_beside_the_n_grams(texts: list[str]) -> None:
    bags = hash_ngrams(texts, NgramConfig())
    words, offsets = hash_words(texts)
    assert words.tolist() == bags.words.tolist()
    assert offsets.tolist() == bags.word_offsets.tolist()


@few
@given(batches, st.integers(1, 20))
def test_ids_lie_within_the_buckets(texts: list[str], exponent: int) -> None:
    bags = hash_ngrams(texts, NgramConfig(buckets=2**exponent))
    assert bags.ids.dtype == np.int64
    assert not len(bags.ids) or (bags.ids.min() >= 0 and bags.ids.max() < 2**exponent)


def test_a_substring_has_the_same_id_wherever_it_stands() -> None:
    only_threes = NgramConfig(buckets=2**62, char_lengths=(3,), word_lengths=())
    alone = hash_ngrams(["xyz"], only_threes).ids.tolist()[1]
    for before in (1, 10, 1000, 70_000):
        ids = hash_ngrams(["a" * before + "xyz"], only_threes).ids.tolist()
        assert ids[before + 1] == alone
        assert ids.count(alone) == 1


def test_a_character_run_and_a_word_of_the_same_letters_are_kept_apart() -> None:
    characters = hash_ngrams(["ab"], NgramConfig(2**62, (2,), ())).ids.tolist()
    words = hash_ngrams(["ab"], NgramConfig(2**62, (), (1,))).ids.tolist()
    assert len(characters) == 3
    assert len(words) == 1
    assert words[0] not in characters


@pytest.mark.parametrize(("shorter", "longer"), [("a", "a\x00"), ("ab", "ba"), ("\x00", "\x00\x00")])
def test_words_that_differ_have_hashes_that_differ(shorter: str, longer: str) -> None:
    first, second = hash_ngrams([shorter, longer], WIDE).words.tolist()
    assert first != second


def test_a_cjk_character_is_a_word() -> None:
    bags = hash_ngrams(["我喜欢tea 你", "plain words here"], WIDE)
    assert [len(words) for words in split(bags.words, bags.word_offsets)] == [5, 3]


def test_an_empty_batch_is_empty() -> None:
    bags = hash_ngrams([], NgramConfig())
    assert [len(part) for part in (bags.ids, bags.offsets, bags.words, bags.word_offsets)] == [0, 0, 0, 0]


def test_an_empty_text_has_the_edge_of_a_word_and_no_word() -> None:
    bags = hash_ngrams(["", "a", ""], NgramConfig())
    assert [len(ids) for ids in split(bags.ids, bags.offsets)] == [1, 5, 1]
    assert [len(words) for words in split(bags.words, bags.word_offsets)] == [0, 1, 0]


def test_word_runs_alone_can_be_hashed_where_there_are_no_words() -> None:
    config = NgramConfig(char_lengths=(), word_lengths=(1,))
    assert [len(ids) for ids in split_ids(["a", "", "b c"], config)] == [1, 0, 2]
    assert [len(ids) for ids in split_ids([""], config)] == [0]


@pytest.mark.parametrize("buckets", [0, 1, 3, 100, -8])
def test_buckets_that_are_no_power_of_two_are_told(buckets: int) -> None:
    with pytest.raises(ValueError, match=f"buckets is {buckets}; it must be a power of two, 2 or more"):
        NgramConfig(buckets=buckets)


def slow_hash(run: str, kind: int) -> int:
    """The polynomial and the finaliser in whole numbers, one character at a time."""
    value = sum((ord(character) + 1) * pow(0x9E3779B97F4A7C15, place, 2**64) for place, character in enumerate(run))
    value = (value + kind * 0xBF58476D1CE4E5B9) % 2**64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
    return value ^ (value >> 31)


def test_ids_never_change_between_releases() -> None:
    # Weights that are stored belong to these very numbers; a kind is the length of a run, 100 more for runs of words.
    bags = hash_ngrams(["ab 你", "b"], NgramConfig(buckets=2**17, char_lengths=(1, 3), word_lengths=(1, 2)))
    runs = [("a", 1), ("b", 1), ("你", 1), (" ab", 3), ("ab ", 3), ("b 你", 3), (" 你 ", 3)]
    runs += [("ab", 101), ("你", 101), ("ab 你", 102)]
    runs += [("b", 1), (" b ", 3), ("b", 101)]
    assert bags.ids.tolist() == [slow_hash(run, kind) % 2**17 for run, kind in runs]
    assert bags.offsets.tolist() == [0, 10]
    assert bags.words.tolist() == [slow_hash(word, 101) for word in ("ab", "你", "b")]
    assert bags.word_offsets.tolist() == [0, 2]
