"""Pretrained networks by name: which one the picture models stand on is a line of configuration.

- `efficientnet-lite0`, from a package: what is in a picture.
- `open-nsfw`, from a package: nudity, and what it looks like.
- `torchvision:NAME`: any of torchvision's classifiers, such as `torchvision:resnet18`, without its last layer. Its
  weights are `torchvision-NAME.safetensors` in the folder of bases; where there are none, torchvision's default weights
  are fetched there, once, which needs a network.
- Anything else: a transformers model, as a hub id or a local folder.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any  # Any: torchvision and transformers say nothing of what they make by name
from urllib.error import URLError

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from moderation.errors import ModelError
from moderation.models import efficientnet_lite, open_nsfw
from moderation.models.backbone import Backbone, Picture, as_planes, middle, store

TORCHVISION = "torchvision:"


@lru_cache(maxsize=8)
def open_backbone(name: str, bases: Path) -> Backbone:
    """A pretrained network, ready; read once a process, and shared by all models that stand on it.

    Args:
        name: see the module.
        bases: where unpacked or fetched weights are kept (`Settings.bases`).

    Raises:
        ModelError: there is none of that name, or its weights cannot be had.
    """
    if name == efficientnet_lite.NAME:
        return efficientnet_lite.open_efficientnet_lite0(bases).ready()
    if name == open_nsfw.NAME:
        return open_nsfw.open_open_nsfw(bases).ready()
    if name.startswith(TORCHVISION):
        return TorchvisionBackbone(name, bases).ready()
    return HubBackbone(name).ready()


class TorchvisionBackbone(Backbone):
    """A classifier of torchvision's, its last linear layer taken off."""

    def __init__(self, name: str, bases: Path) -> None:
        from torchvision import models

        super().__init__()
        self.name = name
        kind = name.removeprefix(TORCHVISION)
        try:
            default = models.get_model_weights(kind).DEFAULT
            network = models.get_model(kind, weights=None)
        except (ValueError, AttributeError) as error:
            raise ModelError(f"backbone {name!r}: torchvision has no {kind!r} with weights of its own") from error
        stored = bases / f"torchvision-{kind}.safetensors"
        try:
            if not stored.exists():
                store(default.get_state_dict(progress=False, check_hash=True, weights_only=True), stored)
            network.load_state_dict(load_file(str(stored)))
        except (OSError, URLError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"backbone {name!r}: its weights, {stored}, cannot be had: {error}") from error
        linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ModelError(f"backbone {name!r} has no linear layer to take off")
        self.width = int(network.get_submodule(linear[-1]).in_features)
        network.set_submodule(linear[-1], nn.Identity())
        self.network = network
        self.as_trained: Any = default.transforms()
        if not hasattr(self.as_trained, "crop_size"):
            raise ModelError(f"backbone {name!r} is no classifier of still pictures")
        self.side = int(self.as_trained.crop_size[0])

    def prepare(self, picture: Picture) -> torch.Tensor:
        """As torchvision evaluates these weights: shorter side, middle, means and deviations of ImageNet."""
        how = self.as_trained
        resampling = Image.Resampling[how.interpolation.name]
        square = middle(picture, self.side / int(how.resize_size[0]), self.side, resampling)
        planes = as_planes(square) / 255.0
        return (planes - torch.tensor(how.mean)[:, None, None]) / torch.tensor(how.std)[:, None, None]

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Features (n, width) of prepared pictures (n, 3, side, side)."""
        features: torch.Tensor = self.network(batch)
        return features


class HubBackbone(Backbone):
    """A transformers model: its pooled output or, without one, the mean over its last hidden states."""

    def __init__(self, name: str) -> None:
        from transformers import AutoImageProcessor, AutoModel

        super().__init__()
        self.name = name
        try:
            network = AutoModel.from_pretrained(name, dtype=torch.float32, use_safetensors=True)
            processor: Any = AutoImageProcessor
            self.as_trained: Any = processor.from_pretrained(name)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"backbone {name!r} cannot be loaded: {error}") from error
        self.network = network.eval()
        probe = self.prepare(np.zeros((64, 64, 3), dtype=np.uint8))
        self.side = int(probe.shape[-1])
        with torch.inference_mode():
            self.width = int(self(probe[None]).shape[1])

    def prepare(self, picture: Picture) -> torch.Tensor:
        """As the model's own image processor has it."""
        image = Image.fromarray(picture)
        planes: torch.Tensor = self.as_trained(images=image, return_tensors="pt")["pixel_values"][0]
        return planes

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Features (n, width) of prepared pictures (n, 3, side, side)."""
        found = self.network(pixel_values=batch)
        pooled = getattr(found, "pooler_output", None)
        if pooled is None:
            hidden: torch.Tensor = found.last_hidden_state
            pooled = hidden.mean(dim=1) if hidden.dim() == 3 else hidden.mean(dim=(2, 3))
        return pooled.flatten(1)
