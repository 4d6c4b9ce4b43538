"""Lesson 12, four-bit weights: its exercises and its questions."""

import torch

from lessons_lib.arithmetic import affine, nf4
from lessons_lib.four_bits import awq, gptq, groupwise
from quizzes import case, exercise, question

OFF_GRID = 1 + 2.0**-13  # a quarter of FP16's half step: a scale that must be rounded, clearly


def in_groups(draw, rows, count, size, bits):
    """Weights (rows, count * size) whose groups reach from code 0 to the last, each weight clear of half steps."""
    steps = draw.tensor((rows, count, 1), 0.01, 0.1).half().float() * OFF_GRID
    zero = draw.integers((rows, count, 1), 1, 2**bits - 1)
    inner = draw.integers((rows, count, size - 2), 1, 2**bits - 1) + draw.tensor((rows, count, size - 2), -0.3, 0.3)
    ends = torch.tensor([0.0, 2.0**bits - 1]).expand(rows, count, 2)
    codes = torch.cat([ends, inner], dim=2).roll(draw.integer(0, size - 1), dims=2)
    return ((codes - zero) * steps).view(rows, count * size)


@exercise(
    points=3,
    minutes=10,
    hint="weight.reshape(-1, group_size) makes a row of every group. With amin and amax over dim 1 you have what "
    "lesson 01 "
    "called low and high. Reshape back at the end.",
)
def quantize_groups(
    weight: torch.Tensor, bits: int, group_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, scales and zero points of a weight matrix, with a scale and a zero point for every group of neighbours.

    weight: FP32 (rows, n); group_size divides n, and a group is group_size neighbours of one row. For each group:
    low = min(smallest weight, 0) and high = max(largest weight, 0);
    scale = (high - low) / (2**bits - 1), rounded to FP16, since that is how it is stored; 1 for a group of zeros;
    zero_point = round(-low / scale), with the rounded scale;
    code = round(w / scale) + zero_point, clamped to 0 ... 2**bits - 1. (No case lies near a half step.)
    Returns codes, uint8 (rows, n); scales, FP32 (rows, n / group_size) holding FP16 numbers; zero points, uint8, shaped
    like the scales.

    >>> quantize_groups(torch.tensor([[-0.5, 1.0, 0.0, 3.0]]), 2, 2)
    (tensor([[0, 3, 0, 3]], dtype=torch.uint8), tensor([[0.5000, 1.0000]]), tensor([[1, 0]], dtype=torch.uint8))
    """
    return groupwise.quantize_groups(weight, bits, group_size)


@quantize_groups.cases
def _(draw):
    yield case("the printed example", torch.tensor([[-0.5, 1.0, 0.0, 3.0]]), 2, 2, visible=True)
    yield case("one row, two groups", in_groups(draw, 1, 2, 4, 3), 3, 4, visible=True)
    yield case("four bits", in_groups(draw, 6, 3, 16, 4), 4, 16)
    yield case("four bits", in_groups(draw, 3, 1, 32, 4), 4, 32)
    yield case("other widths", in_groups(draw, 4, 2, 8, 2), 2, 8)
    yield case("other widths", in_groups(draw, 4, 2, 24, 8), 8, 24)
    aside = in_groups(draw, 4, 2, 8, 4)
    yield case("groups without zero", aside - aside.amin() + 40 * OFF_GRID * 2.0**-4, 4, 8)
    with_zeros = in_groups(draw, 2, 3, 8, 4)
    with_zeros[:, 8:16] = 0
    yield case("a group of zeros", with_zeros, 4, 8)
    yield case("not contiguous", in_groups(draw, 4, 2, 8, 4).t().contiguous().t(), 4, 8)


quantize_groups.close(
    atol=1e-12,
    rtol=5e-4,
    reason="Codes and zero points are whole numbers, and off by one is off by more than this. A scale whose quotient "
    "lies on a border of FP16 may fall to either side, which is half an FP16 step, 2**-11 of it.",
)


@quantize_groups.mistake("This is one scale for a whole row. Reshape first: every group has a scale of its own.")
def _(weight, bits, group_size):
    codes, scales, zeros = groupwise.quantize_groups(weight.contiguous(), bits, weight.shape[1])
    times = weight.shape[1] // group_size
    return codes, scales.repeat(1, times), zeros.repeat(1, times)


@quantize_groups.mistake("You divided by 2**bits. 4 bits have 16 levels, and 15 steps between them.")
def _(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    low, high = groups.amin(1).clamp_max(0), groups.amax(1).clamp_min(0)
    scale = ((high - low) / 2**bits).half().float()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).round().clamp(0, 2**bits - 1)
    codes = ((groups / scale[:, None]).round() + zero[:, None]).clamp(0, 2**bits - 1)
    shape = (len(weight), -1)
    return codes.byte().view(weight.shape), scale.view(shape), zero.byte().view(shape)


@quantize_groups.mistake(
    "The scale is not rounded to FP16. What is stored is the FP16 number, and codes must fit that."
)
def _(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    scale, zero = affine.choose_qparams(groups.amin(1), groups.amax(1), bits)
    codes = affine.quantize(groups, scale * (1 - 1e-3), zero, bits, axis=0)
    shape = (len(weight), -1)
    return codes.view(weight.shape), (scale * (1 - 1e-3)).view(shape), zero.byte().view(shape)


@quantize_groups.mistake("The range must hold zero: a low above 0 becomes 0, or zero has no code of its own.")
def _(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    low, high = groups.amin(1), groups.amax(1)
    scale = ((high - low) / (2**bits - 1)).half().float()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).round()
    codes = ((groups / scale[:, None]).round() + zero[:, None]).clamp(0, 2**bits - 1)
    shape = (len(weight), -1)
    return codes.byte().view(weight.shape), scale.view(shape), zero.clamp(0, 255).byte().view(shape)


@quantize_groups.mistake("Your groups run down the columns. A group is neighbours of one row, which share an output.")
def _(weight, bits, group_size):
    codes, scales, zeros = groupwise.quantize_groups(weight.t().reshape(weight.shape).contiguous(), bits, group_size)
    return codes, scales, zeros


@quantize_groups.alternative
def _(weight, bits, group_size):
    most = 2**bits - 1
    codes = torch.zeros(weight.shape, dtype=torch.uint8)
    count = weight.shape[1] // group_size
    scales, zeros = torch.ones(len(weight), count), torch.zeros(len(weight), count, dtype=torch.uint8)
    for row in range(len(weight)):
        for group in range(count):
            place = slice(group * group_size, (group + 1) * group_size)
            part = weight[row, place]
            low, high = min(part.min().item(), 0.0), max(part.max().item(), 0.0)
            if high > low:
                scales[row, group] = torch.tensor((high - low) / most).half().float()
            scale = scales[row, group].item()
            zeros[row, group] = round(-low / scale)
            codes[row, place] = (torch.round(part / scale) + int(zeros[row, group])).clamp(0, most).to(torch.uint8)
    return codes, scales, zeros


CODEBOOK = nf4.nf4_codebook()


def in_blocks(draw, blocks, size):
    """Values (blocks * size,), the largest of a block exactly its absmax, the others clear of the borders."""
    values = CODEBOOK[draw.integers((blocks, size), 0, 16)] + draw.tensor((blocks, size), -0.03, 0.03)
    values = values.clamp(-0.98, 0.98)
    values[:, draw.integer(0, size - 1)] = 1.0 - 2.0 * draw.integers((blocks,), 0, 2)
    return (values * draw.tensor((blocks, 1), 0.01, 3)).flatten()


@exercise(
    points=3,
    minutes=10,
    hint="borders = (codebook[1:] + codebook[:-1]) / 2, and torch.bucketize(v, borders) counts how many of them lie "
    "below "
    "each v. An absmax of 0 must not be divided by: clamp_min(1e-38) first.",
)
def nf4_quantize(x: torch.Tensor, codebook: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """NF4 codes of a tensor, and the largest magnitude of each block.

    x: FP32, any shape; read row by row it splits into blocks of block_size. codebook: the 16 NF4 values, FP32,
    ascending. For each block: absmax = max |x|, and v = x * (1 / max(absmax, 1e-38)). A code is the position of the
    value nearest to v. The border between two neighbours c and d is (c + d) / 2; a v that is exactly a border takes the
    lower code. So a block of zeros has the code 7 and absmax 0.
    Returns codes, uint8 shaped like x, and absmax, FP32 (blocks,).

    >>> nf4_quantize(torch.tensor([0.5, -0.1, 0.0, -2.0]), codebook, 2)
    (tensor([15,  5,  7,  0], dtype=torch.uint8), tensor([0.5000, 2.0000]))
    """
    return nf4.quantize(x, block_size)


@nf4_quantize.cases
def _(draw):
    yield case("the printed example", torch.tensor([0.5, -0.1, 0.0, -2.0]), CODEBOOK, 2, visible=True)
    yield case("blocks of 8", in_blocks(draw, 3, 8), CODEBOOK, 8, visible=True)
    yield case("matrices", in_blocks(draw, 12, 64).view(6, 128), CODEBOOK, 64)
    yield case("matrices", in_blocks(draw, 6, 32).view(4, 48), CODEBOOK, 32)
    ties = torch.cat([nf4.borders(), torch.tensor([-1.0])])
    yield case("exactly on a border", ties * 2.0 ** draw.integer(-4, 4), CODEBOOK, 16)
    with_zeros = in_blocks(draw, 3, 16)
    with_zeros[16:32] = 0
    yield case("a block of zeros", with_zeros, CODEBOOK, 16)
    tiny = torch.cat([torch.linspace(-1e-40, 1e-40, 16), in_blocks(draw, 1, 16)])
    yield case("numbers below 1e-38", tiny, CODEBOOK, 16)
    yield case("not contiguous", in_blocks(draw, 8, 16).view(8, 16).t(), CODEBOOK, 16)


nf4_quantize.exact("absmax is one of the values, and codes are whole numbers; the docstring settles borders and zeros")


@nf4_quantize.mistake("You divided by the largest value, not by the largest magnitude: take abs() first.")
def _(x, codebook, block_size):
    rows = x.reshape(-1, block_size)
    absmax = rows.amax(1)
    v = rows * (1 / absmax.clamp_min(1e-38))[:, None]
    return torch.bucketize(v, (codebook[1:] + codebook[:-1]) / 2).to(torch.uint8).view(x.shape), absmax


@nf4_quantize.mistake("A v on a border takes the lower code: with right=True, or <=, it takes the higher one.")
def _(x, codebook, block_size):
    rows = x.reshape(-1, block_size)
    absmax = rows.abs().amax(1)
    v = rows * (1 / absmax.clamp_min(1e-38))[:, None]
    borders = (codebook[1:] + codebook[:-1]) / 2
    return torch.bucketize(v, borders, right=True).to(torch.uint8).view(x.shape), absmax


@nf4_quantize.mistake(
    "You counted codebook values below v, not borders: that is the next value above, not the nearest."
)
def _(x, codebook, block_size):
    rows = x.reshape(-1, block_size)
    absmax = rows.abs().amax(1)
    v = rows * (1 / absmax.clamp_min(1e-38))[:, None]
    return torch.bucketize(v, codebook).clamp(0, 15).to(torch.uint8).view(x.shape), absmax


@nf4_quantize.mistake("You took one absmax for the whole tensor. Every block has its own.")
def _(x, codebook, block_size):
    absmax = x.abs().max()
    v = x * (1 / absmax.clamp_min(1e-38))
    codes = torch.bucketize(v.contiguous(), (codebook[1:] + codebook[:-1]) / 2).to(torch.uint8)
    return codes, absmax.expand(x.numel() // block_size).contiguous()


@nf4_quantize.mistake("You rounded to evenly spaced values. NF4's stand closer near zero: use the codebook's borders.")
def _(x, codebook, block_size):
    rows = x.reshape(-1, block_size)
    absmax = rows.abs().amax(1)
    v = rows * (1 / absmax.clamp_min(1e-38))[:, None]
    return (v * 7.5 + 7.5).round().to(torch.uint8).view(x.shape), absmax


@nf4_quantize.mistake("The clamped absmax went into the answer. Clamp only what you divide by; absmax itself stays.")
def _(x, codebook, block_size):
    rows = x.reshape(-1, block_size)
    absmax = rows.abs().amax(1).clamp_min(1e-38)
    v = rows * (1 / absmax)[:, None]
    return torch.bucketize(v, (codebook[1:] + codebook[:-1]) / 2).to(torch.uint8).view(x.shape), absmax


@nf4_quantize.alternative
def _(x, codebook, block_size):
    rows = x.reshape(-1, block_size)
    absmax = rows.abs().max(dim=1).values
    v = rows * (1.0 / absmax.clamp_min(1e-38)).unsqueeze(1)
    codes = torch.zeros(rows.shape, dtype=torch.uint8)
    for lower, upper in zip(codebook[:-1], codebook[1:], strict=True):
        codes += (v > (lower + upper) / 2).to(torch.uint8)
    return codes.view(x.shape), absmax


UNEVEN = torch.tensor([-1.0, -0.6, -0.25, 0.0, 0.25, 0.6, 1.0])


def scales_around(draw, code, sizes):
    """Positive scales in blocks of these (even) sizes. In each block the entries come in pairs around the mean, the
    largest distance from it belongs to an end of the code, and none is near a border of the code."""
    blocks = []
    for size in sizes:
        half = size // 2
        reach = code[code.abs() > 0.1] if len(code) > 100 else code
        shift = 0.2 * float(code.diff()[code[1:].abs() > 0.1].min())
        picked = reach[draw.integers((half,), 0, len(reach))] + draw.tensor((half,), -shift, shift)
        picked = picked.clamp(-0.99, 0.99)
        picked[0] = 1.0
        blocks.append(torch.cat([picked, -picked]).roll(draw.integer(0, size - 1)) * draw.number(0.2, 1.0))
    return 2.0 + torch.cat(blocks)


@exercise(
    points=2,
    minutes=8,
    hint="Take off the mean of all scales first. Then it is nf4_quantize again, with another table and blocks that "
    "may end "
    "early: fill the last one up with zeros, and cut the codes at the end.",
)
def double_quantize(
    absmax: torch.Tensor, block: int, code: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scales quantized once more: codes of 8 bits, a scale for each block of them, and one mean for all.

    absmax: FP32 (n,), the scales of many blocks of weights. block: how many of them share a scale; the last block may
    have fewer. code: FP32, ascending from -1 to 1, at most 256 entries. The offset is the mean of absmax. From each
    block of absmax - offset: scale = its largest magnitude, and a code is the position of the entry nearest to
    (absmax - offset) / scale. (No case lies near a border.) A block whose scales all equal the mean has the scale 0 and
    the codes 0.
    Returns codes, uint8 (n,); scales, FP32, one for each block; and the offset, an FP32 tensor without axes.

    >>> double_quantize(torch.tensor([1.0, 3.0, 2.5, 1.5]), 2, torch.tensor([-1.0, 0.0, 1.0]))
    (tensor([0, 2, 2, 0], dtype=torch.uint8), tensor([1.0000, 0.5000]), tensor(2.))
    """
    return nf4.double_quantize(absmax, block, code)


@double_quantize.cases
def _(draw):
    printed = torch.tensor([1.0, 3.0, 2.5, 1.5])
    yield case("the printed example", printed, 2, torch.tensor([-1.0, 0.0, 1.0]), visible=True)
    yield case("whole blocks", scales_around(draw, UNEVEN, [8, 8]), 8, UNEVEN, visible=True)
    yield case("whole blocks", scales_around(draw, UNEVEN, [16] * 4), 16, UNEVEN)
    yield case("a last block that is shorter", scales_around(draw, UNEVEN, [16, 16, 6]), 16, UNEVEN)
    yield case("a last block that is shorter", scales_around(draw, UNEVEN, [4]), 16, UNEVEN)
    yield case("the table of bitsandbytes", scales_around(draw, nf4.dynamic_map(), [256, 64]), 256, nf4.dynamic_map())
    level_block = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.25, 0.75, 0.75, 0.25])
    yield case("a block at the mean", level_block, 4, UNEVEN)
    found = scales_around(draw, UNEVEN, [4, 4])
    yield case("not contiguous", torch.stack([found, -found], dim=1)[:, 0], 4, UNEVEN)


