"""GPTQ against an independent dense solution, against the brain surgeon's formula, and against plain rounding."""

import numpy
import pytest
import torch

from lessons_lib.four_bits import gptq, groupwise


def problem(rows=6, n=16, inputs=200, seed=0):
    """A weight, and the second moment of inputs whose channels depend on each other."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(n, n, generator=draw)
    x = torch.randn(inputs, n, generator=draw) @ mixing * torch.linspace(0.2, 2, n)
    return torch.randn(rows, n, generator=draw), x.t() @ x / inputs


def dense(weight, second, bits, group_size, damping):
    """The same quantization by least squares in FP64: after each column, all columns that are left are solved for anew.

    With columns F fixed at q, the rest R that costs least is w_R + (w_F - q_F) S_FR S_RR^-1. Nothing is updated from
    step to step, no inverse is reused, and no Cholesky factor occurs.
    """
    w, s = weight.double().numpy(), second.double().numpy()
    s = s + damping * numpy.diag(s).mean() * numpy.eye(len(s))
    quantized, n = numpy.zeros_like(w), w.shape[1]
    for j in range(n):
        moved = numpy.linalg.solve(s[j:, j:], s[j:, :j] @ (w[:, :j] - quantized[:, :j]).T).T if j else 0
        rest = w[:, j:] + moved
        if j % group_size == 0:
            group = rest[:, :group_size]
            low, high = numpy.minimum(group.min(1), 0), numpy.maximum(group.max(1), 0)
            scale = ((high - low) / (2**bits - 1)).astype(numpy.float16).astype(float)
            zero = (-low / scale).round()
        quantized[:, j] = ((rest[:, 0] / scale).round() + zero).clip(0, 2**bits - 1) * scale - zero * scale
    return torch.tensor(quantized)


@pytest.mark.parametrize(("bits", "group_size"), [(4, 16), (4, 4), (3, 8), (2, 16)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_agrees_with_an_independent_dense_solution(bits, group_size, seed):
    weight, second = problem(seed=seed)
    got = groupwise.dequantize_groups(gptq.gptq(weight, second, bits, group_size))
    assert torch.allclose(got.double(), dense(weight, second, bits, group_size, gptq.DAMPING), atol=1e-5)


def test_many_columns_in_blocks_give_the_same_as_one_after_the_other(monkeypatch):
    weight, second = problem(rows=5, n=96, inputs=400)
    lazily = gptq.gptq(weight, second, 4, 16)
    monkeypatch.setattr(gptq, "BLOCK", 16)
    assert torch.equal(gptq.gptq(weight, second, 4, 16).codes, lazily.codes)
    assert torch.allclose(
        groupwise.dequantize_groups(lazily).double(), dense(weight, second, 4, 16, gptq.DAMPING), atol=1e-4
    )


def test_one_column_is_the_brain_surgeons_step():
    weight, second = problem()
    h_inv = gptq.inverse(second)
    scale, zero = torch.full((6,), 0.3), torch.full((6,), 7)
    column, rest = gptq.gptq_column(weight, h_inv, scale, zero, 4)
    damped = second.double() + gptq.DAMPING * second.diagonal().mean() * torch.eye(16)
    # Where nothing else could be gained, the gradient of the cost with respect to the rest is zero.
    wrong = torch.cat([column[:, None], rest], dim=1).double() - weight.double()
    assert (wrong @ damped)[:, 1:].abs().max() < 1e-4 * (wrong @ damped)[:, 0].abs().max()
    assert torch.allclose(column, ((weight[:, 0] / 0.3).round() + 7).clamp(0, 15) * 0.3 - 2.1, atol=1e-6)


def test_columns_one_by_one_are_the_whole(monkeypatch):
    weight, second = problem()
    whole = gptq.gptq(weight, second, 4, 16)
    left, h_inv, columns = weight, gptq.inverse(second), []
    for _ in range(16):
        column, left = gptq.gptq_column(left, h_inv, whole.scales[:, 0], whole.zero_points[:, 0], 4)
        # take the first column out of S: what is left of the inverse
        h_inv = h_inv[1:, 1:] - torch.outer(h_inv[1:, 0], h_inv[0, 1:]) / h_inv[0, 0]
        columns.append(column)
    assert torch.allclose(torch.stack(columns, dim=1), groupwise.dequantize_groups(whole), atol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_output_errs_less_than_with_plain_rounding(bits):
    weight, second = problem(rows=32, n=64, inputs=1000)
    _, fresh = problem(rows=32, n=64, inputs=1000)
    own = groupwise.output_error(weight, groupwise.dequantize_groups(gptq.gptq(weight, second, bits, 16)), fresh)
    plain = groupwise.output_error(
        weight, groupwise.dequantize_groups(groupwise.quantize_groups(weight, bits, 16)), fresh
    )
    assert own < 0.9 * plain


def test_with_independent_inputs_there_is_nothing_to_gain():
    weight, _ = problem()
    assert torch.equal(gptq.gptq(weight, torch.eye(16), 4, 8).codes, groupwise.quantize_groups(weight, 4, 8).codes)


def test_inputs_that_never_occur_do_no_harm():
    weight, second = problem()
    second[3], second[:, 3] = 0, 0
    got = groupwise.dequantize_groups(gptq.gptq(weight, second, 4, 16))
    assert got.isfinite().all()
    assert (got[:, 3] - weight[:, 3]).abs().max() < 1


def test_what_does_not_fit_is_refused():
    weight, second = problem()
    with pytest.raises(ValueError, match="\\(16, 16\\) is needed"):
        gptq.gptq(weight, second[:8, :8], 4, 16)
    with pytest.raises(ValueError, match="do not split into groups of 5"):
        gptq.gptq(weight, second, 4, 5)
    with pytest.raises(ValueError, match="damping is -1"):
        gptq.inverse(second, -1)
    with pytest.raises(ValueError, match="square matrix"):
        gptq.inverse(second[:3])
    with pytest.raises(ValueError, match="too few inputs"):
        gptq.inverse(torch.zeros(4, 4))
