"""Text in pictures, judged against the same text typed: `python -m tests.benchmarks.written --data DIR`.

    read     held-out posts, written on photos of garments in fonts, sizes, colours, outlines and places of many kinds,
             turned, made noisy, and compressed; read back, and judged by the shipped text model at the threshold that
             ships. Beside it the same texts typed: what the reader loses, and nothing else, lies between the two
    turned   the same by how the text was turned
    scripts  texts in scripts that the reader was not trained on: the share that is told unreadable, and the share of
             which words came out all the same
    photos   without any text: the share in which the reader sees words, or something unreadable

Every text, typed or read, is judged in the language that the service finds in it. Every rate has a 95 % interval by
bootstrap. Times are of the processor, on one thread: other programs on the machine
do not count. What a font cannot draw (emoji, links, and Chinese without `--font zh=FILE`) is taken out of a text before
it is typed and drawn; a language without a font is told as not measured.
"""

from __future__ import annotations

import io
import json
import random
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image, ImageDraw, ImageFont

from moderation.console import errors_told
from moderation.media import OcrRules, Reading, Written
from moderation.metrics import Bools, confusion, roc_auc
from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.settings import DEPLOYMENTS
from serve.media.ocr import TextReader
from tests.benchmarks.quality import Judged, Row, bounds, corpus, judge, share, threshold
from train.champion import DataOption
from train.picture_models import photos_of
from train.rows import corpus_path

CORPORA = {
    "en": "en-surge-dev",
    "en-davidson": "en-davidson",
    "de": "de-germeval2018-train",
    "pt": "pt-told-br-train",
    "zh": "zh-cold-dev",
    "ru": "ru-vk-train",
}
"""Texts by the name under which they are told: all of en-surge-dev and zh-cold-dev, of the others the test split."""
WHOLE = {"en-surge-dev", "zh-cold-dev"}

SCRIPTS = {
    "el": "Τι κάνεις σήμερα φίλε μου|Είσαι πολύ ηλίθιος άνθρωπος|Η κυβέρνηση λέει ψέματα στον λαό|Φύγε από εδώ τώρα"
    "|Δεν μου αρέσει αυτό καθόλου|ΟΛΟΙ ΜΑΖΙ ΜΠΟΡΟΥΜΕ|Καλημέρα σας κυρίες και κύριοι|Θα πάμε στη θάλασσα αύριο",
    "ar": "مرحبا كيف حالك اليوم|أنت شخص غبي جدا|الحكومة تكذب على الشعب|اخرج من هنا الآن"
    "|لا أحب هذا على الإطلاق|سنذهب إلى البحر غدا|كل عام وأنتم بخير|هذا الخبر كاذب",
    "hi": "क्या तुम पागल हो|यह बहुत बुरा विचार है|मुझे अकेला छोड़ दो|तुम यहाँ क्या कर रहे हो आज"
    "|हम सब एक साथ जाएंगे|भारत एक महान देश है|सरकार को जवाब देना चाहिए|यह खबर झूठी है",
    "th": "สวัสดีครับ วันนี้อากาศดี|คุณเป็นคนโง่มาก|ฉันไม่ชอบรัฐบาลนี้|ประเทศไทยเป็นเมืองร้อน"
    "|ทำไมคุณถึงพูดแบบนั้น|พวกเขาโกหกเราทุกวัน|ไปให้พ้น|อาหารอร่อยมากเลย",
    "ko": "안녕하세요 오늘 날씨가 좋네요|너는 정말 바보구나|정부가 국민에게 거짓말을 한다|여기서 나가 지금"
    "|나는 이것이 마음에 들지 않는다|내일 바다에 갑시다|모두 함께 할 수 있습니다|이 뉴스는 거짓이다",
    "ja": "あなたはとてもばかです|こんにちは、きょうはいいてんきですね|政府は国民に嘘をついている"
    "|今すぐここから出て行け|まったく好きではありません|明日は海に行きましょう|このニュースは嘘だ|みんなでやればできる",
}
"""Sentences of our own; two of them make a text."""

