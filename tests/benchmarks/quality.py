"""How good the text models are, held against baselines: `python -m tests.benchmarks.quality --data DIR`.

    inside     the test split of each corpus (the rows that `train.champion` held out, by hash), per language and label;
               zh-cold-dev, a whole file of the source of the Chinese rows, less what stands in these; and, of the
               shipped `misinformation`, en-covid-misinformation-dev, likewise
    outside    en-surge-dev, comments from many sites: nothing was trained on it, but English is calibrated on it and
               its thresholds are chosen there, so what is told at the threshold that ships is in-sample. Beside it the
               threshold with the best macro-F1, cross-validated, as of the baselines
    cross_fitted
               en-surge-dev, each row at a calibration and a threshold that its fold had no part in: both are taken
               from the other folds as the product takes them, for the policy's objective. Folds are drawn several
               times; intervals resample rows, not folds. What is not read as English is judged as shipped
    elsewhere  Russian abuse of another source (ru-rudetoxifier-positives, where it is there), selected by a machine and
               never trained on, beside the harmless test rows of ours: with what Russian has to itself (spellings, a
               head), and by what all languages share. False positives on another source are not seen here
    obfuscated harmful test rows with leet, homoglyphs or spacing in their words, beside them as they are. In Chinese
               only spacing makes sense: digits and other alphabets resemble none of its characters, and what people do
               there instead (homophones, pinyin, characters taken apart) is no rewriting of single letters
    contrast   quotation, counter-speech and idioms of our own writing, beside abuse in the same words

Baselines are trained on the very rows that the model was trained on, once deduplicated: character tf-idf with logistic
regression, one model a language, at the threshold that the policy's objective comes to on the corpus's validation rows;
and, for English, alt-profanity-check as it comes.

Every text is scored, and held against a threshold, in the language that the service finds in it, which is not always
its own; `language_read` is the share in which it is. Only `elsewhere` is told the language.

Every rate has a 95 % interval by bootstrap; `flagged` means the threshold that ships: the default policy's objective on
the model's own operating curve. A model trained without a corpus (`train.champion --without`) shows what is left of a
language that it never saw: `--model DIR --cells ru`.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from moderation.console import errors_told
from moderation.metrics import Bools, Floats, Interval, cluster_bootstrap, confusion, roc_auc
from moderation.models.base import Prepared, TextClassifier, confidence
from moderation.models.load import load_text_classifier
from moderation.models.operating import OperatingCurve
from moderation.policy import threshold_of
from moderation.preprocess.features import observe
from moderation.preprocess.language import UNDETERMINED, detect_language
from moderation.preprocess.text import normalise
from moderation.settings import DEPLOYMENTS
from moderation.topology import Topology
from train.champion import RECIPES, DataOption
from train.fit import platt
from train.rows import class_weight, corpus_path, lines_of, unit_hash

HERE = Path(__file__).parent
TOPOLOGY = Topology.load(DEPLOYMENTS / "local.yaml")
RESAMPLES = 300
FOLDS, DRAWS = 5, 10
SURGE = "en-surge-dev"
BESIDE = {"zh-cold-train": "zh-cold-dev", "en-covid-misinformation-train": "en-covid-misinformation-dev"}
"""Files that are test rows as a whole, by the corpus of the same source that was trained on."""
ELSEWHERE = "ru-rudetoxifier-positives"
TRICKS = {
    **dict.fromkeys(("en", "de", "pt", "ru"), ("leet", "homoglyphs", "spacing")),
    "zh": ("spacing",),
}
"""What makes sense in a language, of what `disguised` does."""
_LEET = str.maketrans("aeiost" + "озчб", "4310$7" + "0346")
_TWINS = str.maketrans("aeopcx" + "аеорсх", "аеорсх" + "aeopcx")
_HAN = re.compile("([\u4e00-\u9fff]+)")


@dataclass(frozen=True)
class Row:
    """A labelled text, and the part of the split that it is in."""

    text: str
    language: str
    labels: dict[str, bool]
    unit: str
    part: str


def corpus(path: Path, name: str) -> list[Row]:
    """A corpus, exact duplicates once, split as `train.champion` splits it for a model."""
    shares = RECIPES[name].shares
    rows: dict[str, Row] = {}
    for line in lines_of(path):
        unit = hashlib.sha256(normalise(line["text"]).encode()).hexdigest()
        place = unit_hash(unit, f"{name}/1")
        part = "test" if place < shares["test"] else "validation" if place < sum(shares.values()) else "training"
        rows.setdefault(unit, Row(line["text"], line["language"], line["labels"], unit, part))
    return list(rows.values())


def beside(rows: Sequence[Row], path: Path, name: str) -> list[Row]:
    """A further file of the source of these rows, less what stands in them, in the order of hashes: at random."""
    known = {row.unit for row in rows}
    return sorted((row for row in corpus(path, name) if row.unit not in known), key=lambda row: row.unit)


@dataclass(frozen=True)
class Judged:
    """Texts, judged on one label as the service does it.

    Attributes:
        languages: found in them; `und` where nothing is sure enough.
        scores: the surest of the languages that each is likely in.
        flagged: in one of these, at its threshold.
    """

    languages: list[str]
    scores: Floats
    flagged: Bools

    def read_as(self, languages: str | Sequence[str]) -> dict[str, float | None]:
        """Share of texts whose language was read rightly: all are in one, or each is in its own."""
        own = [languages] * len(self.languages) if isinstance(languages, str) else languages
        return share(np.array([one == other for one, other in zip(self.languages, own, strict=True)], dtype=bool))


def judge(model: TextClassifier, texts: Sequence[str], label: str) -> Judged:
    """What the service makes of texts whose language nobody tells it: where that is unsure, the surest one decides."""
    found = [detect_language(text) for text in texts]
    asked = [(row, code) for row, language in enumerate(found) for code in language.codes]
    known = [observe(texts[row], found[row]) | {"language": code} for row, code in asked]
    said = model.score([texts[row] for row, _ in asked], known).confidence[:, model.card.labels.index(label)]
    limits = {code: threshold(model, label, code) for code in {code for _, code in asked}}
    scores, flagged = np.zeros(len(texts)), np.zeros(len(texts), dtype=bool)
    for (row, code), score in zip(asked, said.astype(np.float64), strict=True):
        scores[row] = max(scores[row], score)
        flagged[row] |= (limit := limits[code]) is not None and bool(score >= limit)
    return Judged([language.code for language in found], scores, flagged)


def threshold(model: TextClassifier, label: str, language: str) -> float | None:
    """That ships; None: none meets the objective, or texts in this language are not asked about the label."""
    service = next(variant.service for variant in TOPOLOGY.variants.values() if label in variant.labels)
    if TOPOLOGY.variant_for(service, region="*", language=language) is None:
        return None
    learned = language == UNDETERMINED or model.card.is_learned(label, language)
    if not learned and TOPOLOGY.policy.rules("*")[label].untrained == "ignore":
        return None
    return objective(model.card.curve(label, language), label)


def objective(curve: OperatingCurve | None, label: str) -> float | None:
    """The threshold that the default policy's objective comes to on a curve."""
    rule = TOPOLOGY.policy.rules("*")[label]
    return threshold_of(curve, rule.objective, rule.prevalence)


