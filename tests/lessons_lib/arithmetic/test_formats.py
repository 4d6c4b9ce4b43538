"""Number formats against torch's own types, numpy, bitsandbytes and exact fractions, and input that must be refused."""

import math
from fractions import Fraction

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.arithmetic import formats, nf4

TORCH = {
    "FP16": (torch.float16, torch.int16),
    "BF16": (torch.bfloat16, torch.int16),
    "E4M3": (torch.float8_e4m3fn, torch.uint8),
    "E5M2": (torch.float8_e5m2, torch.uint8),
}
each_of_torch = pytest.mark.parametrize("name", TORCH)


def all_patterns(name):
    return torch.arange(2 ** formats.of(name).bits)


def by_torch(patterns, name):
    dtype, integer = TORCH[name]
    return patterns.to(integer).view(dtype).float()


def cast(x, name):
    """Rounded by torch's conversion, as FP32."""
    return x.to(TORCH[name][0]).float()


def assert_same(got, expected):
    """Equal numbers, infinities and NaN, and the same sign on every zero."""
    assert got.shape == expected.shape
    assert torch.equal(got.isnan(), expected.isnan())
    real = ~expected.isnan()
    assert torch.equal(got[real], expected[real])
    assert torch.equal(got[real].signbit(), expected[real].signbit())


@each_of_torch
def test_every_pattern_is_read_as_torch_reads_it(name):
    assert_same(formats.decode(all_patterns(name), name), by_torch(all_patterns(name), name))


@each_of_torch
def test_every_number_is_written_as_the_pattern_it_came_from(name):
    patterns = all_patterns(name)
    values = formats.decode(patterns, name)
    patterns, values = patterns[values.isfinite()], values[values.isfinite()]
    assert torch.equal(formats.encode(values, name), patterns)


@each_of_torch
def test_midpoints_and_one_ulp_beside_them_round_as_in_torch(name):
    """Every border between two neighbours, of both signs, and the FP32 numbers next to it."""
    finite = formats.decode(torch.arange(formats.of(name).highest_pattern + 1), name).double()
    border = ((finite[1:] + finite[:-1]) / 2).float()
    assert torch.equal(border.double(), (finite[1:] + finite[:-1]) / 2)  # FP32 holds every border
    for sign in (1, -1):
        for toward in (None, torch.inf, -torch.inf):
            x = sign * border if toward is None else torch.nextafter(sign * border, torch.tensor(toward))
            assert_same(formats.round_to(x, name), cast(x, name))


@each_of_torch
def test_ties_go_to_the_even_pattern(name):
    finite = formats.decode(torch.arange(formats.of(name).highest_pattern + 1), name).double()
    patterns = formats.encode((finite[1:] + finite[:-1]) / 2, name)
    assert (patterns % 2 == 0).all()


@each_of_torch
def test_overflow_is_torch_s(name):
    """The largest number, half a step beyond it, its FP32 neighbours, and infinity."""
    format = formats.of(name)
    largest = torch.tensor(format.largest)
    border = largest + (formats.spacing(largest, format) / 2).float()
    around = [torch.nextafter(border, torch.tensor(0.0)), border, torch.nextafter(border, torch.tensor(torch.inf))]
    x = torch.stack([largest, *around, torch.tensor(3e38), torch.tensor(torch.inf)])
    for values in (x, -x):
        assert_same(formats.round_to(values, name), cast(values, name))


def test_overflow_conventions():
    x = torch.tensor([448.0, 464.0, 465.0, math.inf, -math.inf])
    assert formats.round_to(x, "E4M3").tolist() == [448, 448, 448, 448, -448]  # torch's convention
    other = formats.round_to(x, "E4M3", saturate=False)  # no infinity, so NaN
    assert other[:2].tolist() == [448, 448]
    assert other[2:].isnan().all()
    assert formats.round_to(torch.tensor([65519.0, 65520.0]), "FP16").tolist() == [65504, math.inf]
    assert formats.round_to(torch.tensor([65520.0, -math.inf]), "FP16", saturate=True).tolist() == [65504, -65504]
    assert formats.round_to(torch.tensor([7.0, -1e9]), "E2M1").tolist() == [6, -6]


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=30), st.sampled_from(sorted(TORCH)))
def test_any_number_rounds_as_in_torch(values, name):
    x = torch.tensor(values)
    assert_same(formats.round_to(x, name), cast(x, name))


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=30))
def test_any_number_rounds_as_in_numpy(values):
    x = torch.tensor(values)
    with numpy.errstate(over="ignore"):
        expected = torch.from_numpy(x.numpy().astype(numpy.float16).astype(numpy.float32))
    assert_same(formats.round_to(x, "FP16"), expected)
    assert_same(formats.round_to(x, "FP32"), x)
    patterns = torch.from_numpy(x.numpy().view(numpy.uint32).astype(numpy.int64))
    assert torch.equal(formats.encode(x, "FP32")[~x.isnan()], patterns[~x.isnan()])


