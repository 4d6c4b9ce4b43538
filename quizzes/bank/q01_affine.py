"""Lesson 01, affine quantization: its exercises and its questions."""

import math

import torch

from lessons_lib.arithmetic import affine
from quizzes import case, exercise, question

WEIGHTS = torch.tensor([-0.5, 0.2, 0.8, -0.3, 0.5])


def clear_of_halves(draw, shape, lowest, highest):
    """Numbers of steps, at most 0.4 away from a whole number: no order of rounding can change their code."""
    return draw.integers(shape, lowest, highest + 1) + draw.tensor(shape, -0.4, 0.4)


@exercise(points=2, minutes=6, hint="256 codes stand like 256 posts of a fence. How many gaps lie between them?")
def choose_qparams(low: float, high: float, bits: int) -> tuple[float, int]:
    """Scale and zero point of an unsigned affine quantizer for values from low to high, with low < high.

    The codes are 0 ... 2**bits - 1. First widen the range until it holds zero: a low above zero becomes zero, a high
    below zero becomes zero. The scale is the step between two neighbouring codes. The zero point is the code of the
    real value 0: a whole number, -low / scale rounded to the nearest. (No case lies within 0.1 of a half.)
    Returns (scale, zero_point), a float and an int.

    >>> choose_qparams(-1.0, 3.0, 2)
    (1.3333333333333333, 1)
    """
    return affine.choose_qparams(low, high, bits)


@choose_qparams.cases
def _(draw):
    yield case("the printed example", -1.0, 3.0, 2, visible=True)
    yield case("the five weights", -0.5, 0.8, 8, visible=True)
    for bits in (8, 4, draw.integer(3, 7)):
        step, zero = draw.number(0.001, 2), draw.integer(1, 2**bits - 2) + draw.number(0.15, 0.4)
        yield case("random ranges", -zero * step, (2**bits - 1 - zero) * step, bits)
    yield case("a zero point to be rounded up", -1.7, 13.3, 4)
    yield case("ranges without zero", 2.0, 5.1, 8)
    yield case("ranges without zero", -draw.number(4, 5), -draw.number(1, 2), 4)


choose_qparams.close(
    rtol=3e-7,
    reason="In FP32 the two ends, their difference and the quotient are rounded once each, by at most 6e-8 of "
    "themselves, and the ends have opposite signs, so nothing cancels. A zero point is a whole number.",
)


@choose_qparams.mistake("You divided by 2**bits. 8 bits make 256 levels, and 255 steps between them.")
def _(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 2**bits
    return scale, min(round(-low / scale), 2**bits - 1)


@choose_qparams.mistake(
    "You did not widen the range to hold zero. Zero then has no code of its own, and the zero point is none either."
)
def _(low, high, bits):
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)


@choose_qparams.mistake(
    "The sign of the zero point is turned. It is the code of 0, so it lies between 0 and 2**bits - 1."
)
def _(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1)
    return scale, round(low / scale)


@choose_qparams.mistake("int() cuts the fraction off. Round the zero point to the nearest whole number.")
def _(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1)
    return scale, int(-low / scale)


@choose_qparams.mistake("The zero point is not rounded. It must be a code, or zero could not be stored exactly.")
def _(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1)
    return scale, -low / scale


