"""Affine quantization: a real number x is stored as an integer code q, and read back as (q - zero_point) * scale.

The arithmetic is that of B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (2018, arXiv 1712.05877), and agrees to the bit with
torch.fake_quantize_per_tensor_affine and torch.fake_quantize_per_channel_affine.

Codes of at most 8 bits are uint8 (unsigned) or int8 (signed), wider ones int32. Real values are computed in float32.
"""

import math
import numbers

import torch

FEWEST_BITS, MOST_BITS = 2, 16
INT32_MAX = 2**31 - 1
SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # below it 1 / scale would overflow


def code_range(bits: int, signed: bool = False) -> tuple[int, int]:
    """Lowest and highest code: 0 ... 2**bits - 1, or -2**(bits-1) ... 2**(bits-1) - 1 when signed.

    Raises TypeError when bits is no integer, ValueError when it lies outside 2 ... 16.
    """
    if isinstance(bits, bool) or not isinstance(bits, numbers.Integral):
        raise TypeError(f"bits is {bits!r}; it must be an integer from {FEWEST_BITS} to {MOST_BITS}.")
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"bits is {bits}; this course quantizes to {FEWEST_BITS} ... {MOST_BITS} bits.")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def code_dtype(bits: int, signed: bool = False) -> torch.dtype:
    """What codes are kept in: uint8 or int8 up to 8 bits, int32 above."""
    return torch.int32 if bits > 8 else torch.int8 if signed else torch.uint8


def choose_qparams(low, high, bits: int, signed: bool = False, symmetric: bool = False):
    """Scale and zero point for values between low and high.

    low, high: numbers, or float tensors (C,) with one range for each channel or group. A range that does not hold zero
    is widened until it does, so that zero has a code of its own. symmetric: -m ... m with m = max(-low, high), and the
    code for zero in the middle (0 when signed, 2**(bits-1) when not); the lowest code then stands beyond -m.
    Returns (float, int), or tensors (C,) in float32 and int32. A range of zeros alone gets scale 1.
    Raises ValueError for NaN, infinity or low > high.
    """
    lowest, highest = code_range(bits, signed)
    ends = [torch.as_tensor(end, dtype=torch.float64) for end in (low, high)]
    if ends[0].shape != ends[1].shape or ends[0].numel() == 0:
        raise ValueError(f"low has the shape {tuple(ends[0].shape)} and high {tuple(ends[1].shape)}; give one of each.")
    if not all(end.isfinite().all() for end in ends) or (ends[0] > ends[1]).any():
        raise ValueError(f"The range {low} ... {high} is none: both ends must be finite, with low <= high.")
    low_end, high_end = ends[0].clamp_max(0), ends[1].clamp_min(0)
    if symmetric:
        middle = 0 if signed else 2 ** (bits - 1)
        # scale = max(|low|, |high|) / (highest - middle)
        scale = _usable(torch.maximum(-low_end, high_end) / (highest - middle))
        zero_point = torch.full_like(scale, middle)
    else:
        # scale = (high - low) / (highest - lowest)
        scale = _usable((high_end - low_end) / (highest - lowest))
        # zero_point = lowest - round(low / scale)
        zero_point = (lowest - (low_end / scale).round()).clamp(lowest, highest)
    if scale.ndim == 0:
        return scale.item(), int(zero_point)
    return scale.float(), zero_point.int()


def quantize(x: torch.Tensor, scale, zero_point, bits: int, signed: bool = False, axis: int | None = None):
    """Codes of x: clamp(round(x / scale) + zero_point), halves to even, shaped like x.

    scale, zero_point: numbers, or tensors (x.shape[axis],) with one of each for every slice along axis.
    Division is done as torch does it, x * (1 / scale) in float32: where x / scale lies on a half step the two may part.
    Raises TypeError when x is no float tensor; ValueError for empty x, NaN or infinity, a scale that is not positive, a
    zero point that is no code, or shapes that do not fit.
    """
    lowest, highest = code_range(bits, signed)
    x = _real(x, "x")
    scale, zero_point = _fitted(scale, zero_point, x, axis)
    if (zero_point < lowest).any() or (zero_point > highest).any():
        raise ValueError(
            f"zero_point {zero_point.flatten().tolist()[:4]} is no code: {lowest} ... {highest} are, with "
            f"{bits} bits, {'signed' if signed else 'unsigned'}."
        )
    # q = clamp(round(x / scale) + zero_point, lowest, highest)
    codes = ((x * (1 / scale)).round() + zero_point).clamp(lowest, highest)
    return codes.to(code_dtype(bits, signed))


def dequantize(codes: torch.Tensor, scale, zero_point, axis: int | None = None) -> torch.Tensor:
    """The float32 values that codes stand for. codes: integer tensor; scale, zero_point and axis as in `quantize`."""
    _check_codes(codes, "codes")
    scale, zero_point = _fitted(scale, zero_point, codes, axis)
    # x' = (q - zero_point) * scale
    return (codes.float() - zero_point) * scale


