"""NF4: 4-bit codes of weights, block by block, and the scales of the blocks quantized once more.

A block of weights is divided by its largest magnitude, absmax, and each weight becomes the nearest of 16 values between
-1 and 1 (`nf4_codebook`). The scales are many, so they can be quantized too: double quantization.
Source: T. Dettmers et al., QLoRA, 2023, arXiv 2305.14314, section 3. Codes and values are those of bitsandbytes, to the
bit; bitsandbytes puts the first code of a pair into the high half of a byte, this course into the low half.
"""

from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from lessons_lib.arithmetic import formats

NF4_OFFSET = 0.9677083
BLOCK = 64  # weights that share a scale
SCALE_BLOCK = 256  # scales that share a scale
SMALLEST_ABSMAX = 1e-38  # what a smaller absmax counts as, so that 1 / absmax stays finite
POSITIONS = 65_536  # among which bitsandbytes looks up the code of a scale
# Work goes piece by piece, each small enough to stay in a core's cache from the first operation to the last.
PIECE = 65_536  # weights quantized at a time, and bytes unpacked at a time
# A weight lies in one of 2 * CELLS + 1 cells, each narrower than the gap between two borders: one border at most.
CELLS = 16


def nf4_codebook(offset: float = NF4_OFFSET) -> torch.Tensor:
    """The 16 values of NF4 in ascending order, from -1 to 1: FP32 (16,). Equal to bitsandbytes' table to the bit.

    Quantiles of the standard normal distribution at evenly spaced probabilities: 8 positive values at
    linspace(offset, 0.5, 9) without the last, 0, and 7 negative ones, the mirror image of linspace(offset, 0.5, 8)
    without the last; all divided by the largest.
    Source: T. Dettmers et al., QLoRA, 2023, arXiv 2305.14314, section 3; the offset and the split are bitsandbytes'.
    Raises ValueError for an offset outside 0.5 ... 1, both excluded.
    """
    if not 0.5 < offset < 1:
        raise ValueError(f"offset is {offset}; it is a probability above 0.5 and below 1, such as {NF4_OFFSET}.")
    quantile = NormalDist().inv_cdf
    positive = [quantile(p) for p in torch.linspace(offset, 0.5, 9)[:-1].tolist()]
    negative = [-quantile(p) for p in torch.linspace(offset, 0.5, 8)[:-1].tolist()]
    values = torch.tensor(sorted(positive + [0.0] + negative))
    return values / values.max()


class Doubled(NamedTuple):
    """Scales after double quantization: uint8 codes (n,), an FP32 scale for each block of them, and their FP32 mean."""

    codes: Tensor
    scales: Tensor
    offset: Tensor


