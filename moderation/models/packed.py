"""Linear layers laid out once for the small groups that a gateway sends, in float16, where the CPU has kernels for it.

A group of few tokens costs what it costs to read the weights. FBGEMM (Khudia et al. 2021, "FBGEMM: Enabling
High-Performance Low-Precision Deep Learning Inference") reads half as many bytes, in the order in which it needs them,
and computes in float32. Beyond some hundred tokens arithmetic is what costs, and the usual kernels are as good.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any  # Any: PyTorch's packed weights have no type of their own

import torch
from torch import nn

_MOST_TOKENS = 192
"""Up to which the packed weights are the faster ones (docs/measured.md)."""


def packs() -> bool:
    """Whether this machine's torch has the kernels: on x86 it does."""
    return "fbgemm" in torch.backends.quantized.supported_engines


class PackedLinear(nn.Module):
    """A linear layer for scoring alone, its weights those of float16, whichever way they are read.

    Args:
        linear: stays as it is. Its weights serve larger groups, and a GPU; they are shared if float16 holds them.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        own, bias = linear.weight.detach(), linear.bias.detach()
        rounded = own.half().float()
        self.register_buffer("weight", own if torch.equal(own, rounded) else rounded, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self._packed: Any = torch.ops.quantized.linear_prepack_fp16(rounded, bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(tokens, inputs) -> (tokens, outputs)."""
        if len(inputs) > _MOST_TOKENS or not inputs.is_cpu:
            return nn.functional.linear(inputs, self.weight, self.bias)
        outputs: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(inputs, self._packed)
        return outputs


def packed(layers: nn.ModuleList) -> nn.ModuleList:
    """The same layers over the same weights, with every linear one packed; those that were given stay as they are."""
    shared = {id(tensor): tensor for tensor in (*layers.parameters(), *layers.buffers())}
    copied = deepcopy(layers, shared)
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, PackedLinear(child))
    return copied