double_quantize.close(
    rtol=1e-5,
    atol=1e-6,
    reason="the mean of at most 320 numbers near 2 is a sum that rounds by 6e-8 of itself at each step, 1e-6 in any "
    "order "
    "that torch takes; a scale inherits it. Codes are whole numbers.",
)


@double_quantize.mistake(
    "The mean is missing: scales are all positive, and without it the negative half of the code idles."
)
def _(absmax, block, code):
    padded = torch.nn.functional.pad(absmax, (0, -len(absmax) % block)).view(-1, block)
    scales = padded.abs().amax(1)
    v = padded / scales.masked_fill(scales == 0, 1)[:, None]
    codes = torch.bucketize(v, (code[1:] + code[:-1]) / 2).to(torch.uint8).flatten()[: len(absmax)]
    return codes, scales, torch.zeros(())


@double_quantize.mistake("You took the mean of every block. There is one mean for all scales of the tensor.")
def _(absmax, block, code):
    parts = [part - part.mean() for part in absmax.split(block)]
    scales = torch.stack([part.abs().max() for part in parts])
    codes = [
        torch.bucketize(part / max(scale, 1e-30), (code[1:] + code[:-1]) / 2)
        for part, scale in zip(parts, scales, strict=True)
    ]
    return torch.cat(codes).to(torch.uint8), scales, torch.stack([part.mean() for part in absmax.split(block)])


