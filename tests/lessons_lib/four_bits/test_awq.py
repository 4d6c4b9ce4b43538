"""AWQ: the scales by hand, the search against trying everything, and that it helps where channels differ in size."""

import pytest
import torch

from lessons_lib.four_bits import awq, groupwise


def problem(rows=24, n=64, spread=3.0, seed=0):
    """A weight, and inputs of which every eighth channel is much larger than the others."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(800, n, generator=draw)
    x[:, ::8] *= 10**spread if spread < 1 else spread * 4
    return torch.randn(rows, n, generator=draw) * 0.1, x


def moments(x):
    return x.t() @ x / len(x), x.abs().mean(dim=0)


def test_factors_by_hand():
    size = torch.tensor([4.0, 1.0, 0.0, 16.0])
    assert awq.channel_factors(size, 0.0).tolist() == [1, 1, 1, 1]
    # sqrt gives 2, 1, 1, 4; divided by sqrt(4 * 1)
    assert awq.channel_factors(size, 0.5).tolist() == [1, 0.5, 0.5, 2]


def test_the_search_takes_the_least_error_of_all_that_it_tried():
    weight, x = problem()
    second, size = moments(x)
    found = awq.awq(weight, second, size, 4, 16, steps=4)
    errors = {}
    for i in range(5):
        factors = awq.channel_factors(size, i / 4).half().float()
        back = groupwise.dequantize_groups(groupwise.quantize_groups(weight * factors, 4, 16)) / factors
        errors[i / 4] = ((x @ (back - weight).t()).square().sum() / (x @ weight.t()).square().sum()).item()
    assert found.alpha == min(errors, key=errors.get)
    assert found.error == pytest.approx(min(errors.values()), rel=1e-4)
    assert groupwise.output_error(weight, awq.dequantize(found), second) == pytest.approx(found.error, rel=1e-5)


@pytest.mark.parametrize("bits", [3, 4])
def test_large_channels_gain_and_the_held_out_error_falls(bits):
    weight, x = problem()
    _, fresh = problem(seed=1)
    found = awq.awq(weight, *moments(x), bits, 64)
    plain = groupwise.dequantize_groups(groupwise.quantize_groups(weight, bits, 64))
    held_out, _ = moments(fresh)
    assert found.alpha > 0
    assert groupwise.output_error(weight, awq.dequantize(found), held_out) < 0.7 * groupwise.output_error(
        weight, plain, held_out
    )


def test_with_equal_channels_nothing_is_scaled():
    weight, _ = problem()
    found = awq.awq(weight, torch.eye(64), torch.ones(64), 4, 16)
    assert found.alpha == 0
    assert torch.equal(found.grouped.codes, groupwise.quantize_groups(weight, 4, 16).codes)


def test_what_does_not_fit_is_refused():
    weight, x = problem()
    second, size = moments(x)
    with pytest.raises(ValueError, match="at least one step"):
        awq.awq(weight, second, size, 4, 16, steps=0)
    with pytest.raises(ValueError, match="are needed"):
        awq.awq(weight, second, size[:3], 4, 16)
    with pytest.raises(ValueError, match="mean \\|x\\| of every channel"):
        awq.awq(weight, second, -size, 4, 16)
    with pytest.raises(ValueError, match="not all 0"):
        awq.channel_factors(torch.zeros(3), 0.5)