@settings(deadline=None)
@given(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False))
def test_tf32_is_fp32_with_ten_fraction_bits(value):
    """By numpy: cut the significand off at eleven bits, halves to even."""
    significand, exponent = numpy.frexp(numpy.float64(value))
    expected = numpy.ldexp(numpy.rint(numpy.ldexp(significand, 11)), exponent - 11)
    assert formats.round_to(torch.tensor(value), "TF32").item() == expected


SMALL = st.builds(
    formats.Format, st.just("small"), st.integers(2, 5), st.integers(1, 4), st.sampled_from(formats.SPECIALS)
)


@settings(deadline=None, max_examples=60)
@given(SMALL, st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=10))
def test_any_small_format_rounds_to_the_nearest_of_its_numbers(format, values):
    """Against exact fractions: the nearest number by search, a tie to the even pattern, saturated."""
    numbers = [Fraction(v) for v in formats.decode(torch.arange(format.highest_pattern + 1), format).tolist()]
    assert numbers == sorted(numbers)
    for value in values:
        exact = abs(Fraction(value))
        wanted = min(range(len(numbers)), key=lambda i: (abs(numbers[i] - exact), i % 2))
        got = formats.encode(torch.tensor(value), format, saturate=True).item()
        assert got == wanted + (math.copysign(1, value) < 0) * 2 ** (format.bits - 1)


def test_what_the_formats_reach():
    reach = {
        name: (made.bits, made.largest, made.smallest_normal, made.smallest) for name, made in formats.FORMATS.items()
    }
    for name, dtype in (
        ("FP32", torch.float32),
        ("FP16", torch.float16),
        ("BF16", torch.bfloat16),
        ("E4M3", torch.float8_e4m3fn),
        ("E5M2", torch.float8_e5m2),
    ):
        info = torch.finfo(dtype)
        assert reach[name] == (info.bits, info.max, info.tiny, info.smallest_normal * info.eps)
        assert formats.spacing(torch.ones(1), name).item() == info.eps
    assert reach["TF32"][0] == 19
    assert formats.decode(torch.arange(8), "E2M1").tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


@each_of_torch
def test_spacing_is_the_distance_between_neighbours(name):
    finite = formats.decode(torch.arange(formats.of(name).highest_pattern), name)
    following = formats.decode(torch.arange(1, formats.of(name).highest_pattern + 1), name)
    assert torch.equal(formats.spacing(finite, name), following.double() - finite.double())
    assert torch.equal(formats.spacing(-finite, name), formats.spacing(finite, name))


def test_bits_as_text():
    assert formats.bit_string(1.0, "FP16") == "0 01111 0000000000"
    assert formats.bit_string(-2.5, "BF16") == "1 10000000 0100000"
    assert formats.bit_string(0.1, "FP32").replace(" ", "") == f"{numpy.float32(0.1).view(numpy.uint32):032b}"


# Four bits in half a byte.


