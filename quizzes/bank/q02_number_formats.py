"""Lesson 02, number formats: its exercises and its questions."""

import math
from statistics import NormalDist

import torch

from lessons_lib.arithmetic import formats, nf4
from quizzes import case, exercise, question


@exercise(
    points=3,
    minutes=12,
    hint="Cut the pattern into three integers first: bits >> 15, (bits >> 10) & 31 and bits & 1023. Then three cases: "
    "exponent field 0, 1 to 30, and 31.",
)
def decode_fp16(bits: torch.Tensor) -> torch.Tensor:
    """The numbers that FP16 patterns stand for: one sign bit s, five exponent bits E, ten fraction bits F.

    bits: int64 tensor of any shape with patterns 0 ... 65535; the sign is the highest bit, the fraction the ten lowest.
    E from 1 to 30:  (-1)**s * (1 + F / 1024) * 2**(E - 15)
    E = 0:           (-1)**s * (F / 1024) * 2**-14, a subnormal number or zero
    E = 31:          infinity with the sign of s where F is 0, NaN elsewhere
    Returns an FP32 tensor shaped like bits, exact. The sign of a zero is not asked about.

    >>> decode_fp16(torch.tensor([15360, 49152, 1, 31744]))
    tensor([ 1.0000e+00, -2.0000e+00,  5.9605e-08,         inf])
    """
    return formats.decode(bits, "FP16")


def patterns(draw, shape, low_field, high_field):
    """Random patterns with exponent fields low_field ... high_field, a fraction that is not 0, and either sign."""
    fields = draw.integers(shape, low_field, high_field + 1)
    return (draw.integers(shape, 0, 2) << 15) + (fields << 10) + draw.integers(shape, 1, 1024)


@decode_fp16.cases
def _(draw):
    yield case("the printed example", torch.tensor([15360, 49152, 1, 31744]), visible=True)
    yield case("normal numbers", torch.tensor([13926, 16968, 48128]), visible=True)
    yield case("normal numbers", patterns(draw, (4, 6), 1, 30))
    yield case("normal numbers", torch.tensor([1024, 31743, 33792, 64511]))
    yield case("numbers below the smallest normal one", patterns(draw, (9,), 0, 0))
    yield case("numbers below the smallest normal one", torch.tensor([0, 1, 1023, 32769, 33791]))
    yield case("infinity and NaN", torch.tensor([31744, 64512, 31745, 65535, 32000]))
    yield case("every field, not contiguous", patterns(draw, (8, 10), 0, 31).t()[::2])


decode_fp16.exact("FP32 holds every FP16 number, and each step is a product with a power of two or a short sum")


@decode_fp16.mistake(
    "A number with the exponent field 0 has no leading 1: it is F / 1024 * 2**-14. Yours starts at 1 there too."
)
def _(bits):
    sign, field, fraction = 1 - 2 * (bits >> 15), (bits >> 10) & 31, bits & 1023
    value = sign * (1 + fraction / 1024) * 2.0 ** (field - 15)
    special = torch.where(fraction == 0, sign * math.inf, torch.nan)
    return torch.where(field == 31, special, value).float()


@decode_fp16.mistake("The smallest exponent counts twice: with the field 0 the exponent is -14, as with the field 1.")
def _(bits):
    sign, field, fraction = 1 - 2 * (bits >> 15), (bits >> 10) & 31, bits & 1023
    value = sign * ((field > 0) + fraction / 1024) * 2.0 ** (field - 15)
    special = torch.where(fraction == 0, sign * math.inf, torch.nan)
    return torch.where(field == 31, special, value).float()


@decode_fp16.mistake("The exponent field 31 is not a number: it stands for infinity or NaN.")
def _(bits):
    sign, field, fraction = 1 - 2 * (bits >> 15), (bits >> 10) & 31, bits & 1023
    return (sign * ((field > 0) + fraction / 1024) * 2.0 ** (field.clamp_min(1) - 15)).float()


@decode_fp16.mistake("The sign bit is not used: patterns from 32768 on are negative.")
def _(bits):
    field, fraction = (bits >> 10) & 31, bits & 1023
    value = ((field > 0) + fraction / 1024) * 2.0 ** (field.clamp_min(1) - 15)
    special = torch.where(fraction == 0, math.inf, torch.nan)
    return torch.where(field == 31, special, value).float()


