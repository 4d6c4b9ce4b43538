"""NF4: codes, scales and values are those of bitsandbytes to the bit, ties included; what is no weight is refused."""

import bitsandbytes.functional as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.arithmetic import formats, nf4
from lessons_lib.four_bits import libraries
from lessons_lib.measure import benchmark

TIES = torch.cat([nf4.borders(), torch.tensor([-1.0])])  # every border, and a largest magnitude of 1
# Rows hold whole blocks: where one reaches into the next row, bitsandbytes' kernel for processors reads a wrong scale.
WEIGHTS = {
    "normal": torch.randn(48, 128, generator=torch.Generator().manual_seed(0)) * 0.05,
    "uniform": torch.rand(32, 128, generator=torch.Generator().manual_seed(1)),
    "ties": (TIES * 0.25).repeat(32),  # scaling by a power of two keeps ties
    "ties, up and down": torch.cat([TIES, -TIES]).repeat(8),
    "a hair above the ties": torch.nextafter(TIES, torch.tensor(2.0)).clamp(-1, 1).repeat(32),
    "a hair below the ties": torch.nextafter(TIES, torch.tensor(-2.0)).clamp(-1, 1).repeat(32),
    "zeros": torch.zeros(4, 64),
    "denormal": torch.linspace(-1e-39, 1e-39, 256),
    "around the smallest absmax": torch.linspace(0, 3e-38, 512),
    "large": torch.linspace(-1e36, 1e36, 256),
    "bfloat16": torch.randn(32, 128, generator=torch.Generator().manual_seed(2)).bfloat16(),
    "not contiguous": torch.randn(128, 128, generator=torch.Generator().manual_seed(3)).t(),
}


def theirs(weight, block_size, double):
    """Packed codes, the codes one by one, and the state of bitsandbytes."""
    packed, state = libraries.bitsandbytes_quantize(weight.contiguous(), block_size, double)
    return packed, libraries.bitsandbytes_codes(packed), state


@pytest.mark.parametrize("block_size", [32, 64, 128])
@pytest.mark.parametrize("name", WEIGHTS)
def test_codes_and_values_are_those_of_bitsandbytes(name, block_size):
    weight = WEIGHTS[name]
    packed, their_codes, state = theirs(weight, block_size, double=False)
    codes, absmax = nf4.quantize(weight, block_size)
    assert codes.shape == weight.shape
    assert torch.equal(codes.flatten(), their_codes)
    assert torch.equal(absmax, state.absmax)
    state.dtype = torch.float32
    values = nf4.dequantize(formats.pack_nibbles(codes.flatten()), absmax, block_size)
    assert torch.equal(values.flatten(), reference.dequantize_4bit(packed, state).flatten())


@pytest.mark.parametrize("block_size", [32, 64])
@pytest.mark.parametrize("name", WEIGHTS)
def test_double_quantization_is_that_of_bitsandbytes(name, block_size):
    weight = WEIGHTS[name]
    packed, _, state = theirs(weight, block_size, double=True)
    doubled = nf4.double_quantize(nf4.quantize(weight, block_size)[1])
    assert torch.equal(doubled.codes, state.absmax)
    assert torch.equal(doubled.scales, state.state2.absmax)
    assert torch.equal(doubled.offset, state.offset)
    state.dtype = torch.float32
    assert torch.equal(nf4.round_trip(weight, block_size).flatten(), reference.dequantize_4bit(packed, state).flatten())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 2000), spread=st.floats(-12, 3))
def test_scales_of_any_number_and_size_are_quantized_as_bitsandbytes_does(seed, n, spread):
    draw = torch.Generator().manual_seed(seed)
    absmax = torch.rand(n, generator=draw) * 10**spread + torch.rand(1, generator=draw)
    codes, state = reference.quantize_blockwise(absmax - absmax.mean(), blocksize=256)
    doubled = nf4.double_quantize(absmax)
    assert torch.equal(doubled.codes, codes)
    back = reference.dequantize_blockwise(codes, state) + absmax.mean()
    assert torch.equal(nf4.double_dequantize(doubled), back)


def test_ties_of_scales_fall_as_in_bitsandbytes():
    code = nf4.dynamic_map()
    halfway = (code[1:] + code[:-1]) / 2
    grid = torch.linspace(-1, 1, nf4.POSITIONS)
    for values in (halfway, (grid[1:] + grid[:-1]) / 2, grid):
        for part in values.split(127):
            absmax = torch.cat([part, -part, torch.tensor([1.0, -1.0])])  # a mean near 0 and a largest of 1
            expected, _ = reference.quantize_blockwise(absmax - absmax.mean(), blocksize=256)
            assert torch.equal(nf4.double_quantize(absmax).codes, expected)


def test_the_dynamic_map_is_bitsandbytes_table_to_the_bit():
    assert torch.equal(nf4.dynamic_map(), reference.create_dynamic_map())


def test_codes_are_the_nearest_values_and_of_two_the_lower():
    weight = WEIGHTS["normal"]
    codes, absmax = nf4.quantize(weight)
    scaled = (weight.reshape(-1, 64) / absmax[:, None]).double()
    distance = (scaled[..., None] - nf4.nf4_codebook().double()).abs()
    chosen = distance.gather(2, codes.view(-1, 64, 1).long())[..., 0]
    assert (chosen <= distance.amin(dim=2) + 1e-7).all()
    assert nf4.quantize(TIES.repeat(4))[0].tolist() == [*range(15), 0] * 4