@pytest.mark.parametrize("n", [*range(70), 1001, 4096])
def test_packing_comes_back_for_every_length(n):
    codes = torch.randint(-8, 8, (n,), generator=torch.Generator().manual_seed(n)).to(torch.int8)
    packed = formats.pack_int4(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == ((n + 1) // 2,)
    back = formats.unpack_int4(packed, n)
    assert back.dtype == torch.int8
    assert torch.equal(back, codes)
    assert torch.equal(formats.unpack_nibbles(formats.pack_nibbles(codes + 8), n), (codes + 8).to(torch.uint8))


def test_every_byte_is_two_codes():
    every_byte = torch.arange(256).to(torch.uint8)
    codes = formats.unpack_int4(every_byte, 512)
    assert torch.equal(formats.pack_int4(codes), every_byte)
    signed = [(byte & 15) - 16 * (byte & 15 > 7) for byte in range(256)]
    assert codes[0::2].tolist() == signed
    assert codes[1::2].tolist() == [signed[byte >> 4] for byte in range(256)]


@given(st.lists(st.integers(-8, 7), max_size=40), st.integers(1, 3))
def test_packing_reads_any_stride(codes, step):
    wide = torch.zeros(len(codes) * step, dtype=torch.int64)
    wide[::step] = torch.tensor(codes, dtype=torch.int64)
    packed = formats.pack_int4(wide[::step])
    pairs = [(*codes[i : i + 2], 0)[:2] for i in range(0, len(codes), 2)]
    assert packed.tolist() == [(first & 15) | (second & 15) << 4 for first, second in pairs]


# NF4.


def test_nf4_is_bitsandbytes_table_to_the_bit():
    import bitsandbytes.functional

    assert torch.equal(nf4.nf4_codebook(), bitsandbytes.functional.get_4bit_type("nf4", device="cpu"))


def test_nf4_is_built_from_normal_quantiles():
    table = nf4.nf4_codebook().double()
    assert len(table) == 16 and (table.diff() > 0).all()
    assert [(table < 0).sum(), (table == 0).sum(), (table > 0).sum()] == [7, 1, 8]
    assert table[0] == -1 and table[-1] == 1
    reach = torch.special.ndtri(torch.tensor(nf4.NF4_OFFSET, dtype=torch.float64))
    shares = torch.special.ndtr(table * reach)
    assert shares[7:].diff() == pytest.approx([(nf4.NF4_OFFSET - 0.5) / 8] * 8, abs=1e-6)
    assert shares[:8].diff() == pytest.approx([(nf4.NF4_OFFSET - 0.5) / 7] * 7, abs=1e-6)
    assert nf4.nf4_codebook(0.9)[8] != nf4.nf4_codebook()[8]


# The bits of a weight.


def test_bits_per_weight():
    assert formats.bits_per_weight(4, 64, 16) == 4.25
    assert formats.bits_per_weight(4, 32, 16, 4) == 4.625
    assert formats.bits_per_weight(4, 32, 8) == 4.25
    weight = torch.randint(-8, 8, (64, 128))
    stored = formats.pack_int4(weight.flatten()).numel() * 8 + 64 * 128 // 64 * 16
    assert stored / weight.numel() == formats.bits_per_weight(4, 64, 16)


REFUSED = [
    ("no format", lambda: formats.of("FP12")),
    ("exponent and", lambda: formats.Format("wide", 11, 52)),
    ("specials is", lambda: formats.Format("odd", 4, 3, "some")),
    ("whole numbers", lambda: formats.decode(torch.ones(2), "FP16")),
    ("0 ... 65535", lambda: formats.decode(torch.tensor([65536]), "FP16")),
    ("0 ... 255", lambda: formats.decode(torch.tensor([-1]), "E4M3")),
    ("float tensor", lambda: formats.encode(torch.tensor([1]), "FP16")),
    ("float tensor", lambda: formats.spacing([1.0], "FP16")),
    ("from -65504 to 65504", lambda: formats.spacing(torch.tensor([70_000.0]), "FP16")),
    ("from -6 to 6", lambda: formats.spacing(torch.tensor([math.nan]), "E2M1")),
    ("neither infinity nor NaN", lambda: formats.encode(torch.tensor([math.nan]), "E2M1")),
    ("neither infinity nor NaN", lambda: formats.encode(torch.ones(1), "E2M1", saturate=False)),
    ("-8 ... 7", lambda: formats.pack_int4(torch.tensor([8]))),
    ("0 ... 15", lambda: formats.pack_nibbles(torch.tensor([-1]))),
    ("whole numbers", lambda: formats.pack_int4(torch.ones(2))),
    ("one dimension", lambda: formats.pack_int4(torch.ones(2, 2, dtype=torch.int8))),
    ("two codes a byte", lambda: formats.unpack_int4(torch.zeros(2, dtype=torch.uint8), 5)),
    ("two codes a byte", lambda: formats.unpack_int4(torch.zeros(2, dtype=torch.uint8), 2)),
    ("uint8 tensor", lambda: formats.unpack_int4(torch.zeros(2, dtype=torch.int8), 4)),
    ("above 0.5", lambda: nf4.nf4_codebook(1.0)),
    ("above 0.5", lambda: nf4.nf4_codebook(math.nan)),
    ("at least one weight", lambda: formats.bits_per_weight(4, 0, 16)),
    ("is negative", lambda: formats.bits_per_weight(4, 64, -1)),
]


@pytest.mark.parametrize(("words", "call"), REFUSED, ids=[f"{i}-{words}" for i, (words, _) in enumerate(REFUSED)])
def test_bad_input_is_refused_with_words(words, call):
    with pytest.raises((ValueError, TypeError), match=words.replace("...", r"\.\.\.")):
        call()