@decode_fp16.mistake("The bias is 15, half of the 31 that five bits reach, rounded down. You took 16.")
def _(bits):
    sign, field, fraction = 1 - 2 * (bits >> 15), (bits >> 10) & 31, bits & 1023
    value = sign * ((field > 0) + fraction / 1024) * 2.0 ** (field.clamp_min(1) - 16)
    special = torch.where(fraction == 0, sign * math.inf, torch.nan)
    return torch.where(field == 31, special, value).float()


@decode_fp16.mistake("Those are the bits of BF16: eight for the exponent, seven for the fraction. FP16: five and ten.")
def _(bits):
    sign, field, fraction = 1 - 2 * (bits >> 15), (bits >> 7) & 255, bits & 127
    value = sign * ((field > 0) + fraction / 128) * torch.exp2((field.clamp_min(1) - 127).double())
    special = torch.where(fraction == 0, sign * math.inf, torch.nan)
    return torch.where(field == 255, special, value).float()


@decode_fp16.alternative
def _(bits):
    def one(pattern):
        sign = -1.0 if pattern >= 2**15 else 1.0
        field, fraction = divmod(pattern % 2**15, 2**10)
        if field == 31:
            return math.nan if fraction else sign * math.inf
        if field == 0:
            return sign * fraction * 2.0**-24
        return sign * (1024 + fraction) * 2.0 ** (field - 25)

    return torch.tensor([one(pattern) for pattern in bits.flatten().tolist()]).reshape(bits.shape)


@exercise(
    points=2,
    minutes=8,
    hint="code & 15 leaves the four low bits of a negative number. One code of each pair then moves up by four bits.",
)
def pack_int4(codes: torch.Tensor) -> torch.Tensor:
    """Two signed 4-bit codes in each byte, the first of a pair in the four low bits, the second in the four high bits.

    codes: int8 tensor (n,) of codes -8 ... 7, n at least 1. Each is kept in two's complement: -1 is 1111, -8 is 1000.
    With an odd n the four high bits of the last byte are 0.
    Returns a uint8 tensor with n / 2 bytes, rounded up.

    >>> pack_int4(torch.tensor([1, -1, 7], dtype=torch.int8))
    tensor([241,   7], dtype=torch.uint8)
    """
    return formats.pack_int4(codes)


def int4_codes(draw, n):
    """n codes of either sign, -8 and 7 among them, where n allows, and no 0."""
    codes = draw.integers((n,), 1, 8) * (1 - 2 * draw.integers((n,), 0, 2))
    codes[: min(n, 4)] = torch.tensor([-3, 7, -8, -1])[: min(n, 4)]
    return codes.to(torch.int8)


@pack_int4.cases
def _(draw):
    yield case("the printed example", torch.tensor([1, -1, 7], dtype=torch.int8), visible=True)
    yield case("two codes", torch.tensor([3, 5], dtype=torch.int8), visible=True)
    yield case("two codes", torch.tensor([-8, 7], dtype=torch.int8))
    yield case("an even number", int4_codes(draw, 2 * draw.integer(10, 40)))
    yield case("an odd number", int4_codes(draw, 2 * draw.integer(10, 40) + 1))
    yield case("an odd number", torch.tensor([-5], dtype=torch.int8))
    yield case("not contiguous", int4_codes(draw, 24)[::3])


pack_int4.exact("the bytes are whole numbers, and the docstring settles every bit of them")


@pack_int4.mistake("The order is turned: the first code of a pair belongs in the four low bits.")
def _(codes):
    nibbles = torch.cat([codes & 15, codes.new_zeros(len(codes) % 2)])
    return (nibbles[0::2] << 4 | nibbles[1::2]).to(torch.uint8)


@pack_int4.mistake(
    "A negative code fills the whole byte with ones: -1 is 11111111 in int8. Keep its four low bits with & 15 first."
)
def _(codes):
    codes = torch.cat([codes, codes.new_zeros(len(codes) % 2)])
    return (codes[0::2] | codes[1::2] << 4).to(torch.uint8)


@pack_int4.mistake("You added 8 to every code. Two's complement keeps 0 to 7 and writes -8 to -1 as 8 to 15.")
def _(codes):
    nibbles = codes.to(torch.int64) + 8
    nibbles = torch.cat([nibbles, nibbles.new_zeros(len(nibbles) % 2)])
    return (nibbles[0::2] | nibbles[1::2] << 4).to(torch.uint8)


