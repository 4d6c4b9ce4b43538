"""Masking: which tokens a masked language model has to guess, and what it sees in their place.

Source: BERT, Devlin et al. 2019, arXiv:1810.04805, section 3.1 (15 % chosen; 80 % masked, 10 % random, 10 % kept), and
RoBERTa, Liu et al. 2019, arXiv:1907.11692, section 4.1 (dynamic masking: new masks whenever a sentence is seen).
"""

import torch
from torch import Tensor

from lessons_lib.distillation import UNLABELLED

CHOSEN = 0.15  # share of the ordinary tokens that are to be guessed
MASKED, RANDOM = 0.8, 0.1  # shares of the chosen ones that become [MASK], and a random token; the rest stays


def mask_tokens(
    ids: Tensor, special: Tensor, mask_id: int, vocab: int, p: float, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """What the model sees, and what it has to say: masked ids and labels, both int64 (B, T); ids stay as they are.

    ids: int64 (B, T). special: int64 (n,), ids that are never chosen: those of [CLS], [SEP], [PAD] and their like.
    mask_id: the id of [MASK]. vocab: number of ids. p: share of the other tokens to choose, 0 to 1. uniforms: floats
    (3, B, T) in [0, 1): the first decides whether a token is chosen (below p), the second what becomes of it (below 0.8
    [MASK], below 0.9 a random token, else itself), the third which random token (the whole part of u · vocab).
    The label is the original id where a token was chosen, UNLABELLED elsewhere.
    """
    _check(ids, mask_id, vocab, p, uniforms)
    choose, fate, replacement = uniforms
    chosen = (choose < p) & ~torch.isin(ids, special)
    random = (replacement * vocab).long()
    masked = ids.masked_fill(chosen & (fate < MASKED), mask_id)
    masked = torch.where(chosen & (fate >= MASKED) & (fate < MASKED + RANDOM), random, masked)
    return masked, ids.where(chosen, UNLABELLED)


def draw_masks(ids: Tensor, special: Tensor, mask_id: int, vocab: int, p: float = CHOSEN) -> tuple[Tensor, Tensor]:
    """mask_tokens with uniforms from torch's random state, new ones at every call: dynamic masking."""
    return mask_tokens(ids, special, mask_id, vocab, p, torch.rand(3, *ids.shape, device=ids.device))


def _check(ids: Tensor, mask_id: int, vocab: int, p: float, uniforms: Tensor) -> None:
    if ids.dtype != torch.int64 or ids.dim() != 2 or not ids.numel():
        raise TypeError(f"ids must be int64 (batch, length), not {ids.dtype} of shape {tuple(ids.shape)}")
    if not 0 <= mask_id < vocab or not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
        raise ValueError(f"mask_id and all ids must lie in 0 ... vocab - 1 = {vocab - 1}")
    if not 0 <= p <= 1:
        raise ValueError(f"p is a share of the tokens and lies in 0 ... 1, not {p}")
    if uniforms.shape != (3, *ids.shape) or not ((uniforms >= 0) & (uniforms < 1)).all():
        raise ValueError(f"uniforms must have the shape {(3, *ids.shape)} and lie in [0, 1); see torch.rand")
