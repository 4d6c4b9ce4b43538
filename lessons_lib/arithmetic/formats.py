"""Number formats: which bits stand for which number, rounding, codes of four bits in bytes, the true bits of a weight.

A float is written as a sign, an exponent field E and a fraction field F of m bits. With the bias b of the format
    E > 0:  value = ± (1 + F / 2**m) * 2**(E - b)          a normal number, with a leading 1 that is not stored
    E = 0:  value = ± (F / 2**m) * 2**(1 - b)              a subnormal number, down to zero
(IEEE 754-2019, section 3.4). What the highest exponent field stands for differs: see `Format.specials`.

`microscale` makes blocks of small floats that share a power of two, a format that new accelerators multiply directly:
OCP Microscaling Formats (MX) Specification 1.0, 2023, section 6.3; B. Rouhani et al., 2023, arXiv 2310.10537.
"""

from dataclasses import dataclass

import torch

SPECIALS = ("ieee", "nan", "none")
SCALE_BITS = 8  # an exponent alone: no sign, no fraction
SCALE_EXPONENTS = (-127, 127)


@dataclass(frozen=True)
class Format:
    """A binary float format with a sign bit.

    specials: what the highest patterns stand for. "ieee": the highest exponent field is infinity (fraction 0) and NaN.
    "nan": the pattern of ones alone is NaN, and there is no infinity. "none": every pattern is a number.
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    specials: str = "ieee"

    def __post_init__(self):
        if not (2 <= self.exponent_bits <= 8 and 1 <= self.fraction_bits <= 23):
            raise ValueError(
                f"{self.name} has {self.exponent_bits} exponent and {self.fraction_bits} fraction bits; "
                "2 to 8 and 1 to 23 are possible here, so that FP32 holds every value."
            )
        if self.specials not in SPECIALS:
            raise ValueError(f"specials is {self.specials!r}; choose one of {', '.join(SPECIALS)}.")

    @property
    def bits(self) -> int:
        """Sign, exponent and fraction together."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self) -> int:
        """What is subtracted from the exponent field."""
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def highest_pattern(self) -> int:
        """The bits of the largest finite number."""
        everything = 2 ** (self.bits - 1) - 1
        return everything - {"ieee": 2**self.fraction_bits, "nan": 1, "none": 0}[self.specials]

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return decode(torch.tensor(self.highest_pattern), self).item()

    @property
    def smallest_normal(self) -> float:
        """The smallest number with full precision."""
        return 2.0 ** (1 - self.bias)

    @property
    def smallest(self) -> float:
        """The smallest number above zero, a subnormal one."""
        return 2.0 ** (1 - self.bias - self.fraction_bits)


FORMATS = {
    float_format.name: float_format
    for float_format in (
        Format("FP32", 8, 23),
        Format("TF32", 8, 10),  # inside NVIDIA's matrix units; in memory it takes 32 bits
        Format("FP16", 5, 10),
        Format("BF16", 8, 7),
        Format("E4M3", 4, 3, "nan"),  # FP8: P. Micikevicius et al., 2022, arXiv 2209.05433
        Format("E5M2", 5, 2),  # FP8
        Format("E2M1", 2, 1, "none"),  # FP4, as in microscaling blocks
    )
}


def of(format: str | Format) -> Format:
    """A format by its name, or the format itself. Raises ValueError for a name that is not known."""
    if isinstance(format, Format):
        return format
    if format not in FORMATS:
        raise ValueError(f"{format!r} is no format here; there are {', '.join(FORMATS)}, or make a Format.")
    return FORMATS[format]


def decode(bits: torch.Tensor, format: str | Format) -> torch.Tensor:
    """The numbers that bit patterns stand for: FP32, shaped like bits. Exact, because FP32 holds every value.

    bits: integer tensor of patterns 0 ... 2**format.bits - 1, sign bit highest.
    Raises TypeError when bits is no integer tensor, ValueError for a number that is no pattern.
    """
    format = of(format)
    bits = _whole(bits, "bits", 0, 2**format.bits - 1)
    field = (bits >> format.fraction_bits) & (2**format.exponent_bits - 1)
    fraction = bits & (2**format.fraction_bits - 1)
    # value = (F + 2**m if E > 0) * 2**(max(E, 1) - b - m)
    significand = fraction + (field > 0) * 2**format.fraction_bits
    value = significand.double() * power_of_two(field.clamp_min(1) - format.bias - format.fraction_bits)
    magnitude = bits & (2 ** (format.bits - 1) - 1)
    if format.specials == "ieee":
        value[magnitude == format.highest_pattern + 1] = torch.inf
    value[magnitude > format.highest_pattern + (format.specials == "ieee")] = torch.nan
    return torch.where(bits >> (format.bits - 1) == 1, -value, value).float()


