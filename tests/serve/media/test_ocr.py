"""Text in pictures is read back in reading order; what cannot be read is told as boxes, never as words."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationError

from moderation.media import OcrRules, Reading, ReadRules, Written
from moderation.preprocess.image import read_image
from serve.media.ocr import TextReader, overlap
from serve.media.ocr_lines import Alphabet, Line, coverage, foreign, in_company, in_order, joined

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


def drawn(
    *texts: tuple[str, float],
    size: tuple[int, int] = (480, 320),
    colours: tuple[str, str] = ("black", "white"),
    font: str = "DejaVuSans-Bold.ttf",
    angle: float = 0.0,
) -> Picture:
    """Texts, centred, each at a share of the height."""
    picture = Image.new("RGB", size, colours[1])
    pen = ImageDraw.Draw(picture)
    face = ImageFont.truetype(str(FONTS / font), 26)
    for text, share in texts:
        pen.text(((size[0] - pen.textlength(text, font=face)) / 2, share * size[1]), text, font=face, fill=colours[0])
    if angle:
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=angle % 90 == 0, fillcolor=colours[1])
    return np.asarray(picture)


def reading(*pictures: Picture, seconds: float | None = None) -> Reading:
    height, width = pictures[0].shape[:2]
    times = np.arange(len(pictures), dtype=np.float32)
    return Reading(
        "image" if seconds is None else "video",
        "png",
        width,
        height,
        len(pictures),
        seconds,
        np.stack(pictures),
        times,
        None,
        None,
        None,
        "pillow",
    )


def text_of(written: Written) -> str:
    return "\n".join(words.text for words in written.words)


@pytest.mark.parametrize("colours", [("black", "white"), ("white", "black"), ("yellow", "navy")])
def test_upright_text_is_read_with_its_spaces(reader: TextReader, colours: tuple[str, str]) -> None:
    written = reader.read(reading(drawn(("you are all idiots", 0.4), colours=colours)), samples=1)
    assert text_of(written) == "you are all idiots"
    assert written.unreadable == ()
    assert written.words[0].confidence > 0.9
    assert written.words[0].t is None


def test_captions_come_from_top_to_bottom(reader: TextReader) -> None:
    picture = drawn(("when they say hello", 0.02), ("and you say goodbye", 0.85), ("to all of us", 0.13))
    assert text_of(reader.read(reading(picture), samples=1)) == "when they say hello\nto all of us\nand you say goodbye"


@pytest.mark.parametrize("angle", [-12, 9, 90, 180, 270])
def test_turned_text_is_read(reader: TextReader, angle: float) -> None:
    picture = drawn(("go back to where", 0.3), ("you came from", 0.5), angle=angle)
    assert text_of(reader.read(reading(picture), samples=1)) == "go back to where\nyou came from"


def test_the_box_is_where_the_text_is(reader: TextReader) -> None:
    (words,) = reader.read(reading(drawn(("down below", 0.8))), samples=1).words
    left, top, right, bottom = words.box
    assert 0.2 < left < 0.4
    assert 0.6 < right < 0.8
    assert 0.7 < top < bottom <= 1.0


def test_a_picture_without_text_has_none(reader: TextReader) -> None:
    slope = np.linspace(0, 255, 320, dtype=np.uint8)
    picture = np.broadcast_to(slope[:, None, None], (320, 480, 3))
    assert reader.read(reading(picture), samples=1) == Written((), ())


@pytest.mark.parametrize(
    ("text", "font"),
    [
        ("Убирайся отсюда, дурак", "DejaVuSans.ttf"),
        ("Φύγε από εδώ, ηλίθιε", "DejaVuSerif.ttf"),
        ("اخرج من هنا الآن", "DejaVuSans.ttf"),
        ("წადი აქედან, სულელო", "DejaVuSans.ttf"),
    ],
)
def test_a_script_that_was_not_trained_is_unreadable_not_words(reader: TextReader, text: str, font: str) -> None:
    written = reader.read(reading(drawn((text, 0.4), font=font)), samples=1)
    assert written.words == ()
    assert written.unreadable
    assert all(0 <= left < right <= 1 and 0 <= top < bottom <= 1 for left, top, right, bottom in written.unreadable)


def test_a_small_label_that_cannot_be_read_is_nothing(reader: TextReader) -> None:
    picture = drawn(("ηλίθιε", 0.4), size=(900, 320))
    assert reader.read(reading(picture), samples=1) == Written((), ())
    strict = TextReader(OcrRules(least_share=0.05)).read(reading(picture), samples=1)
    assert strict.words == ()
    assert len(strict.unreadable) == 1


def test_readable_and_unreadable_lines_of_one_picture_are_told_apart(reader: TextReader) -> None:
    picture = drawn(("this line can be read well", 0.1), ("эту строчку не прочесть никак", 0.7))
    written = reader.read(reading(picture), samples=1)
    assert text_of(written) == "this line can be read well"
    assert len(written.unreadable) == 1
    assert written.unreadable[0][1] > 0.5


def test_what_is_shown_again_comes_once_with_its_first_second(reader: TextReader) -> None:
    blank = drawn()
    first, both = drawn(("watch this", 0.1)), drawn(("watch this", 0.1), ("and now that", 0.7))
    written = reader.read(reading(blank, first, first, both, seconds=4.0), samples=4)
    assert [(words.text, words.t) for words in written.words] == [("watch this", 1.0), ("and now that", 3.0)]


def test_samples_are_spread_over_the_pictures_and_the_rest_is_told() -> None:
    pictures = [drawn((f"number {word}", 0.4), size=(240, 120)) for word in ("one", "two", "three", "four", "five")]
    written = TextReader(OcrRules(more_samples=0)).read(reading(*pictures, seconds=5.0), samples=2)
    assert [(words.text, words.t) for words in written.words] == [("number one", 0.0), ("number five", 4.0)]
    assert (written.unread, written.share) == ((1.0, 2.0, 3.0), 0.4)


def test_pictures_that_differ_are_read_beside_the_samples_the_most_different_first() -> None:
    """The fourth of ten slides is where an insult stands that four samples would not read."""
    words = ["one", "two", "three", "you are a stupid idiot", "five", "six", "seven", "eight", "nine", "ten"]
    pictures = [drawn((word, 0.4), size=(320, 180)) for word in words]
    whole = TextReader(OcrRules()).read(reading(*pictures, seconds=10.0), samples=4)
    assert [(found.text, found.t) for found in whole.words] == [(word, float(at)) for at, word in enumerate(words)]
    assert (whole.unread, whole.share) == ((), 1.0)
    some = TextReader(OcrRules(more_samples=1)).read(reading(*pictures, seconds=10.0), samples=2)
    assert [found.text for found in some.words] == ["one", "you are a stupid idiot", "ten"]
    assert (some.unread, some.share) == (tuple(float(at) for at in (1, 2, 4, 5, 6, 7, 8)), pytest.approx(0.3))


def test_pictures_that_are_alike_are_read_once(reader: TextReader, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    find = reader._find
    monkeypatch.setattr(reader, "_find", lambda picture, side: looked.append(side) or find(picture, side))
    pictures = [drawn(("all the same", 0.4), size=(240, 120))] * 12
    written = reader.read(reading(*pictures, seconds=12.0), samples=4)
    assert (len(looked), written.unread, written.share) == (4, (), 1.0)


def test_characters_and_boxes_are_bounded() -> None:
    picture = reading(drawn(("a longer line of words", 0.1), ("short", 0.7)))
    for rules, text in ((OcrRules(most_characters=8), "a longer"), (OcrRules(most_boxes=1), "a longer line of words")):
        written = TextReader(rules).read(picture, samples=1)
        assert text_of(written) == text
        assert len(written.unreadable) == 1  # what was left out is not clean


def test_what_comes_after_the_last_character_is_unreadable() -> None:
    pictures = [drawn((text, 0.4)) for text in ("a longer line of words", "and another one")]
    written = TextReader(OcrRules(most_characters=22)).read(reading(*pictures, seconds=2.0), samples=2)
    assert text_of(written) == "a longer line of words"
    assert len(written.unreadable) == 1


def test_every_picture_of_a_short_animation_is_read(reader: TextReader) -> None:
    texts = [f"number {word}" for word in ("one", "two", "three", "four", "five")]
    moving = reading(*(drawn((text, 0.4), size=(240, 120)) for text in texts), seconds=5.0)
    written = reader.read(replace(moving, kind="image"), samples=2)
    assert [words.text for words in written.words] == texts


def test_a_tall_screenshot_is_read_to_its_end_with_boxes_of_the_whole(reader: TextReader, tmp_path: Path) -> None:
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    lines = [f"{word} line of many" for word in ordinals]
    picture = drawn(*((line, (n + 0.4) / len(lines)) for n, line in enumerate(lines)), size=(400, 4400))
    path = tmp_path / "tall.png"
    Image.fromarray(picture).save(path)
    found = read_image(path, ReadRules())
    assert isinstance(found, Reading)
    written = reader.read(found, samples=1)
    assert text_of(written).split("\n") == lines
    assert written.unreadable == ()
    assert {words.t for words in written.words} == {None}
    assert written.words[-1].box[3] > 0.9
    assert written.words[0].box[1] < 0.1


def test_white_words_on_nothing_are_read(reader: TextReader, tmp_path: Path) -> None:
    alpha = Image.fromarray(drawn(("you are all idiots", 0.4), colours=("white", "black"))).convert("L")
    layered = Image.new("RGBA", alpha.size, "white")
    layered.putalpha(alpha)
    layered.save(tmp_path / "seen-through.png")
    found = read_image(tmp_path / "seen-through.png", ReadRules())
    assert isinstance(found, Reading)
    assert text_of(reader.read(found, samples=4)) == "you are all idiots"


def test_switched_off_it_reads_nothing() -> None:
    written = TextReader(OcrRules(enabled=False)).read(reading(drawn(("not for you", 0.4))), samples=1)
    assert written == Written((), ())


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3), (8, 8), (9, 1280), (1280, 9)])
def test_pictures_of_any_shape_are_taken(reader: TextReader, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    written = reader.read(reading(noise), samples=1)
    boxes = [*written.unreadable, *(words.box for words in written.words)]
    assert all(0 <= left <= right <= 1 and 0 <= top <= bottom <= 1 for left, top, right, bottom in boxes)


def test_the_same_picture_is_read_the_same_again(reader: TextReader) -> None:
    picture = reading(drawn(("again and again", 0.3), ("эту строчку", 0.7)))
    assert reader.read(picture, samples=1) == reader.read(picture, samples=1)


def test_no_sample_at_all_is_refused(reader: TextReader) -> None:
    with pytest.raises(ValueError, match="samples is 0, below 1"):
        reader.read(reading(drawn()), samples=0)


@pytest.mark.parametrize("field", [{"least_confidence": 1.5}, {"samples": 0}, {"unknown": 1}])
def test_rules_out_of_bounds_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OcrRules.model_validate(field)


# What a recogniser's columns come to.

ALPHABET = Alphabet(["blank", "a", "A", "b", "o", "0", "字", " "])


def columns(*rows: dict[str, float]) -> npt.NDArray[np.float32]:
    """Probabilities by character; what is left goes to no character."""
    found = np.zeros((len(rows), len(ALPHABET.characters)), dtype=np.float32)
    for place, row in enumerate(rows):
        for character, probability in row.items():
            found[place, ALPHABET.characters.index(character)] = probability
        found[place, 0] = 1 - sum(row.values())
    return found


def test_repeats_are_taken_together_and_blanks_part_them() -> None:
    assert ALPHABET.decode(columns({"a": 0.9}, {"a": 0.9}, {}, {"a": 0.9}, {"b": 0.9}), space=0.5).text == "aab"


@pytest.mark.parametrize(("told", "text"), [(0.9, "a b"), (0.3, "a b"), (0.1, "ab")])
def test_a_space_stands_where_it_is_likely_enough(told: float, text: str) -> None:
    assert ALPHABET.decode(columns({"a": 0.9}, {" ": told}, {"b": 0.9}), space=0.2).text == text


@pytest.mark.parametrize(("told", "text"), [("groBer", "großer"), ("SpaB", "Spaß"), ("BaB", "BaB"), ("BOB", "BOB")])
def test_a_capital_b_inside_a_word_is_a_sharp_s(told: str, text: str) -> None:
    alphabet = Alphabet(["blank", *sorted(set(told)), " "])
    rows = np.zeros((2 * len(told), len(alphabet.characters)), dtype=np.float32)
    rows[1::2, 0] = 1
    for place, character in enumerate(told):
        rows[2 * place, alphabet.characters.index(character)] = 1
    assert alphabet.decode(rows, space=0.5).text == text


def test_doubt_between_kin_costs_nothing_and_between_strangers_it_does() -> None:
    kin = ALPHABET.decode(columns({"a": 0.5, "A": 0.45}, {"o": 0.6, "0": 0.4}), space=0.2)
    strangers = ALPHABET.decode(columns({"a": 0.5, "b": 0.45}, {"o": 0.6, "字": 0.4}), space=0.2)
    assert kin.certainty == pytest.approx(math.sqrt(0.95 * 1.0), abs=1e-5)
    assert strangers.certainty == pytest.approx(math.sqrt(0.5 * 0.6), abs=1e-5)


def test_nothing_read_is_not_certain() -> None:
    assert ALPHABET.decode(columns({}, {" ": 0.9}), space=0.2) == ALPHABET.decode(columns({}), space=0.2)
    assert ALPHABET.decode(columns({}), space=0.2).certainty == 0.0


# From boxes to reading order.


def line(text: str, x: float, y: float, *, width: float = 60, height: float = 20, certainty: float = 1.0) -> Line:
    quad = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], dtype=np.float32)
    return Line(text, certainty, quad, np.array([1, 0], dtype=np.float32), 0.9)


def ordered_texts(lines: Sequence[Line]) -> list[str]:
    return [joined(row) for row in in_order(lines)]


def test_rows_go_down_and_words_go_right_whatever_the_order_of_the_boxes() -> None:
    lines = [line("one", 0, 0), line("two", 80, 4), line("three", 0, 40), line("four", 90, 36), line("five", 10, 80)]
    random.Random(1).shuffle(lines)
    assert ordered_texts(lines) == ["one two", "three four", "five"]


def test_no_space_is_put_between_chinese_characters() -> None:
    assert ordered_texts([line("你好", 0, 0), line("世界", 80, 0), line("ok", 160, 0)]) == ["你好世界 ok"]


def test_a_short_line_is_judged_with_the_rest_of_its_picture() -> None:
    alone = in_company([line("CAT", 0, 0, certainty=0.98)])
    among = in_company([line("CAT", 0, 0, certainty=0.98), line("HanUCan 3TOT KOMMeHT", 0, 40, certainty=0.7)])
    assert alone[0] == pytest.approx(0.98)
    assert among[0] < 0.85
    assert among[1] < 0.8


def test_letters_of_other_scripts_are_foreign() -> None:
    assert foreign("hello 你好") == 0
    assert foreign("の二一嘘") == pytest.approx(0.25)
    assert foreign("123") == 0


def test_characters_that_are_too_few_for_their_box_cover_little_of_it() -> None:
    assert coverage(line("政府嘘", 0, 0, width=400, height=24)) < 0.2
    assert coverage(line("you are all idiots", 0, 0, width=240, height=24)) > 0.5


def test_overlap_is_of_the_union() -> None:
    assert overlap((0, 0, 0.5, 1), (0.25, 0, 0.75, 1)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 0.2, 0.2), (0.5, 0.5, 1, 1)) == 0
