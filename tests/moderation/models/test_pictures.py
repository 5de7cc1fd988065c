"""Image and video models: what decides a medium, what the evidence is, and that a medium is scored on its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from moderation.errors import ModelError
from moderation.media import Reading
from moderation.models.backbone import Picture
from moderation.models.backbones import open_backbone
from moderation.models.card import Card
from moderation.models.load import load_picture_classifier, load_text_classifier
from moderation.models.open_nsfw import OpenNsfw
from moderation.models.pictures import (
    PICTURE_VERSION,
    ImageClassifier,
    ImageConfig,
    PictureScores,
    VideoClassifier,
    VideoConfig,
    motion_rows,
    windows_of,
)
from moderation.policy import Policy, threshold_of
from moderation.preprocess.motion import MOTION
from moderation.settings import DEPLOYMENTS
from tests.moderation.models.seeing import Colours, a_reading, plain

RED, GREEN, BLUE, BLACK = plain((255, 0, 0)), plain((0, 255, 0)), plain((0, 0, 255)), plain((0, 0, 0))
LABELS = ("nudity", "violence")


def a_card(architecture: str, config: ImageConfig | VideoConfig, **changes: Any) -> Card:
    card = Card(
        architecture=architecture, labels=LABELS, languages=(), preprocessing=PICTURE_VERSION, config=asdict(config)
    )
    return replace(card, **changes)


def a_head(weights: Sequence[Sequence[float]], bias: Sequence[float] = (0.0, 0.0)) -> nn.Linear:
    head = nn.Linear(len(weights[0]), len(weights)).requires_grad_(False)
    head.weight.copy_(torch.tensor(weights))
    head.bias.copy_(torch.tensor(bias))
    return head


def an_image_model(**changes: Any) -> ImageClassifier:
    """Red is nudity, blue is violence."""
    config = ImageConfig(backbones=("colours",), fingerprints=(Colours().fingerprint(),))
    return ImageClassifier(a_card("image", config, **changes), [Colours()], a_head([[4, 0, 0], [0, 0, 4]], (-2, -2)))


def a_video_model(window_s: float = 1.0, **changes: Any) -> VideoClassifier:
    """Red in a picture is nudity; blue in the mean over a window is violence, and so is motion."""
    config = VideoConfig(
        backbones=("colours",),
        fingerprints=(Colours().fingerprint(),),
        surest=("nudity",),
        window_s=window_s,
        statistics=("mean",),
    )
    moving = [0.0, 0.0, 8.0, *[0.5] * len(MOTION)]
    window = a_head([[0.0] * len(moving), moving], (0, -4))
    return VideoClassifier(a_card("video", config, **changes), [Colours()], a_head([[4, 0, 0]] * 2, (-2, -2)), window)


def sigmoid(value: float) -> float:
    return 1 / (1 + float(np.exp(-value)))


def test_an_image_is_scored_by_its_head() -> None:
    scores = an_image_model().score([a_reading([RED]), a_reading([BLUE]), a_reading([BLACK])])
    high, low = sigmoid(2), sigmoid(-2)
    assert scores.confidence == pytest.approx(np.array([[high, low], [low, high], [low, low]]), abs=1e-6)
    assert [frame.shape for frame in scores.frames] == [(1, 2)] * 3


def test_an_animated_image_is_as_harmful_as_its_surest_picture_for_each_label() -> None:
    scores = an_image_model().score([a_reading([BLACK, RED, BLUE])])
    assert scores.confidence[0] == pytest.approx([sigmoid(2), sigmoid(2)])
    assert scores.frames[0].argmax(axis=0).tolist() == [1, 2]


def test_a_picture_more_never_lowers_a_score() -> None:
    for model in (an_image_model(), a_video_model(window_s=0.0)):
        few = model.score([a_reading([GREEN, RED], "video")]).confidence
        more = model.score([a_reading([GREEN, RED, BLUE, BLACK], "video")]).confidence
        assert (more >= few).all()


def test_calibration_is_the_card_s() -> None:
    model = an_image_model(calibration={"violence": {"*": (0.5, 1.0)}})
    scores = model.score([a_reading([BLUE])])
    assert scores.confidence[0] == pytest.approx([sigmoid(-2), sigmoid(0.5 * 2 + 1)])


def test_a_video_s_nudity_is_its_surest_picture_s_and_its_violence_its_surest_window_s() -> None:
    clip = a_reading([BLUE, BLACK, BLACK, BLACK, RED], "video")
    scores = a_video_model().score([clip])
    nudity, violence = scores.frames[0].T
    assert nudity == pytest.approx([sigmoid(-2)] * 4 + [sigmoid(2)])
    shares = [1 / 2, 1 / 3, 0, 0, 0]  # of blue in the window of a second before and after each picture
    assert violence == pytest.approx([sigmoid(8 * share - 4) for share in shares])
    assert scores.confidence[0] == pytest.approx([sigmoid(2), sigmoid(0)])


def test_a_window_reaches_as_many_seconds_as_the_card_says() -> None:
    clip = a_reading([BLUE, BLACK, BLACK], "video", times=[0.0, 0.4, 3.0])
    narrow = a_video_model(window_s=0.1).score([clip]).frames[0][:, 1]
    wide = a_video_model(window_s=0.5).score([clip]).frames[0][:, 1]
    assert narrow == pytest.approx([sigmoid(4), sigmoid(-4), sigmoid(-4)])
    assert wide == pytest.approx([sigmoid(0), sigmoid(0), sigmoid(-4)])


def test_an_added_picture_counts_by_itself_and_in_no_window() -> None:
    """Windows were trained on what sampling chooses: a picture that was added makes their labels no surer."""
    alone = a_reading([BLACK, BLUE, BLACK], "video", times=[0.0, 1.0, 2.0])
    more = replace(a_reading([BLACK, RED, BLUE, BLUE, BLACK], "video", times=[0.0, 0.5, 1.0, 1.5, 2.0]), added=(1, 3))
    model = a_video_model(window_s=0.6)
    before, after = model.score([alone]), model.score([more])
    assert after.confidence[0, 1] == pytest.approx(before.confidence[0, 1])
    assert after.frames[0][[0, 2, 4], 1] == pytest.approx(before.frames[0][:, 1])
    assert after.confidence[0, 0] == pytest.approx(sigmoid(2))
    assert after.frames[0][:, 0].argmax() == 1


def test_what_moves_counts() -> None:
    still = a_reading([plain((90, 90, 90))] * 2, "video")
    flicker = replace(still, followers=np.full_like(still.followers, 255))
    model = a_video_model()
    assert model.score([flicker]).confidence[0, 1] > model.score([still]).confidence[0, 1] + 0.1
    assert model.score([flicker]).confidence[0, 0] == model.score([still]).confidence[0, 0]


def test_without_followers_nothing_is_known_to_move() -> None:
    image = a_reading([RED, BLUE])
    assert np.array_equal(motion_rows(image), np.zeros((2, len(MOTION))))
    assert a_video_model().score([image]).confidence.shape == (1, 2)


def a_batch() -> list[Reading]:
    return [
        a_reading([RED]),
        a_reading([BLUE, GREEN, plain((9, 99, 200))], "video"),
        a_reading([plain((50, 60, 70), 8, 90)]),
        a_reading([GREEN, RED], "video", times=[0.0, 5.0]),
    ]


@pytest.mark.parametrize("model", [an_image_model(), a_video_model()], ids=["image", "video"])
def test_a_medium_is_scored_alike_whatever_is_beside_it(model: ImageClassifier | VideoClassifier) -> None:
    batch = a_batch()
    together = model.score(batch)
    for index, reading in enumerate(batch):
        alone = model.score([reading])
        assert alone.confidence[0] == pytest.approx(together.confidence[index], abs=1e-6)
        assert alone.frames[0] == pytest.approx(together.frames[index], abs=1e-6)
        assert together.frames[index].max(axis=0) == pytest.approx(together.confidence[index])
    again = model.score(batch[::-1])
    assert again.confidence[::-1] == pytest.approx(together.confidence, abs=1e-6)
    assert together.confidence.dtype == np.float32


@pytest.mark.parametrize("model", [an_image_model(), a_video_model()], ids=["image", "video"])
def test_no_media_have_no_scores(model: ImageClassifier | VideoClassifier) -> None:
    scores = model.score([])
    assert isinstance(scores, PictureScores)
    assert scores.confidence.shape == (0, 2)
    assert scores.frames == ()


def test_all_pictures_of_a_call_go_through_a_backbone_together(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    features = Colours.features

    def counted(self: Colours, pictures: Sequence[Any]) -> Any:
        seen.append(len(pictures))
        return features(self, pictures)

    monkeypatch.setattr(Colours, "features", counted)
    an_image_model().score(a_batch())
    assert seen == [7]


def test_windows_are_pooled_statistic_by_statistic() -> None:
    rows = np.array([[1.0, 10.0], [3.0, 10.0], [100.0, 0.0]], dtype=np.float32)
    times = np.array([0.0, 1.0, 9.0], dtype=np.float32)
    found = windows_of(rows, times, 1.0, ("mean", "std", "max"))
    assert found.tolist() == [[2, 10, 1, 0, 3, 10], [2, 10, 1, 0, 3, 10], [100, 0, 0, 0, 100, 0]]


def test_another_preprocessing_is_refused() -> None:
    with pytest.raises(ModelError, match="picture-0"):
        an_image_model(preprocessing="picture-0")


def test_a_backbone_with_other_weights_is_refused() -> None:
    model = a_video_model()
    with pytest.raises(ModelError, match="colours"):
        VideoClassifier(model.card, [Colours(gain=2.0)], model.head, model.window)


@pytest.fixture(scope="module")
def nsfw(bases: Path) -> OpenNsfw:
    network = open_backbone("open-nsfw", bases)
    assert isinstance(network, OpenNsfw)
    return network


def stored_models(nsfw: OpenNsfw, folder: Path) -> None:
    """An image and a video model on open_nsfw, of random weights, saved."""
    torch.manual_seed(3)
    config = ImageConfig(backbones=("open-nsfw",), fingerprints=(nsfw.fingerprint(),))
    head = nn.Linear(1024, 2).requires_grad_(False)
    ImageClassifier(a_card("image", config), [nsfw], head).save(folder / "image")
    video = VideoConfig(**asdict(config), surest=("nudity",), window_s=1.5, statistics=("mean", "max"))
    window = nn.Linear((1024 + len(MOTION)) * 2, 2).requires_grad_(False)
    VideoClassifier(a_card("video", video), [nsfw], head, window).save(folder / "video")


def test_what_was_saved_is_loaded(nsfw: OpenNsfw, bases: Path, tmp_path: Path) -> None:
    stored_models(nsfw, tmp_path)
    clip = a_reading([RED, BLUE], "video")
    image, video = (load_picture_classifier(tmp_path / kind, bases) for kind in ("image", "video"))
    assert isinstance(image, ImageClassifier)
    assert isinstance(video, VideoClassifier)
    assert image.backbones[0] is video.backbones[0] is nsfw
    assert video.config.statistics == ("mean", "max")
    again = load_picture_classifier(tmp_path / "video", bases)
    assert np.array_equal(again.score([clip]).confidence, video.score([clip]).confidence)
    assert 0 < video.score([clip]).confidence.min() < video.score([clip]).confidence.max() < 1


def test_a_folder_that_was_tampered_with_is_refused(nsfw: OpenNsfw, bases: Path, tmp_path: Path) -> None:
    stored_models(nsfw, tmp_path)
    weights = tmp_path / "image" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError, match="SHA-256"):
        load_picture_classifier(tmp_path / "image", bases)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architecture": "ngram"}, "known are image, video"),
        ({"labels": ["violence"]}, r"'picture\.weight' has shape"),
        ({"preprocessing": "text-3"}, "text-3"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    nsfw: OpenNsfw, bases: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    stored_models(nsfw, tmp_path)
    card = tmp_path / "video" / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    with pytest.raises(ModelError, match=told):
        load_picture_classifier(tmp_path / "video", bases)


def test_a_text_model_and_a_picture_model_are_not_taken_for_each_other(nsfw: OpenNsfw, tmp_path: Path) -> None:
    stored_models(nsfw, tmp_path)
    with pytest.raises(ModelError, match="image"):
        load_text_classifier(tmp_path / "image")


SHIPPED = ("image-multi", "video-multi")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_small_and_its_curves_meet_the_shipped_policies(name: str, bases: Path) -> None:
    folder = DEPLOYMENTS / "models" / name
    model = load_picture_classifier(folder, bases)
    assert (folder / "model.safetensors").stat().st_size < 100_000
    assert "open_nsfw" in model.card.about["nudity"]
    for policy in ("default", "precision-first"):
        rules = Policy.load(DEPLOYMENTS / "policies" / f"{policy}.yaml").rules("*")
        for label in model.card.labels:
            threshold = threshold_of(model.card.curve(label), rules[label].objective, rules[label].prevalence)
            assert threshold is not None
            assert 0.7 < threshold < 1


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_s_nudity_is_open_nsfw_s_own_score(name: str, bases: Path, nsfw: OpenNsfw) -> None:
    model = load_picture_classifier(DEPLOYMENTS / "models" / name, bases)
    reading = a_reading([plain((220, 170, 140)), plain((30, 60, 90))], "video")
    prepared = torch.stack([nsfw.prepare(picture) for picture in reading.pictures])
    with torch.inference_mode():
        own = torch.softmax(nsfw.judgement(nsfw(prepared)), 1)[:, 1].numpy()
    column = model.card.labels.index("nudity")
    scores = model.score([reading])
    assert scores.frames[0][:, column] == pytest.approx(own, abs=1e-4)
    assert scores.confidence[0, column] == pytest.approx(own.max(), abs=1e-4)


class Blind(Colours):
    """One that must not be asked."""

    name = "blind"

    def features(self, pictures: Sequence[Picture]) -> np.ndarray:
        raise AssertionError("nothing weighs what it sees")


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_network_that_nothing_weighs_is_not_asked(weight: float) -> None:
    networks = [Colours(), Blind()]
    config = ImageConfig(
        backbones=tuple(network.name for network in networks),
        fingerprints=tuple(network.fingerprint() for network in networks),
    )
    head = a_head([[4, 0, 0, 0, 0, 0], [0, 0, 4, 0, 0, weight]], (-2, -2))
    model = ImageClassifier(a_card("image", config), networks, head)
    if weight:
        with pytest.raises(AssertionError, match="nothing weighs"):
            model.score([a_reading([RED])])
    else:
        expected = an_image_model().score([a_reading([RED])]).confidence
        assert model.score([a_reading([RED])]).confidence == pytest.approx(expected)


def test_a_model_of_pictures_is_no_model_of_texts(tmp_path: Path) -> None:
    an_image_model().save(tmp_path)
    with pytest.raises(ModelError, match="neither retrained from the ledger's labels nor checked for drift yet"):
        load_text_classifier(tmp_path)
