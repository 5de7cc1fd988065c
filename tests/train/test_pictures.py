"""How picture models learn: heads out of fold, by source; what is said of a label without rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from moderation.errors import NotEnoughDataError
from moderation.metrics import roc_auc
from moderation.models.backbones import open_backbone
from moderation.models.card import Card
from moderation.models.load import load_picture_classifier
from moderation.models.operating import Objective, OperatingCurve
from moderation.models.pictures import VideoClassifier
from moderation.policy import Policy, threshold_of
from moderation.preprocess.motion import MOTION
from moderation.settings import DEPLOYMENTS
from tests.moderation.models.seeing import Colours
from train.picture_models import Clips, at_policies, image_multi, photos_of, surest_pictures, taught_video, video_multi
from train.pictures import (
    FLOORS,
    HeadRecipe,
    Watched,
    fitted_head,
    folds_of,
    lessons,
    loudness,
    nudity_head,
    out_of_fold,
    platt,
    prior_curve,
    surest,
    taught,
    thinned,
    upper_bound,
    watch,
    windows,
)

ALIKE = HeadRecipe(statistics=("mean",), strength=1.0, frames=1.0)


def clips(sources: int = 12, each: int = 4, *, signal: float = 2.0, seed: int = 0) -> tuple[Watched, Clips]:
    """Clips of three pictures; feature 0 tells violence, feature 1 the source, and motion nothing."""
    generator = np.random.default_rng(seed)
    violent = generator.random(sources * each) < 0.5
    groups = [f"s{row // each}" for row in range(sources * each)]
    features = []
    for row, harmful in enumerate(violent):
        rows = generator.normal(size=(3, 3)).astype(np.float32)
        rows[:, 0] += signal * harmful
        rows[:, 1] += row // each
        features.append(rows)
    still = [np.zeros((3, len(MOTION)), dtype=np.float32)] * len(features)
    times = [np.array([0.0, 0.5, 1.0], dtype=np.float32)] * len(features)
    paths = [Path(f"{row}.mp4") for row in range(len(features))]
    return Watched(features, still, times), Clips(paths, violent, groups)


def test_a_head_takes_its_inputs_as_they_are() -> None:
    generator = np.random.default_rng(1)
    rows = (generator.normal(size=(400, 3)) * [1, 100, 0] + [5, -300, 7]).astype(np.float32)
    truth = (rows[:, 0] - 5) + (rows[:, 1] + 300) / 100 > 0
    head = fitted_head(rows, truth, np.ones(400), 1.0)
    logits = head(torch.from_numpy(rows))[:, 0].numpy()
    assert roc_auc(truth, logits.astype(np.float64)) > 0.99
    assert head.weight[0, 0] == pytest.approx(float(head.weight[0, 1]) * 100, rel=0.2)
    assert head.weight[0, 2] == 0  # what never changes says nothing
    assert abs(float(logits.mean())) < 1


def test_a_class_weighs_the_same_however_rare() -> None:
    pooled = [np.array([[value]], dtype=np.float32) for value in (1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0)]
    head = taught(pooled, np.array([True] + [False] * 7), 1.0)
    assert float(head(torch.zeros(1, 1))) == pytest.approx(0.0, abs=1e-3)


def test_a_long_clip_weighs_no_more_than_a_short_one() -> None:
    one, other = np.array([[1.0]], dtype=np.float32), np.array([[-1.0]], dtype=np.float32)
    short = taught([one, other], np.array([True, False]), 1.0)
    long = taught([np.repeat(one, 9, axis=0), other], np.array([True, False]), 1.0)
    grid = torch.linspace(-2, 2, 5)[:, None]
    assert torch.sign(short(grid) - short(-grid)).tolist() == torch.sign(long(grid) - long(-grid)).tolist()
    assert float(long(torch.zeros(1, 1))) == pytest.approx(0.0, abs=0.5)


def test_a_medium_is_as_harmful_as_its_surest_window() -> None:
    head = nn.Linear(1, 1).requires_grad_(False)
    head.weight.fill_(2.0)
    head.bias.fill_(1.0)
    rows = [np.array([[0.0], [3.0]], dtype=np.float32), np.array([[-1.0]], dtype=np.float32)]
    assert surest(head, rows).tolist() == [7.0, -1.0]


@pytest.mark.parametrize(("silent", "seen"), [("motion", slice(0, 3)), ("frames", slice(3, None))])
def test_what_a_recipe_does_not_look_at_weighs_nothing(silent: str, seen: slice) -> None:
    watched, labelled = clips()
    generator = np.random.default_rng(4)
    watched = replace(watched, motion=[generator.random((3, len(MOTION)), dtype=np.float32) for _ in watched.motion])
    recipe = replace(ALIKE, **{silent: 0.0})
    head = taught(windows(watched, recipe), labelled.violent, 1.0, loudness(watched, recipe))
    assert head.weight[0, seen].all()
    assert int((head.weight != 0).sum()) == head.weight[0, seen].numel()


def test_media_that_were_looked_at_less_often_are_whole_otherwise() -> None:
    watched, _ = clips(2, 1)
    thin = thinned(watched, 1)
    assert np.array_equal(thin.features[0], watched.features[0][1:2])
    assert thin.times[0].tolist() == [0.5]
    assert np.array_equal(thinned(watched, 9).features[1], watched.features[1])
    assert [len(rows) for rows in thinned(watched, 2).motion] == [2, 2]
    assert [len(rows) for rows in lessons(watched, ALIKE)] == [4, 4]  # whole, and thinned to 4, 2 and 1


@pytest.mark.parametrize("seed", range(5))
def test_no_source_is_in_two_folds(seed: int) -> None:
    _, labelled = clips(9, 5, seed=seed)
    folds = folds_of(labelled.violent, labelled.groups, 4, seed)
    assert set(folds) == {0, 1, 2, 3}
    for group in set(labelled.groups):
        assert len({fold for fold, name in zip(folds, labelled.groups, strict=True) if name == group}) == 1


def test_out_of_fold_a_source_s_own_look_is_no_help() -> None:
    """All clips of a source share a label and a look; nothing else tells them apart."""
    generator = np.random.default_rng(5)
    looks = generator.normal(size=(20, 40)).astype(np.float32)
    groups = np.repeat(np.arange(20), 5)
    truth = (np.arange(20) % 2 == 0)[groups]
    pooled = [looks[group][None] + generator.normal(size=(1, 40)).astype(np.float32) * 0.05 for group in groups]
    by_source = out_of_fold(pooled, pooled, truth, folds_of(truth, [f"s{group}" for group in groups], 5, 0), 1.0)
    by_clip = out_of_fold(pooled, pooled, truth, np.arange(100) % 5, 1.0)
    assert roc_auc(truth, by_clip) > 0.95
    assert roc_auc(truth, by_source) < 0.8


def test_calibration_puts_even_evidence_at_a_half() -> None:
    generator = np.random.default_rng(2)
    truth = generator.random(4000) < 0.1
    slope, intercept = platt(generator.normal(size=4000) + 2.0 * truth, truth)
    assert slope == pytest.approx(2.0, rel=0.15)
    assert slope * 1.0 + intercept == pytest.approx(0.0, abs=0.15)


def test_without_harmful_rows_a_curve_promises_nothing() -> None:
    curve = prior_curve(np.full(600, 0.01))
    assert curve.threshold_for(Objective.parse("precision>=0.3"), prevalence=0.01) == FLOORS[0]
    assert curve.threshold_for(Objective.parse("precision>=0.9"), prevalence=0.01) is None
    assert curve.threshold_for(Objective.parse("recall>=0.6"), prevalence=0.01) is None
    assert (curve.positives, curve.negatives) == (0, 600)


def test_harmless_rows_that_score_high_raise_the_threshold() -> None:
    scores = np.array([0.01] * 570 + [0.84] * 30)
    curve = prior_curve(scores)
    assert curve.threshold_for(Objective.parse("precision>=0.3"), prevalence=0.01) == 0.85
    assert curve.false_positive_rate[0] > 30 / 600


@pytest.mark.parametrize(("flagged", "rows", "expected"), [(0, 600, 0.00498), (0, 100, 0.0295), (5, 100, 0.1022)])
def test_the_bound_is_clopper_and_pearson_s(flagged: int, rows: int, expected: float) -> None:
    assert upper_bound(flagged, rows) == pytest.approx(expected, abs=2e-4)


def test_the_bound_of_all_is_one() -> None:
    assert upper_bound(7, 7) == 1.0


def test_nudity_is_asked_of_open_nsfw_alone(bases: Path) -> None:
    network = open_backbone("open-nsfw", bases)
    weight, bias = nudity_head([Colours(), network, Colours()])
    own, own_bias = network.own_head()  # type: ignore[operator]  # it is an OpenNsfw
    assert weight[:3].tolist() == weight[-3:].tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(weight[3:-3], own)
    assert bias == own_bias
    with pytest.raises(NotEnoughDataError, match="colours"):
        nudity_head([Colours()])


def test_a_video_model_is_what_its_clips_teach(bases: Path) -> None:
    backbones = [open_backbone("open-nsfw", bases)]
    watched, labelled = clips(signal=3.0)
    wide = [np.pad(rows, ((0, 0), (0, 1021))) for rows in watched.features]
    model = taught_video(labelled, replace(watched, features=wide), backbones, ALIKE)
    assert model.card.labels == ("violence", "nudity")
    assert model.config.surest == ("nudity",)
    assert model.card.curves["violence"]["*"].positives == int(labelled.violent.sum())
    assert model.card.curves["nudity"]["*"].positives == 0
    assert model.card.about["test"]["violence"]["roc_auc"]["value"] > 0.9
    assert model.card.calibration["violence"]["*"][0] > 0
    weights = model.window.weight
    assert weights[0, 0] > 0
    assert not weights[1].any()


def test_a_card_says_what_each_policy_s_threshold_comes_to() -> None:
    random = np.random.default_rng(3)
    truth = np.arange(400) % 2 == 0
    scores = np.clip(0.4 + 0.3 * truth + random.normal(0, 0.15, 400), 0, 1)
    curve = OperatingCurve.measure(truth, scores)
    found = at_policies("violence", curve, truth, scores)
    assert {name: row["objective"] for name, row in found.items()} == {
        "default": "precision>=0.1",
        "precision-first": "precision>=0.2",
    }
    for row in found.values():
        assert row["recall"] == pytest.approx(row["found"] / 200)
        flagged = scores >= row["threshold"] - 1e-4
        assert row["found"] + row["false_positives"] == pytest.approx(int(flagged.sum()), abs=1)
    assert found["precision-first"]["found"] < found["default"]["found"]
    assert found["precision-first"]["false_positives"] <= found["default"]["false_positives"]
    assert at_policies("nothing", curve, truth, scores) == {}


def test_what_no_threshold_meets_finds_nothing() -> None:
    truth = np.array([True, False])
    found = at_policies("violence", OperatingCurve.measure(truth, np.array([0.6, 0.5])), truth, np.array([0.6, 0.5]))
    assert {(row["threshold"], row["found"], row["false_positives"]) for row in found.values()} == {(None, 0, 0)}


def test_the_card_that_ships_says_what_its_own_curve_does() -> None:
    folder = DEPLOYMENTS / "models" / "video-multi"
    card = Card.from_json((folder / "model.json").read_text(encoding="utf-8"))
    curve = card.curves["violence"]["*"]
    told = card.about["test"]["violence"]["policies"]
    assert set(told) == {"default", "precision-first"}
    for name, row in told.items():
        rule = Policy.load(DEPLOYMENTS / "policies" / f"{name}.yaml").rules("*")["violence"]
        threshold = threshold_of(curve, rule.objective, rule.prevalence)
        assert threshold is not None
        at = curve.thresholds.index(threshold)
        assert (row["objective"], row["threshold"]) == (rule.objective, round(threshold, 4))
        assert row["found"] == pytest.approx(curve.recall[at] * (curve.positives + 1) - 0.5)
        assert row["false_positives"] == pytest.approx(curve.false_positive_rate[at] * (curve.negatives + 1) - 0.5)
        assert row["recall"] == round(row["found"] / curve.positives, 4)


@pytest.mark.parametrize("wrong", ["one class", "one source"])
def test_too_little_to_learn_from_is_told(wrong: str) -> None:
    watched, labelled = clips()
    if wrong == "one class":
        labelled = replace(labelled, violent=np.zeros_like(labelled.violent))
    else:
        labelled = replace(labelled, groups=["s"] * len(labelled.groups))
    with pytest.raises(NotEnoughDataError, match="two sources are needed"):
        taught_video(labelled, watched, [Colours()], ALIKE)


def test_missing_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughDataError, match="has no clips"):
        Clips.of(tmp_path)
    with pytest.raises(NotEnoughDataError, match="holds no photos"):
        photos_of(tmp_path)


def a_data_folder(folder: Path) -> Path:
    """Four tiny clips of two sources, two of them flickering, and three photos."""
    (folder / "video").mkdir()
    (folder / "image" / "benign").mkdir(parents=True)
    lines = []
    for index in range(4):
        name, violent = f"clip{index}.mp4", index % 2 == 1
        with av.open(str(folder / "video" / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=15)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for frame in range(4):
                shade = 250 if violent and frame % 4 > 1 else 40 + 20 * (index // 2)
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, dtype=np.uint8), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        lines.append(json.dumps({"file": name, "labels": {"violence": violent}, "group": f"s{index // 2}"}))
    (folder / "video" / "labels.jsonl").write_text("\n".join(lines))
    for index in range(3):
        Image.new("RGB", (40, 30), (80 * index, 90, 100)).save(folder / "image" / "benign" / f"{index}.png")
    return folder


@pytest.mark.slow
def test_models_are_made_from_files_stored_and_loaded(bases: Path, tmp_path: Path) -> None:
    data = a_data_folder(tmp_path)
    backbones = [open_backbone("open-nsfw", bases)]
    image_multi(data, backbones).save(tmp_path / "image-multi")
    video_multi(data, backbones, tmp_path / "kept").save(tmp_path / "video-multi")
    video = load_picture_classifier(tmp_path / "video-multi", bases)
    assert isinstance(video, VideoClassifier)
    image = load_picture_classifier(tmp_path / "image-multi", bases)
    assert image.card.labels == ("nudity",)
    assert image.card.curves["nudity"]["*"].negatives == 3
    assert (tmp_path / "video-multi" / "model.safetensors").stat().st_size < 1_000_000
    watched = watch(Clips.of(data / "video").paths, "video", backbones, tmp_path / "kept")
    assert [rows.shape for rows in watched.motion] == [(4, len(MOTION))] * 4
    assert surest_pictures(video.head, watched).max() < 0.9


def test_what_was_seen_is_kept_until_anything_changes(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (40, 30), (255, 0, 0)).save(photo)
    first = watch([photo], "image", [Colours()], tmp_path / "kept")
    assert first.features[0] == pytest.approx(np.array([[1, 0, 0]]))
    stored = list((tmp_path / "kept").iterdir())
    assert len(stored) == 1
    again = watch([photo], "image", [Colours()], tmp_path / "kept")
    assert np.array_equal(again.features[0], first.features[0])
    assert np.array_equal(again.times[0], first.times[0])
    assert list((tmp_path / "kept").iterdir()) == stored
    assert watch([photo], "image", [Colours(2.0)], tmp_path / "kept").features[0][0, 0] == 2.0
    Image.new("RGB", (41, 31), (0, 200, 99)).save(photo)
    assert watch([photo], "image", [Colours()], tmp_path / "kept").features[0][0, 0] == 0.0


def test_a_file_that_cannot_be_read_is_told(bases: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(NotEnoughDataError, match=r"broken\.mp4"):
        watch([tmp_path / "broken.mp4"], "video", [open_backbone("open-nsfw", bases)])