@choose_qparams.alternative
def _(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    steps = 2**bits - 1
    scale = (high - low) / steps
    return scale, math.floor(-low * steps / (high - low) + 0.5)


@exercise(
    points=2,
    minutes=6,
    hint="Three things happen in this order: divide and round, shift, keep within the codes.",
)
def quantize(x: torch.Tensor, scale: float, zero_point: int, bits: int) -> torch.Tensor:
    """Unsigned codes of x: round(x / scale) + zero_point, kept within 0 ... 2**bits - 1.

    x: FP32 tensor of any shape. bits: 2 to 8.
    Returns a uint8 tensor shaped like x. No case lies within 0.1 step of a half step, so it does not matter whether
    you divide by the scale or multiply by 1 / scale, nor which way a half is rounded.

    >>> quantize(torch.tensor([-0.5, 0.2, 9.0]), 0.1, 5, 4)
    tensor([ 0,  7, 15], dtype=torch.uint8)
    """
    return affine.quantize(x, scale, zero_point, bits)


@quantize.cases
def _(draw):
    yield case("the printed example", torch.tensor([-0.5, 0.2, 9.0]), 0.1, 5, 4, visible=True)
    yield case("the five weights", WEIGHTS, 1.3 / 255, 98, 8, visible=True)
    scale, zero = draw.number(0.01, 0.5), draw.integer(20, 200)
    yield case("8 bits", clear_of_halves(draw, (4, 9), -zero, 255 - zero) * scale, scale, zero, 8)
    steps = torch.cat([clear_of_halves(draw, (6,), -600, -250), clear_of_halves(draw, (6,), 250, 600)])
    yield case("values outside the range", steps * scale, scale, zero, 8)
    for bits in (2, draw.integer(3, 6)):
        zero = draw.integer(1, 2**bits - 2)
        yield case("fewer bits", clear_of_halves(draw, (3, 4, 5), -zero, 2**bits) * scale, scale, zero, bits)
    steps = clear_of_halves(draw, (8, 12), -90, 90)
    yield case("not contiguous", (steps * scale).t()[::2], scale, 100, 8)


quantize.exact("codes are whole numbers, and the cases keep 0.1 step away from every half step")


@quantize.mistake(
    "Values outside the range must stop at the lowest or highest code. Yours wrap round in uint8: 256 is 0."
)
def _(x, scale, zero_point, bits):
    return ((x / scale).round() + zero_point).to(torch.int64).to(torch.uint8)


@quantize.mistake("You cut the fraction off instead of rounding: errors reach a whole step, and they lean one way.")
def _(x, scale, zero_point, bits):
    return (x / scale + zero_point).clamp(0, 2**bits - 1).to(torch.uint8)


@quantize.mistake("You clamped before adding the zero point: all negative values got the code of zero.")
def _(x, scale, zero_point, bits):
    return ((x / scale).round().clamp(0, 2**bits - 1) + zero_point).to(torch.int64).to(torch.uint8)


@quantize.mistake("Your highest code is 255 whatever the bits. With fewer bits it is 2**bits - 1.")
def _(x, scale, zero_point, bits):
    return ((x / scale).round() + zero_point).clamp(0, 255).to(torch.uint8)


@quantize.mistake("You subtracted the zero point. It is the code of 0, so it is added on the way to codes.")
def _(x, scale, zero_point, bits):
    return ((x / scale).round() - zero_point).clamp(0, 2**bits - 1).to(torch.uint8)


@quantize.mistake("The zero point is not added: 0 must get the code zero_point.")
def _(x, scale, zero_point, bits):
    return (x / scale).round().clamp(0, 2**bits - 1).to(torch.uint8)


@quantize.alternative
def _(x, scale, zero_point, bits):
    codes = torch.floor(x / scale + 0.5) + zero_point
    return codes.clip(min=0, max=2**bits - 1).to(torch.uint8)


@exercise(points=1, minutes=4, hint="uint8 holds no negative number. What is 0 - 98 in uint8?")
def dequantize(codes: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """The real values that codes stand for: (codes - zero_point) * scale.

    codes: integer tensor of any shape, uint8 or int8. Returns an FP32 tensor of the same shape.

    >>> dequantize(torch.tensor([0, 5, 15], dtype=torch.uint8), 0.1, 5)
    tensor([-0.5000,  0.0000,  1.0000])
    """
    return affine.dequantize(codes, scale, zero_point)


@dequantize.cases
def _(draw):
    yield case("the printed example", torch.tensor([0, 5, 15], dtype=torch.uint8), 0.1, 5, visible=True)
    yield case("unsigned codes", torch.tensor([0, 137, 255, 39, 196], dtype=torch.uint8), 1.3 / 255, 98, visible=True)
    yield case("unsigned codes", draw.integers((5, 7), 0, 256).to(torch.uint8), draw.number(0.01, 0.1), 131)
    codes = draw.integers((6, 4), -128, 128).to(torch.int8)
    yield case("signed codes", codes, draw.number(0.01, 0.1), -draw.integer(20, 90))
    yield case("not contiguous", draw.integers((9, 8), 0, 256).to(torch.uint8).t()[1::2], draw.number(0.01, 0.1), 60)


dequantize.close(
    rtol=2e-7,
    atol=5e-6,
    reason="Written as codes * scale - zero_point * scale, two products of at most 255 steps and their difference are "
    "rounded, each by 6e-8: 5e-5 of a step, with steps of at most 0.1. The scale itself is rounded to FP32. A wrong "
    "code would be off by a whole step of 0.005 or more.",
)


@dequantize.mistake(
    "You subtracted in the integer type of the codes. uint8 holds nothing below zero: 0 - 98 is 158 "
    "there. Convert first."
)
def _(codes, scale, zero_point):
    return (codes - torch.tensor(zero_point).to(codes.dtype)).float() * scale


@dequantize.mistake("The zero point is missing: code zero_point must come back as 0.")
def _(codes, scale, zero_point):
    return codes.float() * scale


@dequantize.mistake("You multiplied before you subtracted. The zero point is a code: take it off first, then multiply.")
def _(codes, scale, zero_point):
    return codes.float() * scale - zero_point


@dequantize.alternative
def _(codes, scale, zero_point):
    return scale * (codes.to(torch.float32) - zero_point)


@exercise(
    points=2,
    minutes=6,
    hint="A decibel is ten times the base-10 logarithm of a ratio of powers, and the power of a signal is its sum of "
    "squares.",
)
def sqnr_db(x: torch.Tensor, approximation: torch.Tensor) -> float:
    """Signal to quantization noise ratio in decibels: 10 · log10(sum of x² / sum of (x - approximation)²).

    x, approximation: FP32 tensors of the same shape, x not all zeros. Equal tensors give infinity.
    Returns a float.

    >>> sqnr_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    20.0
    """
    return affine.sqnr_db(x, approximation)


@sqnr_db.cases
def _(draw):
    yield case("the printed example", torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]), visible=True)
    yield case("a tenth too small is 20 dB", torch.full((3, 4), 2.0), torch.full((3, 4), 1.8), visible=True)
    x = draw.normal((40, 30))
    yield case("random tensors", x, x + draw.normal((40, 30), std=0.02))
    yield case("random tensors", x * 30, x * 30 + draw.normal((40, 30), mean=0.5, std=2))
    loud, quiet = draw.normal((4, 50)), draw.normal((4, 50), std=0.01)
    yield case("large and small values together", torch.cat([loud, quiet]), torch.cat([loud * 0.99, quiet * 0.2]))
    yield case("more noise than signal", quiet, quiet + loud)
    yield case("no error", x, x.clone())