def test_every_weight_lies_in_a_cell_with_one_border_at_most():
    edges = torch.arange(-nf4.CELLS, nf4.CELLS + 2) / nf4.CELLS
    inside = (nf4.borders() >= edges[:-1, None]) & (nf4.borders() < edges[1:, None])
    assert inside.sum(dim=1).max() == 1
    # and no border so near to an edge that rounding could put its cell in doubt
    assert (edges[:, None] - nf4.borders()).abs().min() > 1e-4


def test_double_quantization_saves_what_it_promises_and_moves_little():
    absmax = nf4.quantize(torch.randn(512, 256, generator=torch.Generator().manual_seed(4)))[1]
    doubled = nf4.double_quantize(absmax)
    stored = sum(tensor.nbytes for tensor in doubled)
    assert stored == len(absmax) + 4 * len(absmax) // 256 + 4
    back = nf4.double_dequantize(doubled)
    assert not torch.equal(back, absmax)
    # the widest gap of the map, 0.0141 of a block's largest, and half of it is the worst error
    assert (back - absmax).abs().max() <= 0.0072 * doubled.scales.max()


def test_a_block_of_equal_scales_reads_back_as_their_mean():
    doubled = nf4.double_quantize(torch.full((300,), 0.5))
    assert doubled.scales.tolist() == [0, 0]
    assert torch.equal(nf4.double_dequantize(doubled), torch.full((300,), 0.5))


def test_another_code_and_block():
    code = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    doubled = nf4.double_quantize(torch.tensor([1.0, 2.8, 3.4, 4.8]), block=2, code=code)
    assert doubled.offset == 3  # -2, -0.2 | 0.4, 1.8
    assert doubled.scales.tolist() == pytest.approx([2, 1.8])
    assert doubled.codes.tolist() == [0, 1, 1, 3]  # -1, -0.1 | 0.22, 1
    assert nf4.double_dequantize(doubled, 2, code).tolist() == pytest.approx([1, 3, 3, 4.8])


def test_bits_per_weight():
    assert nf4.bits_per_weight(64, double=False) == 4.5
    assert nf4.bits_per_weight(64) == pytest.approx(4 + (8 + 32 / 256) / 64)


@pytest.mark.parametrize(
    ("x", "block_size", "error", "words"),
    [
        (torch.zeros(64, dtype=torch.int8), 64, TypeError, "must be a float tensor"),
        ([0.0], 64, TypeError, "x is list"),
        (torch.zeros(0), 64, ValueError, "do not split into blocks of 64"),
        (torch.zeros(3, 50), 64, ValueError, "150 values"),
        (torch.zeros(63), 63, ValueError, "an even number"),
        (torch.zeros(64), 0, ValueError, "an even number"),
        (torch.full((64,), float("nan")), 64, ValueError, "NaN or infinity"),
        (torch.tensor([float("inf")] * 64), 64, ValueError, "NaN or infinity"),
    ],
)
def test_what_is_no_weight_is_refused(x, block_size, error, words):
    with pytest.raises(error, match=words):
        nf4.quantize(x, block_size)


@pytest.mark.parametrize(
    ("packed", "absmax", "block_size", "words"),
    [
        (torch.zeros(31, dtype=torch.uint8), torch.zeros(1), 64, "do not fit blocks of 64"),
        (torch.zeros(32, dtype=torch.uint8), torch.zeros(1), 32, "do not fit blocks of 32"),
        (torch.zeros(1, 32, dtype=torch.uint8), torch.zeros(1), 64, "do not fit"),
        (torch.zeros(32, dtype=torch.uint8), torch.zeros(1), 7, "an even number"),
    ],
)
def test_bytes_and_scales_that_do_not_fit_are_refused(packed, absmax, block_size, words):
    with pytest.raises(ValueError, match=words):
        nf4.dequantize(packed, absmax, block_size)


def test_other_misfits_are_refused():
    with pytest.raises(TypeError, match="packed is torch.int8"):
        nf4.dequantize(torch.zeros(32, dtype=torch.int8), torch.zeros(1))
    with pytest.raises(ValueError, match="a list \\(n,\\) of finite scales"):
        nf4.double_quantize(torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="ascending"):
        nf4.double_quantize(torch.ones(3), code=torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="need 2 scales, not 1"):
        nf4.double_dequantize(nf4.Doubled(torch.zeros(300, dtype=torch.uint8), torch.zeros(1), torch.zeros(())))


def test_quantizing_is_no_slower_than_bitsandbytes():
    weight = torch.randn(768, 384, generator=torch.Generator().manual_seed(5))

    def own():
        codes, absmax = nf4.quantize(weight)
        return formats.pack_nibbles(codes.flatten()), nf4.double_quantize(absmax)

    timing = benchmark.compare({"own": own, "theirs": lambda: theirs(weight, 64, double=True)}, repeats=9, warmup=2)
    assert timing.ratio("own", "theirs").value < 1
