"""Model folders and calibration."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from moderation.errors import ModelError
from moderation.models.base import WEIGHTS, read_folder
from moderation.models.card import CARD
from moderation.models.load import load_text_classifier
from moderation.preprocess.text import TEXT_VERSION
from tests.moderation.models.making import a_card, a_model

TEXTS = ["", "you are wonderful", "Ты идиот", "你好吗", "🍅" * 50]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    a_model(seen=("you are",)).save(tmp_path / "model")
    return tmp_path / "model"


def edit_card(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / CARD).read_text(encoding="utf-8"))
    (folder / CARD).write_text(json.dumps(raw | changes), encoding="utf-8")


def replace_weights(folder: Path, content: bytes) -> None:
    """With a card that vouches for them."""
    (folder / WEIGHTS).write_bytes(content)
    edit_card(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def replace_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = {**a_model().tensors(), **changes}
    path = folder / "other.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, str(path))
    replace_weights(folder, path.read_bytes())


def test_a_saved_model_scores_as_before(folder: Path) -> None:
    before, after = a_model(seen=("you are",)).score(TEXTS), load_text_classifier(folder).score(TEXTS)
    assert np.array_equal(before.confidence, after.confidence)
    assert np.array_equal(before.unseen_word_share, after.unseen_word_share)
    assert len(np.unique(before.confidence)) > 4


def test_saving_writes_the_checksum_of_the_weights(tmp_path: Path) -> None:
    model = a_model()
    assert model.card.weights_sha256 == ""
    card = model.save(tmp_path / "deep" / "model")
    weights = (tmp_path / "deep" / "model" / WEIGHTS).read_bytes()
    assert card.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert model.card is card
    assert read_folder(tmp_path / "deep" / "model")[0].to_json() == card.to_json()


@pytest.mark.parametrize("place", [0, 200, 4096, -1])
def test_weights_with_one_changed_byte_are_refused(folder: Path, place: int) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[place] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match=r"has SHA-256 [0-9a-f]{64}, its card says [0-9a-f]{64}"):
        load_text_classifier(folder)


def test_weights_that_were_cut_off_are_refused(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="SHA-256"):
        load_text_classifier(folder)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_folder_without_a_file_is_no_model_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match="is not a model folder"):
        load_text_classifier(folder)


def test_another_preprocessing_is_refused_with_both_versions(folder: Path) -> None:
    edit_card(folder, preprocessing="text-0")
    told = f"trained with preprocessing 'text-0', this Seawall has '{TEXT_VERSION}'; run .* or `seawall up`"
    with pytest.raises(ModelError, match=told):
        load_text_classifier(folder)
    with pytest.raises(ModelError, match="text-99"):
        a_model(preprocessing="text-99")


def test_an_unknown_architecture_is_told_beside_the_known_ones(folder: Path) -> None:
    edit_card(folder, architecture="oracle")
    with pytest.raises(ModelError, match=r"architecture is 'oracle'; known are .*ngram"):
        load_text_classifier(folder)


def test_a_card_that_is_no_utf_8_is_a_model_error(folder: Path) -> None:
    (folder / CARD).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelError):
        load_text_classifier(folder)


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 64], ids=["empty", "text", "ones"])
def test_weights_that_are_no_safetensors_are_a_model_error(folder: Path, content: bytes) -> None:
    replace_weights(folder, content)
    with pytest.raises(ModelError):
        load_text_classifier(folder)


def test_pickled_weights_are_never_opened(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"table": Trap()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="SHA-256"):
        load_text_classifier(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["table", "bias", "seen"])
def test_weights_without_a_tensor_are_refused(folder: Path, name: str) -> None:
    replace_tensors(folder, **{name: None})
    with pytest.raises(ModelError, match=f"the weights have no tensor '{name}'"):
        load_text_classifier(folder)


@pytest.mark.parametrize("shape", [(4096, 3), (2048, 2), (4096,)])
def test_a_table_of_another_shape_is_refused(folder: Path, shape: tuple[int, ...]) -> None:
    replace_tensors(folder, table=torch.zeros(shape, dtype=torch.float16))
    with pytest.raises(ModelError, match=r"tensor 'table' has shape .*, the card says \(4096, 2\)"):
        load_text_classifier(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("bias", torch.zeros(1)),
        ("bias", torch.zeros(3)),
        ("seen", torch.zeros(8, dtype=torch.uint8)),
        ("seen", torch.zeros(2**17)),
    ],
    ids=["short bias", "long bias", "short seen", "seen in float32"],
)
def test_other_tensors_of_another_shape_are_refused_too(folder: Path, name: str, tensor: torch.Tensor) -> None:
    replace_tensors(folder, **{name: tensor})
    with pytest.raises(ModelError, match=f"tensor '{name}'"):
        load_text_classifier(folder)


@pytest.mark.parametrize("name", ["buckets", "char_lengths", "word_lengths"])
def test_a_card_without_a_part_of_its_configuration_is_a_model_error(folder: Path, name: str) -> None:
    config = dict(a_card().config)
    del config[name]
    edit_card(folder, config=config)
    with pytest.raises(ModelError, match=name):
        load_text_classifier(folder)


def test_calibration_is_platt_s_and_each_label_has_its_own() -> None:
    logits = np.array([[0.0, 0.0], [2.0, 2.0], [-1.0, 3.0]], dtype=np.float32)
    expected = 1 / (1 + np.exp(-(logits * [1.25, 0.75] + [-0.5, 0.0])))
    confidence = a_model().calibrate(logits, ["en", "de", "*"])
    assert confidence.dtype == np.float32
    assert confidence == pytest.approx(expected, abs=1e-6)


def test_a_language_with_a_calibration_of_its_own_is_calibrated_by_it() -> None:
    model = a_model(calibration={"abuse": {"*": (1.0, 0.0), "de": (2.0, 1.0)}, "hate": {"*": (1.0, 0.0)}})
    confidence = model.calibrate(np.ones((3, 2), dtype=np.float32), ["en", "de", "*"])
    plain, german = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(-3.0))
    assert confidence[:, 0].tolist() == pytest.approx([plain, german, plain], abs=1e-6)
    assert confidence[:, 1].tolist() == pytest.approx([plain] * 3, abs=1e-6)
    known = [{"language": "en"}, {"language": "de"}, {}]
    scored = model.score(["same text"] * 3, known).confidence[:, 0]
    assert scored[0] == scored[2] != scored[1]


def test_without_calibration_a_logit_is_taken_as_it_is() -> None:
    logits = np.array([[1.5, 1.5]], dtype=np.float32)
    half = a_model(calibration={"hate": {"*": (2.0, 1.0)}}).calibrate(logits, ["en"])
    assert half[0].tolist() == pytest.approx([1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(-4.0))], abs=1e-6)


def test_confidence_stays_within_bounds_and_keeps_the_order_of_logits() -> None:
    logits = np.array([[-1e30, 0], [-100, 0], [-5, 0], [0, 0], [5, 0], [100, 0], [1e30, 0]], dtype=np.float32)
    confidence = a_model().calibrate(logits, ["en"] * 7)[:, 0]
    assert confidence.min() >= 0
    assert confidence.max() <= 1
    assert np.all(np.diff(confidence) >= 0)
    assert np.all(np.diff(confidence[1:5]) > 0)
