"""New words: what nobody said in the reference."""

from __future__ import annotations

import pytest

from drift.novelty import COLUMN, NewWord, Vocabulary

REFERENCE = Vocabulary(["ripe tomatoes", "green tomatoes", "my secret word", "secret again"], ["a", "b", "c", "c"])


@pytest.mark.parametrize(
    ("text", "author", "share"),
    [
        ("tomatoes", "z", 0.0),  # two others said it
        ("tomatoes", "a", 0.0),  # one other said it
        ("ripe", "z", 0.0),  # one other said it
        ("ripe", "a", 1.0),  # only the author said it: not known by others
        ("secret", "c", 1.0),  # said twice, by the author alone
        ("secret", "z", 0.0),
        ("grubnik", "z", 1.0),
        ("ripe grubnik", "z", 0.5),
        ("grubnik grubnik tomatoes", "z", 0.5),  # a word counts once a text
        ("RIPE Tomatoes!", "z", 0.0),
        ("", "z", 0.0),
        ("!! .. 1", "z", 0.0),  # no word of three characters
    ],
)
def test_a_word_is_known_if_another_author_used_it_in_the_reference(text: str, author: str, share: float) -> None:
    assert REFERENCE.novel_share([text], [author]).tolist() == [share]


def test_each_text_has_a_share_of_its_own() -> None:
    assert REFERENCE.novel_share(["ripe", "grubnik", "ripe grubnik"], ["z", "z", "z"]).tolist() == [0.0, 1.0, 0.5]
    assert REFERENCE.novel_share([], []).tolist() == []
    assert COLUMN == "novel_word_share"


def test_a_third_author_does_not_make_a_word_of_two_unknown_again() -> None:
    vocabulary = Vocabulary(["word", "word", "word"], ["a", "b", "a"])
    assert vocabulary.novel_share(["word"] * 3, ["a", "b", "c"]).tolist() == [0.0, 0.0, 0.0]


def test_without_a_reference_every_word_is_new() -> None:
    assert Vocabulary([], []).novel_share(["ripe tomatoes"], ["a"]).tolist() == [1.0]


@pytest.mark.parametrize(("minimum", "found"), [(1, True), (3, True), (4, False)])
def test_a_new_word_needs_several_authors(minimum: int, found: bool) -> None:
    texts, authors = ["a grubnik", "grubnik here", "what a Grubnik"], ["x", "y", "z"]
    words = REFERENCE.new_words(texts, authors, minimum_authors=minimum, most=50)
    assert (NewWord("grubnik", 3) in words) is found


def test_one_author_who_says_it_often_is_one_author() -> None:
    assert REFERENCE.new_words(["grubnik"] * 9, ["x"] * 9, minimum_authors=2, most=50) == []


def test_a_word_that_one_author_alone_used_in_the_reference_is_not_new() -> None:
    assert REFERENCE.new_words(["secret", "secret"], ["x", "y"], minimum_authors=1, most=50) == []


def test_the_most_used_words_come_first_and_the_list_has_an_end() -> None:
    texts = ["zorp blim", "zorp blim", "zorp arg"]
    words = Vocabulary([], []).new_words(texts, ["x", "y", "z"], minimum_authors=1, most=50)
    assert words == [NewWord("zorp", 3), NewWord("blim", 2), NewWord("arg", 1)]
    assert Vocabulary([], []).new_words(texts, ["x", "y", "z"], minimum_authors=1, most=2) == words[:2]


def test_of_words_used_alike_the_alphabet_decides_so_that_an_alert_is_the_same_every_time() -> None:
    words = Vocabulary([], []).new_words(["zorp blim arg"], ["x"], minimum_authors=1, most=50)
    assert [word.word for word in words] == ["arg", "blim", "zorp"]


def test_texts_and_authors_must_be_as_many() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Vocabulary(["a text"], [])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        REFERENCE.novel_share(["a text"], ["x", "y"])