def quantize(x: Tensor, block_size: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Codes 0 ... 15 of the nearest NF4 values, uint8 shaped like x, and absmax of each block, FP32 (blocks,).

    x: float tensor, blocks of block_size running through it row by row. A value halfway between two takes the lower
    one. A block of zeros gets the code of zero, 7. An absmax below SMALLEST_ABSMAX is kept as it is, but divided by as
    if it were that: such weights are nearer to zero than to anything else.
    Raises TypeError when x is no float tensor; ValueError when it is empty, holds NaN or infinity, or does not split
    into blocks, and for a block size below 2 or odd.
    """
    rows = _blocks(x, block_size)
    codes, absmax = torch.empty(rows.shape, dtype=torch.uint8), rows.new_empty(len(rows), 1)
    first, border = _cells()
    step = max(1, PIECE // block_size)
    for start in range(0, len(rows), step):
        part, largest = rows[start : start + step], absmax[start : start + step]
        # absmax = max |x|
        torch.maximum(part.amax(dim=1, keepdim=True), part.amin(dim=1, keepdim=True).neg_(), out=largest)
        # v = x / absmax, by multiplication as bitsandbytes does it
        scaled = (part * (1.0 / largest.clamp_min(SMALLEST_ABSMAX))).clamp_(-1, 1).flatten()
        if not largest.isfinite().all():
            raise ValueError("x holds NaN or infinity, which no code can stand for. Remove them first.")
        # code = number of borders below v. A search asks four borders; here the cell of v knows the only one in doubt.
        cell = (scaled * CELLS + CELLS).int()
        code = first.index_select(0, cell) + (scaled > border.index_select(0, cell))
        codes[start : start + step] = code.view(part.shape)
    return codes.view(x.shape), absmax.flatten()


def dequantize(packed: Tensor, absmax: Tensor, block_size: int = BLOCK) -> Tensor:
    """The weights that packed codes stand for, codebook[code] * absmax: FP32 (blocks, block_size).

    packed: uint8 (n / 2,), from `formats.pack_nibbles`. absmax: FP32 (n / block_size,).
    Raises TypeError when packed is not uint8, ValueError when the two do not fit each other.
    """
    if packed.dtype != torch.uint8:
        raise TypeError(f"packed is {packed.dtype}; uint8 with two codes a byte is needed.")
    _check_block(block_size)
    if packed.ndim != 1 or absmax.ndim != 1 or 2 * len(packed) != len(absmax) * block_size:
        raise ValueError(
            f"{tuple(packed.shape)} bytes and {tuple(absmax.shape)} scales do not fit blocks of "
            f"{block_size}: one scale is needed for every {block_size // 2} bytes."
        )
    return unpack_scaled(packed, pairs(), absmax, block_size)


def unpack_scaled(
    packed: Tensor, table: Tensor, scales: Tensor, size: int, zero_points: Tensor | None = None
) -> Tensor:
    """(value - zero point) * scale for groups of packed codes, piece by piece: FP32 (groups, size).

    packed: uint8 (groups * size / 2,). table: of `paired`. scales, zero_points: FP32 (groups,).
    """
    out = scales.new_empty(len(scales), size)
    step = max(1, 2 * PIECE // size)
    for start in range(0, len(scales), step):
        part, rows = out[start : start + step], slice(start, start + step)
        look_up(packed[start * size // 2 : (start + step) * size // 2], table, part)
        if zero_points is not None:
            part.sub_(zero_points[rows, None])
        # w = (value - zero_point) * scale
        part.mul_(scales[rows, None])
    return out


def round_trip(weight: Tensor, block_size: int = BLOCK, double: bool = True) -> Tensor:
    """A weight as it reads back from NF4 codes, FP32 and shaped like weight; double: from scales quantized once more.

    Raises as `quantize`.
    """
    codes, absmax = quantize(weight, block_size)
    if double:
        absmax = double_dequantize(double_quantize(absmax))
    return dequantize(formats.pack_nibbles(codes.flatten()), absmax, block_size).view(weight.shape)


def look_up(packed: Tensor, table: Tensor, out: Tensor) -> None:
    """Write the two FP32 values of each byte: packed uint8 (n,), table of `paired`, out FP32 with 2n entries."""
    torch.index_select(table, 0, packed.int(), out=out.view(-1).view(torch.int64))


def paired(values: Tensor) -> Tensor:
    """A table of 256 entries: the two values that a byte with two codes stands for, the low half first.

    values: FP32 (16,). Returns int64 (256,): the bits of two FP32 numbers side by side, so that one look-up fetches
    both.
    """
    return torch.stack([values.repeat(16), values.repeat_interleave(16)], dim=1).view(torch.int64).flatten()


@lru_cache(maxsize=1)
def pairs() -> Tensor:
    """The pairs of NF4 values by byte, as `paired` makes them."""
    return paired(nf4_codebook())


@lru_cache(maxsize=1)
def borders() -> Tensor:
    """The 15 borders between neighbouring NF4 values, each halfway: FP32 (15,)."""
    values = nf4_codebook()
    return (values[1:] + values[:-1]) / 2


@lru_cache(maxsize=1)
def _cells() -> tuple[Tensor, Tensor]:
    """For each cell of -1 ... 1: the lowest code in it, uint8, and the border above which the code is one higher."""
    edges = torch.arange(-CELLS, CELLS + 1) / CELLS
    first = torch.bucketize(edges, borders())
    return first.to(torch.uint8), torch.cat([borders(), borders().new_tensor([torch.inf])])[first]


@lru_cache(maxsize=1)
def dynamic_map() -> Tensor:
    """256 values from -1 to 1 in ascending order, FP32: finer and finer towards zero. bitsandbytes' own table.

    2**i values of each sign evenly spaced over (0.1, 1) * 10**(i - 6), for i = 0 ... 6, then 0 and 1.
    Source: T. Dettmers, 8-Bit Approximations for Parallelism in Deep Learning, 2015, arXiv 1511.04561, section 2.1.
    """
    edges = [torch.linspace(0.1, 1, 2**i + 1) for i in range(7)]
    # middles of 2**i equal parts of 0.1 ... 1, times a power of ten
    positive = torch.cat([10 ** (i - 6) * ((edge[1:] + edge[:-1]) / 2) for i, edge in enumerate(edges)])
    return torch.cat([-positive, positive, torch.tensor([0.0, 1.0])]).sort().values


def double_quantize(absmax: Tensor, block: int = SCALE_BLOCK, code: Tensor | None = None) -> Doubled:
    """Scales quantized once more: their mean is taken off, blocks are divided by their largest magnitude, and each is
    given the nearest entry of code.

    absmax: FP32 (n,). The last block may be shorter. code: FP32, ascending from -1 (or above) to 1, at most 256
    entries; the default is `dynamic_map`. Nearest is decided for the nearest of POSITIONS evenly spaced numbers, as
    bitsandbytes does it: within 1.6e-5 of a border between two entries either may be taken.
    A block whose scales all equal the mean has the scale 0 and the codes 0, and reads back as the mean, exactly.
    Raises ValueError when absmax is no list of finite numbers, block is below 1, or code is not sorted.
    """
    code = dynamic_map() if code is None else code
    if absmax.ndim != 1 or not absmax.numel() or not absmax.isfinite().all():
        raise ValueError(f"absmax has the shape {tuple(absmax.shape)}; a list (n,) of finite scales is needed.")
    if block < 1 or not 2 <= len(code) <= 256 or not (code.diff() > 0).all():
        raise ValueError(
            f"block is {block} and code has {len(code)} entries: a block of at least 1, and 2 to 256 "
            "ascending entries are needed."
        )
    offset = absmax.mean()
    # centred = absmax - mean, in blocks; the last one filled up with zeros
    centred = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % block)).view(-1, block)
    scales = centred.abs().amax(dim=1)
    # by multiplication, as bitsandbytes does it: 1 / scale of a denormal scale is infinite
    scaled = (centred * (1 / scales)[:, None]).nan_to_num_().clamp_(-1, 1)
    nearest = torch.bucketize(torch.linspace(-1, 1, POSITIONS), (code[1:] + code[:-1]) / 2).to(torch.uint8)
    position = ((scaled + 1) * ((POSITIONS - 1) / 2) + 0.5).floor().int()
    codes = nearest[position].masked_fill(scales[:, None] == 0, 0)
    return Doubled(codes.flatten()[: len(absmax)], scales, offset)


def double_dequantize(doubled: Doubled, block: int = SCALE_BLOCK, code: Tensor | None = None) -> Tensor:
    """The scales that their codes stand for, code[codes] * scale + mean: FP32 (n,). Raises ValueError for a misfit."""
    code = dynamic_map() if code is None else code
    if len(doubled.scales) != -(-len(doubled.codes) // block):
        raise ValueError(
            f"{len(doubled.codes)} codes in blocks of {block} need {-(-len(doubled.codes) // block)} "
            f"scales, not {len(doubled.scales)}."
        )
    spread = doubled.scales.repeat_interleave(block)[: len(doubled.codes)]
    # absmax = code[codes] * scale + mean
    return code[doubled.codes.int()] * spread + doubled.offset


def bits_per_weight(block_size: int = BLOCK, double: bool = True) -> float:
    """True bits of an NF4 weight: 4, and its share of absmax; double: of an 8-bit code and a scale for 256 of those.

    The one mean of a whole tensor is not counted.
    """
    scale_bits = formats.bits_per_weight(8, SCALE_BLOCK, 32) if double else 32
    return formats.bits_per_weight(4, block_size, scale_bits)


def _check_block(block_size: int) -> None:
    if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 2 or block_size % 2:
        raise ValueError(
            f"block_size is {block_size!r}; an even number from 2 on is needed, since a byte holds two "
            "codes. 64 is usual."
        )


def _blocks(x, block_size: int) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x is {kind}; it must be a float tensor. Convert it with .float().")
    _check_block(block_size)
    if x.numel() == 0 or x.numel() % block_size:
        raise ValueError(
            f"x has {x.numel()} values, shape {tuple(x.shape)}, which do not split into blocks of "
            f"{block_size}; choose a block size that divides them."
        )
    return x.detach().float().reshape(-1, block_size)
