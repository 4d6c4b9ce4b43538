"""Microscaling blocks against the specification worked in plain Python, and input that must be refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.arithmetic import formats

# The largest exponent of each element format, as the specification's tables give it.
LARGEST_EXPONENT = {"E4M3": 8, "E5M2": 15, "E2M1": 2}


def by_hand(block: list[float], element: str) -> tuple[list[float], int]:
    """A block as section 6.3 says it: floor of the logarithm, then the nearest element, saturated, ties to even."""
    largest = max(map(abs, block))
    exponent = math.frexp(largest)[1] - 1 - LARGEST_EXPONENT[element] if largest else -127
    exponent = min(max(exponent, -127), 127)
    numbers = formats.decode(torch.arange(formats.of(element).highest_pattern + 1), element).tolist()
    chosen = []
    for value in block:
        part = abs(value) / 2.0**exponent
        nearest = min(range(len(numbers)), key=lambda i: (abs(numbers[i] - part), i % 2))
        chosen.append(math.copysign(numbers[nearest] * 2.0**exponent, value))
    return chosen, exponent


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(LARGEST_EXPONENT)), st.integers(0, 2**32), st.integers(-30, 30), st.sampled_from([4, 32]))
def test_blocks_are_those_of_the_specification(element, seed, size, block_size):
    x = torch.randn(3, 2 * block_size, generator=torch.Generator().manual_seed(seed)) * 2.0**size
    patterns, exponents = formats.microscale(x, element, block_size)
    assert patterns.shape == x.shape
    assert exponents.shape == (3, 2)
    restored = formats.read_blocks(patterns, exponents, element)
    for row in range(3):
        for block in range(2):
            part = slice(block * block_size, (block + 1) * block_size)
            values, exponent = by_hand(x[row, part].tolist(), element)
            assert exponents[row, block] == exponent
            assert restored[row, part].tolist() == values


def test_scales_cost_a_quarter_bit_and_save_small_blocks():
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, 64)[:, None]
    restored = formats.read_blocks(*formats.microscale(x))
    plain = formats.round_to(x, "E4M3")
    error = [((y - x).square().sum(1) / x.square().sum(1)) for y in (restored, plain)]
    assert error[0].max() < 2**-8  # a half step is at most 1/16 of a number
    assert error[1].max() > 0.5  # without blocks the small rows vanish
    assert formats.bits_per_weight(8, 32, formats.SCALE_BITS) == 8.25


def test_zeros_stay_zeros():
    patterns, exponents = formats.microscale(torch.zeros(2, 32), "E2M1")
    assert (exponents == -127).all()
    assert (formats.read_blocks(patterns, exponents, "E2M1") == 0).all()


REFUSED = [
    ("does not split", lambda: formats.microscale(torch.ones(33))),
    ("does not split", lambda: formats.microscale(torch.ones(0))),
    ("NaN or infinity", lambda: formats.microscale(torch.full((32,), math.inf))),
    ("float tensor", lambda: formats.microscale(torch.ones(32, dtype=torch.int8))),
    ("no format", lambda: formats.microscale(torch.ones(32), "E9M9")),
    ("do not fit", lambda: formats.read_blocks(torch.zeros(2, 32).long(), torch.zeros(3, 1).long())),
]


@pytest.mark.parametrize(("words", "call"), REFUSED, ids=[f"{i}-{words}" for i, (words, _) in enumerate(REFUSED)])
def test_bad_input_is_refused_with_words(words, call):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
