"""AWQ: scale up the inputs' channels that matter before rounding, and scale back afterwards.

A few input channels are much larger than the others, and an error in their weights costs more. Multiplying the
channel's weights by s and its input by 1 / s changes nothing in exact arithmetic, but after rounding the error of that
channel is divided by s. The scales are s = (mean |x|)**alpha, and alpha is searched for.
Source: J. Lin et al., AWQ, 2023, arXiv 2306.00978, sections 3.2 and 3.3, equations 4 and 5.
"""

from typing import NamedTuple

from torch import Tensor

from lessons_lib.four_bits import groupwise
from lessons_lib.four_bits.groupwise import GROUP, Grouped

STEPS = 10  # alpha is tried at 0, 1 / STEPS, ..., 1


class Scaled(NamedTuple):
    """A weight whose columns were multiplied, then quantized: codes, FP32 factors (n,) that fit FP16, alpha, error."""

    grouped: Grouped
    factors: Tensor
    alpha: float
    error: float


def channel_factors(size: Tensor, alpha: float) -> Tensor:
    """What each column is multiplied by: size**alpha, scaled so that the largest and the smallest multiply to 1.

    size: FP32 (n,), the mean of |x| of every input channel; a channel that is always 0 counts as the smallest other.
    Returns FP32 (n,). alpha 0 gives ones: plain rounding.
    """
    if size.ndim != 1 or not size.isfinite().all() or (size < 0).any() or not (size > 0).any():
        raise ValueError("size must be the mean |x| of every channel (n,): finite, none below 0, not all 0.")
    size = size.clamp_min(size[size > 0].min())
    # s = size**alpha / sqrt(max * min)
    factors = size**alpha
    return factors / (factors.max() * factors.min()).sqrt()


def awq(weight: Tensor, second: Tensor, size: Tensor, bits: int, group_size: int = GROUP, steps: int = STEPS) -> Scaled:
    """The scaling among steps + 1 values of alpha whose rounding moves the layer's output least on calibration inputs.

    weight: float (rows, n). second: FP32 (n, n), the mean of x xᵀ. size: FP32 (n,), the mean of |x|. Of equal errors
    the smaller alpha wins, so that without a gain nothing is scaled. Raises ValueError when shapes do not fit, for
    fewer than one step, and as `groupwise.quantize_groups`.
    """
    groupwise.check_groups(weight, bits, group_size)
    n = weight.shape[1]
    if second.shape != (n, n) or size.shape != (n,) or steps < 1:
        raise ValueError(
            f"second {tuple(second.shape)}, size {tuple(size.shape)} and {steps} steps; ({n}, {n}), "
            f"({n},) and at least one step are needed."
        )
    weight = weight.detach().float()

    def tried(alpha: float) -> Scaled:
        factors = channel_factors(size, alpha).half().float()  # as they are stored
        grouped = groupwise.quantize_groups(weight * factors, bits, group_size)
        read_back = groupwise.dequantize_groups(grouped) / factors
        return Scaled(grouped, factors, alpha, groupwise.output_power(weight - read_back, second) / power)

    power = groupwise.output_power(weight, second)
    return min((tried(i / steps) for i in range(steps + 1)), key=lambda candidate: candidate.error)


def dequantize(scaled: Scaled) -> Tensor:
    """The weight that a scaled one stands for: FP32 (rows, n), its columns divided by their factors again."""
    return groupwise.dequantize_groups(scaled.grouped) / scaled.factors