@double_quantize.mistake("You returned the offset with its sign turned: what is read back is code * scale + offset.")
def _(absmax, block, code):
    codes, scales, offset = nf4.double_quantize(absmax.contiguous(), block, code)
    return codes, scales, -offset


@double_quantize.mistake("One scale for all: every block of scales has a scale of its own.")
def _(absmax, block, code):
    codes, scales, offset = nf4.double_quantize(absmax.contiguous(), len(absmax), code)
    return codes, scales.expand(-(-len(absmax) // block)).contiguous(), offset


@double_quantize.mistake("You counted the entries below each value, not the borders: that is the entry above it.")
def _(absmax, block, code):
    offset = absmax.mean()
    padded = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % block)).view(-1, block)
    scales = padded.abs().amax(1)
    v = padded / scales.masked_fill(scales == 0, 1)[:, None]
    codes = torch.bucketize(v, code).clamp_max(len(code) - 1).to(torch.uint8).flatten()[: len(absmax)]
    return codes, scales, offset


@double_quantize.alternative
def _(absmax, block, code):
    offset = absmax.sum() / len(absmax)
    codes, scales = [], []
    for part in absmax.split(block):
        centred = part - offset
        scale = centred.abs().max()
        scales.append(scale)
        if scale == 0:
            codes.append(torch.zeros(len(part), dtype=torch.uint8))
        else:
            distance = (centred[:, None] / scale - code).abs()
            codes.append(distance.argmin(dim=1).to(torch.uint8))
    return torch.cat(codes), torch.stack(scales), offset


