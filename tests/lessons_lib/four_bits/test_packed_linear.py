"""Packed layers compute what their codes say, equal bitsandbytes' layer, pass gradients on and keep no FP32 weight."""

import bitsandbytes
import pytest
import torch
from torch import nn

from lessons_lib.arithmetic import nf4
from lessons_lib.four_bits import awq, groupwise, packed_linear
from lessons_lib.four_bits.packed_linear import Linear4bit, PackedGroups, PackedNF4
from lessons_lib.tasks import layers


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(n_out=64, n_in=128):
    torch.manual_seed(0)
    return nn.Linear(n_in, n_out)


@pytest.mark.parametrize("double", [True, False])
def test_the_weight_is_that_of_bitsandbytes_layer(double):
    layer = linear()
    theirs = bitsandbytes.nn.Linear4bit(
        128, 64, quant_type="nf4", compress_statistics=double, compute_dtype=torch.float32
    )
    theirs.load_state_dict(layer.state_dict())
    theirs = theirs.to("cpu").train()  # in eval mode it would compute in BF16
    own, x = packed_linear.nf4_layer(layer, double=double), draw(3, 5, 128)
    state = theirs.weight.quant_state
    assert torch.equal(own.weight(), bitsandbytes.functional.dequantize_4bit(theirs.weight.data, state))
    assert torch.equal(own.weight(), nf4.round_trip(layer.weight.detach(), double=double))
    assert torch.allclose(own(x), theirs(x), atol=1e-5)


def test_groups_read_back_as_their_codes_say():
    weight = linear().weight.detach()
    grouped = groupwise.quantize_groups(weight, 4, 32)
    assert torch.equal(PackedGroups.of(grouped)(), groupwise.dequantize_groups(grouped))
    size = draw(128, seed=1).abs() * torch.linspace(1, 20, 128)
    scaled = awq.awq(weight, torch.diag(size**2), size, 4, 32)
    assert scaled.alpha > 0
    packed = PackedGroups.of(scaled.grouped, scaled.factors)
    assert torch.equal(packed(), awq.dequantize(scaled))
    layer = Linear4bit(packed, linear().bias)
    x = draw(7, 128, seed=2)
    assert torch.allclose(layer(x), x @ awq.dequantize(scaled).t() + linear().bias, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_the_input_and_no_weight_is_kept_for_them(dtype):
    layer, x = packed_linear.nf4_layer(linear()), draw(2, 3, 128).to(dtype).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        out = layer(x)
    out.square().sum().backward()
    weight = layer.weight().to(dtype)
    again = x.detach().clone().requires_grad_()
    (again @ weight.t() + layer.bias.to(dtype)).square().sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    assert torch.allclose(x.grad, again.grad, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)
    assert max(kept, default=0) < weight.numel()
    assert not list(layer.parameters())


@pytest.mark.parametrize("double", [True, False])
def test_bytes_are_the_computed_bits(double):
    layer = linear(384, 512)
    model = nn.Sequential(packed_linear.nf4_layer(layer, double=double))
    stored, weights = packed_linear.packed_bytes(model)
    assert weights == 384 * 512
    assert stored == pytest.approx(weights * nf4.bits_per_weight(64, double) / 8, rel=1e-3)
    grouped = nn.Sequential(Linear4bit(PackedGroups.of(groupwise.quantize_groups(layer.weight.detach(), 4))))
    assert packed_linear.packed_bytes(grouped)[0] == weights * groupwise.bits_per_weight(4) / 8


def test_layers_are_replaced_in_a_copy():
    model = nn.Sequential(linear(), nn.ReLU(), nn.Linear(64, 5))
    made = layers.replaced(model, ["0"], lambda name, layer: packed_linear.nf4_layer(layer))
    assert isinstance(made[0], Linear4bit)
    assert isinstance(model[0], nn.Linear)
    assert made[2] is not model[2]
    assert torch.equal(made[2].weight, model[2].weight)
    assert "group_size=64" in repr(made)
    for name in ("1", "9"):
        with pytest.raises(ValueError, match=f"'{name}' is no linear layer of this model"):
            layers.replaced(model, [name], lambda name, layer: layer)


@pytest.mark.parametrize(("rows", "n", "group_size"), [(4, 96, 64), (4, 64, 0), (4, 63, 63), (0, 64, 64), (64, 1, 64)])
def test_a_shape_that_does_not_fit_is_refused(rows, n, group_size):
    with pytest.raises(ValueError, match=f"{rows} rows of {n} does not split into groups of {group_size}"):
        PackedNF4(rows, n, group_size)
    with pytest.raises(ValueError, match="does not split"):
        PackedGroups(rows, n, group_size)


def test_codes_of_more_than_four_bits_are_refused():
    with pytest.raises(ValueError, match="0 ... 15 are allowed"):
        PackedGroups.of(groupwise.quantize_groups(draw(4, 64), 8, 64))
