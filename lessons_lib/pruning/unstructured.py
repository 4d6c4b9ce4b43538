"""Which weights to zero: masks by size, by pattern and by Wanda's score, exact to the last weight.

A mask is a bool tensor shaped like its weight, True where the weight stays; `weight * mask` is the pruned weight.
Of n weights, round(sparsity * n) go, as Python rounds and as torch.nn.utils.prune counts. Where weights are equally
small and not all of them go, those with the lowest index go first; the indices of several tensors follow one another.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Masks = dict[str, Tensor]


def pruned_count(numel: int, sparsity: float) -> int:
    """How many of numel weights go. ValueError when the sparsity is not a share from 0 to 1."""
    if isinstance(sparsity, bool) or not (math.isfinite(sparsity) and 0 <= sparsity <= 1):
        raise ValueError(f"sparsity is the share of weights that become zero, from 0 to 1, not {sparsity!r}.")
    return round(sparsity * numel)


def _sizes(weight: Tensor, what: str = "weight") -> Tensor:
    """Absolute values, in FP32 or finer. Refuses what has no order by size."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise TypeError(f"{what} must be a tensor of floating-point numbers; convert it with .float().")
    if not weight.numel():
        raise ValueError(f"{what} of shape {tuple(weight.shape)} has no numbers, so there is nothing to prune.")
    sizes = weight.detach().abs()
    sizes = sizes if sizes.dtype == torch.float64 else sizes.float()  # exact: FP32 holds every FP16 and BF16 number
    if not sizes.isfinite().all():
        raise ValueError(f"{what} holds NaN or infinity, which cannot be put in order; repair the training first.")
    return sizes


def _smallest(scores: Tensor, count: int) -> Tensor:
    """True for the count smallest of scores (n,), of equal ones those that come first.

    The threshold is one value found by selection, for any n. torch.quantile refuses more than 16,777,216 numbers, and
    a threshold alone prunes too many or too few where several weights equal it.
    """
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(count).values
    smallest = scores < threshold
    equal = (scores == threshold).nonzero().flatten()
    smallest[equal[: count - int(smallest.sum())]] = True
    return smallest


def _smallest_in_rows(scores: Tensor, count: int) -> Tensor:
    """True for the count smallest in every row of scores (..., n), of equal ones those that come first."""
    order = scores.argsort(dim=-1, stable=True)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order[..., :count], True)


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """The mask that zeros the round(sparsity * n) smallest of a tensor's n weights by absolute value.

    weight: floating point, any shape and layout. Returns bool of its shape. Raises TypeError for other dtypes,
    ValueError for no weights, NaN, infinity or a sparsity outside 0 ... 1.
    Source: S. Han et al., Learning both Weights and Connections for Efficient Neural Networks, 2015, arXiv:1506.02626.
    """
    sizes = _sizes(weight)
    return ~_smallest(sizes.flatten(), pruned_count(sizes.numel(), sparsity)).view(sizes.shape)


def score_mask(scores: Tensor, sparsity: float) -> Tensor:
    """The mask that zeros the round(sparsity * n) weights with the lowest of n scores, their signs counted.

    scores: floating point, any shape and layout. Returns bool of its shape. Raises as magnitude_mask.
    """
    _sizes(scores, "scores")
    return ~_smallest(scores.detach().flatten(), pruned_count(scores.numel(), sparsity)).view(scores.shape)


def _named(weights: Mapping[str, Tensor]) -> None:
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError("weights must be a dict of at least one tensor by name, as schedules.linear_weights.")


def local_masks(weights: Mapping[str, Tensor], sparsity: float) -> Masks:
    """A `magnitude_mask` for each tensor by itself: every layer loses the same share."""
    _named(weights)
    return {name: magnitude_mask(weight, sparsity) for name, weight in weights.items()}


def global_masks(weights: Mapping[str, Tensor], sparsity: float) -> Masks:
    """Masks that zero the round(sparsity * n) smallest of all n weights together: one threshold for all tensors.

    weights: tensors by name; equal weights go in the order of the dict, then of the index. Raises as magnitude_mask.
    """
    _named(weights)
    sizes = [_sizes(weight, name).flatten() for name, weight in weights.items()]
    together = torch.cat([one.to(sizes[0].device) for one in sizes])
    smallest = _smallest(together, pruned_count(together.numel(), sparsity)).split([one.numel() for one in sizes])
    return {
        name: ~gone.view(weight.shape).to(weight.device)
        for (name, weight), gone in zip(weights.items(), smallest, strict=True)
    }