sqnr_db.close(
    atol=1e-3,
    reason="Squaring and adding n numbers in FP32, in whatever order, costs at most n + 1 times 6e-8 of the sum: 7e-5 "
    "for the largest case of 1,200, once for the signal and once for the noise. A difference adds 1.2e-7. Together "
    "10 log10(1 + 1.5e-4) = 7e-4 dB; the reference adds up in FP64.",
)


@sqnr_db.mistake("20 · log10 belongs to a ratio of amplitudes. Yours is a ratio of powers, squares already: take 10.")
def _(x, approximation):
    return (20 * torch.log10(x.square().sum() / (x - approximation).square().sum())).item()


@sqnr_db.mistake("The ratio stands upside down: less error must give more decibels.")
def _(x, approximation):
    return (10 * torch.log10((x - approximation).square().sum() / x.square().sum())).item()


@sqnr_db.mistake("torch.log is the natural logarithm. Decibels use the base 10.")
def _(x, approximation):
    return (10 * torch.log(x.square().sum() / (x - approximation).square().sum())).item()


@sqnr_db.mistake("You took sums of absolute values. Power is the sum of squares.")
def _(x, approximation):
    return (10 * torch.log10(x.abs().sum() / (x - approximation).abs().sum())).item()


@sqnr_db.mistake("You averaged a ratio for each entry, so the smallest entries decide. Add up first, then divide once.")
def _(x, approximation):
    return (10 * torch.log10(x.square() / (x - approximation).square())).mean().item()