@pack_int4.mistake("With an odd number the last code is lost. It gets a byte of its own.")
def _(codes):
    nibbles = codes[: len(codes) // 2 * 2].to(torch.int64) & 15
    return (nibbles[0::2] | nibbles[1::2] << 4).to(torch.uint8)


@pack_int4.mistake("You paired the first half of the codes with the second half. A byte holds two neighbours.")
def _(codes):
    nibbles = torch.cat([codes, codes.new_zeros(len(codes) % 2)]).to(torch.int64) & 15
    first, second = nibbles.chunk(2)
    return (first | second << 4).to(torch.uint8)


@pack_int4.alternative
def _(codes):
    nibbles = [code % 16 for code in codes.tolist()] + [0] * (len(codes) % 2)
    return torch.tensor(
        [first + 16 * second for first, second in zip(nibbles[::2], nibbles[1::2], strict=True)], dtype=torch.uint8
    )


@exercise(
    points=2,
    minutes=8,
    hint="After the split every code is 0 ... 15. Those above 7 were negative: the highest of four bits counts -8.",
)
def unpack_int4(packed: torch.Tensor, n: int) -> torch.Tensor:
    """The n signed 4-bit codes that `pack_int4` put into bytes, in their order.

    packed: uint8 tensor with n / 2 bytes, rounded up; of each pair the first code stands in the four low bits, as
    two's complement. With an odd n the four high bits of the last byte are nothing.
    Returns an int8 tensor (n,) of codes -8 ... 7.

    >>> unpack_int4(torch.tensor([241, 7], dtype=torch.uint8), 3)
    tensor([ 1, -1,  7], dtype=torch.int8)
    """
    return formats.unpack_int4(packed, n)


@unpack_int4.cases
def _(draw):
    yield case("the printed example", torch.tensor([241, 7], dtype=torch.uint8), 3, visible=True)
    yield case("one byte", torch.tensor([0x53], dtype=torch.uint8), 2, visible=True)
    yield case("one byte", torch.tensor([0x7F], dtype=torch.uint8), 2)
    for group, n in (("an even number", 2 * draw.integer(10, 40)), ("an odd number", 2 * draw.integer(10, 40) + 1)):
        yield case(group, formats.pack_int4(int4_codes(draw, n)), n)
    wide = torch.stack([formats.pack_int4(int4_codes(draw, 30)), draw.integers((15,), 0, 256).to(torch.uint8)], dim=1)
    yield case("not contiguous", wide[:, 0], 30)


unpack_int4.exact("codes are whole numbers")


@unpack_int4.mistake("The sign is gone: four bits 1111 are -1, not 15. Codes above 7 stand 16 lower.")
def _(packed, n):
    return torch.stack([packed & 15, packed >> 4], dim=1).flatten()[:n].to(torch.int8)


@unpack_int4.mistake("The order is turned: the first code of a pair stands in the four low bits.")
def _(packed, n):
    nibbles = torch.stack([packed >> 4, packed & 15], dim=1).flatten()[:n].to(torch.int8)
    return nibbles - 16 * (nibbles > 7).to(torch.int8)


@unpack_int4.mistake("You took 8 off every code. Only the codes above 7 are negative, and they stand 16 lower.")
def _(packed, n):
    return torch.stack([packed & 15, packed >> 4], dim=1).flatten()[:n].to(torch.int8) - 8


@unpack_int4.mistake("All first codes, then all second ones: they must alternate. Stack them along a new last axis.")
def _(packed, n):
    nibbles = torch.cat([packed & 15, packed >> 4]).to(torch.int8)
    return (nibbles - 16 * (nibbles > 7).to(torch.int8))[:n]


@unpack_int4.mistake("There are n codes. With an odd n the last four bits are no code.")
def _(packed, n):
    nibbles = torch.stack([packed & 15, packed >> 4], dim=1).flatten().to(torch.int8)
    return nibbles - 16 * (nibbles > 7).to(torch.int8)


@unpack_int4.alternative
def _(packed, n):
    codes = []
    for byte in packed.tolist():
        for nibble in (byte % 16, byte // 16):
            codes.append(nibble if nibble < 8 else nibble - 16)
    return torch.tensor(codes[:n], dtype=torch.int8)


@exercise(
    points=3,
    minutes=12,
    hint="torch.linspace gives the probabilities and torch.special.ndtri the quantiles. Drop the last point of each "
    "side, where the quantile is 0, and add one 0 by hand.",
)
def nf4_codebook(offset: float = 0.9677083) -> torch.Tensor:
    """The 16 values of a NormalFloat code in ascending order, from -1 to 1: 8 positive ones, 0, and 7 negative ones.

    They are quantiles of the standard normal distribution. The positive ones stand at the probabilities
    linspace(offset, 0.5, 9) without the last. The negative ones are the quantiles at linspace(offset, 0.5, 8) without
    the last, with the sign turned. In the end all are divided by the largest. NF4 has the offset 0.9677083.
    Returns an FP32 tensor (16,).

    >>> nf4_codebook()[[0, 1, 7, 8, 15]]
    tensor([-1.0000, -0.6962,  0.0000,  0.0796,  1.0000])
    """
    return nf4.nf4_codebook(offset)


@nf4_codebook.cases
def _(draw):
    yield case("another offset", 0.9, visible=True)
    yield case("another offset", draw.number(0.7, 0.95))
    yield case("NF4", 0.9677083)
    yield case("NF4 by default")


nf4_codebook.close(
    atol=2e-6,
    reason="In FP32 a probability is rounded by 6e-8. At NF4's offset the slope of the quantile is 14, so the largest "
    "value, 1.85, is off by 9e-7, and the others by no more: 1e-6 after the division, and less for smaller offsets. "
    "Another split of the sides would be off by 0.01.",
)


@nf4_codebook.mistake("You swapped the sides: NF4 has 8 positive values and 7 negative ones.")
def _(offset=0.9677083):
    positive = torch.special.ndtri(torch.linspace(offset, 0.5, 8)[:-1])
    negative = -torch.special.ndtri(torch.linspace(offset, 0.5, 9)[:-1])
    values = torch.cat([negative, torch.zeros(1), positive]).sort().values
    return values / values.max()


@nf4_codebook.mistake("The largest value must be 1: divide all of them by it at the end.")
def _(offset=0.9677083):
    positive = torch.special.ndtri(torch.linspace(offset, 0.5, 9)[:-1])
    negative = -torch.special.ndtri(torch.linspace(offset, 0.5, 8)[:-1])
    return torch.cat([negative, torch.zeros(1), positive]).sort().values


@nf4_codebook.mistake("You kept the last point of both sides, 0.5, whose quantile is 0. With the added 0 there are 3.")
def _(offset=0.9677083):
    positive = torch.special.ndtri(torch.linspace(offset, 0.5, 9))
    negative = -torch.special.ndtri(torch.linspace(offset, 0.5, 8))
    values = torch.cat([negative, torch.zeros(1), positive]).sort().values
    return values / values.max()


@nf4_codebook.mistake("There is no 0 among your values. Padding and pruned weights need one: 8 + 1 + 7.")
def _(offset=0.9677083):
    probabilities = torch.linspace(1 - offset, offset, 16)
    values = torch.special.ndtri(probabilities)
    return values / values.max()


@nf4_codebook.mistake("The offset is fixed in your function. It is an argument, and 0.9677083 is only its default.")
def _(offset=0.9677083):
    positive = torch.special.ndtri(torch.linspace(0.9677083, 0.5, 9)[:-1])
    negative = -torch.special.ndtri(torch.linspace(0.9677083, 0.5, 8)[:-1])
    values = torch.cat([negative, torch.zeros(1), positive]).sort().values
    return values / values.max()


@nf4_codebook.mistake("The values must ascend: sort them, or put the negative ones first, the largest of them leading.")
def _(offset=0.9677083):
    positive = torch.special.ndtri(torch.linspace(offset, 0.5, 9)[:-1])
    negative = -torch.special.ndtri(torch.linspace(offset, 0.5, 8)[:-1])
    values = torch.cat([positive, torch.zeros(1), negative])
    return values / values.max()


@nf4_codebook.alternative
def _(offset=0.9677083):
    normal = NormalDist()
    up = [normal.inv_cdf(0.5 + (offset - 0.5) * step / 8) for step in range(1, 9)]
    down = [normal.inv_cdf(0.5 - (offset - 0.5) * step / 7) for step in range(7, 0, -1)]
    return torch.tensor([value / up[-1] for value in [*down, 0.0, *up]], dtype=torch.float32)


@exercise(points=1, minutes=4, hint="A scale of 16 bits that 64 weights share costs each of them 16 / 64 of a bit.")
def bits_per_weight(bits: int, group_size: int, scale_bits: int, zero_bits: int) -> float:
    """True bits of a weight whose group shares one scale and one zero point.

    bits: of a code. group_size: weights that share them. scale_bits, zero_bits: of one scale and of one zero point;
    zero_bits is 0 where there is none.
    Returns a float.

    >>> bits_per_weight(4, 32, 16, 4)
    4.625
    """
    return formats.bits_per_weight(bits, group_size, scale_bits, zero_bits)


@bits_per_weight.cases
def _(draw):
    yield case("the printed example", 4, 32, 16, 4, visible=True)
    yield case("no zero point", 4, 64, 16, 0, visible=True)
    yield case("no zero point", draw.integer(2, 8), draw.choice([16, 128, 256]), draw.choice([8, 32]), 0)
    yield case("with a zero point", draw.integer(3, 8), draw.choice([16, 32, 128]), 32, 8)
    yield case("with a zero point", 2, 24, 16, draw.integer(2, 8))
    yield case("a scale for each weight", 4, 1, 16, 4)


bits_per_weight.close(rtol=1e-12, reason="one division and two sums in Python's 64-bit floats, each rounded by 1e-16")


@bits_per_weight.mistake("The zero point takes room too: its bits are shared by the group as those of the scale are.")
def _(bits, group_size, scale_bits, zero_bits):
    return bits + scale_bits / group_size


@bits_per_weight.mistake("Scale and zero point are shared: divide their bits by the size of the group.")
def _(bits, group_size, scale_bits, zero_bits):
    return float(bits + scale_bits + zero_bits)


@bits_per_weight.mistake("Only the scale is shared out. The group shares its zero point as well.")
def _(bits, group_size, scale_bits, zero_bits):
    return bits + scale_bits / group_size + zero_bits


@bits_per_weight.mistake("Those are the bits of the whole group. Divide by its size.")
def _(bits, group_size, scale_bits, zero_bits):
    return float(bits * group_size + scale_bits + zero_bits)


@bits_per_weight.mistake("// throws the fraction away, and here the fraction is the answer.")
def _(bits, group_size, scale_bits, zero_bits):
    return float(bits + (scale_bits + zero_bits) // group_size)


@bits_per_weight.alternative
def _(bits, group_size, scale_bits, zero_bits):
    return (group_size * bits + scale_bits + zero_bits) / group_size


question(
    "1",
    "A format has one sign bit, four exponent bits with the bias 7, and three fraction bits. What is the pattern "
    "0 1000 100?",
    A=("1.5", "The exponent field is 8, one above the bias: the power is 2**1, not 2**0."),
    B=("2.5", "The fraction 100 is one half of the power, so 1.5, not 1.25."),
    C=("3.0", "(1 + 4/8) * 2**(8 - 7) = 1.5 * 2.", True),
    D=("12.0", "The bias is missing or too small. The exponent is 8 - 7 = 1."),
    hint="(1 + F / 8) * 2**(E - 7).",
    steps=[
        "The sign is +. E = 8, so the power is 2**(8 - 7) = 2.",
        "F = 4, so the significand is 1 + 4/8 = 1.5.",
        "1.5 * 2 = 3.",
    ],
)

question(
    "2",
    "FP16 and BF16 both have 16 bits. Which statement is right?",
    A=("BF16 is more precise, FP16 reaches further.", "The other way round: FP16 spends its bits on the fraction."),
    B=(
        "FP16 is more precise, BF16 reaches further.",
        "Ten fraction bits against seven, five exponent bits against 8.",
        True,
    ),
    C=("They hold the same numbers in another order.", "Only some are in both, such as 1.5. 1e30 is in BF16 alone."),
    D=("FP16 is better at both, but slower.", "With the same number of bits nothing can be better at both."),
    hint="Which of the two has more exponent bits, and what do they buy?",
    steps=["FP16: 1 + 5 + 10. BF16: 1 + 8 + 7.", "Exponent bits buy range, fraction bits buy precision."],
)

question(
    "3",
    "You add 1.0 to itself again and again, and keep the sum in BF16 after every step. Where does it stop?",
    A=("At 256", "From 256 on the neighbours are 2 apart. 257 is halfway and goes to the even one, 256.", True),
    B=("At 65,504", "That is the largest number of FP16. Here the sum stops growing long before any overflow."),
    C=("At 128", "With seven fraction bits the step at 128 is still 1, so 129 exists."),
    D=(
        "Never: BF16 reaches as far as FP32",
        "Its range does. But a sum needs precision: eight significant bits are few.",
    ),
    hint="From which power of two on is the distance between neighbours 2?",
    steps=[
        "Seven fraction bits: between 2**k and 2**(k+1) the step is 2**(k-7).",
        "The step is 2 from k = 8 on, at 256.",
        "256 + 1 = 257 lies halfway between 256 and 258 and is rounded to the even pattern, 256.",
    ],
)

question(
    "4",
    "A layer norm computes the mean of squares in FP16, without any help from FP32. From which size of its inputs on, "
    "roughly, is the result infinite?",
    A=("65,504", "That is the largest input. Its square is far beyond."),
    B=("1e38", "That is the range of FP32 and BF16."),
    C=("2,048", "From there on FP16 cannot count by ones. Its squares overflow much earlier."),
    D=("256", "256 squared is 65,536, more than 65,504.", True),
    hint="Which number has the square 65,504?",
    steps=["The largest FP16 number is 65,504.", "Its square root is 255.9."],
)

question(
    "5",
    "A model of one billion weights is stored in INT4, groups of 32, with an FP16 scale for each group. How large is "
    "the file, nearly?",
    A=("0.5 GB", "Those are the codes alone. Scales are stored as well."),
    B=("0.5625 GB", "4 + 16/32 = 4.5 bits a weight; a billion of them are 0.5625 GB.", True),
    C=("2.5 GB", "That is 20 bits a weight: a scale for each. A group shares one."),
    D=("0.625 GB", "That is 5 bits a weight, a scale of 32 bits. These have 16."),
    hint="Bits of a code, and the share of the scale.",
    steps=["16 bits shared by 32 weights are 0.5 bits a weight.", "4.5 bits * 1e9 / 8 = 0.5625e9 bytes."],
)

question(
    "6",
    "Why are the 16 values of NF4 not evenly spaced?",
    A=(
        "Weights are roughly normally distributed: values are dense where weights are, near zero.",
        "Quantiles put about as many weights on one value as on the next.",
        True,
    ),
    B=("So that they can be computed with bit shifts.", "They are irregular numbers, read from a table of 16."),
    C=("So that the largest weight is exact.", "It is, but evenly spaced values from -1 to 1 have that too."),
    D=("Because a float format with four bits cannot be even.", "NF4 is no float: its code is a position in a table."),
    hint="Where do most of the weights of a layer lie?",
    steps=[
        "The histogram of a layer is a peak around zero.",
        "Evenly spaced values would mostly stand in the tails.",
        "Quantiles of the normal distribution follow the peak.",
    ],
)

question(
    "7",
    "One number of 7.9 stands in a block of 32 that are otherwise below 0.1. The block shares a power of two, and its "
    "elements have two exponent bits and one fraction bit: 0, 0.5, 1, 1.5, 2, 3, 4, 6. What becomes of the others?",
    A=("They keep about two digits.", "One fraction bit is less than one digit, even for numbers near the largest."),
    B=("They are stored exactly.", "Only eight magnitudes exist, times one power of two."),
    C=("They become infinite.", "They are small. It is the 7.9 that is cut back to 6."),
    D=(
        "They all become zero.",
        "The shared power is 1, the smallest value above zero is 0.5, and 0.1 is below half of it.",
        True,
    ),
    hint="The shared power of two is set by the largest number. What is the smallest value above zero then?",
    steps=[
        "7.9 lies between 4 and 8, and so does the format's largest number, 6: the shared power is 2**0.",
        "The values are then 0, 0.5, 1 and so on.",
        "Below 0.25 everything is rounded to 0.",
    ],
)

question(
    "8",
    "You convert a model from FP32 to FP16 on a laptop processor. What can you be sure of, before you measure?",
    A=(
        "It runs twice as fast.",
        "Only where the processor multiplies FP16 itself. Otherwise it converts, and may be slower.",
    ),
    B=(
        "It gives the same answers.",
        "Nearly, as a rule. But an overflow gives infinity, and a close decision may turn.",
    ),
    C=("Its file is half as large.", "16 bits instead of 32 for every number, whatever the processor does.", True),
    D=(
        "It needs half the memory while it runs.",
        "Half for weights. Kernels may unpack to FP32 on the way, and libraries stay.",
    ),
    hint="Which of the four is a matter of counting, and which depend on hardware?",
    steps=[
        "Bytes follow from the format.",
        "Speed, peak memory and quality depend on processor, library and model.",
        "So those three are measured.",
    ],
)