def encode(x: torch.Tensor, format: str | Format, saturate: bool | None = None) -> torch.Tensor:
    """The bit patterns of the numbers nearest to x: int64, shaped like x. A tie goes to the even fraction.

    x: float tensor. Beyond the largest number, once rounded: with saturate the largest number, without it infinity
    (NaN where the format has no infinity). The default is what torch does: "ieee" formats overflow to infinity, the
    others saturate, infinity included. NaN stays NaN.
    Raises TypeError when x is no float tensor; ValueError for NaN in a format without it, or when such a format is
    asked not to saturate.
    """
    format, x = of(format), _real(x, "x").double()
    saturate = format.specials != "ieee" if saturate is None else saturate
    if format.specials == "none" and (not saturate or x.isnan().any()):
        raise ValueError(f"{format.name} has neither infinity nor NaN: let it saturate, and take NaN out of x first.")
    magnitude = torch.where(x.isfinite(), x.abs(), torch.zeros_like(x))
    exponent = _exponent(magnitude, format)
    significand = (magnitude / power_of_two(exponent - format.fraction_bits)).round().long()
    # The leading 1 of the significand adds one to the exponent field above it. So does a carry of the rounding.
    patterns = ((exponent - 1 + format.bias) << format.fraction_bits) + significand
    beyond = format.highest_pattern + (0 if saturate else 1)  # infinity, or the one NaN
    patterns = torch.where(x.isinf() | (patterns > format.highest_pattern), beyond, patterns)
    patterns = torch.where(x.isnan(), 2 ** (format.bits - 1) - 1, patterns)
    return patterns + (x.signbit().long() << (format.bits - 1))


def round_to(x: torch.Tensor, format: str | Format, saturate: bool | None = None) -> torch.Tensor:
    """The numbers of the format nearest to x: FP32, shaped like x. Ties, overflow and errors as in `encode`."""
    return decode(encode(x, format, saturate), format)


def spacing(x: torch.Tensor, format: str | Format) -> torch.Tensor:
    """The distance between neighbours of the format around x: FP64, shaped like x.

    Raises as `encode`, and ValueError where x is not finite or beyond the format's largest number.
    """
    format, x = of(format), _real(x, "x").double()
    if not (x.abs() <= format.largest).all():
        raise ValueError(f"{format.name} reaches from -{format.largest:g} to {format.largest:g}; x must lie inside.")
    return power_of_two(_exponent(x, format) - format.fraction_bits)


def power_of_two(n: torch.Tensor) -> torch.Tensor:
    """2**n in FP64, exact for -1022 ... 1023: the number whose exponent field is n + 1023 and whose fraction is 0."""
    return ((n.long() + 1023) << 52).view(torch.float64)


def bit_string(x: float, format: str | Format) -> str:
    """The nearest number's bits as text, in three parts: "0 01111 0000000000" is 1 in FP16."""
    format = of(format)
    text = f"{encode(torch.tensor(float(x), dtype=torch.float64), format).item():0{format.bits}b}"
    return f"{text[0]} {text[1 : 1 + format.exponent_bits]} {text[1 + format.exponent_bits :]}"