def macro_f1(truth: Bools, flagged: Bools) -> float:
    """Mean of the two classes' F1."""

    def f1(hit: float, false: float, missed: float) -> float:
        return 2 * hit / (2 * hit + false + missed) if hit else 0.0

    found = confusion(truth, flagged)
    return (
        f1(found.true_positive, found.false_positive, found.false_negative)
        + f1(found.true_negative, found.false_negative, found.false_positive)
    ) / 2


def recall_at(truth: Bools, scores: Floats, false_positives: float) -> float:
    """Recall at the lowest threshold that flags at most this share of harmless rows; NaN if one class is missing."""
    if truth.all() or not truth.any():
        return float("nan")
    harmless = np.sort(scores[~truth])[::-1]
    bound = harmless[min(len(harmless) - 1, int(false_positives * len(harmless)))]
    return float((scores[truth] > bound).mean())


def calibration_error(truth: Bools, scores: Floats, bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017) with both classes weighing the same, as confidences are meant."""
    weights = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())
    places = np.minimum((scores * bins).astype(int), bins - 1)
    error = 0.0
    for place in range(bins):
        inside = places == place
        if inside.any():
            mass = weights[inside].sum()
            error += mass * abs((weights * truth)[inside].sum() / mass - (weights * scores)[inside].sum() / mass)
    return float(error)


def bounds(statistic: Callable[[np.ndarray[Any, Any]], float], rows: int) -> dict[str, float | None]:
    """An estimate with its interval; every row is a unit of its own."""
    interval: Interval = cluster_bootstrap(statistic, [str(row) for row in range(rows)], resamples=RESAMPLES)
    return interval.as_dict()


def share(values: Bools) -> dict[str, float | None]:
    """A share, with its interval."""
    return bounds(lambda drawn: float(values[drawn].mean()), len(values))


def cell(truth: Bools, scores: Floats, flagged: Bools) -> dict[str, Any]:
    """Everything that is told of one language and label."""
    found = confusion(truth, flagged)
    rows = len(truth)
    return {
        "rows": rows,
        "harmful": int(truth.sum()),
        "roc_auc": bounds(lambda drawn: roc_auc(truth[drawn], scores[drawn]), rows),
        "recall_at_1_percent_false_positives": bounds(lambda drawn: recall_at(truth[drawn], scores[drawn], 0.01), rows),
        "calibration_error": round(calibration_error(truth, scores), 4),
        "precision": bounds(lambda drawn: confusion(truth[drawn], flagged[drawn]).precision, rows),
        "recall": bounds(lambda drawn: confusion(truth[drawn], flagged[drawn]).recall, rows),
        "macro_f1": bounds(lambda drawn: macro_f1(truth[drawn], flagged[drawn]), rows),
        "confusion": [
            [int(found.true_negative), int(found.false_positive)],
            [int(found.false_negative), int(found.true_positive)],
        ],
    }


def spoken_of(rows: Sequence[Row], label: str) -> tuple[list[Row], Bools]:
    """The rows on which people spoke of a label, and what they said."""
    spoken = [row for row in rows if label in row.labels]
    return spoken, np.array([row.labels[label] for row in spoken], dtype=bool)


def best_threshold(truth: Bools, scores: Floats) -> float:
    """Of 200 quantiles, the threshold with the largest macro-F1."""
    candidates = np.unique(np.quantile(scores, np.linspace(0.005, 0.995, 200)))
    return float(max(candidates, key=lambda bound: macro_f1(truth, scores >= bound)))


def cross_validated(truth: Bools, scores: Floats, parts: int = 5) -> float:
    """Macro-F1 with each row judged at a threshold that was chosen on the other parts."""
    place = np.arange(len(truth)) % parts
    flagged = np.zeros(len(truth), dtype=bool)
    for part in range(parts):
        inside = place == part
        flagged[inside] = scores[inside] >= best_threshold(truth[~inside], scores[~inside])
    return round(macro_f1(truth, flagged), 4)


def tfidf(training: Sequence[Row], label: str, language: str) -> Callable[[Sequence[str]], Floats]:
    """The baseline, which scores texts: character tf-idf and logistic regression, classes balanced."""
    rows, truth = spoken_of(training, label)
    analyser = (
        {"analyzer": "char", "ngram_range": (1, 3)}
        if language == "zh"
        else {"analyzer": "char_wb", "ngram_range": (2, 5)}
    )
    vectorizer = TfidfVectorizer(min_df=2, sublinear_tf=True, max_features=300_000, **analyser)
    model = LogisticRegression(C=4, max_iter=400, class_weight="balanced")
    model.fit(vectorizer.fit_transform([normalise(row.text) for row in rows]), truth)

    def score(texts: Sequence[str]) -> Floats:
        scores: Floats = model.predict_proba(vectorizer.transform([normalise(text) for text in texts]))[:, 1]
        return scores

    return score


def disguised(text: str, trick: str) -> str:
    """A text with every longer word disguised: written for this benchmark, apart from what training uses.

    In Chinese, which puts no space between words, that is every run of its characters.
    """
    generator = random.Random(text)
    if trick == "spacing" and _HAN.search(text):
        return _HAN.sub(lambda run: generator.choice(".-_ ").join(run.group()), text)
    words = []
    for word in text.split(" "):
        if len(word) < 4 or not word.isalpha():
            words.append(word)
        elif trick == "leet":
            words.append("".join(c.translate(_LEET) if generator.random() < 0.6 else c for c in word))
        elif trick == "homoglyphs":
            words.append("".join(c.translate(_TWINS) if generator.random() < 0.6 else c for c in word))
        else:
            words.append(generator.choice(".-_ ").join(word))
    return " ".join(words)


def main(
    data: DataOption,
    model: Annotated[Path, typer.Option(help="Model folder.")] = DEPLOYMENTS / "models" / "text-multi",
    cells: Annotated[str, typer.Option(help="Languages, or misinformation, comma separated; all by default.")] = "",
    most: Annotated[int, typer.Option(help="Test rows a language, at most.")] = 1500,
) -> None:
    """Measure; the last line is one JSON document."""
    asked = set(filter(None, cells.split(",")))
    with errors_told():
        needed = (*RECIPES["text-multi"].corpora, SURGE, *(name for pair in BESIDE.items() for name in pair))
        paths = {name: corpus_path(data, name) for name in needed}
    loaded = load_text_classifier(model)
    command = str(loaded.card.about.get("command", ""))
    own = "text-ngram" if command.endswith(" text-ngram") else "text-multi"  # whose split held out other rows
    result: dict[str, Any] = {
        "benchmark": "quality",
        "model": command,
        "inside": {},
        "baselines": {},
        "obfuscated": {},
    }
    for name in RECIPES["text-multi"].corpora:
        rows = corpus(paths[name], own)
        language = rows[0].language
        if asked and language not in asked:
            continue
        test = [row for row in rows if row.part == "test"]
        for label in RECIPES["text-multi"].labels:
            tests = {language: test[:most]}
            if name in BESIDE:
                tests[BESIDE[name]] = beside(rows, paths[BESIDE[name]], own)[:most]
            inside(loaded, rows, tests, label, result)
        texts = [row.text for row in test if row.labels.get("abuse")][:300]
        result["obfuscated"][language] = obfuscated(loaded, texts, language)
        if name == "en-davidson":
            result |= outside(loaded, corpus(paths[SURGE], own), rows)
        print(f"{name} measured", file=sys.stderr, flush=True)
    if not asked or "misinformation" in asked:
        [name] = RECIPES["misinformation"].corpora
        rows = corpus(paths[name], "misinformation")
        tests = {BESIDE[name]: beside(rows, paths[BESIDE[name]], "misinformation")}
        shipped = load_text_classifier(DEPLOYMENTS / "models" / "misinformation")
        inside(shipped, rows, tests, "misinformation", result)
    if (not asked or "ru" in asked) and loaded.own_languages and (data / "text" / f"{ELSEWHERE}.jsonl.gz").exists():
        result["elsewhere"] = elsewhere(loaded, data)
    result["contrast"] = contrast(loaded)
    print(json.dumps(result))


def inside(
    model: TextClassifier, rows: Sequence[Row], tests: dict[str, list[Row]], label: str, result: dict[str, Any]
) -> None:
    """Add the cells of a label to the result, of the model and of a baseline that is trained on the training rows.

    Args:
        model: judged.
        rows: of one corpus, all parts.
        tests: what both are judged on, by the name under which it is told; left out where it lacks a class.
        label: judged.
        result: added to.
    """
    judged_on = {name: spoken_of(test, label) for name, test in tests.items()}
    judged_on = {name: (test, truth) for name, (test, truth) in judged_on.items() if truth.any() and not truth.all()}
    if not judged_on:
        return
    language = rows[0].language
    baseline = tfidf([row for row in rows if row.part == "training"], label, language)
    chosen_on, harmful = spoken_of([row for row in rows if row.part == "validation"], label)
    bound = objective(OperatingCurve.measure(harmful, baseline([row.text for row in chosen_on])), label)
    for name, (test, truth) in judged_on.items():
        texts = [row.text for row in test]
        found = judge(model, texts, label)
        told = {"threshold": threshold(model, label, language), "language_read": found.read_as(language)}
        result["inside"][f"{label}/{name}"] = cell(truth, found.scores, found.flagged) | told
        scores = baseline(texts)
        flagged = scores >= (np.inf if bound is None else bound)
        result["baselines"][f"tf-idf {label}/{name}"] = cell(truth, scores, flagged) | {"threshold": bound}


def outside(model: TextClassifier, rows: Sequence[Row], english: Sequence[Row]) -> dict[str, Any]:
    """en-surge-dev, and what the baselines, of English rows that were trained on, make of it."""
    rows, truth = spoken_of(rows, "abuse")
    texts = [row.text for row in rows]
    found = judge(model, texts, "abuse")
    told = {
        "threshold": threshold(model, "abuse", "en"),
        "language_read": found.read_as("en"),
        "macro_f1_cross_validated": cross_validated(truth, found.scores),
    }
    logits = model.logits(Prepared.of(texts, [{"language": "en"}] * len(texts)))[0]
    fitted = cross_fitted(truth, logits[:, model.card.labels.index("abuse")].astype(np.float64), found)
    print(f"{SURGE}, cross-fitted: {fitted}", file=sys.stderr, flush=True)
    baselines = {"tf-idf": tfidf([row for row in english if row.part == "training"], "abuse", "en")(texts)}
    try:
        from profanity_check import predict_prob

        baselines["alt-profanity-check"] = np.asarray(predict_prob(texts), dtype=np.float64)
    except ImportError:
        print("alt-profanity-check is not installed", file=sys.stderr)
    return {
        "outside": {f"abuse/{SURGE}": cell(truth, found.scores, found.flagged) | told},
        "cross_fitted": {f"abuse/{SURGE}": fitted},
        "outside_baselines": {
            name: {
                "roc_auc": bounds(lambda drawn, s=values: roc_auc(truth[drawn], s[drawn]), len(truth)),
                "macro_f1_at_0.5": round(macro_f1(truth, values >= 0.5), 4),
                "macro_f1_cross_validated": cross_validated(truth, values),
            }
            for name, values in baselines.items()
        },
    }


def cross_fitted(truth: Bools, logits: Floats, shipped: Judged) -> dict[str, Any]:
    """Precision, recall and macro-F1 on abuse with calibration and threshold of the other folds, mean over draws.

    Args:
        truth: of each row.
        logits: uncalibrated, of the rows as English ones.
        shipped: the rows as the service judges them; kept where it does not read them as English.
    """
    english = np.array(shipped.languages) == "en"
    draws, errors, thresholds = [], [], []
    for seed in range(DRAWS):
        scores, flagged = shipped.scores.copy(), shipped.flagged.copy()
        for others, fold in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(logits, truth):
            harmful, held_out = truth[others], fold[english[fold]]
            sizes = {True: int(harmful.sum()), False: int((~harmful).sum())}
            weights = np.where(
                harmful, class_weight(sizes[True], sizes[False]), class_weight(sizes[False], sizes[True])
            )
            pair = platt(logits[others], harmful, weights)
            bound = objective(OperatingCurve.measure(harmful, confidence(logits[others], pair)), "abuse")
            scores[held_out] = confidence(logits[held_out], pair)
            flagged[held_out] = scores[held_out] >= (np.inf if bound is None else bound)
            thresholds.append(np.inf if bound is None else bound)
        draws.append(flagged)
        errors.append(calibration_error(truth, scores))

    def mean(statistic: Callable[[Bools, Bools], float]) -> dict[str, float | None]:
        def over_draws(drawn: np.ndarray[Any, Any]) -> float:
            return float(np.mean([statistic(truth[drawn], flagged[drawn]) for flagged in draws]))

        return bounds(over_draws, len(truth))

    thresholds.sort()
    spread = thresholds[0], thresholds[len(thresholds) // 2], thresholds[-1]
    return {
        "rows": len(truth),
        "folds": FOLDS,
        "draws": DRAWS,
        "precision": mean(lambda true, flagged: confusion(true, flagged).precision),
        "recall": mean(lambda true, flagged: confusion(true, flagged).recall),
        "macro_f1": mean(macro_f1),
        "macro_f1_by_draw": [round(macro_f1(truth, flagged), 4) for flagged in draws],
        "calibration_error": round(float(np.mean(errors)), 4),
        "thresholds": [None if value == np.inf else round(value, 4) for value in spread],
    }


def elsewhere(model: TextClassifier, data: Path, most: int = 1000) -> dict[str, Any]:
    """Does what Russian has to itself, learned of one source, harm on another? With it, and by what all share."""
    own = corpus(corpus_path(data, "ru-vk-train"), "text-multi")
    harmless = [row for row in own if row.part == "test" and not row.labels["abuse"]]
    abuse = beside(own, corpus_path(data, ELSEWHERE), "text-multi")[:most]
    texts = [row.text for row in (*harmless, *abuse)]
    truth = np.arange(len(texts)) >= len(harmless)
    known = [{"language": language} for language in ("ru", "*")]  # a language that is not known has nothing of its own
    column = model.card.labels.index("abuse")
    scores = [model.logits(Prepared.of(texts, [each] * len(texts)))[0][:, column].astype(np.float64) for each in known]
    return {
        name: {
            "roc_auc": bounds(lambda drawn, values=values: roc_auc(truth[drawn], values[drawn]), len(truth)),
            "recall_at_5_percent_false_positives": round(recall_at(truth, values, 0.05), 4),
        }
        for name, values in zip(("with its own", "by what all share"), scores, strict=True)
    } | {"rows": len(texts), "harmful": len(abuse)}


def obfuscated(model: TextClassifier, texts: Sequence[str], language: str) -> dict[str, Any]:
    """Recall on abusive texts in one language, plain and disguised, and what is lost, in pairs."""
    plain = judge(model, texts, "abuse")
    told = {"recall": share(plain.flagged), "language_read": plain.read_as(language)}
    found: dict[str, Any] = {"rows": len(texts), "plain": told}
    for trick in TRICKS[language]:
        copies = judge(model, [disguised(text, trick) for text in texts], "abuse")
        lost = plain.flagged.astype(np.float64) - copies.flagged
        found[trick] = {
            "recall": share(copies.flagged),
            "lost": bounds(lambda drawn, values=lost: float(values[drawn].mean()), len(texts)),
            "language_read": copies.read_as(language),
        }
    return found


def contrast(model: TextClassifier) -> dict[str, Any]:
    """Our own texts: which share of each kind is flagged, and how well the two classes are told apart."""
    lines = list(lines_of(HERE / "counter_speech.jsonl"))
    truth = np.array([line["labels"]["abuse"] for line in lines], dtype=bool)
    found = judge(model, [line["text"] for line in lines], "abuse")
    kinds = sorted({line["kind"] for line in lines})
    of_kind = {kind: np.array([line["kind"] == kind for line in lines]) for kind in kinds}
    return {
        "rows": len(lines),
        "roc_auc": bounds(lambda drawn: roc_auc(truth[drawn], found.scores[drawn]), len(lines)),
        "macro_f1": bounds(lambda drawn: macro_f1(truth[drawn], found.flagged[drawn]), len(lines)),
        "flagged": {kind: [int(found.flagged[chosen].sum()), int(chosen.sum())] for kind, chosen in of_kind.items()},
        "language_read": found.read_as([line["language"] for line in lines]),
    }


if __name__ == "__main__":
    typer.run(main)
