"""Train the models that ship, from public corpora: `python -m train.champion NAME --data DIR` (`make champion`).

    text-multi       the encoder, five languages, abuse and hate: an hour or more on two cores
    text-ngram       the same labels by n-grams, for machines that cannot afford the encoder: a minute
    misinformation   English rumours by n-grams: seconds
    image-multi      nudity in images, on networks from packages: minutes (train/picture_models.py)
    video-multi      violence and nudity in videos: minutes

DIR holds text/, image/ and video/. Each is written to deployments/models/NAME with its card: data, split, and the
figures on the test split, of the very file that is stored, per label and language, with intervals. Rows are split by a
hash of their normalised text, so that a text that stands in two corpora falls into one part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from moderation.console import errors_told
from moderation.metrics import cluster_bootstrap, precision_interval, recall_interval, roc_auc
from moderation.models.base import TextClassifier
from moderation.models.card import Card
from moderation.models.encoder import EncoderConfig
from moderation.models.load import load_text_classifier
from moderation.models.spelling import SpellingConfig
from moderation.preprocess.ngrams import NgramConfig
from moderation.running import own_ray
from moderation.sections import Loss
from moderation.settings import DEPLOYMENTS, REPOSITORY
from moderation.storage.features import AUTHOR_FEATURES, COMMUNITY_FEATURES
from train.learner import FitConfig, ModelConfig, Plan
from train.picture_models import PICTURE_MODELS, make

OWN = tuple(DEPLOYMENTS / "corpora" / name for name in ("counter-speech-train.jsonl", "contrasts-train.jsonl"))
"""Texts of our own writing: quotation, counter-speech and idioms, beside abuse in the same words; names with rude
syllables and what people say of their identity, beside insults of such names and hate of such groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one shipped model is made."""

    labels: tuple[str, ...]
    """What it scores."""
    languages: tuple[str, ...]
    """That the corpora are in."""
    corpora: tuple[str, ...]
    """Files of the data folder's text/, without `.jsonl.gz`."""
    model: ModelConfig
    """The architecture's configuration."""
    fit: FitConfig
    """How it is trained."""
    spelling: SpellingConfig | None = None
    """What is fitted after it, beside an encoder."""
    heads: tuple[str, ...] = ()
    """Languages for which a head of their own is fitted after it, on an encoder."""
    own: int = 0
    """How often an epoch shows our own texts, beside the corpora; 0: not at all."""
    times: dict[str, int] = field(default_factory=dict)
    """How often an epoch shows the rows of a language; once, where it is not named."""
    most: int = 0
    """Training rows of a corpus, at most; 0: all."""
    obfuscated: float = 0.0
    """Share of training rows whose words are rewritten as people do to get past a filter."""
    outside: tuple[str, ...] = ()
    """Development corpora from outside the training distribution, that calibrate the languages that they are in: a
    threshold that suits the kind of text that was trained on suits no other."""
    test: tuple[str, ...] = ()
    """Corpora that are test rows as a whole; beside them, a share of the others is."""
    shares: dict[str, float] = field(default_factory=lambda: {"test": 0.1, "validation": 0.1})
    """Parts of the split that are not training."""


_ABUSE = ("en-davidson", "zh-cold-train", "de-germeval2018-train", "pt-told-br-train", "ru-vk-train")
_FIVE = ("de", "en", "pt", "ru", "zh")
RECIPES = {
    "text-multi": Recipe(
        labels=("abuse", "hate"),
        languages=_FIVE,
        corpora=_ABUSE,
        model=EncoderConfig(),
        # Where the gain was measured to be worth what n-grams lose on other kinds of text (docs/measured.md).
        spelling=SpellingConfig(languages=("de", "pt", "ru")),
        heads=("de", "ru"),
        fit=FitConfig(epochs=2, batch_size=32, learning_rate=4e-4, balance=True, interpolation=0.7, language_rows=100),
        own=4,
        times={"de": 2, "ru": 2},
        most=13_500,
        obfuscated=0.15,
        outside=("en-surge-dev",),
    ),
    "text-ngram": Recipe(
        labels=("abuse", "hate"),
        languages=_FIVE,
        corpora=_ABUSE,
        model=NgramConfig(),
        fit=FitConfig(),
    ),
    "misinformation": Recipe(
        labels=("misinformation",),
        languages=("en",),
        corpora=("en-covid-misinformation-train",),
        model=NgramConfig(buckets=2**16, inputs=(*AUTHOR_FEATURES, *COMMUNITY_FEATURES)),
        fit=FitConfig(loss="focal"),
        test=("en-covid-misinformation-dev",),
    ),
}