def type_masks(weights: Mapping[str, Tensor], sparsities: Mapping[str, float]) -> Masks:
    """`global_masks` for each type of layer by itself.

    sparsities: the share for each type, by a word in the names of its layers: {"attention": 0.3, "feed": 0.6}. The
    first word that a name holds decides. Raises ValueError for a name that holds none, and for a word without a name.
    """
    _named(weights)
    groups: dict[str, dict[str, Tensor]] = {word: {} for word in sparsities}
    for name, weight in weights.items():
        word = next((word for word in sparsities if word in name), None)
        if word is None:
            raise ValueError(f"{name!r} holds none of the words {', '.join(sparsities)}; give its type a share, or 0.")
        groups[word][name] = weight
    masks = {}
    for word, group in groups.items():
        if not group:
            raise ValueError(f"{word!r} decides for no tensor; leave it out, correct it, or put it before other words.")
        masks |= global_masks(group, sparsities[word])
    return {name: masks[name] for name in weights}


def _matrix(weight: Tensor) -> Tensor:
    sizes = _sizes(weight)
    if sizes.ndim != 2:
        raise ValueError(f"weight must be a matrix (outputs, inputs), not of shape {tuple(sizes.shape)}.")
    return sizes


def row_mask(weight: Tensor, sparsity: float) -> Tensor:
    """`magnitude_mask` in every row (all weights of one output) of a matrix (outputs, inputs) by itself."""
    sizes = _matrix(weight)
    return ~_smallest_in_rows(sizes, pruned_count(sizes.shape[1], sparsity))


def wanda_mask(weight: Tensor, act_norm: Tensor, sparsity: float) -> Tensor:
    """The mask that zeros in every row (all weights of one output) those with the smallest score.

    weight: (outputs, inputs). act_norm: (inputs,), the Euclidean norm of each input over all tokens of some texts: see
    schedules.input_norms. Of each row's weights round(sparsity * inputs) go. Raises as magnitude_mask, and
    ValueError unless there is one norm of at least 0 for each input.
    Source: M. Sun et al., A Simple and Effective Pruning Approach for Large Language Models, 2023, arXiv:2306.11695,
    equation 1.
    """
    sizes = _matrix(weight)
    if not isinstance(act_norm, Tensor) or act_norm.shape != sizes.shape[1:]:
        raise ValueError(f"act_norm needs one norm for each of the {sizes.shape[1]} inputs, as a tensor of one axis.")
    if not (act_norm.isfinite() & (act_norm >= 0)).all():
        raise ValueError("act_norm holds lengths: finite numbers of at least 0, no NaN.")
    # S_ij = |W_ij| * ||X_j||_2
    scores = sizes * act_norm.detach().to(sizes)
    return ~_smallest_in_rows(scores, pruned_count(sizes.shape[1], sparsity))


def n_m_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """The mask that keeps the n largest of every m neighbours along the last axis, by absolute value.

    weight: floating point (..., inputs), inputs a multiple of m. n=2, m=4 is the pattern of NVIDIA's sparse tensor
    cores. Raises as magnitude_mask, and ValueError unless 0 < n <= m and the inputs divide into groups of m.
    Source: A. Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, arXiv:2104.08378.
    """
    sizes = _sizes(weight)
    for name, number in {"n": n, "m": m}.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {number!r}.")
    if n > m:
        raise ValueError(f"of {m} neighbours at most {m} can stay, not {n}: give n <= m.")
    if sizes.ndim == 0 or sizes.shape[-1] % m:
        raise ValueError(
            f"the last axis of {tuple(sizes.shape)} does not divide into groups of {m}; pad it, or take another m."
        )
    groups = sizes.unflatten(-1, (-1, m))
    return ~_smallest_in_rows(groups, m - n).view(sizes.shape)


def sparsity(weights: Mapping[str, Tensor]) -> float:
    """Share of zeros in all of these tensors together."""
    _named(weights)
    return sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())


def highest_sparsity(
    quality: Callable[[float], float], floor: float, candidates: Sequence[float]
) -> tuple[float | None, dict[float, float]]:
    """The highest of some sparsities whose quality is at least the floor, found by bisection, and what was tried.

    quality(sparsity): asked for about log2 of the candidates. It is taken to fall as the sparsity grows; where noise
    makes it rise, a higher one may be missed. candidates: in ascending order. None when all that were tried fall below.
    """
    if not len(candidates) or any(b <= a for a, b in zip(candidates, candidates[1:], strict=False)):
        raise ValueError("candidates must be sparsities in ascending order, at least one.")
    tried, low, high = {}, -1, len(candidates)  # low is good enough, high is not; neither end has been asked
    while high - low > 1:
        middle = (low + high) // 2
        tried[candidates[middle]] = quality(candidates[middle])
        low, high = (middle, high) if tried[candidates[middle]] >= floor else (low, middle)
    return (candidates[low] if low >= 0 else None), tried
