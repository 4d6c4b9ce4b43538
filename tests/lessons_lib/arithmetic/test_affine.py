"""Affine quantization against torch's own kernels, the worked example, and input that must be refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.arithmetic import affine

WEIGHTS = torch.tensor([-0.5, 0.2, 0.8, -0.3, 0.5])


@st.composite
def strided_tensors(draw, min_dims=1):
    """Float tensors of many shapes, scales and strides: transposed, stepped, flipped, expanded, offset."""
    shape = draw(st.lists(st.integers(1, 7), min_size=min_dims, max_size=4))
    seed, size = draw(st.integers(0, 2**32)), 10.0 ** draw(st.integers(-6, 6))
    x = torch.randn([2 * n for n in shape], generator=torch.Generator().manual_seed(seed)) * size
    for axis in range(x.ndim):
        start, step = draw(st.sampled_from([(0, 2), (1, 2), (0, 1)]))
        x = x.narrow(axis, start, x.shape[axis] - start)[(slice(None),) * axis + (slice(None, None, step),)]
    x = x.permute(draw(st.permutations(range(x.ndim))))
    if draw(st.booleans()):
        x = x[:1].expand(3, *x.shape[1:])
    if draw(st.booleans()):  # exact half steps of a scale that is a power of two
        x = (x / size).mul(4).round() / 2
    return x


bits_and_sign = st.tuples(st.integers(2, 16), st.booleans())


@settings(deadline=None)
@given(strided_tensors(), bits_and_sign, st.floats(1e-6, 1e4), st.data())
def test_fake_quantize_is_torch_per_tensor(x, kind, scale, data):
    bits, signed = kind
    lowest, highest = affine.code_range(bits, signed)
    zero_point = data.draw(st.integers(lowest, highest))
    expected = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, lowest, highest)
    assert torch.equal(affine.fake_quantize(x, scale, zero_point, bits, signed), expected)


@settings(deadline=None)
@given(strided_tensors(), bits_and_sign, st.booleans(), st.data())
def test_fake_quantize_is_torch_per_channel(x, kind, symmetric, data):
    bits, signed = kind
    lowest, highest = affine.code_range(bits, signed)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    _, scale, zero_point = affine.quantize_per_channel(x, bits, axis, signed, symmetric)
    scale = scale * data.draw(st.sampled_from([1.0, 0.3, 7.0]))  # narrower ranges clip, wider ones do not
    expected = torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis % x.ndim, lowest, highest)
    assert torch.equal(affine.fake_quantize(x, scale, zero_point, bits, signed, axis), expected)


def test_the_worked_example():
    scale, zero_point = affine.choose_qparams(WEIGHTS.min(), WEIGHTS.max(), 8)
    assert round(scale, 4) == 0.0051
    assert zero_point == 98
    codes = affine.quantize(WEIGHTS, scale, zero_point, 8)
    assert codes.dtype == torch.uint8
    assert codes.tolist() == [0, 137, 255, 39, 196]
    assert (affine.dequantize(codes, scale, zero_point) - WEIGHTS).abs().max() <= scale / 2 * (1 + 1e-5)


def test_signed_codes_are_unsigned_ones_shifted_by_half_the_range():
    unsigned = affine.quantize(WEIGHTS, *affine.choose_qparams(-0.5, 0.8, 8), 8)
    signed = affine.quantize(WEIGHTS, *affine.choose_qparams(-0.5, 0.8, 8, signed=True), 8, signed=True)
    assert signed.dtype == torch.int8
    assert torch.equal(signed.int(), unsigned.int() - 128)


@given(st.floats(-1e30, 1e30), st.floats(0, 1e30), bits_and_sign, st.booleans())
def test_zero_is_exact_and_the_range_is_covered(low, width, kind, symmetric):
    bits, signed = kind
    high = low + width
    scale, zero_point = affine.choose_qparams(low, high, bits, signed, symmetric)
    lowest, highest = affine.code_range(bits, signed)
    assert lowest <= zero_point <= highest
    assert affine.fake_quantize(torch.zeros(1), scale, zero_point, bits, signed).item() == 0
    # Rounding the zero point moves both ends by at most half a step.
    assert (lowest - zero_point - 0.5) * scale <= low * (1 - 1e-9) + scale * 1e-6
    assert (highest - zero_point + 0.5) * scale >= high * (1 - 1e-9) - scale * 1e-6


def test_a_range_without_zero_is_widened_to_hold_it():
    assert affine.choose_qparams(2.0, 5.1, 8) == affine.choose_qparams(0.0, 5.1, 8)
    assert affine.choose_qparams(-5.1, -2.0, 8) == affine.choose_qparams(-5.1, 0.0, 8)
    assert affine.choose_qparams(0.0, 0.0, 8) == (1.0, 0)


def test_symmetric_puts_zero_in_the_middle():
    assert affine.choose_qparams(-0.5, 1.27, 8, signed=True, symmetric=True) == pytest.approx((0.01, 0))
    assert affine.choose_qparams(-0.5, 1.27, 8, signed=False, symmetric=True) == pytest.approx((0.01, 128))


def test_huge_values_saturate():
    codes = affine.quantize(torch.tensor([3e38, -3e38]), 1e-3, 10, 8)
    assert codes.tolist() == [255, 0]


def test_tiny_ranges_keep_a_usable_scale():
    x = torch.tensor([1e-44, -1e-42])
    scale, zero_point = affine.choose_qparams(x.min(), x.max(), 8)
    assert affine.fake_quantize(x, scale, zero_point, 8).isfinite().all()


def test_finer_scales_lower_the_error_of_uneven_channels():
    torch.manual_seed(0)
    weight = torch.randn(16, 128) * torch.logspace(-2, 0, 16)[:, None]
    weight[:, :64] *= 0.1
    tensor, channel, group = (
        (weight - affine.round_trip(weight, 4, per)).square().mean().item() for per in ("tensor", "channel", "group")
    )
    assert group < channel < tensor


def test_round_trip_per_group_is_each_group_by_itself():
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    alone = [affine.round_trip(part, 4) for part in weight.reshape(-1, 8)]
    assert torch.equal(affine.round_trip(weight, 4, "group", 8), torch.stack(alone).reshape(6, 32))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_quantize_per_channel_is_each_channel_by_itself(axis):
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    codes, scale, zero_point = affine.quantize_per_channel(x, 8, axis, signed=False, symmetric=False)
    for i, part in enumerate(x.unbind(axis)):
        own = affine.choose_qparams(part.min(), part.max(), 8)
        assert scale[i].item() == pytest.approx(own[0])
        assert zero_point[i].item() == own[1]
        assert torch.equal(codes.select(axis, i), affine.quantize(part, scale[i].item(), own[1], 8))


def test_sqnr_of_a_known_error():
    x = torch.full((10,), 3.0)
    assert affine.sqnr_db(x, x * 0.9) == pytest.approx(20, abs=1e-5)
    assert affine.sqnr_db(x, x) == math.inf


def test_a_bit_is_worth_six_decibels():
    x = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    gains = [
        affine.sqnr_db(x, affine.round_trip(x, b + 1)) - affine.sqnr_db(x, affine.round_trip(x, b))
        for b in range(6, 12)
    ]
    # 20 log10(2) = 6.02 a doubling; symmetric codes gain (2**(b+1) - 2) / (2**b - 2), a little more.
    assert sum(gains) / len(gains) == pytest.approx(20 * math.log10(2), abs=0.15)


def test_clip_errors_add_up_and_the_best_clip_is_the_best():
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    low, high = affine.best_clip(x, 4)
    best = sum(affine.clip_errors(x, low, high, 4))
    full = x.abs().max().item()
    assert 0 < high < full
    assert low == -high
    for share in (0.2, 0.5, 0.8, 1.0):
        rounding, clipping = affine.clip_errors(x, -share * full, share * full, 4)
        scale, zero_point = affine.choose_qparams(-share * full, share * full, 4, True, True)
        total = (x - affine.fake_quantize(x, scale, zero_point, 4, True)).double().square().mean().item()
        assert rounding + clipping == pytest.approx(total)
        assert best <= total
    assert affine.clip_errors(x, -full, full, 4)[1] == 0


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), st.data())
def test_int_matmul_is_the_product_in_int64(m, k, n, data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    a = torch.randint(0, 256, (m, k), generator=generator).to(torch.uint8)
    b = torch.randint(-128, 128, (n, k), generator=generator).to(torch.int8).t()
    zeros = data.draw(st.integers(0, 255)), data.draw(st.integers(-128, 127))
    product = affine.int_matmul(a, zeros[0], b, zeros[1])
    assert product.dtype == torch.int32
    assert torch.equal(product.long(), (a.long() - zeros[0]) @ (b.long() - zeros[1]))


def test_an_integer_linear_is_the_real_one_up_to_rounding():
    generator = torch.Generator().manual_seed(0)
    x, w = torch.rand(8, 64, generator=generator), torch.randn(64, 16, generator=generator)
    (x_scale, x_zero), (w_scale, w_zero) = (affine.choose_qparams(t.min(), t.max(), 8) for t in (x, w))
    x_codes, w_codes = affine.quantize(x, x_scale, x_zero, 8), affine.quantize(w, w_scale, w_zero, 8)
    sums = affine.int_matmul(x_codes, x_zero, w_codes, w_zero)
    exact = affine.dequantize(x_codes, x_scale, x_zero).double() @ affine.dequantize(w_codes, w_scale, w_zero).double()
    assert (sums * (x_scale * w_scale) - exact).abs().max() < 1e-4
    out_scale, out_zero = affine.choose_qparams(exact.min(), exact.max(), 8)
    codes = affine.requantize(sums, x_scale * w_scale / out_scale, out_zero, 8)
    assert (affine.dequantize(codes, out_scale, out_zero) - exact).abs().max() <= out_scale * 0.501


@settings(deadline=None)
@given(st.floats(2.0**-31, 2.0**28, exclude_min=True))
def test_fixed_point_is_close_and_normal(multiplier):
    mantissa, shift = affine.fixed_point(multiplier)
    assert 2**30 <= mantissa < 2**31
    assert 1 <= shift <= 62
    assert mantissa * 2.0**-shift == pytest.approx(multiplier, rel=2**-31)


def test_requantize_rounds_to_nearest_and_saturates():
    sums = torch.tensor([-7, -3, 0, 3, 7, 100_000, -100_000], dtype=torch.int32)
    assert affine.requantize(sums, 0.1, 10, 8).tolist() == [9, 10, 10, 10, 11, 255, 0]
    assert affine.requantize(sums, 0.1, 0, 8, signed=True).tolist() == [-1, 0, 0, 0, 1, 127, -128]


X = torch.ones(2, 3)
CODES = torch.ones(2, 2, dtype=torch.uint8)
REFUSED = [
    ("NaN", lambda: affine.quantize(torch.tensor([1.0, math.nan]), 0.1, 0, 8)),
    ("infinity", lambda: affine.quantize(torch.tensor([math.inf]), 0.1, 0, 8)),
    ("empty", lambda: affine.quantize(torch.empty(0), 0.1, 0, 8)),
    ("float tensor", lambda: affine.quantize(torch.arange(3), 0.1, 0, 8)),
    ("float tensor", lambda: affine.quantize([0.1], 0.1, 0, 8)),
    ("bits is 1;", lambda: affine.choose_qparams(-1, 1, 1)),
    ("bits is 17;", lambda: affine.choose_qparams(-1, 1, 17)),
    ("must be an integer", lambda: affine.choose_qparams(-1, 1, 8.0)),
    ("must be an integer", lambda: affine.code_range(True)),
    ("low <= high", lambda: affine.choose_qparams(1, -1, 8)),
    ("low <= high", lambda: affine.choose_qparams(math.nan, 1, 8)),
    ("low has the shape", lambda: affine.choose_qparams(torch.zeros(2), torch.ones(3), 8)),
    ("at least", lambda: affine.quantize(X, 0.0, 0, 8)),
    ("at least", lambda: affine.quantize(X, -0.1, 0, 8)),
    ("at least", lambda: affine.quantize(X, math.nan, 0, 8)),
    ("no code", lambda: affine.quantize(X, 0.1, 256, 8)),
    ("no code", lambda: affine.quantize(X, 0.1, 128, 8, signed=True)),
    ("no integer", lambda: affine.quantize(X, 0.1, 0.5, 8)),
    ("is needed along axis 1", lambda: affine.quantize(X, torch.ones(2), torch.zeros(2), 8, axis=1)),
    ("is needed without an axis", lambda: affine.quantize(X, torch.ones(2), torch.zeros(2), 8)),
    ("2 axes", lambda: affine.quantize_per_channel(X, 8, axis=2)),
    ("integer codes", lambda: affine.dequantize(X, 0.1, 0)),
    ("groups of 2", lambda: affine.round_trip(X, 8, "group", 2)),
    ("per is 'row'", lambda: affine.round_trip(X, 8, "row")),
    ("all zeros", lambda: affine.sqnr_db(torch.zeros(3), torch.ones(3))),
    ("its approximation", lambda: affine.sqnr_db(torch.ones(3), torch.ones(4))),
    ("at least one range", lambda: affine.best_clip(X, 8, steps=0)),
    ("do not fit", lambda: affine.int_matmul(CODES, 0, torch.ones(3, 2, dtype=torch.int8), 0)),
    ("a matrix", lambda: affine.int_matmul(CODES[0], 0, CODES, 0)),
    ("integer codes", lambda: affine.int_matmul(X, 0, CODES, 0)),
    ("int32 holds", lambda: affine.int_matmul(CODES.int() * 2**20, 0, CODES.int() * 2**11, 0)),
    ("int32 tensor", lambda: affine.requantize(X, 0.1, 0, 8)),
    ("no code", lambda: affine.requantize(CODES.int(), 0.1, 300, 8)),
    ("between", lambda: affine.requantize(CODES.int(), 0.0, 0, 8)),
]


@pytest.mark.parametrize(("words", "call"), REFUSED, ids=[f"{i}-{words}" for i, (words, _) in enumerate(REFUSED)])
def test_bad_input_is_refused_with_words(words, call):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
