"""Packed layers: what they compute, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moderation.models import packed as packed_module
from moderation.models.packed import PackedLinear, packed, packs

pytestmark = pytest.mark.skipif(not packs(), reason="this machine's torch lacks the kernels; x86 has them")

MOST = packed_module._MOST_TOKENS


def a_linear(*, half: bool = False) -> nn.Linear:
    torch.manual_seed(5)
    linear = nn.Linear(48, 32).requires_grad_(False)
    if half:
        linear.weight.copy_(linear.weight.half())
    return linear


@pytest.mark.parametrize("tokens", [0, 1, 7, MOST, MOST + 1])
def test_a_packed_layer_computes_with_weights_of_float16_in_groups_of_any_size(tokens: int) -> None:
    linear = a_linear()
    inputs = torch.randn(tokens, 48)
    expected = nn.functional.linear(inputs, linear.weight.half().float(), linear.bias)
    torch.testing.assert_close(PackedLinear(linear)(inputs), expected)


@pytest.mark.parametrize("half", [True, False])
def test_weights_are_shared_where_float16_holds_them_and_never_changed(half: bool) -> None:
    linear = a_linear(half=half)
    before = linear.weight.clone()
    layer = PackedLinear(linear)
    assert torch.equal(linear.weight, before)
    assert (layer.weight.data_ptr() == linear.weight.data_ptr()) is half
    assert layer.bias.data_ptr() == linear.bias.data_ptr()


def test_layers_are_packed_to_the_last_one_and_the_given_ones_stay() -> None:
    given = nn.ModuleList([nn.Sequential(a_linear(half=True), nn.LayerNorm(32))])
    copied = packed(given)
    inputs = torch.randn(3, 48)
    torch.testing.assert_close(copied[0](inputs), given[0](inputs))
    assert not [part for part in copied.modules() if isinstance(part, nn.Linear)]
    assert isinstance(given[0][0], nn.Linear)
    assert copied[0][1].weight is given[0][1].weight
