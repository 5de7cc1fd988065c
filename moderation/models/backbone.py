"""What a pretrained network is to the picture models: pictures in, features out.

A picture is brought to the network's input as the network was trained: with Pillow, one picture at a time, because
pictures of one batch differ in size, and because the networks' own scores are only met with the same resampling. The
network then sees all pictures of a call together, in chunks that bound its memory.
"""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

CHUNK = 16
"""Pictures that a network sees at a time: some 100 MB at 224 px. On a CPU, more at a time are slower."""

Picture: TypeAlias = npt.NDArray[np.uint8]
"""RGB in [0, 255], shape (height, width, 3)."""


class Backbone(nn.Module, ABC):
    """A pretrained network, in eval mode, its weights frozen. Thread-safe: nothing changes after construction.

    Attributes:
        name: that `open_backbone` knows it by.
        width: features of a picture.
        side: of its square input, in pixels.
    """

    name: str
    width: int
    side: int

    @abstractmethod
    def prepare(self, picture: Picture) -> torch.Tensor:
        """A picture as the network was trained to see it; float32, shape (3, side, side)."""

    def features(self, pictures: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """Features of pictures, which may differ in size; shape (pictures, width).

        A row depends on its own picture alone, up to the last bits of float32, which move with the size of a chunk.
        """
        device = next(self.parameters()).device
        rows = [np.zeros((0, self.width), dtype=np.float32)]
        with torch.inference_mode():
            for begin in range(0, len(pictures), CHUNK):
                batch = torch.stack([self.prepare(picture) for picture in pictures[begin : begin + CHUNK]])
                batch = batch.to(device).contiguous(memory_format=torch.channels_last)
                rows.append(self(batch).float().cpu().numpy())
        return np.concatenate(rows)

    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of its weights: a head fits the features that it was trained on alone."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def ready(self) -> Backbone:
        """Itself, frozen, in eval mode, on the GPU where there is one."""
        self.requires_grad_(False).eval()
        # Channels last: a fifth less time on a CPU, up to a half with tensor cores.
        self.to(memory_format=torch.channels_last)
        return self.to("cuda") if torch.cuda.is_available() else self


def resized(picture: Picture, size: tuple[int, int], resampling: Image.Resampling) -> Picture:
    """A picture in another size (width, height), as Pillow resamples it."""
    return np.asarray(Image.fromarray(picture).resize(size, resample=resampling))


def middle(picture: Picture, share: float, side: int, resampling: Image.Resampling) -> Picture:
    """The middle square of a picture, `share` of its shorter side, in `side` pixels.

    As if the whole picture were made smaller first and its middle taken then, but a strip of 1 x 10,000 stays small.
    """
    height, width = picture.shape[:2]
    size = max(1, int(min(height, width) * share))
    return resized(centre(picture, size), (side, side), resampling)


def centre(picture: Picture, side: int) -> Picture:
    """The square of `side` pixels in the middle."""
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]


def as_planes(values: npt.NDArray[np.generic]) -> torch.Tensor:
    """(height, width, 3) -> float32 (3, height, width)."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))


def store(tensors: Mapping[str, torch.Tensor], target: Path) -> Path:
    """Write weights where a reader finds them whole or not at all: by a rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        written = Path(scratch) / target.name
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(written))
        written.replace(target)
    return target
