"""Fake quantization, learned steps and folding: against torch, against a frozen residual, and by hand at the clip."""

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import qat
from lessons_lib.int8.qat import FakeQuantize, LearnedStep, QatLinear

BITS = (8, 4, 3, 2)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def values(step, lowest, highest, n=4000, seed=0):
    """Values over the range and beyond, clear of half steps and of the ends, where either answer would be right."""
    v = torch.empty(n).uniform_(lowest - 3, highest + 3, generator=torch.Generator().manual_seed(seed))
    beside = (v - v.floor() - 0.5).abs()
    clear = (beside > 0.05) & ((v - lowest).abs() > 0.05) & ((v - highest).abs() > 0.05)
    return v[clear] * step


def in_margin(x, step, lowest, highest):
    """Where v lies beyond an end by less than half a step: there torch still lets the gradient through."""
    v = x / step
    return ((v > highest) & (v < highest + 0.5)) | ((v < lowest) & (v > lowest - 0.5))


@pytest.mark.parametrize("bits", BITS)
def test_fake_quantize_is_torchs_forward_to_the_bit_and_its_gradient_but_for_half_a_step_beyond_the_ends(bits):
    lowest, highest = affine.code_range(bits)
    scale, zero_point = 0.037, highest // 3
    x = values(scale, lowest - zero_point, highest - zero_point).requires_grad_()
    upstream = draw(len(x), seed=1)
    ours = FakeQuantize.apply(x, scale, zero_point, lowest, highest)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, lowest, highest)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, affine.fake_quantize(x, scale, zero_point, bits))
    (own,) = torch.autograd.grad(ours, x, upstream)
    (other,) = torch.autograd.grad(theirs, x, upstream)
    margin = in_margin(x.detach(), scale, lowest - zero_point, highest - zero_point)
    assert margin.any()
    assert torch.equal(own[~margin], other[~margin])
    assert own[margin].eq(0).all()
    assert torch.equal(other[margin], upstream[margin])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("beyond", [False, True])
def test_a_learned_step_has_torchs_gradients_but_for_half_a_step_beyond_the_ends(bits, beyond):
    lowest, highest = affine.code_range(bits, signed=True)
    step = torch.tensor([0.05], requires_grad=True)
    x = values(0.05, lowest, highest)
    x = x[in_margin(x, 0.05, lowest, highest) == beyond].requires_grad_()
    upstream = draw(len(x), seed=1)
    ours = LearnedStep.apply(x, step, lowest, highest)
    factor = (len(x) * highest) ** -0.5  # of the step's gradient, as ours
    theirs = torch._fake_quantize_learnable_per_tensor_affine(x, step, torch.zeros(1), lowest, highest, factor)
    assert torch.equal(ours, theirs)
    own, other = (torch.autograd.grad(y, (x, step), upstream) for y in (ours, theirs))
    assert torch.equal(own[0], other[0]) != beyond
    assert torch.allclose(own[1], other[1], rtol=1e-4, atol=1e-5) != beyond


def frozen(x, step, residual, lowest, highest):
    """s (clamp(v) + r) with r = round(v) - v held fixed: what the gradients are the exact derivatives of."""
    return step * ((x / step).clamp(lowest, highest) + residual)


@pytest.mark.parametrize(("lowest", "highest"), [(-2, 1), (-8, 7), (0, 15), (-3, 12)])
def test_gradients_are_differences_with_the_residual_frozen(lowest, highest):
    step, nudge = torch.tensor(0.3, dtype=torch.float64), 1e-6
    x = values(0.3, lowest, highest, n=400).double()
    clamped = (x / step).clamp(lowest, highest)
    residual = clamped.round() - clamped  # zero beyond the ends, where nothing is rounded
    assert torch.allclose(frozen(x, step, residual, lowest, highest), clamped.round() * step)
    upstream = draw(len(x), dtype=torch.float64)
    leaves = x.clone().requires_grad_(), step.clone().requires_grad_()
    LearnedStep.apply(*leaves, lowest, highest).backward(upstream)
    up, down = (frozen(x + sign * nudge, step, residual, lowest, highest) for sign in (1, -1))
    assert torch.allclose(leaves[0].grad, upstream * (up - down) / (2 * nudge), atol=1e-6)
    up, down = (frozen(x, step + sign * nudge, residual, lowest, highest) for sign in (1, -1))
    wanted = (upstream * (up - down) / (2 * nudge)).sum() / (len(x) * max(highest, 1)) ** 0.5
    assert leaves[1].grad.item() == pytest.approx(wanted.item(), rel=1e-6)
    plain = x.float().requires_grad_()
    FakeQuantize.apply(plain, 0.3, -lowest, 0, highest - lowest).backward(upstream.float())
    assert torch.allclose(plain.grad, leaves[0].grad.float())


# v = x / step, what it becomes, gradient for x, gradient for the step (without the factor); codes -2 ... 1, step 0.5
WRITTEN = [
    (-3.0, -2, 0, -2.0),
    (-2.2, -2, 0, -2.0),
    (-2.0, -2, 0, -2.0),
    (-1.75, -2, 1, -0.25),
    (-0.25, 0, 1, 0.25),
    (0.0, 0, 1, 0.0),
    (0.75, 1, 1, 0.25),
    (1.0, 1, 0, 1.0),
    (1.25, 1, 0, 1.0),
    (4.0, 1, 0, 1.0),
]