COLOURS = (("white", "black"), ("black", "white"), ("yellow", "black"), ("red", "white"), ("white", "navy"))
TURNS = ("upright", "turned", "quarter")
_UNDRAWN = re.compile(r"https?://\S+|@\w+|\[id\d+\||&#?\w+;|\|LBR\|")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Drawn:
    """A text on a photo, and how it was turned."""

    picture: npt.NDArray[np.uint8]
    turn: str


def fonts_of(language: str, given: dict[str, list[Path]]) -> list[Path]:
    """Font files that hold a language's letters; none: it cannot be measured."""
    if language in given:
        return given[language]
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = {
        "ar": ("DejaVuSans", "DejaVuSans-Bold"),
        "el": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono"),
        "ru": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono", "STIXGeneral"),
    }
    latin = (*names["ru"], "STIXGeneralBol", "STIXGeneralItalic", "DejaVuSans-Oblique")
    names |= dict.fromkeys(("en", "de", "pt"), latin)
    return [folder / f"{name}.ttf" for name in names.get(language, ())]


def drawable(text: str, language: str) -> str:
    """A text without what the fonts do not hold: emoji, links and mentions; white space folded."""
    kept = (
        character
        for character in _UNDRAWN.sub(" ", text)
        if unicodedata.category(character)[0] in "LNPZ" or character in "$+<=>^`|~\n"
    )
    limit = 0x250 if language in ("en", "de", "pt") else 0x10000
    return _SPACE.sub(" ", "".join(c for c in kept if ord(c) < limit or 0x2000 <= ord(c) < 0x2070)).strip()


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float, *, spaced: bool) -> list[str]:
    """Lines of at most a width in pixels; a longer word stands alone."""
    lines = [""]
    for piece in re.findall(r"\S+\s*" if spaced else r".", text):
        if lines[-1] and font.getlength((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def laid_out(
    text: str, path: str, size: int, side: tuple[int, int], share: float, *, spaced: bool
) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """A font, made smaller until the text fits into a share of each side, and the text's lines in it."""
    while True:
        font = ImageFont.truetype(path, size)
        lines = wrapped(text, font, side[0] * share, spaced=spaced)
        fits = len(lines) * size * 1.3 <= side[1] * share and max(map(font.getlength, lines)) <= side[0] * share
        if fits or size <= 12:
            return font, lines
        size -= 2


def lettering(
    text: str, fonts: Sequence[Path], side: tuple[int, int], share: float, generator: random.Random, *, spaced: bool
) -> Image.Image:
    """The text on a transparent picture of that size, outlined or on a plate: unread by people, it would prove nothing.

    A meme's first half stands at the top and its second at the bottom.
    """
    path, size = str(generator.choice(fonts)), round(generator.uniform(20, 44))
    font, lines = laid_out(text, path, size, side, share, spaced=spaced)
    fill, outline = generator.choice(COLOURS)
    stroke = generator.choice((0, max(1, round(font.size) // 14), max(1, round(font.size) // 10)))
    step, top, bottom = font.size * 1.3, side[1] * (1 - share) / 2, side[1] * (1 + share) / 2
    blocks = {
        "top": [(top, lines)],
        "middle": [((side[1] - len(lines) * step) / 2, lines)],
        "bottom": [(bottom - len(lines) * step, lines)],
        "meme": [
            (top, lines[: len(lines) // 2]),
            (bottom - (len(lines) - len(lines) // 2) * step, lines[len(lines) // 2 :]),
        ],
    }[generator.choice(("top", "middle", "bottom", "meme"))]
    layer = Image.new("RGBA", side, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    centred, margin = generator.random() < 0.5, side[0] * (1 - share) / 2
    for y, block in blocks:
        if block and not stroke:
            pen.rectangle((margin / 2, y, side[0] - margin / 2, y + len(block) * step + 4), fill=outline)
        for number, line in enumerate(block):
            x = (side[0] - font.getlength(line)) / 2 if centred else margin
            pen.text((x, y + number * step), line, font=font, fill=fill, stroke_width=stroke, stroke_fill=outline)
    return layer


def draw(text: str, photo: Path, fonts: Sequence[Path], seed: str, *, spaced: bool) -> Drawn:
    """Write a text on a photo, as one of many would."""
    generator = random.Random(seed)
    canvas = Image.open(photo).convert("RGB")
    factor = generator.uniform(1.5, 3.0)
    canvas = canvas.resize((round(canvas.width * factor), round(canvas.height * factor)), Image.Resampling.BICUBIC)
    turn = generator.choices(TURNS, (0.6, 0.3, 0.1))[0]
    side = (canvas.height, canvas.width) if turn == "quarter" else canvas.size
    layer = lettering(text, fonts, side, 0.8 if turn == "turned" else 0.92, generator, spaced=spaced)
    angle = {"upright": 0.0, "turned": generator.uniform(-15, 15), "quarter": generator.choice((90, 270))}[turn]
    layer = layer.rotate(angle, resample=Image.Resampling.BICUBIC, expand=turn == "quarter")
    canvas.paste(layer, (0, 0), layer)
    return Drawn(weathered(canvas, generator), turn)


def weathered(canvas: Image.Image, generator: random.Random) -> npt.NDArray[np.uint8]:
    """With a camera's noise, and as JPEG."""
    noise = np.random.default_rng(generator.randrange(1 << 30))
    pixels = np.asarray(canvas) + noise.normal(0, generator.choice((0.0, 4.0, 10.0)), (canvas.height, canvas.width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=generator.choice((40, 70, 90)))
    return np.asarray(Image.open(file).convert("RGB"))


def still(picture: npt.NDArray[np.uint8]) -> Reading:
    """A picture as the decoder hands it on; its longer side within the rules' bound of 1280 px."""
    height, width = picture.shape[:2]
    scale = min(1.0, 1280 / max(height, width))
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    times = np.zeros(1, dtype=np.float32)
    return Reading("image", "jpeg", width, height, 1, None, picture[None], times, None, None, None, "pillow")


def distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Edits from one to the other (Levenshtein 1965)."""
    row = list(range(len(second) + 1))
    for number, left in enumerate(first, 1):
        before, row[0] = row[0], number
        for place, right in enumerate(second, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (left != right))
    return row[-1]


def plain(text: str) -> str:
    """Letters without case and accents: what is left where only the accents were lost."""
    bare = unicodedata.normalize("NFKD", text.casefold())
    return _SPACE.sub(" ", "".join(c for c in bare if not unicodedata.combining(c))).strip()


def error_rates(typed: Sequence[str], read: Sequence[str], *, spaced: bool) -> dict[str, Any]:
    """Edits a character and a word, over all texts together, each with its interval; and without case and accents."""

    def rate(split: Callable[[str], Sequence[str]], form: Callable[[str], str]) -> dict[str, float | None]:
        pairs = [(split(form(left)), split(form(right))) for left, right in zip(typed, read, strict=True)]
        edits = np.array([distance(left, right) for left, right in pairs], dtype=np.float64)
        sizes = np.array([len(left) for left, _ in pairs], dtype=np.float64)
        return bounds(lambda drawn: float(edits[drawn].sum() / sizes[drawn].sum()), len(pairs))

    def folded(text: str) -> str:
        return _SPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip()

    found = {"characters": rate(list, folded), "characters_plain": rate(list, plain)}
    return found | ({"words_plain": rate(str.split, plain)} if spaced else {})


def judged(truth: Bools, typed: Judged, read: Judged) -> dict[str, Any]:
    """Recall, precision and ROC-AUC of the typed texts and of the read ones, and the decisions that are the same."""
    found: dict[str, Any] = {}
    for name, scores, flagged in (("typed", typed.scores, typed.flagged), ("read", read.scores, read.flagged)):
        found[name] = {
            "recall": bounds(lambda drawn, f=flagged: confusion(truth[drawn], f[drawn]).recall, len(truth)),
            "precision": bounds(lambda drawn, f=flagged: confusion(truth[drawn], f[drawn]).precision, len(truth)),
            "roc_auc": bounds(lambda drawn, s=scores: roc_auc(truth[drawn], s[drawn]), len(truth)),
        }
    found["recall_kept"] = recall_kept(truth, typed, read)
    found["decisions_kept"] = share(typed.flagged == read.flagged)
    return found


def recall_kept(chosen: Bools, typed: Judged, read: Judged) -> dict[str, float | None] | None:
    """Of chosen texts that are flagged when typed, the share that is flagged when read, too; None: there are none."""
    caught = chosen & typed.flagged
    return share(read.flagged[caught]) if caught.any() else None


def words_of(written: Written) -> str:
    """All that was read."""
    return "\n".join(words.text for words in written.words)


def balanced(rows: Sequence[Row], count: int, language: str) -> list[tuple[str, bool]]:
    """Texts that can be drawn, half of them abusive, in the order of their hashes."""
    found: dict[bool, list[tuple[str, bool]]] = {True: [], False: []}
    for row in sorted(rows, key=lambda row: row.unit):
        text = drawable(row.text, language)
        abusive = row.labels.get("abuse")
        if abusive is not None and 12 <= len(text) <= 240 and len(found[abusive]) < (count + 1) // 2:
            found[abusive].append((text, abusive))
    return found[True] + found[False]


def measured(
    name: str, rows: list[tuple[str, bool]], photos: Sequence[Path], fonts: Sequence[Path], reader: TextReader
) -> tuple[list[Drawn], list[Written], float]:
    """Each text drawn and read, and the median CPU milliseconds of reading."""
    drawn, written, spent = [], [], []
    for number, (text, _) in enumerate(rows):
        seed = f"{name}/{number}"
        photo = photos[random.Random(seed).randrange(len(photos))]
        drawn.append(draw(text, photo, fonts, seed, spaced=name not in ("zh", "th", "ja")))
        reading, start = still(drawn[-1].picture), time.process_time()
        written.append(reader.read(reading, samples=1))
        spent.append(time.process_time() - start)
    return drawn, written, float(np.median(spent) * 1000)


def one_language(
    name: str,
    rows: list[tuple[str, bool]],
    drawn: Sequence[Drawn],
    written: Sequence[Written],
    model: TextClassifier,
) -> dict[str, Any]:
    """Everything that is told of one corpus."""
    language = name.partition("-")[0]
    typed, read = [text for text, _ in rows], [words_of(found) for found in written]
    truth = np.array([abusive for _, abusive in rows], dtype=bool)
    as_typed, as_read = judge(model, typed, "abuse"), judge(model, read, "abuse")
    legible = np.array([bool(text.strip()) for text in read], dtype=bool)
    as_read.scores[~legible], as_read.flagged[~legible] = 0, False  # nothing is asked of a picture without a word
    unreadable = np.array([bool(found.unreadable) for found in written], dtype=bool)
    found: dict[str, Any] = {
        "texts": len(rows),
        "errors": error_rates(typed, read, spaced=language != "zh"),
        "no_words": share(~legible),
        "something_unreadable": share(unreadable),
        "missed_altogether": share(~legible & ~unreadable),
        "language_kept": as_read.read_as(as_typed.languages),
        "threshold": threshold(model, "abuse", language),
        "abuse": judged(truth, as_typed, as_read),
        "turned": {},
    }
    for turn in TURNS:
        chosen = np.array([one.turn == turn for one in drawn], dtype=bool)
        places = np.flatnonzero(chosen)
        if len(places):
            kept = recall_kept(truth & chosen, as_typed, as_read)
            ours, theirs = ([texts[place] for place in places] for texts in (typed, read))
            errors = error_rates(ours, theirs, spaced=language != "zh")
            found["turned"][turn] = {"texts": len(places), "errors": errors, "recall_kept": kept}
    return found


def other_scripts(
    language: str, texts: Sequence[str], photos: Sequence[Path], fonts: Sequence[Path], reader: TextReader
) -> dict[str, Any]:
    """What becomes of a script that cannot be read."""
    _, written, _ = measured(language, [(text, False) for text in texts], photos, fonts, reader)
    read = np.array([bool(found.words) for found in written])
    unreadable = np.array([bool(found.unreadable) for found in written])
    letters = sum(len(text.replace(" ", "")) for text in texts)
    leaked = sum(len(re.sub(r"\s", "", words_of(found))) for found in written)
    return {
        "texts": len(texts),
        "told_unreadable": share(unreadable),
        "words_came_out": share(read),
        "characters_that_came_out": round(leaked / letters, 4),
        "missed_altogether": share(~read & ~unreadable),
    }


def without_text(photos: Sequence[Path], reader: TextReader) -> dict[str, Any]:
    """Photos with nothing written on them."""
    words, unreadable, spent = [], [], []
    for photo in photos:
        reading, start = still(np.asarray(Image.open(photo).convert("RGB"))), time.process_time()
        found = reader.read(reading, samples=1)
        spent.append(time.process_time() - start)
        words.append(bool(found.words))
        unreadable.append(bool(found.unreadable))
        if found.words:
            print(f"{photo.name}: {words_of(found)!r}", file=sys.stderr)
    return {
        "photos": len(photos),
        "words": share(np.array(words)),
        "unreadable": share(np.array(unreadable)),
        "ms": round(float(np.median(spent) * 1000), 1),
        "ms_p95": round(float(np.quantile(spent, 0.95) * 1000), 1),
    }


def pairs(sentences: str, count: int) -> list[str]:
    """Two sentences each, drawn once."""
    pool = sentences.split("|")
    both = [f"{first} {second}" for first in pool for second in pool if first != second]
    random.Random(0).shuffle(both)
    return both[:count]


def main(
    data: DataOption,
    model: Annotated[Path, typer.Option(help="Text model's folder.")] = DEPLOYMENTS / "models" / "text-multi",
    texts: Annotated[int, typer.Option(min=2, help="A language, half of them abusive.")] = 200,
    most_photos: Annotated[int, typer.Option(help="Photos without text, at most.")] = 600,
    cells: Annotated[str, typer.Option(help="Languages, comma separated; all by default.")] = "",
    font: Annotated[list[str] | None, typer.Option(help="LANGUAGE=FILE; may be repeated.")] = None,
) -> None:
    """Measure; the last line is one JSON document."""
    given: dict[str, list[Path]] = {}
    for language, _, file in (entry.partition("=") for entry in font or []):
        given.setdefault(language, []).append(Path(file))
    with errors_told():
        photos = photos_of(data / "image" / "benign")
        paths = {name: corpus_path(data, file) for name, file in CORPORA.items()}
    reader, loaded = TextReader(OcrRules(), threads=1), load_text_classifier(model)
    result: dict[str, Any] = {"benchmark": "written", "read": {}, "scripts": {}, "not_measured": []}
    chosen = set(filter(None, cells.split(",")))
    for name, file in CORPORA.items():
        language = name.partition("-")[0]
        fonts = fonts_of(language, given)
        if chosen and name not in chosen:
            continue
        if not fonts:
            result["not_measured"].append(name)
            continue
        rows = corpus(paths[name], "text-multi")
        held_out = balanced([row for row in rows if file in WHOLE or row.part == "test"], texts, language)
        if language == "ru":
            result["scripts"]["ru"] = other_scripts("ru", [text for text, _ in held_out], photos, fonts, reader)
        else:
            drawn, written, spent = measured(name, held_out, photos, fonts, reader)
            result["read"][name] = one_language(name, held_out, drawn, written, loaded) | {"ms": round(spent, 1)}
        print(f"{name} measured", file=sys.stderr)
    for language, sentences in SCRIPTS.items():
        if chosen and language not in chosen:
            continue
        if not (fonts := fonts_of(language, given)):
            result["not_measured"].append(language)
            continue
        result["scripts"][language] = other_scripts(language, pairs(sentences, texts), photos, fonts, reader)
    if not chosen or "photos" in chosen:
        result["photos"] = without_text(photos[:most_photos], reader)
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