def pack_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Two codes of 0 ... 15 in a byte, the first in the low half: integer (n,) to uint8 ((n + 1) // 2,).

    With an odd n the last high half is 0. Raises TypeError or ValueError for codes that do not fit.
    """
    codes = _flat(_whole(codes, "codes", 0, 15), "codes")
    codes = torch.cat([codes, codes.new_zeros(len(codes) % 2)])
    # byte = first | second << 4
    return (codes[0::2] | codes[1::2] << 4).to(torch.uint8)


def unpack_nibbles(packed: torch.Tensor, n: int) -> torch.Tensor:
    """The n codes of 0 ... 15 that `pack_nibbles` packed: uint8 (n,). Raises ValueError for another number of bytes."""
    if not isinstance(packed, torch.Tensor) or packed.dtype != torch.uint8:
        raise TypeError("packed must be a uint8 tensor, as `pack_nibbles` returns it.")
    packed = _flat(packed, "packed")
    if n < 0 or len(packed) != (n + 1) // 2:
        raise ValueError(f"{len(packed)} bytes cannot hold {n} codes: two codes a byte take {(n + 1) // 2}.")
    return torch.stack([packed & 15, packed >> 4], dim=1).flatten()[:n]


def pack_int4(codes: torch.Tensor) -> torch.Tensor:
    """Signed codes -8 ... 7, (n,), as uint8 ((n + 1) // 2,): four bits of two's complement each, first in the low half.

    Raises TypeError or ValueError for codes that do not fit.
    """
    # two's complement in four bits: -1 is 15, -8 is 8
    return pack_nibbles(_whole(codes, "codes", -8, 7) & 15)


def unpack_int4(packed: torch.Tensor, n: int) -> torch.Tensor:
    """The n signed codes that `pack_int4` packed: int8 (n,). Raises as `unpack_nibbles`."""
    nibbles = unpack_nibbles(packed, n).to(torch.int8)
    # the highest of the four bits counts -8, not 8
    return nibbles - 16 * (nibbles > 7).to(torch.int8)


def bits_per_weight(bits: float, group_size: int, scale_bits: float, zero_bits: float = 0) -> float:
    """True bits of a weight: its code, and its share of the scale and the zero point that group_size weights share.

    Raises ValueError when group_size is below 1 or a number of bits is negative.
    """
    if group_size < 1 or min(bits, scale_bits, zero_bits) < 0:
        raise ValueError(
            f"A group of {group_size} with {bits} + {scale_bits} + {zero_bits} bits: the group needs at "
            "least one weight, and no number of bits is negative."
        )
    # bits + (scale_bits + zero_bits) / group_size
    return bits + (scale_bits + zero_bits) / group_size


def _exponent(x: torch.Tensor, format: Format) -> torch.Tensor:
    """floor(log2 |x|), but no less than that of the smallest normal number: below it all steps are equal."""
    exponent = torch.frexp(x)[1].long() - 1  # torch gives zero the exponent 0
    return torch.where(x == 0, 1 - format.bias, exponent).clamp_min(1 - format.bias)


def _real(x, name) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"{name} is {kind}; it must be a float tensor. Convert it with .float().")
    return x.detach()


def _whole(x, name, lowest, highest) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or x.is_floating_point() or x.dtype == torch.bool:
        kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"{name} is {kind}; it must be a tensor of whole numbers.")
    x = x.long()
    if x.numel() and (x.min() < lowest or x.max() > highest):
        raise ValueError(f"{name} reach from {x.min()} to {x.max()}; {lowest} ... {highest} are allowed.")
    return x


def _flat(x, name) -> torch.Tensor:
    if x.ndim != 1:
        raise ValueError(f"{name} has the shape {tuple(x.shape)}; one dimension is needed. Flatten it first.")
    return x


def microscale(x: torch.Tensor, element: str | Format = "E4M3", block_size: int = 32):
    """Patterns of x (int64, shaped like x) and the exponent of each block of neighbours (int64, (..., n / block_size)).

    The shared exponent is that of the block's largest magnitude, less the exponent of the format's largest number; the
    elements are x / 2**exponent, rounded to the format and saturated. A block of zeros gets the lowest exponent.
    Raises TypeError when x is no float tensor; ValueError when x is not finite or its last axis does not split.
    """
    element = of(element)
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
    patterns = encode(blocks / power_of_two(exponents)[..., None], element, saturate=True)
    return patterns.flatten(-2), exponents


def read_blocks(patterns: torch.Tensor, exponents: torch.Tensor, element: str | Format = "E4M3"):
    """The numbers that `microscale` stored: FP32, shaped like patterns. ValueError for shapes that do not fit."""
    if patterns.shape[:-1] != exponents.shape[:-1] or patterns.shape[-1] % exponents.shape[-1]:
        raise ValueError(
            f"Exponents of the shape {tuple(exponents.shape)} do not fit {tuple(patterns.shape)}; "
            "hand over what `microscale` returned."
        )
    values = decode(patterns, element).unflatten(-1, (exponents.shape[-1], -1))
    # value = element * 2**exponent
    return (values * power_of_two(exponents)[..., None]).flatten(-2).float()
