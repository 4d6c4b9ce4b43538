"""Ranges chosen from a histogram: by percentile, by least squared error, by least information lost.

counts: (bins,), how many values fell into each bin. edges: (bins + 1,), rising; every bin as wide as the next.
All raise ValueError for shapes that do not fit, edges that do not rise, negative counts, or counts of nothing.
"""

import torch
from torch import Tensor

from lessons_lib import affine

MOST_THRESHOLDS = 128  # about as many does entropy_range try: more take seconds for a whole model


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
