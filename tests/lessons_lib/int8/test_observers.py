"""Observers of calibration data: agree with torch.ao's, whatever the order of the batches; refuse what has no range."""

import warnings

import pytest
import torch

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import observers
from lessons_lib.int8.observers import Histogram, MinMax, MovingAverage

EVERY = [MinMax, MovingAverage, Histogram]


def batches(count=6, outlier=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    found = [torch.randn(16, 8, generator=draw) * (1 + 0.3 * i) + 0.2 for i in range(count)]
    if outlier is not None:
        found[2][0, 0] = outlier
    return found


def shown(observer, data):
    for batch in data:
        observer.observe(batch)
    return observer


@pytest.fixture(scope="module")
def ao():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import observer
    return observer


def shown_to(observer, data):
    for batch in data:
        observer(batch)
    return observer


def test_min_max_agrees_with_torch(ao):
    other = shown_to(ao.MinMaxObserver(), batches())
    assert shown(MinMax(), batches()).range() == (other.min_val.item(), other.max_val.item())
    assert observers.min_max(batches()) == (other.min_val.item(), other.max_val.item())


@pytest.mark.parametrize("axis", [0, 1])
def test_min_max_by_channel_agrees_with_torch(ao, axis):
    other = shown_to(ao.PerChannelMinMaxObserver(ch_axis=axis), batches())
    low, high = shown(MinMax(axis), batches()).range()
    assert torch.equal(low, other.min_val)
    assert torch.equal(high, other.max_val)


@pytest.mark.parametrize("momentum", [0.01, 0.3, 1.0])
def test_moving_average_agrees_with_torch(ao, momentum):
    other = shown_to(ao.MovingAverageMinMaxObserver(averaging_constant=momentum), batches(outlier=80.0))
    assert shown(MovingAverage(momentum), batches(outlier=80.0)).range() == pytest.approx(
        (other.min_val.item(), other.max_val.item()), rel=1e-6
    )


def test_scale_and_zero_point_agree_with_torch(ao):
    other = shown_to(ao.MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine), batches())
    scale, zero_point = other.calculate_qparams()
    ours = affine.choose_qparams(*shown(MinMax(), batches()).range(), bits=8)
    assert ours == (pytest.approx(scale.item(), rel=1e-6), zero_point.item())


def true_error(data, ends, bits):
    values = torch.cat([batch.flatten() for batch in data])
    return (values - affine.fake_quantize(values, *affine.choose_qparams(*ends, bits), bits)).square().mean().item()


@pytest.mark.parametrize("outlier", [None, 60.0])
@pytest.mark.parametrize("bits", [8, 4])
def test_least_error_is_as_good_as_torchs_histogram_observer(ao, bits, outlier):
    data = batches(count=20, outlier=outlier)
    other = shown_to(ao.HistogramObserver(dtype=torch.quint8, quant_min=0, quant_max=2**bits - 1), data)
    theirs = true_error(data, [end.item() for end in other._non_linear_param_search()], bits)
    assert true_error(data, shown(Histogram(), data).least_error(bits), bits) <= 1.03 * theirs


def test_an_outlier_stretches_min_max_and_not_the_others():
    draw = torch.Generator().manual_seed(0)
    data = [torch.randn(20_000, generator=draw) for _ in range(4)]
    clean, spoiled = shown(Histogram(), data), shown(Histogram(), [*data, torch.tensor([60.0])])
    assert spoiled.range()[1] == 60
    for choose in (lambda seen: seen.percentile(99.9), lambda seen: seen.least_error(4), lambda seen: seen.entropy(8)):
        assert choose(spoiled)[1] < 3 * choose(clean)[1] < 20


def test_a_histogram_chooses_by_its_counts():
    seen = shown(Histogram(64), batches())
    assert seen.percentile(99) == observers.percentile_range(seen.counts, seen.edges, 99)
    assert seen.least_error(3) == observers.best_clip_mse(seen.counts, seen.edges, 3)
    assert seen.entropy(3) == observers.entropy_range(seen.counts, seen.edges, 3)
    assert seen.range() == shown(MinMax(), batches()).range()


def test_a_histogram_counts_every_value_whatever_the_order():
    data = batches(count=8)
    for order in (data, data[::-1]):
        histogram = shown(Histogram(64), order)
        assert histogram.counts.sum() == sum(batch.numel() for batch in data)
        values = torch.cat([batch.flatten() for batch in data]).double()
        wanted = torch.histogram(values, histogram.edges).hist
        assert (histogram.counts - wanted).abs().sum() <= 2  # a value on an edge may fall either way
        assert histogram.edges[0] <= values.min()
        assert histogram.edges[-1] >= values.max()


@pytest.mark.parametrize("kind", EVERY)
def test_what_has_no_range_is_refused(kind):
    with pytest.raises(ValueError, match="nothing was observed yet"):
        kind().range()
    for batch in (torch.empty(0), torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")])):
        with pytest.raises(ValueError, match="empty or holds NaN or infinity"):
            kind().observe(batch)
    with pytest.raises(TypeError, match="float tensor, not torch.int64"):
        kind().observe(torch.tensor([1, 2]))


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_constant_batches_have_a_range_that_holds_them(value):
    seen = shown(Histogram(), [torch.full((4,), value)] * 2)
    assert shown(MovingAverage(), [torch.full((4,), value)] * 2).range() == seen.range() == (value, value)
    bin_width = (abs(value) or 1) / 512  # a bin's middle stands for its values
    for low, high in (seen.percentile(99.9), seen.least_error(8), seen.entropy(8)):
        assert min(low, 0) - bin_width <= value <= max(high, 0) + bin_width


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MovingAverage(0.0), "above 0 and at most 1"),
        (lambda: Histogram(7), "an even number is needed"),
        (lambda: shown(Histogram(), batches()).percentile(0.0), "above 0 and at most 100"),
        (lambda: Histogram().least_error(8), "nothing was observed yet"),
    ],
)
def test_wrong_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