@sqnr_db.alternative
def _(x, approximation):
    signal = torch.linalg.vector_norm(x.double())
    noise = torch.linalg.vector_norm(x.double() - approximation.double())
    return 20 * torch.log10(signal / noise).item()


@exercise(
    points=3,
    minutes=10,
    hint="weight.flatten(1) has one row for each channel. To divide row by row, the scales need the shape (C, 1, ...).",
)
def quantize_per_channel(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed symmetric codes with a scale for every output channel, that is, for every weight[i].

    weight: FP32 tensor of two or more axes, channels on axis 0. bits: 2 to 8.
    The scale of a channel is its largest absolute value divided by 2**(bits - 1) - 1; a channel of zeros alone gets
    the scale 1. There is no zero point. No case lies within 0.1 step of a half step.
    Returns (codes, scales): int8 shaped like weight, and FP32 (channels,).

    >>> quantize_per_channel(torch.tensor([[0.3, -0.7], [2.0, 7.0]]), 4)
    (tensor([[ 3, -7], [ 2,  7]], dtype=torch.int8), tensor([0.1000, 1.0000]))
    """
    return affine.quantize_per_channel(weight, bits)[:2]


def channels(draw, shape, bits):
    """Channels of very different sizes; each holds its largest code, of either sign, at a place of its own."""
    most = 2 ** (bits - 1) - 1
    steps = clear_of_halves(draw, (shape[0], math.prod(shape[1:])), 1 - most, most - 1)
    for row, place in enumerate(draw.integers(shape[:1], 0, steps.shape[1]).tolist()):
        steps[row, place] = most if row % 3 == 1 else -most
    sizes = torch.logspace(-3, 1, shape[0])[:, None]
    return (steps * sizes).reshape(shape)


@quantize_per_channel.cases
def _(draw):
    yield case("the printed example", torch.tensor([[0.3, -0.7], [2.0, 7.0]]), 4, visible=True)
    yield case("a linear layer", channels(draw, (5, 16), 8), 8)
    yield case("a linear layer", channels(draw, (7, 3), 3), 3)
    yield case("more axes", channels(draw, (4, 3, 2, 5), draw.integer(4, 8)), 8)
    dead = channels(draw, (4, 6), 8)
    dead[2] = 0
    yield case("a channel of zeros", dead, 8)
    yield case("not contiguous", channels(draw, (6, 9), 8).t().contiguous().t(), 8)


quantize_per_channel.close(
    rtol=3e-7,
    reason="A scale is one division, rounded by 6e-8 in the answer and in the reference. Codes are whole numbers.",
)


@quantize_per_channel.mistake(
    "You took one scale for the whole tensor. Every weight[i] has a largest value of its own."
)
def _(weight, bits):
    most = 2 ** (bits - 1) - 1
    scales = (weight.abs().max() / most).expand(weight.shape[0])
    return (weight / scales[0]).round().to(torch.int8), scales


@quantize_per_channel.mistake(
    "You took the maximum down each column. An output channel is a row: reduce over the other axes."
)
def _(weight, bits):
    scales = weight.abs().flatten(1).amax(0) / (2 ** (bits - 1) - 1)
    return (weight.flatten(1) / scales).round().to(torch.int8).reshape(weight.shape), scales


@quantize_per_channel.mistake(
    "You took the largest value, not the largest absolute value: big negative weights are cut off."
)
def _(weight, bits):
    most = 2 ** (bits - 1) - 1
    scales = weight.flatten(1).amax(1) / most
    scales = torch.where(scales == 0, 1.0, scales)
    steps = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return steps.round().clamp(-most - 1, most).to(torch.int8), scales


@quantize_per_channel.mistake(
    "You divided by 2**(bits - 1). Signed codes end at 2**(bits - 1) - 1, one earlier than that."
)
def _(weight, bits):
    most = 2 ** (bits - 1)
    scales = weight.flatten(1).abs().amax(1) / most
    scales = torch.where(scales == 0, 1.0, scales)
    steps = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return steps.round().clamp(-most, most - 1).to(torch.int8), scales


@quantize_per_channel.mistake("A channel of zeros has the largest value 0, and 0 / 0 is NaN. Give it the scale 1.")
def _(weight, bits):
    scales = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    steps = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return steps.round().nan_to_num(0.0).to(torch.int8), scales


@quantize_per_channel.alternative
def _(weight, bits):
    most = 2 ** (bits - 1) - 1
    codes, scales = [], []
    for channel in weight:
        largest = channel.abs().max()
        scale = largest / most if largest > 0 else torch.tensor(1.0)
        codes.append((channel / scale).round().to(torch.int8))
        scales.append(scale)
    return torch.stack(codes), torch.stack(scales)


@exercise(
    points=3,
    minutes=8,
    hint="Widen first, to an integer type that holds the sums. Then take each zero point off.",
)
def int_matmul(a_codes: torch.Tensor, a_zero: int, b_codes: torch.Tensor, b_zero: int) -> torch.Tensor:
    """Integer matrix product of two quantized matrices: sum over k of (a[i, k] - a_zero) * (b[k, j] - b_zero).

    a_codes: uint8 (M, K). b_codes: int8 (K, N). a_zero, b_zero: the zero point of each.
    Returns int32 (M, N), exact. Times a_scale * b_scale it would be the real product; that is not asked here.

    >>> int_matmul(torch.tensor([[3, 5]], dtype=torch.uint8), 4, torch.tensor([[2], [-1]], dtype=torch.int8), 1)
    tensor([[-3]], dtype=torch.int32)
    """
    return affine.int_matmul(a_codes, a_zero, b_codes, b_zero)


def codes(draw, shape, low, high, dtype):
    """Random codes, low and high included."""
    return draw.integers(shape, low, high + 1).to(dtype)


@int_matmul.cases
def _(draw):
    a, b = torch.tensor([[3, 5]], dtype=torch.uint8), torch.tensor([[2], [-1]], dtype=torch.int8)
    yield case("the printed example", a, 4, b, 1, visible=True)
    for m, k, n in ((3, 8, 2), (5, draw.integer(20, 40), 7)):
        left, right = codes(draw, (m, k), 0, 255, torch.uint8), codes(draw, (k, n), -128, 127, torch.int8)
        yield case("random codes", left, draw.integer(60, 200), right, draw.integer(5, 60))
    left, right = codes(draw, (4, 30), 0, 255, torch.uint8), codes(draw, (6, 30), -128, 127, torch.int8)
    yield case("not contiguous", left, 128, right.t(), -7)
    # Sums near 50 million: float32 has no odd numbers there.
    left, right = codes(draw, (4, 2000), 200, 255, torch.uint8), codes(draw, (2000, 4), 90, 127, torch.int8)
    yield case("sums beyond 2**24", left, 3, right, -5)


int_matmul.exact("integers are added exactly, in any order; no sum of a case reaches 2**31")


@int_matmul.mistake("The zero points are missing: code a_zero stands for 0 and must add nothing.")
def _(a_codes, a_zero, b_codes, b_zero):
    return a_codes.int() @ b_codes.int()


@int_matmul.mistake("You subtracted in 8 bits, where 3 - 4 is 255. Convert to int32 before you subtract.")
def _(a_codes, a_zero, b_codes, b_zero):
    a = a_codes - torch.tensor(a_zero, dtype=torch.uint8)
    b = b_codes - torch.tensor(b_zero, dtype=torch.int8)
    return a.int() @ b.int()


@int_matmul.mistake(
    "You added up in float32. It holds whole numbers exactly only up to 2**24; int32 holds the rest too."
)
def _(a_codes, a_zero, b_codes, b_zero):
    return ((a_codes.float() - a_zero) @ (b_codes.float() - b_zero)).to(torch.int32)


@int_matmul.mistake(
    "You multiplied out and lost a term: (a - a_zero)(b - b_zero) ends in + a_zero * b_zero, added K times."
)
def _(a_codes, a_zero, b_codes, b_zero):
    a, b = a_codes.int(), b_codes.int()
    return (a @ b - b_zero * a.sum(1, keepdim=True) - a_zero * b.sum(0)).int()


@int_matmul.mistake("The result is right but not int32. An accumulator in hardware has 32 bits, so the answer has too.")
def _(a_codes, a_zero, b_codes, b_zero):
    return (a_codes.long() - a_zero) @ (b_codes.long() - b_zero)


@int_matmul.alternative
def _(a_codes, a_zero, b_codes, b_zero):
    a, b = a_codes.long(), b_codes.long()
    sums = a @ b - b_zero * a.sum(1, keepdim=True) - a_zero * b.sum(0) + a.shape[1] * a_zero * b_zero
    return sums.to(torch.int32)


question(
    "1",
    "An unsigned 8-bit quantizer covers -1.00 to 1.55. What is its scale?",
    A=("2.55", "That is the width of the range. It has to be cut into steps."),
    B=("0.01", "A width of 2.55 over 255 steps.", True),
    C=("0.00996", "That is 2.55 / 256. There are 256 levels, and one step fewer between them."),
    D=("0.0061", "That is 1.55 / 255: the part below zero is missing."),
    hint="Width of the range, divided by the number of steps between 256 levels.",
    steps=["The width is 1.55 - (-1.00) = 2.55.", "256 levels have 255 steps between them.", "2.55 / 255 = 0.01."],
)

question(
    "2",
    "A tensor is quantized with unsigned 8-bit codes, scale 0.02 and zero point 128. Which value does "
    "code 100 stand for?",
    A=("2.0", "That is 100 * 0.02: the zero point was left out."),
    B=("0.56", "The size is right, the sign is not: code 100 lies below the code of zero."),
    C=("-126", "That is 100 * 0.02 - 128. The zero point is a code and is taken off before the product."),
    D=("-0.56", "(100 - 128) * 0.02.", True),
    hint="Take the zero point off first.",
    steps=["100 - 128 = -28: the value is 28 steps below zero.", "-28 * 0.02 = -0.56."],
)

question(
    "3",
    "The same weights are stored once as codes 0 ... 255 with zero point 98, once as codes -128 ... "
    "127. The scale stays "
    "the same. What is the zero point of the signed codes?",
    A=("-30", "Every code moves down by 128, the code of zero with them: 98 - 128.", True),
    B=("98", "The signed code 98 stands near the upper end. All codes moved by 128, and the zero point is a code."),
    C=(
        "0",
        "That would be the symmetric scheme, with another scale. Here the range is the same, only the names changed.",
    ),
    D=("226", "That is 98 + 128, more than the highest signed code, 127."),
    hint="What is the signed name of the unsigned code 0?",
    steps=[
        "Unsigned 0 becomes signed -128: every code moves down by 128.",
        "The zero point is a code: 98 - 128 = -30.",
    ],
)

question(
    "4",
    "Why do quantizers take care that the real value 0 has a code of its own?",
    A=(
        "So that the largest weight is not clipped.",
        "Clipping depends on the ends of the range, not on where zero lies.",
    ),
    B=("So that the scale becomes a power of two.", "The scale is the width over the steps; zero has no say in it."),
    C=(
        "Zeros are common (padding, ReLU, pruned weights), and an error there would be the same on every one of them.",
        "An error of the same sign in thousands of places adds up, where rounding errors of both signs cancel.",
        True,
    ),
    D=(
        "Integer hardware cannot multiply by a number that is not zero.",
        "It multiplies any codes. Zero is not special to it.",
    ),
    hint="Which single value occurs most often in the activations of a network?",
    steps=[
        "Padded positions, switched-off ReLU outputs and pruned weights are exactly 0, in large numbers.",
        "If 0 came back as 0.003, every one of them would add 0.003 times a weight to the sum.",
        "Such errors all point the same way. They do not average out.",
    ],
)

question(
    "5",
    "At 8 bits a tensor has an SQNR of 44 dB. About what do you expect at 5 bits, over the same range?",
    A=("41 dB", "One decibel a bit? A bit halves the step, and that is worth 6 dB."),
    B=("26 dB", "Three bits fewer cost about 3 * 6 = 18 dB.", True),
    C=("38 dB", "That is the loss of one bit. Three are gone."),
    D=("27.5 dB", "SQNR does not go down in proportion to the bits. It loses the same amount with each."),
    hint="Half the step means a quarter of the squared error. How many decibels is a factor of 4?",
    steps=[
        "One bit fewer doubles the step; the mean squared error grows by 4.",
        "10 log10(4) = 6.02 dB a bit.",
        "44 - 3 * 6 = 26 dB.",
    ],
)

question(
    "6",
    "A million weights lie within ±0.1; a single one is 10. With symmetric signed 8-bit codes over the "
    "whole range, how "
    "many different codes do the million share?",
    A=("255", "That many codes lie between -10 and 10. Most of them stand where there are no weights."),
    B=("26", "A tenth of the codes would do for a range of ±1. This one is a hundred times narrower than ±10."),
    C=("3", "The step is 10 / 127 = 0.079, so ±0.1 reaches one step to either side: -1, 0 and 1.", True),
    D=("1", "Half a step is 0.039. Weights beyond ±0.039 round to the codes 1 and -1, the rest to 0."),
    hint="How large is one step? How many steps is 0.1?",
    steps=[
        "The scale is 10 / 127 = 0.079.",
        "0.1 / 0.079 = 1.27 steps, which rounds to 1.",
        "Codes -1, 0 and 1 are left.",
    ],
)

question(
    "7",
    "Why does the best clipping range of a bell-shaped tensor get narrower when there are fewer bits?",
    A=(
        "The step is coarser, so narrowing it saves more rounding error than the cut tails cost.",
        "Rounding error grows with the square of the step. At 8 bits it is tiny, and cutting anything off costs more.",
        True,
    ),
    B=(
        "Fewer bits cannot store large numbers.",
        "The scale decides which numbers can be stored. Two bits can reach ±1000.",
    ),
    C=(
        "Clipping error shrinks when there are fewer bits.",
        "Clipping error depends on the range alone, not on the bits.",
    ),
    D=(
        "It does not: the best range depends on the weights only.",
        "The weights are the same. The price of a wide range is the step, and that depends on the bits.",
    ),
    hint="Two errors add up. Which of the two changes with the bits?",
    steps=[
        "Clipping error: what lies outside the range, whatever the bits.",
        "Rounding error: about step**2 / 12 for each value inside, and the step is width / (2**bits - 1).",
        "With fewer bits rounding weighs more, so the balance moves towards a narrower range.",
    ],
)

question(
    "8",
    "A linear layer multiplies uint8 activations by int8 weights, without zero points. How many "
    "products of the largest "
    "size, 255 * 128, can an int32 accumulator add before it may overflow?",
    A=("1", "That is an int16 accumulator: 255 * 128 = 32,640, and two of them are beyond 32,767."),
    B=("about 250", "The bound is 2**31 / 2**15, which is 2**16."),
    C=("about 16 million", "2**24 is where float32 stops being exact. Here the question is 2**31 / 32,640."),
    D=("about 65,000", "2**31 / 32,640 = 65,793. Inner dimensions of language models stay below that.", True),
    hint="2**31 divided by the largest product.",
    steps=["One product is at most 255 * 128 = 32,640, a little below 2**15.", "2**31 / 32,640 = 65,793."],
)