def fake_quantize(x: torch.Tensor, scale, zero_point, bits: int, signed: bool = False, axis: int | None = None):
    """Quantize and read back: float32, shaped like x, and only values that have a code. Raises as `quantize`."""
    return dequantize(quantize(x, scale, zero_point, bits, signed, axis), scale, zero_point, axis)


def quantize_per_channel(weight: torch.Tensor, bits: int, axis: int = 0, signed: bool = True, symmetric: bool = True):
    """Codes of weight with one range for every slice along axis: (codes, scales (C,), zero points (C,))."""
    weight = _real(weight, "weight")
    _check_axis(weight, axis)
    rows = weight.movedim(axis, 0).reshape(weight.shape[axis], -1)
    scale, zero_point = choose_qparams(rows.amin(1), rows.amax(1), bits, signed, symmetric)
    return quantize(weight, scale, zero_point, bits, signed, axis), scale, zero_point


def round_trip(
    weight: torch.Tensor,
    bits: int,
    per: str = "tensor",
    group_size: int = 64,
    signed: bool = True,
    symmetric: bool = True,
) -> torch.Tensor:
    """Quantize to the range of its own values and read back: float32, shaped like weight.

    per: what shares one scale. "tensor" everything · "channel" a slice along axis 0, an output of a linear layer ·
    "group" group_size neighbours along the last axis, whose length must be a multiple of it (else ValueError).
    """
    weight = _real(weight, "weight")
    if per == "group" and (group_size < 1 or weight.ndim == 0 or weight.shape[-1] % group_size):
        raise ValueError(f"Rows of {weight.shape[-1:]} do not split into groups of {group_size}; choose a divisor.")
    shapes = {"tensor": (1, -1), "channel": (weight.shape[0] if weight.ndim else 1, -1), "group": (-1, group_size)}
    if per not in shapes:
        raise ValueError(f"per is {per!r}; a scale is shared per {', '.join(shapes)}.")
    codes, scale, zero_point = quantize_per_channel(weight.reshape(shapes[per]), bits, 0, signed, symmetric)
    return dequantize(codes, scale, zero_point, axis=0).reshape(weight.shape)


def sqnr_db(x: torch.Tensor, approximation: torch.Tensor) -> float:
    """Signal to quantization noise, in decibels: 10 log10(sum x**2 / sum (x - approximation)**2), inf when equal.

    Raises ValueError when the shapes differ or when x is all zeros: there is no signal to compare with.
    """
    x, approximation = _real(x, "x").double(), _real(approximation, "approximation").double()
    if x.shape != approximation.shape:
        raise ValueError(f"x has the shape {tuple(x.shape)}, its approximation {tuple(approximation.shape)}.")
    signal, noise = x.square().sum().item(), (x - approximation).square().sum().item()
    if signal == 0:
        raise ValueError("x is all zeros: there is no signal to compare the error with.")
    return 10 * math.log10(signal / noise) if noise else math.inf


def clip_errors(x: torch.Tensor, low: float, high: float, bits: int, signed: bool = True, symmetric: bool = True):
    """Mean squared error over low ... high as (rounding, clipping): of values inside the range, of those outside."""
    x = _real(x, "x")
    scale, zero_point = choose_qparams(low, high, bits, signed, symmetric)
    squared = (x - fake_quantize(x, scale, zero_point, bits, signed)).double().square()
    outside = (x < low) | (x > high)
    return (squared * ~outside).mean().item(), (squared * outside).mean().item()


def best_clip(x: torch.Tensor, bits: int, signed: bool = True, symmetric: bool = True, steps: int = 100):
    """The range (low, high) with the least mean squared error, among steps equal shares of the full range of x.

    Of equal errors the wider range wins. Raises ValueError as `quantize`, or when steps is less than 1.
    """
    x = _real(x, "x")
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least one range must be tried.")
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    ranges = [(low * i / steps, high * i / steps) for i in range(steps, 0, -1)]
    return min(ranges, key=lambda ends: sum(clip_errors(x, *ends, bits, signed, symmetric)))


