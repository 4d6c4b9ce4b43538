"""Observers: which range of values should the codes of an activation cover, judged from batches of calibration data.

An observer sees one batch after the other, keeps extremes or a histogram but never the values, and then names a range
(low, high) for `affine.choose_qparams`. From a histogram the range is chosen by percentile, by least squared error or
by least information lost. There counts (bins,) say how many values fell into each bin, and edges (bins + 1,) rise, all
bins being equally wide. All raise ValueError for shapes that do not fit, edges that do not rise, negative counts, or
counts of nothing.
"""

import torch
from torch import Tensor

from lessons_lib.arithmetic import affine

BINS = 2048
MOST_THRESHOLDS = 128  # about as many does entropy_range try: more take seconds for a whole model


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
        """The range that leaves an equal, small share out at either end: see `observers.percentile_range`."""
        self.range()
        return percentile_range(self.counts, self.edges, percent)

    def least_error(self, bits: int) -> tuple[float, float]:
        """The range with the least squared error in `bits`: see `observers.best_clip_mse`."""
        self.range()
        return best_clip_mse(self.counts, self.edges, bits)

    def entropy(self, bits: int) -> tuple[float, float]:
        """The range whose codes lose the least information: see `observers.entropy_range`."""
        self.range()
        return entropy_range(self.counts, self.edges, bits)

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


def percentile_range(counts: Tensor, edges: Tensor, percent: float) -> tuple[float, float]:
    """The narrowest edges that leave at most (100 - percent) / 2 per cent of the counts outside, at either end.

    percent: above 0, at most 100 (then the range of the bins that are not empty).
    """
    _histogram(counts, edges)
    if not 0 < percent <= 100:
        raise ValueError(f"percent is {percent}; it is the share that stays inside, above 0 and at most 100.")
    below = torch.cat([counts.new_zeros(1), counts]).double().cumsum(0)  # below[i] counts lie left of edge i
    # allowed on either side = total (100 - percent) / 200, and a little for the rounding of the running sum
    allowed = below[-1] * ((100 - percent) / 200 + 1e-12)
    low = int((below <= allowed).nonzero().max())
    high = int((below[-1] - below <= allowed).nonzero().min())
    return edges[low].item(), edges[high].item()


def best_clip_mse(counts: Tensor, edges: Tensor, bits: int) -> tuple[float, float]:
    """Of all pairs of edges, low <= 0 <= high, the one with the least squared error in `bits`; of equals the widest.

    Each bin stands for its middle. Values inside are off by rounding, evenly spread over a step; values outside by
    their distance to the end:
    error = inside · step² / 12 + sum over outside (x - end)², with step = (high - low) / (2**bits - 1).
    With two or three bits a step is too wide for that, and another range may do better by a tenth.
    Raises ValueError as all here, and when zero lies outside the edges.
    """
    _histogram(counts, edges)
    lowest, highest = affine.code_range(bits)
    counts, edges = counts.double(), edges.double()
    if edges[0] > 0 or edges[-1] < 0:
        raise ValueError(
            f"The edges reach from {edges[0]:.3g} to {edges[-1]:.3g}; zero needs a code, so it must lie between them."
        )
    middle = (edges[:-1] + edges[1:]) / 2
    # sums[p][i] = sum of x**p over the counts left of edge i
    sums = [torch.cat([counts.new_zeros(1), (counts * middle**power).cumsum(0)]) for power in range(3)]
    left, right = (edges <= 0).nonzero().flatten(), (edges >= 0).nonzero().flatten()
    low, high = edges[left], edges[right]
    under = _squares_from(low, *(total[left] for total in sums))
    over = _squares_from(high, *(total[-1] - total[right] for total in sums))
    inside = sums[0][right] - sums[0][left, None]
    width = high - low[:, None]
    step = width / (highest - lowest)
    error = (inside * step**2 / 12 + under[:, None] + over).where(width > 0, torch.inf)
    best = width.where(error <= error.min() * (1 + 1e-12), -1).argmax()
    i, j = divmod(int(best), len(high))
    return low[i].item(), high[j].item()


def entropy_range(counts: Tensor, edges: Tensor, bits: int) -> tuple[float, float]:
    """The threshold t that loses the least information, as (-t, t), each end no wider than what was seen.

    For each of some candidates, fewer than 2 * MOST_THRESHOLDS, the absolute values are clipped to t and grouped into
    2**(bits-1) codes; the loss is the KL divergence from the clipped histogram to the grouped one, spread evenly again
    over the bins that were not empty. Of equals the largest t.
    Source: S. Migacz, 8-bit Inference with TensorRT, GPU Technology Conference 2017.
    """
    _histogram(counts, edges)
    codes = affine.code_range(bits, signed=True)[1] + 1
    folded, width = _folded(counts.double(), edges.double())
    stride = max(1, (len(folded) - codes) // MOST_THRESHOLDS)
    thresholds = range(len(folded), min(codes, len(folded)) - 1, -stride)
    stop = min(thresholds, key=lambda stop: information_lost(folded, stop, codes))
    return max(-stop * width, edges[0].item()), min(stop * width, edges[-1].item())


def information_lost(counts: Tensor, stop: int, codes: int) -> float:
    """KL divergence, in nats, from a histogram clipped after `stop` bins to the same read back from `codes` groups.

    counts: FP64 (bins,), of absolute values. What is clipped falls into the last bin. A group keeps its total, spread
    evenly over its bins that hold anything.
    """
    clipped = counts[:stop].clone()
    clipped[-1] += counts[stop:].sum()
    group = torch.arange(stop) * codes // stop
    filled = (counts[:stop] > 0).double()
    total = torch.bincount(group, weights=counts[:stop], minlength=codes)
    used = torch.bincount(group, weights=filled, minlength=codes)
    spread = filled * (total / used.clamp_min(1))[group]
    p, q = clipped / clipped.sum(), spread / spread.sum().clamp_min(1e-300)
    seen = p > 0
    # KL(p || q) = sum p log(p / q)
    return (p[seen] * (p[seen] / q[seen].clamp_min(1e-10)).log()).sum().item()


def _squares_from(end: Tensor, count: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Sum of (x - end)² from the sums of 1, x and x²: sum x² - 2 end sum x + end² sum 1."""
    return second - 2 * end * first + end**2 * count


def _folded(counts: Tensor, edges: Tensor) -> tuple[Tensor, float]:
    """Counts by absolute value in bins as wide as the old ones, and that width."""
    width = ((edges[-1] - edges[0]) / len(counts)).item()
    place = (((edges[:-1] + edges[1:]) / 2).abs() / width).long()
    return torch.bincount(place, weights=counts), width


def _histogram(counts: Tensor, edges: Tensor) -> None:
    if counts.dim() != 1 or edges.shape != (len(counts) + 1,) or (edges.diff() <= 0).any():
        raise ValueError(
            f"counts (bins,) need rising edges (bins + 1,); shapes are {tuple(counts.shape)} and {tuple(edges.shape)}."
        )
    if (counts < 0).any() or not counts.sum() > 0:
        raise ValueError("counts must not be negative, and at least one bin must hold something.")