@pytest.mark.parametrize(("v", "code", "for_x", "for_step"), WRITTEN)
def test_written_cases_inside_at_and_beyond_the_clip(v, code, for_x, for_step):
    x, step = torch.tensor([0.5 * v], requires_grad=True), torch.tensor(0.5, requires_grad=True)
    y = LearnedStep.apply(x, step, -2, 1)
    y.backward(torch.tensor([3.0]))
    assert y.item() == 0.5 * code
    assert x.grad.item() == 3 * for_x
    assert step.grad.item() == pytest.approx(3 * for_step)  # one value, Qp = 1: the factor is 1
    assert qat.lsq_gradient(x.detach(), step.detach(), -2, 1, torch.tensor([3.0])) == step.grad
    plain = torch.tensor([0.5 * v], requires_grad=True)
    FakeQuantize.apply(plain, 0.5, 2, 0, 3).backward(torch.tensor([3.0]))
    assert plain.grad.item() == 3 * for_x


def test_each_row_has_its_own_step_and_the_factor_counts_its_numbers():
    x, steps, upstream = draw(5, 40), torch.rand(5, 1) + 0.1, draw(5, 40, seed=1)
    together = qat.lsq_gradient(x, steps, -8, 7, upstream)
    assert together.shape == (5, 1)
    for row in range(5):
        alone = qat.lsq_gradient(x[row], steps[row, 0], -8, 7, upstream[row])
        assert together[row].item() == pytest.approx(alone.item(), rel=1e-5)
        unscaled = [qat.lsq_gradient(x[row, i], steps[row, 0], -8, 7, upstream[row, i]) for i in range(40)]
        factor = (40 * 7) ** -0.5 / 7**-0.5
        assert alone.item() == pytest.approx(factor * sum(unscaled).item(), rel=1e-4, abs=1e-6)


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(24, 6)


def layer_of(linear, bits=4, input_bits=None):
    step = linear.weight.detach().abs().amax(1) / affine.code_range(bits, signed=True)[1]
    ranges = () if input_bits is None else (input_bits, *affine.choose_qparams(-2.0, 3.0, input_bits))
    return QatLinear(linear, bits, step, *ranges)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("input_bits", [None, 8, 2])
def test_a_layer_computes_with_fake_quantized_weights_and_inputs(linear, bits, input_bits):
    layer, x = layer_of(linear, bits, input_bits), draw(7, 24, seed=2)
    step = linear.weight.detach().abs().amax(1) / affine.code_range(bits, signed=True)[1]
    weight = affine.fake_quantize(linear.weight, step, torch.zeros(6), bits, signed=True, axis=0)
    read = x if input_bits is None else affine.fake_quantize(x, *affine.choose_qparams(-2, 3, input_bits), input_bits)
    assert torch.allclose(layer(x), read @ weight.t() + linear.bias, atol=1e-5)
    levels = [len(row.unique()) for row in layer.quantized_weight().detach()]
    assert max(levels) <= 2**bits


def test_training_moves_weights_and_steps_and_keeps_steps_positive(linear):
    layer, x, wanted = layer_of(linear, 2, 2), draw(64, 24, seed=3), draw(64, 6, seed=4)
    before = [step.detach().clone() for step in layer.steps()]
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        loss = (layer(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for step, old in zip(layer.steps(), before, strict=True):
        assert (step > 0).all()
        assert not torch.allclose(step, old, rtol=0.05)


def test_the_gradient_of_a_layer_is_that_of_the_learned_step_through_its_logarithm(linear):
    layer, x = layer_of(linear, 3), draw(7, 24, seed=2)
    layer(x).sum().backward()
    upstream = x.sum(0).expand(6, 24)
    step = layer.steps()[0].detach()
    through = step * qat.lsq_gradient(linear.weight.detach(), step, *layer.weight_codes, upstream)
    assert torch.allclose(layer.log_weight_step.grad, through, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [torch.ones(5), torch.zeros(6), torch.full((6,), float("nan"))])
def test_steps_that_do_not_fit_are_refused(linear, step):
    with pytest.raises(ValueError, match="a positive step is needed for each of 6 output channels"):
        QatLinear(linear, 4, step)


@pytest.mark.parametrize("ranges", [(4, 0.1, 16), (4, 0.1, -1), (4, 0.0, 3)])
def test_ranges_of_inputs_that_are_none_are_refused(linear, ranges):
    with pytest.raises(ValueError, match=r"one of the codes 0 \.\.\. 15"):
        QatLinear(linear, 4, torch.ones(6), *ranges)


@pytest.mark.parametrize("affine_norm", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_folding_agrees_with_torch(affine_norm, bias):
    torch.manual_seed(1)
    linear, norm = nn.Linear(5, 4, bias=bias), nn.BatchNorm1d(4, affine=affine_norm)
    for _ in range(20):
        norm(linear(3 * torch.randn(16, 5) + 1))
    if affine_norm:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    norm.eval()
    folded, x = qat.fold_batch_norm(linear, norm), torch.randn(9, 5)
    assert torch.allclose(folded(x), norm(linear(x)), atol=1e-5)
    if affine_norm:
        theirs = fuse_linear_bn_eval(linear.eval(), norm)
        assert torch.allclose(folded.weight, theirs.weight, atol=1e-6)
        assert torch.allclose(folded.bias, theirs.bias, atol=1e-6)


def test_a_norm_that_cannot_be_folded_is_refused():
    with pytest.raises(ValueError, match="with running statistics is needed; this one has 4 and none"):
        qat.fold_batch_norm(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="a norm over 5 channels"):
        qat.fold_batch_norm(nn.Linear(3, 5), nn.BatchNorm1d(4))
