"""Microscaling: blocks of small floats that share a power of two, a format that new accelerators multiply directly.

Source: OCP Microscaling Formats (MX) Specification 1.0, 2023, section 6.3; B. Rouhani et al., 2023, arXiv 2310.10537.
"""

import torch

from lessons_lib import formats

SCALE_BITS = 8  # an exponent alone: no sign, no fraction
SCALE_EXPONENTS = (-127, 127)


def microscale(x: torch.Tensor, element: str | formats.Format = "E4M3", block_size: int = 32):
    """Patterns of x (int64, shaped like x) and the exponent of each block of neighbours (int64, (..., n / block_size)).

    The shared exponent is that of the block's largest magnitude, less the exponent of the format's largest number; the
    elements are x / 2**exponent, rounded to the format and saturated. A block of zeros gets the lowest exponent.
    Raises TypeError when x is no float tensor; ValueError when x is not finite or its last axis does not split.
    """
    element = formats.of(element)
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        raise TypeError("x must be a float tensor. Convert it with .float().")
    if block_size < 1 or x.ndim == 0 or x.numel() == 0 or x.shape[-1] % block_size:
        raise ValueError(f"The last axis of {tuple(x.shape)} does not split into blocks of {block_size}.")
    if not x.isfinite().all():
        raise ValueError("x holds NaN or infinity, which no block can scale. Remove them first.")
    blocks = x.detach().double().unflatten(-1, (-1, block_size))
    largest = blocks.abs().amax(-1)
    # exponent = floor(log2(max |x|)) - floor(log2(largest number of the format))
    exponents = torch.frexp(largest)[1].long() - torch.frexp(torch.tensor(element.largest))[1].long()
    exponents = torch.where(largest > 0, exponents, SCALE_EXPONENTS[0]).clamp(*SCALE_EXPONENTS)
    patterns = formats.encode(blocks / formats.power_of_two(exponents)[..., None], element, saturate=True)
    return patterns.flatten(-2), exponents


def read_blocks(patterns: torch.Tensor, exponents: torch.Tensor, element: str | formats.Format = "E4M3"):
    """The numbers that `microscale` stored: FP32, shaped like patterns. ValueError for shapes that do not fit."""
    if patterns.shape[:-1] != exponents.shape[:-1] or patterns.shape[-1] % exponents.shape[-1]:
        raise ValueError(
            f"Exponents of the shape {tuple(exponents.shape)} do not fit {tuple(patterns.shape)}; "
            "hand over what `microscale` returned."
        )
    values = formats.decode(patterns, element).unflatten(-1, (exponents.shape[-1], -1))
    # value = element * 2**exponent
    return (values * formats.power_of_two(exponents)[..., None]).flatten(-2).float()
