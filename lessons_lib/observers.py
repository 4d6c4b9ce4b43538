"""Observers: which range of values should the codes of an activation cover, judged from batches of calibration data.

An observer sees one batch after the other, keeps extremes or a histogram but never the values, and then names a range
(low, high) for `affine.choose_qparams`.
"""

import torch
from torch import Tensor

from lessons_lib import ranges

BINS = 2048


def min_max(batches: list[Tensor]) -> tuple[float, float]:
    """The least and the greatest value of all batches. Raises ValueError for none, and for NaN or infinity."""
    observer = MinMax()
    for batch in batches:
        observer.observe(batch)
    return observer.range()


class MinMax:
    """The extremes of everything seen. axis: one range for every slice along it, else one for the whole tensor.

    Agrees with torch.ao's MinMaxObserver and PerChannelMinMaxObserver.
    """

    def __init__(self, axis: int | None = None):
        self.axis, self.low, self.high = axis, None, None

    def observe(self, batch: Tensor) -> None:
        """Take a batch into account: a float tensor of any shape. Raises TypeError or ValueError for others."""
        low, high = self._ends(_checked(batch))
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def range(self) -> tuple:
        """(low, high): floats, or FP32 tensors (C,) along the axis. Raises ValueError when nothing was seen."""
        if self.low is None:
            raise ValueError("nothing was observed yet; show the observer at least one batch.")
        return (self.low, self.high) if self.axis is not None else (self.low.item(), self.high.item())

    def _ends(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        if self.axis is None:
            return batch.amin(), batch.amax()
        rows = batch.movedim(self.axis, 0).flatten(1)
        return rows.amin(1), rows.amax(1)


class MovingAverage(MinMax):
    """Extremes that follow the batches: each end moves by the share `momentum` towards that of the newest batch.

    One odd batch then moves the range a little, where MinMax would keep it for ever; the first batch counts fully. As
    torch.ao's MovingAverageMinMaxObserver, whose averaging_constant is the momentum.
    """

    def __init__(self, momentum: float = 0.01):
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum is {momentum}; it is the share of the newest batch, above 0 and at most 1.")
        super().__init__()
        self.momentum = momentum

    def observe(self, batch: Tensor) -> None:
        """Take a batch into account. Raises as MinMax."""
        low, high = self._ends(_checked(batch))
        # low <- low + momentum (low of the batch - low)
        self.low = low if self.low is None else self.low + self.momentum * (low - self.low)
        self.high = high if self.high is None else self.high + self.momentum * (high - self.high)


class Histogram(MinMax):
    """Extremes, and counts of the values in equal bins, from which ranges can be chosen afterwards.

    counts: FP64 (bins,). edges: FP64 (bins + 1,), zero between the first and the last. When a value falls outside, the
    bins become twice as wide: neighbours merge, so no value is lost or counted twice.
    """

    def __init__(self, bins: int = BINS):
        if bins < 2 or bins % 2:
            raise ValueError(f"bins is {bins}; an even number is needed, so that neighbours can merge in pairs.")
        super().__init__()
        self.counts, self.edges = torch.zeros(bins, dtype=torch.float64), None

    def observe(self, batch: Tensor) -> None:
        """Take a batch into account. Raises as MinMax."""
        super().observe(batch)
        low, high = min(self.low.item(), 0.0), max(self.high.item(), 0.0)
        if self.edges is None:
            self.edges = torch.linspace(low, high if high > low else low + 1, len(self.counts) + 1, dtype=torch.float64)
        while high > self.edges[-1]:
            self._widen(up=True)
        while low < self.edges[0]:
            self._widen(up=False)
        ends = self.edges[0].item(), self.edges[-1].item()
        self.counts += torch.histc(_checked(batch).double(), len(self.counts), *ends)

    def percentile(self, percent: float) -> tuple[float, float]:
        """The range that leaves an equal, small share out at either end: see `ranges.percentile_range`."""
        self.range()
        return ranges.percentile_range(self.counts, self.edges, percent)

    def least_error(self, bits: int) -> tuple[float, float]:
        """The range with the least squared error in `bits`: see `ranges.best_clip_mse`."""
        self.range()
        return ranges.best_clip_mse(self.counts, self.edges, bits)

    def entropy(self, bits: int) -> tuple[float, float]:
        """The range whose codes lose the least information: see `ranges.entropy_range`."""
        self.range()
        return ranges.entropy_range(self.counts, self.edges, bits)

    def _widen(self, up: bool) -> None:
        low, high = self.edges[0].item(), self.edges[-1].item()
        half = len(self.counts) // 2
        merged = torch.zeros_like(self.counts)
        merged[slice(half) if up else slice(half, None)] = self.counts.view(half, 2).sum(1)
        low, high = (low, 2 * high - low) if up else (2 * low - high, high)
        self.counts, self.edges = merged, torch.linspace(low, high, 2 * half + 1, dtype=torch.float64)


def _checked(batch: Tensor) -> Tensor:
    if not isinstance(batch, Tensor) or not batch.is_floating_point():
        raise TypeError(f"a batch is a float tensor, not {getattr(batch, 'dtype', type(batch).__name__)}.")
    if batch.numel() == 0 or not batch.isfinite().all():
        raise ValueError(f"a batch of shape {tuple(batch.shape)} is empty or holds NaN or infinity; leave it out.")
    return batch.detach().float()