def column_problem(draw, rows, n, bits):
    """A weight whose first column is clear of half steps, some beyond the last code, and an inverse second moment."""
    scale, zero = draw.tensor((rows,), 0.1, 0.5), draw.integers((rows,), 1, 2**bits - 1)
    weight = draw.normal((rows, n))
    weight[:, 0] = (draw.integers((rows,), -2, 2**bits + 2) + draw.tensor((rows,), -0.35, 0.35) - zero) * scale
    inputs = draw.normal((4 * n, n)) @ (torch.eye(n) + 0.5 * draw.normal((n, n)))
    second = (inputs.t() @ inputs / len(inputs)).double()
    return weight, torch.linalg.inv(second + 0.1 * torch.eye(n)).float(), scale, zero, bits


@exercise(
    points=3,
    minutes=10,
    hint="Two steps. Quantize weight[:, 0] and read it back, as in lesson 01. Then one outer product: the error of "
    "each row, "
    "over h_inv[0, 0], times the rest of h_inv's first row, is what the other columns give up.",
)
def gptq_column(
    weight: torch.Tensor, h_inv: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, bits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize the first column of a weight, and move the other columns so that the layer's output changes least.

    weight: FP32 (rows, n). h_inv: FP32 (n, n), the inverse of the mean of x xᵀ over the layer's inputs. scale: FP32
    (rows,), zero_point: int64 (rows,), one of each for every row. With w the first column:
    code = round(w / scale) + zero_point, clamped to 0 ... 2**bits - 1, and q = (code - zero_point) * scale;
    the column k of the rest becomes weight[:, k] - (w - q) / h_inv[0, 0] * h_inv[0, k].
    Returns q, FP32 (rows,), and the updated rest, FP32 (rows, n - 1). weight itself is not changed.

    >>> h_inv = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    >>> gptq_column(torch.tensor([[1.2, 5.0]]), h_inv, torch.tensor([1.0]), torch.tensor([0]), 4)
    (tensor([1.]), tensor([[4.9000]]))
    """
    return gptq.gptq_column(weight, h_inv, scale, zero_point, bits)


@gptq_column.cases
def _(draw):
    h_inv = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    yield case(
        "the printed example",
        torch.tensor([[1.2, 5.0]]),
        h_inv,
        torch.tensor([1.0]),
        torch.tensor([0]),
        4,
        visible=True,
    )
    yield case("three rows", *column_problem(draw, 3, 4, 4), visible=True)
    yield case("many rows and columns", *column_problem(draw, 24, 16, 4))
    yield case("other widths", *column_problem(draw, 12, 8, 3))
    yield case("other widths", *column_problem(draw, 12, 8, 2))
    weight, inverse, scale, zero, bits = column_problem(draw, 8, 6, 4)
    yield case("not contiguous", weight.t().contiguous().t(), inverse, scale, zero, bits)
    yield case("inputs that do not depend on each other", weight, torch.diag(draw.tensor((6,), 0.5, 2)), scale, zero, 4)


gptq_column.close(
    rtol=1e-5,
    atol=1e-5,
    reason="q is two products, and an update a quotient, a product and a difference of numbers up to about 20 in "
    "FP32: each "
    "rounds by 6e-8 of itself, which is 5e-6 together.",
)


@gptq_column.mistake(
    "The others are not moved: that is plain rounding, and the error of the first column stays as it is."
)
def _(weight, h_inv, scale, zero_point, bits):
    return gptq.gptq_column(weight, h_inv, scale, zero_point, bits)[0], weight[:, 1:].clone()


@gptq_column.mistake("The sign is turned: the others must move against the error, not with it.")
def _(weight, h_inv, scale, zero_point, bits):
    column, rest = gptq.gptq_column(weight, h_inv, scale, zero_point, bits)
    return column, 2 * weight[:, 1:] - rest


@gptq_column.mistake("You did not divide by h_inv[0, 0]. It says how much of an error the other columns can take over.")
def _(weight, h_inv, scale, zero_point, bits):
    column, rest = gptq.gptq_column(weight, h_inv, scale, zero_point, bits)
    return column, weight[:, 1:] + (rest - weight[:, 1:]) * h_inv[0, 0]


@gptq_column.mistake("The codes are not clamped: a weight beyond the range has no code of its own.")
def _(weight, h_inv, scale, zero_point, bits):
    column = (weight[:, 0] / scale).round() * scale
    return column, weight[:, 1:] - torch.outer((weight[:, 0] - column) / h_inv[0, 0], h_inv[0, 1:])


@gptq_column.mistake("You returned codes. The error needs the column as it reads back: (code - zero_point) * scale.")
def _(weight, h_inv, scale, zero_point, bits):
    column = ((weight[:, 0] / scale).round() + zero_point).clamp(0, 2**bits - 1)
    return column, weight[:, 1:] - torch.outer((weight[:, 0] - column) / h_inv[0, 0], h_inv[0, 1:])


@gptq_column.alternative
def _(weight, h_inv, scale, zero_point, bits):
    quantized, rest = torch.empty(len(weight)), weight[:, 1:].clone()
    for row in range(len(weight)):
        code = torch.round(weight[row, 0] / scale[row]) + zero_point[row]
        code = min(max(float(code), 0.0), 2.0**bits - 1)
        quantized[row] = (code - zero_point[row]) * scale[row]
        error = (weight[row, 0] - quantized[row]) / h_inv[0, 0]
        for k in range(1, weight.shape[1]):
            rest[row, k - 1] -= error * h_inv[0, k]
    return quantized, rest


ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def search_errors(weight, inputs, bits, alphas):
    """Factors and squared output error of every alpha."""
    found = []
    for alpha in alphas:
        factors = awq.channel_factors(inputs.abs().mean(dim=0), alpha)
        back = affine.round_trip(weight * factors, bits, "channel") / factors
        found.append((factors, (inputs @ (back - weight).t()).square().sum().item()))
    return found


def search_problem(draw, rows, n, samples, bits, alphas):
    """A weight and inputs with a few large channels, drawn until the best alpha leads by 3 %."""
    while True:
        weight, inputs = draw.normal((rows, n)), draw.normal((samples, n)) * draw.tensor((n,), 0.2, 1)
        inputs[:, :: draw.integer(4, 8)] *= draw.number(4, 30)
        errors = sorted(error for _, error in search_errors(weight, inputs, bits, alphas))
        if len(errors) == 1 or errors[1] > 1.03 * errors[0]:
            return weight, inputs, bits, alphas


@exercise(
    points=3,
    minutes=12,
    hint="One loop over alphas: factors, rounded weight, divide the factors out again, error of the outputs. Keep "
    "the best. "
    "The error is that of inputs @ weight.T, not of the weight.",
)
def awq_scale_search(
    weight: torch.Tensor, inputs: torch.Tensor, bits: int, alphas: list[float]
) -> tuple[float, torch.Tensor]:
    """The alpha, and its factors for the columns of a weight, after which rounding changes the layer's output least.

    weight: FP32 (rows, n). inputs: FP32 (samples, n), what the layer reads. For each alpha:
    size = mean of |inputs| over the samples, (n,); f = size**alpha; factors = f / sqrt(max(f) * min(f));
    multiply column k of the weight by factors[k]; round it with one scale a row, scale = max |row| / (2**(bits-1) - 1)
    and rounded = round(w / scale) * scale; divide the columns by the factors again;
    error = sum of squares of inputs @ (that weight - weight).T.
    Returns the alpha with the smallest error, the first of equals, and its factors, FP32 (n,).

    >>> inputs = torch.tensor([[8.0, 1.0], [-8.0, 2.0]])
    >>> awq_scale_search(torch.tensor([[0.4, 1.0]]), inputs, 2, [0.0, 0.5])
    (0.5, tensor([1.5197, 0.6580]))
    """
    found = search_errors(weight, inputs, bits, alphas)
    best = min(range(len(alphas)), key=lambda place: found[place][1])
    return alphas[best], found[best][0]


@awq_scale_search.cases
def _(draw):
    inputs = torch.tensor([[8.0, 1.0], [-8.0, 2.0]])
    yield case("the printed example", torch.tensor([[0.4, 1.0]]), inputs, 2, [0.0, 0.5], visible=True)
    for bits in (4, 3):
        yield case("a few large channels", *search_problem(draw, 16, 24, 40, bits, ALPHAS))
    yield case("other alphas", *search_problem(draw, 12, 16, 30, 4, [0.9, 0.6, 0.3, 0.1]))
    yield case("other alphas", *search_problem(draw, 12, 16, 30, 3, [0.4]))
    weight, steady = draw.normal((12, 16)), draw.normal((30, 16)).sign() * 2
    yield case("channels of one size: the first of equals", weight, steady, 4, [0.5, 0.0, 1.0])
    strided = search_problem(draw, 16, 24, 40, 4, ALPHAS)
    yield case("not contiguous", strided[0].t().contiguous().t(), strided[1].t().contiguous().t(), 4, ALPHAS)


awq_scale_search.close(
    rtol=1e-5,
    atol=1e-7,
    reason="a mean of at most 40 numbers, a power, and a quotient by a root, in FP32: under 40 half steps of 6e-8. "
    "The best "
    "alpha leads by 3 %, and one weight that falls to the other side of a half step changes an error by less.",
)


@awq_scale_search.mistake("You measured the error of the weight. What counts is the error of inputs @ weight.T.")
def _(weight, inputs, bits, alphas):
    tried = []
    for alpha in alphas:
        factors = awq.channel_factors(inputs.abs().mean(dim=0), alpha)
        back = affine.round_trip(weight * factors, bits, "channel") / factors
        tried.append(((back - weight).square().sum().item(), alpha, factors))
    return min(tried, key=lambda one: one[0])[1:]


@awq_scale_search.mistake("The factors are not divided by sqrt(max * min).")
def _(weight, inputs, bits, alphas):
    alpha, _ = awq_scale_search.reference(weight, inputs, bits, alphas)
    return alpha, inputs.abs().mean(dim=0) ** alpha


@awq_scale_search.mistake(
    "You took the mean of the inputs, not of their magnitudes: positive and negative ones cancel."
)
def _(weight, inputs, bits, alphas):
    tried = []
    for alpha in alphas:
        factors = awq.channel_factors(inputs.mean(dim=0).abs() + 1e-6, alpha)
        back = affine.round_trip(weight * factors, bits, "channel") / factors
        tried.append(((inputs @ (back - weight).t()).square().sum().item(), alpha, factors))
    return min(tried, key=lambda one: one[0])[1:]


@awq_scale_search.mistake("You returned the alpha with the largest error.")
def _(weight, inputs, bits, alphas):
    found = search_errors(weight, inputs, bits, alphas)
    worst = max(range(len(alphas)), key=lambda place: found[place][1])
    return alphas[worst], found[worst][0]


@awq_scale_search.mistake("Scaled the other way round: a large input channel needs a large factor on its weights.")
def _(weight, inputs, bits, alphas):
    tried = []
    for alpha in alphas:
        factors = 1 / awq.channel_factors(inputs.abs().mean(dim=0), alpha)
        back = affine.round_trip(weight * factors, bits, "channel") / factors
        tried.append(((inputs @ (back - weight).t()).square().sum().item(), alpha, factors))
    return min(tried, key=lambda one: one[0])[1:]


@awq_scale_search.alternative
def _(weight, inputs, bits, alphas):
    size = inputs.abs().sum(dim=0) / len(inputs)
    best_error, best = None, None
    for alpha in alphas:
        f = size.pow(alpha)
        factors = f / torch.sqrt(f.max() * f.min())
        scaled = weight * factors
        scale = scaled.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
        rounded = torch.round(scaled / scale) * scale
        wrong = rounded / factors - weight
        error = float(torch.einsum("sn,rn->sr", inputs, wrong).pow(2).sum())
        if best_error is None or error < best_error:
            best_error, best = error, (alpha, factors)
    return best


question(
    "1",
    "A layer is stored in 4-bit codes with groups of 32, each with an FP16 scale and a zero point of 4 bits. How "
    "many bits "
    "does a weight take?",
    A=("4", "Those are the codes alone. Scale and zero point are in the file too."),
    B=("4.5", "That is the scale's share, 16 / 32. The zero point takes 4 / 32 more."),
    C=("4.625", "4 + (16 + 4) / 32.", True),
    D=("24", "That would be a scale and a zero point for every weight. A group shares them."),
    hint="Add the bits of the code to a 32nd of everything that the group shares.",
    steps=["A group shares 16 + 4 = 20 bits.", "20 / 32 = 0.625 bits a weight.", "4 + 0.625 = 4.625."],
)

question(
    "2",
    "What does double quantization quantize?",
    A=("The codes, a second time", "A code of 4 bits is a position in a table; there is nothing in it to round."),
    B=(
        "The scales of the blocks",
        "They take 32 of the bits that 64 weights share. 8-bit codes cut that to a quarter.",
        True,
    ),
    C=("The activations", "They stay as they are: all of this lesson is about weights."),
    D=("The weights, with the error of the first time", "That is residual quantization, another method."),
    hint="After the weights are codes, what else is in the file?",
    steps=[
        "Plain NF4 keeps 4 bits a weight and 32 bits a block: 4.5 bits a weight.",
        "With 8-bit codes for the scales it is 4 + 8/64 and a little: about 4.13.",
    ],
)

question(
    "3",
    "GPTQ rounds a column and then moves the columns that are not rounded yet. When does that gain nothing?",
    A=(
        "When the inputs of different columns never occur together.",
        "Then S and its inverse are diagonal, and no column can make good another's error.",
        True,
    ),
    B=("When the weights are normally distributed", "Their distribution plays no part; that of the inputs does."),
    C=("When there are more rows than columns", "Rows do not meet: each is solved by itself with the same S."),
    D=("When all inputs are equal", "Then columns can stand in for one another fully, which is the best case."),
    hint="Look at the formula of the update. For which S is h_inv[0, k] zero?",
    steps=[
        "The update of column k is proportional to h_inv[0, k].",
        "The inverse of a diagonal matrix is diagonal, so it is 0 for every k above 0.",
    ],
)

question(
    "4",
    "AWQ multiplies some columns of a weight before rounding. What happens to the layer's input?",
    A=("Nothing: the weight is rounded, that is all.", "Then the layer would compute something else."),
    B=("It is rounded as well.", "AWQ leaves activations in floating point."),
    C=("Its large channels are set to zero.", "They are the ones that matter most."),
    D=(
        "Its channels are divided by the same factors, here or in the layer before.",
        "The product stays what it was, and only the rounding error of those columns shrinks.",
        True,
    ),
    hint="w x = (w s) (x / s).",
    steps=[
        "Columns times s, input channels over s: the product is unchanged.",
        "Rounding errs by about the same step as before, and is then divided by s.",
    ],
)

question(
    "5",
    "A weight matrix lies on a 4-bit grid already, with groups of 32. You round it to 4 bits with the same groups "
    "and the "
    "same kind of grid, and find no loss. What have you shown?",
    A=(
        "That 4 bits are enough for this model",
        "The loss happened earlier, when the file was made, and you cannot see it.",
    ),
    B=(
        "That the values are where you would have put them.",
        "Rounding twice to one grid changes nothing. Take other groups, or weights that were never rounded.",
        True,
    ),
    C=("That rounding is as good as GPTQ", "GPTQ would find no loss either: there is nothing to round."),
    hint="What does rounding do to a whole number?",
    steps=[
        "Every weight of a group is one of at most 16 values.",
        "The new grid has its points exactly there.",
        "So the error is 0, whatever the model lost on its way into the file.",
    ],
)

question(
    "6",
    "A layer with 4-bit weights takes an eighth of the bytes. On your processor it runs at half the speed of FP32 "
    "with a "
    "batch of 32. What is the likely reason?",
    A=("Reading an eighth of the bytes takes longer.", "It takes less time: memory is not the bottleneck here."),
    B=(
        "4-bit numbers are multiplied more slowly.",
        "They are not multiplied at all: they are turned into floats first.",
    ),
    C=(
        "The codes are unpacked to floats first, and then the same floating-point product runs.",
        "The unpacking comes on top. With few rows the saved memory traffic can pay for it; with many it cannot.",
        True,
    ),
    D=("The scales are stored in FP16.", "They are a small part, and are read once a group."),
    hint="Which instructions does a processor have that multiply 4-bit codes with floats?",
    steps=[
        "No instruction multiplies a 4-bit code with a float: codes are looked up or converted.",
        "The multiplications that follow are as many as before.",
        "So time is that of FP32 plus the unpacking.",
    ],
)
