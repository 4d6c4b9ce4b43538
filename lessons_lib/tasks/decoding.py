"""Decoding: from a model that scores the next piece to whole texts, greedily or with several beams, in batches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lessons_lib.files import progress
from lessons_lib.tasks import phrase_pairs
from lessons_lib.tasks.layers import evaluating
from lessons_lib.tasks.phrase_pairs import BEGIN, END, PAD

MAX_NEW = 38  # pieces after which a translation is cut; the longest of the corpus has fewer


def _check(source: Tensor, longest: int, beams: int = 1) -> None:
    if source.ndim != 2 or source.dtype != torch.int64 or not source.numel():
        raise ValueError(f"source must be int64 (B, S) with at least one row, not {source.dtype} {tuple(source.shape)}")
    for name, number in {"longest": longest, "beams": beams}.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {number!r}.")


@torch.no_grad()
def greedy(model: nn.Module, source: Tensor, longest: int = MAX_NEW) -> Tensor:
    """The likeliest next piece again and again, until END: int64 (B, T) from BEGIN on, padded with PAD.

    source: int64 (B, S). Keys and values of earlier pieces are kept, so each step computes one piece a row.
    """
    _check(source, longest)
    encoded, mask = model.encode(source)
    memory, cache = model.memory(encoded[-1]), None
    written = torch.full((len(source), 1), BEGIN)
    for _ in range(longest):
        logits, _, cache = model.decode(written[:, -1:], memory, mask, cache)
        piece = _next_scores(logits[:, -1], written[:, -1]).argmax(dim=-1)
        written = torch.cat([written, piece[:, None]], dim=1)
        if _ended(piece).all():
            break
    return written


@torch.no_grad()
def beam_search(
    model: nn.Module, source: Tensor, beams: int = 4, longest: int = MAX_NEW, penalty: float = 1.0
) -> Tensor:
    """The best of `beams` texts that grow side by side: int64 (B, T) from BEGIN on, padded with PAD.

    At every step each text is tried with every next piece, and the `beams` likeliest are kept; a text that reached END
    waits unchanged. The winner has the largest sum of log-probabilities divided by length**penalty, END counted.
    beams=1 is greedy decoding.
    """
    _check(source, longest, beams)
    rows = len(source)
    encoded, mask = model.encode(source)
    memory = [tuple(part.repeat_interleave(beams, dim=0) for part in pair) for pair in model.memory(encoded[-1])]
    mask, cache = mask.repeat_interleave(beams, dim=0), None
    written = torch.full((rows * beams, 1), BEGIN)
    scores = torch.full((rows, beams), -torch.inf)
    scores[:, 0] = 0.0  # all beams begin alike: only the first may grow at the first step
    first = torch.arange(rows)[:, None] * beams
    for _ in range(longest):
        logits, _, cache = model.decode(written[:, -1:], memory, mask, cache)
        grown = scores[..., None] + _next_scores(logits[:, -1], written[:, -1]).unflatten(0, (rows, beams))
        scores, place = grown.flatten(1).topk(beams)
        parent = (first + place // grown.shape[-1]).flatten()
        written = torch.cat([written[parent], (place % grown.shape[-1]).flatten()[:, None]], dim=1)
        cache = [tuple(part[parent] for part in pair) for pair in cache]
        if _ended(written[:, -1]).all():
            break
    lengths = (written[:, 1:] != PAD).sum(dim=1).unflatten(0, (rows, beams))
    winner = (scores / lengths.float() ** penalty).argmax(dim=1, keepdim=True)
    return written[(first + winner).flatten()]


def _next_scores(logits: Tensor, last: Tensor) -> Tensor:
    """Log-probabilities of the next piece (N, pieces); never BEGIN or PAD, and after END only PAD, at no cost."""
    scores = logits.float().log_softmax(dim=-1)
    scores[:, PAD] = scores[:, BEGIN] = -torch.inf
    waiting = torch.full_like(scores[0], -torch.inf)
    waiting[PAD] = 0.0
    return torch.where(_ended(last)[:, None], waiting, scores)


def _ended(piece: Tensor) -> Tensor:
    return (piece == END) | (piece == PAD)


def translate(
    model: nn.Module, texts: Sequence[str], beams: int = 1, batch_size: int = 256, longest: int = MAX_NEW
) -> list[str]:
    """French for English phrases, in their order; beams=1 decodes greedily. The model's mode is put back afterwards."""
    english, french = phrase_pairs.vocabularies()
    by_length = sorted(range(len(texts)), key=lambda place: len(phrase_pairs.pieces(texts[place])))
    translations: dict[int, str] = {}
    with evaluating(model):
        for start in progress.over(range(0, len(texts), batch_size), "translating", "batch"):
            batch = by_length[start : start + batch_size]
            source = english.encode([texts[place] for place in batch])
            ids = greedy(model, source, longest) if beams == 1 else beam_search(model, source, beams, longest)
            translations |= zip(batch, french.decode(ids), strict=True)
    return [translations[place] for place in range(len(texts))]