def int_matmul(a_codes: torch.Tensor, a_zero: int, b_codes: torch.Tensor, b_zero: int) -> torch.Tensor:
    """Sum over k of (a_codes[i, k] - a_zero) * (b_codes[k, j] - b_zero), in int32.

    a_codes: integer (M, K). b_codes: integer (K, N). a_zero, b_zero: one zero point each. Returns int32 (M, N); times
    a_scale * b_scale it is the real product.
    Raises ValueError when the shapes do not fit or when the sum could leave int32.
    """
    for name, codes in (("a_codes", a_codes), ("b_codes", b_codes)):
        _check_codes(codes, name)
        if codes.ndim != 2 or codes.numel() == 0:
            raise ValueError(f"{name} has the shape {tuple(codes.shape)}; a matrix with at least one entry is needed.")
    if a_codes.shape[1] != b_codes.shape[0]:
        raise ValueError(f"Shapes {tuple(a_codes.shape)} and {tuple(b_codes.shape)} do not fit: (M, K) times (K, N).")
    a, b = a_codes.long() - a_zero, b_codes.long() - b_zero
    largest = a.shape[1] * a.abs().max().item() * b.abs().max().item()
    if largest > INT32_MAX:
        raise ValueError(
            f"A sum of {a.shape[1]} such products can reach {largest}, more than int32 holds. "
            "Split the inner dimension and add the parts in int64."
        )
    return a.int() @ b.int()


def fixed_point(multiplier: float) -> tuple[int, int]:
    """A real multiplier as integers: multiplier = mantissa * 2**-shift, with 2**30 <= mantissa < 2**31.

    The mantissa is rounded, so the product is off by at most 2**-31 of itself. Source: section 2.2, equation 6.
    Raises ValueError outside 2**-31 ... 2**29, where the shift would not fit.
    """
    if not (math.isfinite(multiplier) and 2.0**-31 <= multiplier < 2.0**29):
        raise ValueError(f"The multiplier is {multiplier}; it must lie between 2**-31 and 2**29.")
    fraction, exponent = math.frexp(multiplier)  # multiplier = fraction * 2**exponent, fraction >= 0.5
    mantissa, shift = round(fraction * 2**31), 31 - exponent
    return (mantissa // 2, shift - 1) if mantissa == 2**31 else (mantissa, shift)


def requantize(sums: torch.Tensor, multiplier: float, zero_point: int, bits: int, signed: bool = False) -> torch.Tensor:
    """int32 sums as codes of the output: clamp(round(sums * multiplier) + zero_point), without any float tensor.

    sums: int32, any shape. multiplier: a_scale * b_scale / output_scale. Halves are rounded up.
    Returns codes shaped like sums, of the dtype that `quantize` gives. Source: section 2.2.
    """
    lowest, highest = code_range(bits, signed)
    if not isinstance(sums, torch.Tensor) or sums.dtype != torch.int32:
        raise TypeError("sums must be an int32 tensor, as `int_matmul` returns it.")
    if not lowest <= zero_point <= highest:
        raise ValueError(f"zero_point {zero_point} is no code: {lowest} ... {highest} are.")
    mantissa, shift = fixed_point(multiplier)
    # round(sums * mantissa / 2**shift): add a half, then shift right. Below 2**62, so int64 holds it.
    scaled = (sums.long() * mantissa + (1 << (shift - 1))) >> shift
    codes = (scaled + zero_point).clamp(lowest, highest)
    return codes.to(code_dtype(bits, signed))


def _usable(scale: torch.Tensor) -> torch.Tensor:
    return torch.where(scale == 0, torch.ones_like(scale), scale.clamp_min(SMALLEST_SCALE))


def _real(x, name) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"{name} is {kind}; it must be a float tensor. Convert it with .float().")
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: it has no range and no error.")
    x = x.detach().float()
    if not x.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity (in float32), which no code can stand for. Remove them first.")
    return x


def _check_codes(codes, name) -> None:
    if not isinstance(codes, torch.Tensor) or codes.is_floating_point() or codes.dtype == torch.bool:
        kind = codes.dtype if isinstance(codes, torch.Tensor) else type(codes).__name__
        raise TypeError(f"{name} is {kind}; it must be a tensor of integer codes, as `quantize` returns them.")


def _check_axis(x, axis) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}, but the tensor has {x.ndim} axes.")


def _fitted(scale, zero_point, x, axis) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero point as float32 tensors that broadcast over x."""
    scale, zero_point = torch.as_tensor(scale, dtype=torch.float32), torch.as_tensor(zero_point)
    if axis is not None:
        _check_axis(x, axis)
    wanted = () if axis is None else (x.shape[axis],)
    if scale.shape != wanted or zero_point.shape != wanted:
        raise ValueError(
            f"scale has the shape {tuple(scale.shape)} and zero_point {tuple(zero_point.shape)}; "
            f"{wanted} is needed {'without an axis' if axis is None else f'along axis {axis}'}."
        )
    if not ((scale >= SMALLEST_SCALE) & scale.isfinite()).all():
        raise ValueError(
            f"scale is {scale.flatten().tolist()[:4]}; a scale must be finite and at least "
            f"{SMALLEST_SCALE:.3g} in float32."
        )
    if zero_point.is_floating_point() and (zero_point != zero_point.round()).any():
        raise ValueError("A zero point is no integer: it is a code, the code for zero.")
    if axis is None:
        return scale, zero_point.float()
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    return scale.reshape(shape), zero_point.float().reshape(shape)
