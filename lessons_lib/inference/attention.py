"""Attention three ways: with the whole table of scores in memory, block by block, and by torch's fused kernel.

Sources: A. Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762, equation 1; M. Milakov and N. Gimelshein,
Online normalizer calculation for softmax, 2018, arXiv:1805.02867; M. Rabe and C. Staats, Self-attention Does Not Need
O(n²) Memory, 2021, arXiv:2112.05682; T. Dao et al., FlashAttention, 2022, arXiv:2205.14135; heads that share keys and
values: J. Ainslie et al., GQA, 2023, arXiv:2305.13245.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 256  # keys, and queries, taken at a time


def naive(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K' / √d) V with every score written down: (B, H, T, d).

    query: floats (B, H, T, d). keys, values: (B, K, L, d), where K divides H: so many heads share keys and values.
    mask: bool (B or 1, 1, T or 1, L), True where a query may look; each must be allowed to look somewhere.
    The softmax is taken in FP32. Raises ValueError for shapes that do not fit.
    """
    _check(query, keys, values)
    if mask is not None and (mask.ndim != 4 or mask.dtype != torch.bool):
        raise ValueError(f"mask must be bool and (B or 1, 1, T or 1, L), not {mask.dtype} and {tuple(mask.shape)}")
    groups = query.shape[1] // keys.shape[1]
    # S = Q K' / √d
    asked = (query / math.sqrt(query.shape[-1])).unflatten(1, (-1, groups)).flatten(2, 3)
    scores = (asked @ keys.transpose(-1, -2)).float().unflatten(2, (groups, -1))
    if mask is not None:
        scores = scores.masked_fill_(~mask[:, :, None], -torch.inf)
    mixed = scores.softmax(dim=-1).to(values.dtype).flatten(2, 3) @ values
    return mixed.unflatten(2, (groups, -1)).flatten(1, 2)


def online_softmax(blocks: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """softmax(S) V from blocks of columns of S and the rows of V that belong to them, each seen once.

    blocks: pairs of scores (..., T, n) and values (..., n, d); n may differ. A score of -inf has the weight 0.
    Returns the maximum m (..., T) of each row of S, the sum l (..., T) of exp(S - m), and the output (..., T, d). As
    with torch's softmax, a row of nothing but -inf gives NaN; its sum is 0. Raises ValueError when there is no block.
    Source: arXiv:1805.02867, algorithm 3; the output is carried along as in arXiv:2205.14135, algorithm 1.
    """
    maximum = None
    for scores, values in blocks:
        if maximum is None:
            maximum = torch.full_like(scores[..., 0], -torch.inf)
            total = torch.zeros_like(maximum)
            output = scores.new_zeros(*scores.shape[:-1], values.shape[-1])
        # m' = max(m, max S);  as long as a row has seen -inf alone, its differences are taken from 0, not from -inf
        higher = torch.maximum(maximum, scores.amax(dim=-1))
        base = higher.masked_fill(higher == -torch.inf, 0.0)
        # l' = l exp(m - m') + Σ exp(S - m'),   O' = O exp(m - m') + exp(S - m') V
        weights, rescale = torch.exp(scores - base[..., None]), torch.exp(maximum - base)
        total = total * rescale + weights.sum(dim=-1)
        output = output * rescale[..., None] + weights @ values
        maximum = higher
    if maximum is None:
        raise ValueError("online_softmax needs at least one block of scores and values.")
    return maximum, total, output / total[..., None]


def blockwise(query: Tensor, keys: Tensor, values: Tensor, causal: bool = False, block: int = BLOCK) -> Tensor:
    """The same as `naive` with at most block x block scores a head in memory: (B, H, T, d), computed in FP32.

    query: floats (B, H, T, d). keys, values: (B, H, L, d). causal: query i sees keys 0 ... i, and blocks that lie
    wholly in the future are skipped; then T must equal L. Raises ValueError for other shapes.
    """
    _check(query, keys, values)
    if query.shape[1] != keys.shape[1] or (causal and query.shape[2] != keys.shape[2]):
        raise ValueError(
            "blockwise attention wants as many heads of keys as of queries, and as many positions of both "
            f"when it is causal, not {tuple(query.shape)} and {tuple(keys.shape)}"
        )
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise ValueError(f"block counts keys and must be a whole number of at least 1, not {block!r}")
    output = torch.empty_like(query)
    for first in range(0, query.shape[2], block):
        rows = query[:, :, first : first + block].float() / math.sqrt(query.shape[-1])
        ends = first + rows.shape[2] if causal else keys.shape[2]
        seen = (
            _block(rows, keys, values, start, min(start + block, ends), first if causal else None)
            for start in range(0, ends, block)
        )
        output[:, :, first : first + block] = online_softmax(seen)[2]
    return output


def fused(query: Tensor, keys: Tensor, values: Tensor, causal: bool = False) -> Tensor:
    """torch's scaled_dot_product_attention, which picks a blockwise kernel in C++ where it has one."""
    return F.scaled_dot_product_attention(query, keys, values, is_causal=causal)


def score_bytes(batch: int, heads: int, length: int, element: int = 4) -> int:
    """Bytes of one table of scores of `length` queries and keys, element bytes a score."""
    return batch * heads * length * length * element


def _block(rows: Tensor, keys: Tensor, values: Tensor, start: int, end: int, first: int | None):
    """Scores of the queries from `first` on with keys start ... end - 1, and those values; None: nothing is hidden."""
    scores = rows @ keys[:, :, start:end].float().transpose(-1, -2)
    if first is not None and end > first:  # else all of these keys lie in the past of all of these queries
        place = torch.arange(first, first + rows.shape[2])[:, None]
        scores = scores.masked_fill_(torch.arange(start, end) > place, -torch.inf)
    return scores, values[:, :, start:end].float()


def _check(query: Tensor, keys: Tensor, values: Tensor) -> None:
    fits = (
        query.ndim == keys.ndim == 4
        and keys.shape == values.shape
        and keys.numel()
        and query.numel()
        and query.shape[0] == keys.shape[0]
        and query.shape[3] == keys.shape[3]
        and query.shape[1] % keys.shape[1] == 0
    )
    if not fits:
        raise ValueError(
            "query must be (B, H, T, d), keys and values both (B, K, L, d) with K dividing H, none empty; "
            f"they are {tuple(query.shape)}, {tuple(keys.shape)} and {tuple(values.shape)}"
        )
