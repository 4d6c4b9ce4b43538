"""Groups on few bits: codes by hand and by torch, errors against samples, torch's kernel, and input that is refused."""

import pytest
import torch

from lessons_lib.four_bits import groupwise
from lessons_lib.four_bits.groupwise import Grouped


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_group_by_hand():
    # From -1 to 2 in 15 steps of 0.2; 0.2 in FP16 is 0.19995.
    grouped = groupwise.quantize_groups(torch.tensor([[-1.0, 0.0, 0.21, 2.0]]), 4, 4)
    scale = torch.tensor(0.2).half().float()
    assert grouped.scales.tolist() == [[scale.item()]]
    assert grouped.zero_points.tolist() == [[5]]
    assert grouped.codes.tolist() == [[0, 5, 6, 15]]
    assert torch.allclose(groupwise.dequantize_groups(grouped), torch.tensor([[-5.0, 0, 1, 10]]) * scale)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [16, 48, 96])
def test_codes_are_those_of_torch(bits, group_size):
    weight = normal(24, 96) * 0.1 + 0.02
    grouped = groupwise.quantize_groups(weight, bits, group_size)
    groups = weight.reshape(-1, group_size)
    expected = torch.fake_quantize_per_channel_affine(
        groups, grouped.scales.flatten(), grouped.zero_points.flatten().int(), 0, 0, 2**bits - 1
    )
    assert torch.equal(groupwise.dequantize_groups(grouped), expected.view(24, 96))
    assert grouped.codes.dtype == grouped.zero_points.dtype == torch.uint8
    assert grouped.codes.max() == 2**bits - 1
    assert torch.equal(grouped.scales.half().float(), grouped.scales)


def test_no_weight_moves_by_more_than_half_a_step_and_the_rounding_of_the_scale():
    weight = normal(32, 128)
    grouped = groupwise.quantize_groups(weight, 4, 32)
    moved = (groupwise.dequantize_groups(grouped) - weight).abs().view(32, 4, 32).amax(dim=2)
    # half a step; and at the ends 15 steps too short by FP16's 2**-11, and half a step of the zero point
    assert (moved <= grouped.scales * (1 + 15 * 2**-11)).all()


def test_smaller_groups_and_more_bits_err_less():
    weight = normal(64, 192)
    second = torch.eye(192)

    def error(bits, group_size):
        return groupwise.output_error(
            weight, groupwise.dequantize_groups(groupwise.quantize_groups(weight, bits, group_size)), second
        )

    assert error(4, 32) < error(4, 64) < error(4, 192)
    assert error(8, 64) < error(4, 64) < error(3, 64) < error(2, 64)


@pytest.mark.parametrize("value", [0.0, 1e-12, -1e-12, 1e-40])
def test_zeros_and_tiny_groups_read_back_as_nearly_nothing(value):
    grouped = groupwise.quantize_groups(torch.full((2, 64), value), 4, 64)
    assert grouped.scales.isfinite().all()
    assert (grouped.scales > 0).all()
    assert groupwise.dequantize_groups(grouped).abs().max() <= 2 * abs(value)


def test_zero_is_kept_exactly():
    weight = normal(8, 64) + 3
    weight[:, ::7] = 0
    back = groupwise.dequantize_groups(groupwise.quantize_groups(weight, 4, 32))
    assert (back[:, ::7] == 0).all()


def test_output_error_is_the_error_of_outputs():
    weight, inputs = normal(12, 32), normal(500, 32, seed=1) * torch.linspace(0.1, 3, 32)
    near = weight + 0.1 * normal(12, 32, seed=2)
    second = inputs.t() @ inputs / len(inputs)
    expected = (inputs @ (weight - near).t()).square().sum() / (inputs @ weight.t()).square().sum()
    assert groupwise.output_error(weight, near, second) == pytest.approx(expected.item(), rel=1e-4)
    assert groupwise.output_error(weight, weight, second) == 0


def test_bits_per_weight():
    assert groupwise.bits_per_weight(4, 64) == 4 + 20 / 64
    assert groupwise.bits_per_weight(3, 32) == 3 + 19 / 32


@pytest.mark.parametrize("rows", [1, 5])
def test_torchs_kernel_reads_the_same_codes(rows):
    grouped, bias = groupwise.quantize_groups(normal(64, 128), 4, 32), normal(64, seed=3)
    x = normal(2, rows, 128, seed=4)
    expected = x @ groupwise.dequantize_groups(grouped).t() + bias
    got = groupwise.int4_kernel(grouped, bias)(x)
    assert got.shape == expected.shape
    assert (got - expected).norm() <= 0.01 * expected.norm()  # BF16 has eight significant bits
    assert torch.equal(got - bias, groupwise.int4_kernel(grouped)(x)) or torch.allclose(
        got - bias, groupwise.int4_kernel(grouped)(x), atol=1e-5
    )


@pytest.mark.parametrize(
    ("weight", "bits", "group_size", "error", "words"),
    [
        (torch.zeros(2, 64, dtype=torch.int8), 4, 64, TypeError, "must be a float tensor"),
        ([[1.0]], 4, 1, TypeError, "weight is list"),
        (torch.zeros(64), 4, 64, ValueError, "a matrix \\(outputs, inputs\\)"),
        (torch.zeros(0, 64), 4, 64, ValueError, "a matrix"),
        (torch.zeros(2, 64), 4, 48, ValueError, "do not split into groups of 48"),
        (torch.zeros(2, 64), 4, 0, ValueError, "do not split into groups of 0"),
        (torch.zeros(2, 64), 1, 64, ValueError, "2 ... 8 bits"),
        (torch.zeros(2, 64), 9, 64, ValueError, "2 ... 8 bits"),
        (torch.full((2, 64), float("nan")), 4, 64, ValueError, "NaN or infinity"),
        (torch.full((2, 64), 1e7), 4, 64, ValueError, "does not fit FP16"),
    ],
)
def test_what_is_no_weight_is_refused(weight, bits, group_size, error, words):
    with pytest.raises(error, match=words):
        groupwise.quantize_groups(weight, bits, group_size)


def test_scales_that_do_not_fit_are_refused():
    codes = torch.zeros(4, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match="the same number of whole groups"):
        groupwise.dequantize_groups(Grouped(codes, torch.ones(4, 3), torch.zeros(4, 3, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="do not fit"):
        groupwise.dequantize_groups(Grouped(codes, torch.ones(4, 2), torch.zeros(4, 1, dtype=torch.uint8)))