DataOption = Annotated[Path, typer.Option(help="Folder that holds text/, image/ and video/.")]


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join((*RECIPES, *PICTURE_MODELS))}.")],
    data: DataOption,
    out: Annotated[Path | None, typer.Option(help="Model folder to write; the shipped one by default.")] = None,
    trained: Annotated[
        Path | None,
        typer.Option(
            help="Model folder: keep its weights, and do only what follows (spellings, heads, calibration, test)."
        ),
    ] = None,
    kept: Annotated[
        Path | None, typer.Option(help="Folder where what the networks see of images and videos is kept.")
    ] = None,
    without: Annotated[str, typer.Option(help="Leave a corpus out, to measure what is left of its language.")] = "",
    rows: Annotated[
        int, typer.Option(help="Training rows of a corpus, at most, and each once; 0: as many as ship.", min=0)
    ] = 0,
    loss: Annotated[
        Loss | None,
        typer.Option(
            help="Focal loss turns to the rows that are still judged wrongly; by default the recipe's.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train, test and store a model that ships."""
    if (without or rows) and (out is None or name in PICTURE_MODELS):
        raise typer.BadParameter("--without and --rows are of texts, and make no model to ship: they need --out")
    if loss is not None and (trained is not None or name in PICTURE_MODELS):
        raise typer.BadParameter("--loss is of texts, and of weights that are trained, not kept by --trained")
    if name in PICTURE_MODELS:
        with errors_told():
            made = make(name, data, kept)
        _print(made.save(out or DEPLOYMENTS / "models" / name))
        return
    recipe = _recipe(name, without, rows, loss)
    with errors_told():
        paths = _paths(recipe, data)
    os.environ.update({"RAY_TRAIN_V2_ENABLED": "1"} | own_ray())
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        model, test = _train(name, recipe, paths, trained)
    finally:
        ray.shutdown()
    known = [{"language": code} for code in test["language"]]
    model.card.about["test"] = figures_of(model.score(list(test["text"]), known).confidence, test, recipe.labels)
    _print(model.save(out or DEPLOYMENTS / "models" / name))


def _recipe(name: str, without: str, rows: int, loss: Loss | None) -> Recipe:
    """The recipe of a model of texts, as the options change it."""
    if name not in RECIPES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join((*RECIPES, *PICTURE_MODELS))}")
    recipe = RECIPES[name]
    if without:
        recipe = _without(recipe, without)
    if rows:
        recipe = replace(recipe, most=rows, own=min(recipe.own, 1), times={})
    return recipe if loss is None else replace(recipe, fit=replace(recipe.fit, loss=loss))


def _paths(recipe: Recipe, data: Path) -> dict[str, Path]:
    """Where each corpus of a recipe is.

    Raises:
        NotEnoughDataError: one is missing.
    """
    from train.rows import corpus_path

    return {name: corpus_path(data, name) for name in (*recipe.corpora, *recipe.outside, *recipe.test)}


def _without(recipe: Recipe, corpus: str) -> Recipe:
    """The recipe without a corpus, and without its language, of our own texts too, where no other corpus is in it."""
    if corpus not in recipe.corpora:
        raise typer.BadParameter(f"--without takes one of {', '.join(recipe.corpora)}")
    kept = tuple(name for name in recipe.corpora if name != corpus)
    left = {name.split("-")[0] for name in kept}  # a corpus is named for its language
    languages = tuple(code for code in recipe.languages if code in left)
    spelling = recipe.spelling
    if spelling is not None:
        spelling = replace(spelling, languages=tuple(code for code in spelling.languages if code in left))
    heads = tuple(code for code in recipe.heads if code in left)
    return replace(recipe, corpora=kept, languages=languages, spelling=spelling, heads=heads)


def _print(saved: Card) -> None:
    for cell, found in saved.about["test"].items():
        print(f"{cell}: {found}")


def _train(
    name: str, recipe: Recipe, paths: dict[str, Path], trained: Path | None
) -> tuple[TextClassifier, pd.DataFrame]:
    """The model, and the test rows; `paths` of the corpora."""
    from ray.data.expressions import col

    from train.augment import obfuscated
    from train.fit import calibrated, encode, fit, validation_rows
    from train.rows import from_corpora, softened, weighted

    salt = f"{name}/1"
    most = round(recipe.most / (1 - sum(recipe.shares.values())))
    rows = from_corpora([paths[corpus] for corpus in recipe.corpora], recipe.labels, seed=0, most=most)
    rows = rows.map_batches(lambda batch: _assign(batch, recipe.shares, salt), batch_format="pandas").materialize()
    training = rows.filter(expr=col("part") == "training").drop_columns(["part"])
    validation = rows.filter(expr=col("part") == "validation").drop_columns(["part", "target"])
    test = rows.filter(expr=col("part") == "test").drop_columns(["part", "target"])
    own: set[str] = set()
    if recipe.own:
        written = from_corpora(OWN, recipe.labels, seed=0).filter(expr=col("language").is_in(list(recipe.languages)))
        own = set(written.unique("unit"))
        training = training.union(written)
    if recipe.outside:
        outside = from_corpora([paths[corpus] for corpus in recipe.outside], recipe.labels, seed=0)
        validation = _replaced(validation, outside.drop_columns(["target"]), recipe.labels)
    if recipe.test:
        whole = from_corpora([paths[corpus] for corpus in recipe.test], recipe.labels, seed=0)
        test = test.union(whole.drop_columns(["target"]))
    if recipe.obfuscated:
        training = obfuscated(training, share=recipe.obfuscated, salt=salt)
    training = softened(weighted(training.materialize(), balance=recipe.fit.balance)).materialize()
    validation = weighted(validation.materialize(), balance=recipe.fit.balance).materialize()
    plan = _plan(name, recipe, salt)
    if trained is None:
        shown = training.map_batches(lambda batch: repeated(batch, recipe, own), batch_format="pandas")
        encoded = encode(shown, recipe.model).materialize()
        storage = REPOSITORY / ".seawall" / "runs"
        folder, metrics = fit(encoded, validation, plan, storage=storage, name=f"{name}-{os.getpid()}")
        print(metrics)
        model = load_text_classifier(folder)
    else:
        model = load_text_classifier(trained)
        config = model.config
        if isinstance(config, EncoderConfig):
            config = replace(config, spelling=None, heads=())
        if model.card.labels != recipe.labels or config != recipe.model:
            raise typer.BadParameter(f"{trained} has other labels or another configuration than {name}")
        model.card.about.update(plan.about | {"fit": model.card.about.get("fit")})
    if recipe.spelling is not None or recipe.heads:
        model = _with_own(model, not_ours_alone(training.to_pandas(), own), recipe)
    if trained is not None or recipe.spelling is not None or recipe.heads:
        rows = validation_rows(validation, len(recipe.labels))
        model = calibrated(model, rows, None, language_rows=recipe.fit.language_rows)
    return model, test.to_pandas()


def _plan(name: str, recipe: Recipe, salt: str) -> Plan:
    return Plan(
        labels=recipe.labels,
        languages=recipe.languages,
        model=recipe.model,
        fit=recipe.fit,
        about={
            "data": [*recipe.corpora, *((path.name for path in OWN) if recipe.own else ())],
            "data_licences": "MIT, Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0: see the corpora's own",
            "split": f"by hash of the normalised text, exact duplicates once, {recipe.shares}, salt {salt!r}",
            "calibrated_on": ["validation split", *recipe.outside],
            "licence": "Apache-2.0",
            "command": f"python -m train.champion {name}",
        },
    )


def _with_own(model: TextClassifier, training: pd.DataFrame, recipe: Recipe) -> TextClassifier:
    from moderation.models.encoder import EncoderClassifier
    from train.own import fit_heads, fit_spelling

    if not isinstance(model, EncoderClassifier):
        raise typer.BadParameter(f"spellings and heads stand beside an encoder; the model is {type(model).__name__}")
    spelling = None if recipe.spelling is None else fit_spelling(training, len(model.card.labels), recipe.spelling)
    return model.with_own(spelling, fit_heads(model, training, recipe.heads))


def not_ours_alone(rows: pd.DataFrame, own: set[str]) -> pd.DataFrame:
    """The rows, but nothing is said of a label in a language where only our own texts speak of it; `own`: their units.

    What a language has to itself is fitted on its rows alone, and texts of a few patterns are too alike for that.
    """
    ours = rows["unit"].isin(own)
    truths = np.array(rows["truth"].tolist(), dtype=np.float64)
    for language in sorted(set(rows["language"])):
        here = (rows["language"] == language).to_numpy()
        unspoken = np.isnan(truths[here & ~ours.to_numpy()]).all(axis=0)
        truths[np.ix_(here, unspoken)] = np.nan
    return rows.assign(truth=truths.tolist())


def repeated(batch: pd.DataFrame, recipe: Recipe, own: set[str]) -> pd.DataFrame:
    """Each row as often as an epoch shows it; `own` are the units of our own texts."""
    times = batch["language"].map(recipe.times).fillna(1).astype(int)
    times = times.where(~batch["unit"].isin(own), recipe.own)
    return batch.loc[batch.index.repeat(times)]


def _assign(batch: pd.DataFrame, shares: dict[str, float], salt: str) -> pd.DataFrame:
    from train.rows import unit_hash

    place = batch["unit"].map(lambda unit: unit_hash(unit, salt))
    bound = shares["test"] + shares["validation"]
    batch["part"] = np.where(place < shares["test"], "test", np.where(place < bound, "validation", "training"))
    return batch


def _replaced(validation: Any, outside: Any, labels: tuple[str, ...]) -> Any:
    """Let rows from outside take the place of validation rows of their languages, on the labels that they speak of."""
    found = outside.to_pandas()
    spoken = {
        (language, column)
        for language, truth in zip(found["language"], found["truth"], strict=True)
        for column in range(len(labels))
        if not np.isnan(truth[column])
    }

    def forget(batch: pd.DataFrame) -> pd.DataFrame:
        batch["truth"] = [
            [float("nan") if (language, column) in spoken else value for column, value in enumerate(truth)]
            for language, truth in zip(batch["language"], batch["truth"], strict=True)
        ]
        return batch

    return validation.map_batches(forget, batch_format="pandas").union(outside)


def figures_of(confidence: Any, test: pd.DataFrame, labels: tuple[str, ...]) -> dict[str, Any]:
    """Per label and language: rows, ROC-AUC, and precision and recall at confidence 0.5, each with a 95 % interval."""
    truth = np.array(test["truth"].tolist())
    figures: dict[str, Any] = {}
    for column, label in enumerate(labels):
        for language in sorted(set(test["language"])):
            chosen = (test["language"] == language).to_numpy() & ~np.isnan(truth[:, column])
            harmful = truth[chosen, column] == 1
            if not harmful.any() or harmful.all():
                continue
            scores = confidence[chosen, column].astype(np.float64)
            units = test["unit"].to_numpy()[chosen].tolist()
            auc = cluster_bootstrap(lambda rows: roc_auc(harmful[rows], scores[rows]), units, resamples=200)  # noqa: B023  # used at once
            figures[f"{label}/{language}"] = {
                "rows": len(harmful),
                "harmful": int(harmful.sum()),
                "roc_auc": auc.as_dict(),
                "precision": precision_interval(harmful, scores >= 0.5, units).as_dict(),
                "recall": recall_interval(harmful, scores >= 0.5, units).as_dict(),
            }
    return figures


if __name__ == "__main__":
    typer.run(main)
