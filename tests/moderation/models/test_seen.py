"""Which words training showed a model."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moderation.models.seen import SEEN_BITS, no_words, remember_words, unseen_word_share
from moderation.preprocess.ngrams import hash_words
from tests.moderation.properties import few

texts_of_few_words = st.lists(st.text("abc ", max_size=12).map(lambda text: " ".join(text.split())), max_size=5)


@few
@given(texts_of_few_words)
def test_what_was_shown_is_never_unseen(texts: list[str]) -> None:
    seen = no_words()
    words, offsets = hash_words(texts)
    assert unseen_word_share(seen, words, offsets).tolist() == [1.0 if text else 0.0 for text in texts]
    remember_words(seen, words)
    assert unseen_word_share(seen, words, offsets).tolist() == [0.0] * len(texts)
    assert np.unpackbits(seen).sum() == len({int(word) % SEEN_BITS for word in words})


def test_a_text_is_unseen_by_the_share_of_its_words() -> None:
    seen = no_words()
    remember_words(seen, hash_words(["one two", "three"])[0])
    share = unseen_word_share(seen, *hash_words(["one two three", "", "one blarg", "snorf", "one one one blarg"]))
    assert share.tolist() == [0.0, 0.0, 0.5, 1.0, 0.25]
    assert share.dtype == np.float32


def test_remembering_again_changes_nothing() -> None:
    words, _ = hash_words(["one two three"])
    seen = no_words()
    remember_words(seen, words)
    once = seen.copy()
    remember_words(seen, np.concatenate([words, words]))
    assert np.array_equal(seen, once)


def test_a_memory_of_nothing_takes_little_room_and_is_never_shared() -> None:
    seen = no_words()
    assert (seen.nbytes, int(seen.sum())) == (128 * 1024, 0)
    seen[0] = 1
    assert no_words()[0] == 0
