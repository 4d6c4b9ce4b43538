"""Ranges from histograms: against written cases, and against trying every range on the values themselves."""

import itertools
import math

import pytest
import torch

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import observers

EDGES = torch.arange(-2.0, 4.0)  # five bins: -2 ... 3


def histogram(values, bins=64):
    low, high = min(values.min().item(), 0.0), max(values.max().item(), 0.0)
    return torch.histc(values, bins, low, high), torch.linspace(low, high, bins + 1)


def test_percentiles_leave_a_share_out_at_either_end():
    counts = torch.tensor([1.0, 4.0, 90.0, 4.0, 1.0])
    assert observers.percentile_range(counts, EDGES, 100) == (-2, 3)
    assert observers.percentile_range(counts, EDGES, 98) == (-1, 2)
    assert observers.percentile_range(counts, EDGES, 90) == (0, 1)
    assert observers.percentile_range(counts, EDGES, 97.9) == (-1, 2)
    assert observers.percentile_range(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]), EDGES, 100) == (-1, 0)


def test_percentiles_of_many_counts_do_not_round_the_rare_ones_away():
    counts = torch.tensor([1.0, 2e9, 1.0])
    assert observers.percentile_range(counts, torch.arange(4.0), 100) == (0, 3)


def test_least_error_of_every_range_on_a_written_case():
    """Two bits, three steps: every range that holds zero, by the formula, one bin at a time."""
    counts = torch.tensor([1.0, 50.0, 80.0, 50.0, 2.0])
    middle = (EDGES[:-1] + EDGES[1:]) / 2

    def error(low, high):
        inside = (middle > low) & (middle < high)
        off = torch.where(middle < low, low - middle, middle - high)
        return float((counts * inside).sum() * ((high - low) / 3) ** 2 / 12 + (counts * ~inside * off**2).sum())

    pairs = [(low, high) for low, high in itertools.combinations(EDGES.tolist(), 2) if low <= 0 <= high]
    found = observers.best_clip_mse(counts, EDGES, 2)
    assert found in pairs
    assert error(*found) == pytest.approx(min(error(*pair) for pair in pairs))


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_least_error_is_near_the_best_of_all_ranges_on_the_values(bits):
    draw = torch.Generator().manual_seed(bits)
    values = torch.randn(20_000, generator=draw) * torch.randn(20_000, generator=draw).exp()  # long tails

    def true_error(ends):
        scale, zero_point = affine.choose_qparams(*ends, bits)
        return (values - affine.fake_quantize(values, scale, zero_point, bits)).square().mean().item()

    low, high = affine.best_clip(values, bits, signed=False, symmetric=True)
    found = observers.best_clip_mse(*histogram(values, 512), bits)
    assert true_error(found) <= 1.05 * true_error((low, high))
    assert true_error(found) < true_error((values.min().item(), values.max().item()))


def test_of_equal_errors_the_widest_range_wins():
    # Nothing is clipped by the ends of the only bin in use, which are the narrowest and so the best.
    assert observers.best_clip_mse(torch.tensor([0.0, 0.0, 5.0, 0.0]), torch.arange(-2.0, 3.0), 8) == (0, 1)
    assert observers.best_clip_mse(torch.ones(2), torch.tensor([-1.0, 0.0, 1.0]), 8) == (-1, 1)
    # Two bits over one count at 3.5: clipping at 3 costs 0.25, the range up to 4 rounds by (4 / 3)² / 12.
    assert observers.best_clip_mse(torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.arange(5.0), 2) == (0, 4)


def test_information_lost_by_hand():
    """Four bins, clipped after three, two codes: groups of two bins and one (0 and 1 share a code, 2 has its own)."""
    counts = torch.tensor([6.0, 2.0, 4.0, 4.0], dtype=torch.float64)
    p, q = [6 / 16, 2 / 16, 8 / 16], [4 / 12, 4 / 12, 4 / 12]
    wanted = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert observers.information_lost(counts, 3, 2) == pytest.approx(wanted)
    assert observers.information_lost(counts, 4, 4) == pytest.approx(0)  # a code for every bin


def test_an_empty_bin_gets_nothing_back():
    counts = torch.tensor([6.0, 0.0, 4.0, 4.0], dtype=torch.float64)  # groups: 6 and 0, 4 and 4
    assert observers.information_lost(counts, 4, 2) == pytest.approx(0)


def test_entropy_keeps_all_where_nothing_is_rare_and_clips_a_far_outlier():
    draw = torch.Generator().manual_seed(0)
    flat = torch.rand(100_000, generator=draw) * 2 - 1
    assert observers.entropy_range(*histogram(flat, 1024), 8)[1] > 0.9
    spoiled = torch.cat([torch.randn(100_000, generator=draw), torch.tensor([100.0])])
    assert observers.entropy_range(*histogram(spoiled, 2048), 8)[1] < 30


def test_entropy_takes_the_least_loss_of_all_thresholds():
    draw = torch.Generator().manual_seed(1)
    counts, edges = histogram(torch.randn(5_000, generator=draw).abs(), 128)
    best = min(range(128, 7, -1), key=lambda stop: observers.information_lost(counts.double(), stop, 8))
    assert observers.entropy_range(counts, edges, 4)[1] == pytest.approx(best * edges[1].item())
    assert best < 128


@pytest.mark.parametrize(
    ("counts", "edges", "words"),
    [
        (torch.ones(3), torch.arange(3.0), r"rising edges \(bins \+ 1,\)"),
        (torch.ones(2), torch.tensor([0.0, 2.0, 1.0]), "rising edges"),
        (torch.zeros(2), torch.arange(3.0), "at least one bin must hold something"),
        (torch.tensor([-1.0, 3.0]), torch.arange(3.0), "must not be negative"),
    ],
)
def test_a_histogram_that_is_none_is_refused(counts, edges, words):
    for choose in (observers.percentile_range, observers.best_clip_mse, observers.entropy_range):
        with pytest.raises(ValueError, match=words):
            choose(counts, edges, 8)


def test_a_range_without_zero_is_refused():
    with pytest.raises(ValueError, match="zero needs a code"):
        observers.best_clip_mse(torch.ones(2), torch.arange(1.0, 4.0), 8)
