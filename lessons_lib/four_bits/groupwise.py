"""Few bits by group: each group of weights in a row has a scale and a zero point of its own, rounded to nearest.

This is the storage that GPTQ and AWQ share with plain rounding (RTN): codes of 4 bits or fewer, an FP16 scale and a
zero point of as many bits as a code for every group. What differs is how the codes are chosen: here each weight by
itself, in `gptq` and `awq` with an eye on what the layer computes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lessons_lib.arithmetic import affine, formats

GROUP = 64
SCALE_BITS = 16
SMALLEST_SCALE = 2.0**-24  # the smallest FP16 number above zero


class Grouped(NamedTuple):
    """A weight matrix on few bits.

    codes: uint8 (rows, n). scales: FP32 (rows, groups), every one an FP16 number. zero_points: uint8 (rows, groups).
    """

    codes: Tensor
    scales: Tensor
    zero_points: Tensor


def group_qparams(groups: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each group, from its lowest to its highest weight and always holding zero.

    groups: FP32 (m, group). Returns scales, FP32 (m,) but rounded to FP16 as they will be stored, and zero points,
    uint8 (m,). A group of zeros has the scale 1. Raises ValueError when a scale is more than FP16 holds.
    """
    low, high = groups.amin(dim=1), groups.amax(dim=1)
    scale, _ = affine.choose_qparams(low, high, bits)
    # The codes must fit the scale that is stored: round it first, then use it.
    scale = scale.clamp_min(SMALLEST_SCALE).half().float()
    if not scale.isfinite().all():
        raise ValueError(f"A group reaches from {low.min():.3g} to {high.max():.3g}; its scale does not fit FP16.")
    # zero_point = round(-low / scale)
    zero_point = (-low.clamp_max(0) / scale).round().clamp(0, 2**bits - 1)
    return scale, zero_point.to(torch.uint8)


def quantize_groups(weight: Tensor, bits: int, group_size: int = GROUP) -> Grouped:
    """Round to nearest (RTN), with a scale for every group_size neighbours of a row.

    weight: float (rows, n). code = clamp(round(w / scale) + zero_point, 0, 2**bits - 1), halves to even, by `affine`.
    Raises TypeError when weight is no float tensor; ValueError for bits outside 2 ... 8, a group size that does not
    divide n, an empty weight, or NaN and infinity.
    """
    check_groups(weight, bits, group_size)
    groups = weight.detach().float().reshape(-1, group_size)
    scale, zero_point = group_qparams(groups, bits)
    codes = affine.quantize(groups, scale, zero_point, bits, axis=0)
    shape = (len(weight), -1)
    return Grouped(codes.view(weight.shape), scale.view(shape), zero_point.view(shape))


def dequantize_groups(grouped: Grouped) -> Tensor:
    """The weights that codes stand for, (code - zero_point) * scale: FP32 (rows, n). Raises ValueError for a misfit."""
    codes, scales, zero_points = grouped
    if scales.shape != zero_points.shape or len(scales) != len(codes) or codes.shape[1] % scales.shape[1]:
        raise ValueError(
            f"codes {tuple(codes.shape)}, scales {tuple(scales.shape)} and zero points "
            f"{tuple(zero_points.shape)} do not fit: every row needs the same number of whole groups."
        )
    groups = codes.reshape(scales.numel(), -1)
    return affine.dequantize(groups, scales.flatten(), zero_points.flatten(), axis=0).view(codes.shape)


def bits_per_weight(bits: int, group_size: int = GROUP) -> float:
    """True bits of a weight: its code, and its share of an FP16 scale and a zero point of as many bits as a code."""
    return formats.bits_per_weight(bits, group_size, SCALE_BITS, bits)


def output_power(weight: Tensor, second: Tensor) -> float:
    """The mean of |W x|² over inputs x of a layer.

    weight: FP32 (rows, n). second: FP32 (n, n), the mean of x xᵀ over those inputs.
    """
    # mean |W x|² = sum of (W S) * W
    return (weight @ second * weight).sum().item()


def output_error(weight: Tensor, approximation: Tensor, second: Tensor) -> float:
    """How far a layer's output moves when its weight is approximated, as a share of the output: |dW x|² / |W x|².

    weight, approximation: FP32 (rows, n). second: as in `output_power`. Returns 0 for a perfect copy.
    """
    return output_power(weight - approximation, second) / output_power(weight, second)


def int4_kernel(grouped: Grouped, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """A function that computes a layer from 4-bit codes with torch's own kernel, in BF16: FP32 (..., n) to (..., rows).

    The kernel unpacks codes in registers while it multiplies and never writes the weight out. It is fast where the
    processor has the vector instructions for it (AVX-512), slow elsewhere.
    """
    rows, n = grouped.codes.shape
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(grouped.codes.int(), 1)
    # the kernel reads w = (code - 8) * scale + shift, so shift = (8 - zero_point) * scale
    shift = (8.0 - grouped.zero_points) * grouped.scales
    scales_and_shifts = torch.stack([grouped.scales, shift], dim=2).transpose(0, 1).contiguous().bfloat16()
    group_size = n // grouped.scales.shape[1]

    def run(x: Tensor) -> Tensor:
        flat = x.reshape(-1, n).bfloat16()
        out = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, packed, group_size, scales_and_shifts).float()
        return (out if bias is None else out + bias).view(*x.shape[:-1], rows)

    return run


def check_groups(weight, bits: int, group_size: int) -> None:
    """Raise TypeError or ValueError where a weight cannot be split into groups and quantized: see `quantize_groups`."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise TypeError(f"weight is {kind}; it must be a float tensor. Convert it with .float().")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise ValueError(f"bits is {bits!r}; groups are quantized to 2 ... 8 bits.")
    if weight.ndim != 2 or not weight.numel():
        raise ValueError(f"weight has the shape {tuple(weight.shape)}; a matrix (outputs, inputs) is needed.")
    if (
        isinstance(group_size, bool)
        or not isinstance(group_size, int)
        or group_size < 1
        or weight.shape[1] % group_size
    ):
        raise ValueError(
            f"Rows of {weight.shape[1]} weights do not split into groups of {group_size!r}; choose a "
            "whole number that divides them."
        )
    if not weight.isfinite().all():
        raise ValueError("weight holds NaN or infinity, which no code can stand for. Remove them first.")
