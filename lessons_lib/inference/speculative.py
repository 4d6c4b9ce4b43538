"""Speculative decoding: a small draft model writes ahead, the large one checks all of it in one step.

Sources: Y. Leviathan, M. Kalman and Y. Matias, Fast Inference from Transformers via Speculative Decoding, 2023,
arXiv:2211.17192; C. Chen et al., Accelerating Large Language Model Decoding with Speculative Sampling, 2023,
arXiv:2302.01318.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lessons_lib.inference.engine import TranslatorEngine
from lessons_lib.tasks.decoding import MAX_NEW
from lessons_lib.tasks.phrase_pairs import BEGIN, END, PAD
from lessons_lib.tasks.translator import Translator


def accept_draft(p: Tensor, q: Tensor, draft: Tensor, uniforms: Tensor) -> Tensor:
    """The tokens that are kept of a sampled draft, and one more from the target: int64, 1 ... k + 1 of them.

    p: target's probabilities (k + 1, V), row i for the token after i drafted ones; q: the draft's (k, V); draft: int64
    (k,), token i drawn from q[i]; uniforms: (k + 1,) from [0, 1). Token i is kept when u_i q_i(x) < p_i(x). At the
    first that is not, a token is drawn in its place from max(0, p_i - q_i), scaled to sum 1, by the last uniform; if
    all are kept, from p_k. A draw by u is the first token whose cumulative probability exceeds u. The result is
    distributed as if the target had drawn every token itself. Source: arXiv:2211.17192, algorithm 1 and appendix A.1.
    Raises ValueError for shapes that do not fit.
    """
    k = len(draft)
    if q.shape != (k, p.shape[-1]) or p.shape[0] != k + 1 or uniforms.shape != (k + 1,) or draft.dtype != torch.int64:
        raise ValueError(
            f"a draft of {k} int64 tokens wants p ({k + 1}, V), q ({k}, V) and {k + 1} uniforms, not "
            f"{tuple(p.shape)}, {tuple(q.shape)}, {tuple(uniforms.shape)}"
        )
    rows = torch.arange(k)
    # accept x_i with probability min(1, p_i(x_i) / q_i(x_i))
    refused = (uniforms[:-1] * q[rows, draft] >= p[:-1][rows, draft]).nonzero()
    n_accepted = int(refused[0]) if len(refused) else k
    rest = (p[n_accepted] - q[n_accepted]).clamp_min(0) if n_accepted < k else p[k]
    rest = rest if rest.any() else p[n_accepted]  # p and q differ by rounding alone
    summed = rest.cumsum(dim=0)
    # the first token whose cumulative share exceeds u
    drawn = torch.searchsorted(summed, (uniforms[-1:] * summed[-1]).to(summed.dtype), right=True)
    return torch.cat([draft[:n_accepted], drawn.clamp_max(len(rest) - 1)])


def expected_tokens(acceptance: float, ahead: int) -> float:
    """Tokens that one step of the target yields on average, when each drafted token is accepted with this probability,
    whatever came before: (1 - a^(k+1)) / (1 - a). Source: arXiv:2211.17192, equation 1."""
    if not 0 <= acceptance <= 1 or ahead < 0:
        raise ValueError(f"acceptance lies in 0 ... 1 and ahead is at least 0, not {acceptance} and {ahead}")
    return float(sum(acceptance**i for i in range(ahead + 1)))


@dataclass(frozen=True)
class Written:
    """text: int64 (B, T) from BEGIN on, padded with PAD. steps: of the target. drafted, accepted: pieces, of all rows;
    of those drafted in a step only the ones up to the first refused count."""

    text: Tensor
    steps: int
    drafted: int
    accepted: int

    @property
    def acceptance(self) -> float:
        """Share of the pieces looked at that the target would have written too."""
        return self.accepted / max(self.drafted, 1)


@torch.inference_mode()
def speculative(target: Translator, draft: Translator, source: Tensor, ahead: int, longest: int = MAX_NEW) -> Written:
    """What the target writes greedily (`decoding.greedy`), the draft writing up to `ahead` pieces before it looks.

    A drafted piece stays when it is the target's own likeliest one; at the first that is not, the target's takes its
    place, and both caches are set back. So the text is the target's, whatever the draft writes; only where the
    target's two best pieces are closer than FP32 rounding could it differ. source: int64 (B, S), padded with PAD.
    """
    if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1:
        raise ValueError(f"ahead counts drafted pieces and must be a whole number of at least 1, not {ahead!r}")
    if target.head.out_features != draft.head.out_features:
        raise ValueError(
            f"target and draft must write the same pieces; they know {target.head.out_features} and "
            f"{draft.head.out_features}"
        )
    large, small = TranslatorEngine(target, source), TranslatorEngine(draft, source)
    batch, rows = len(source), torch.arange(len(source))
    text = torch.full((batch, longest + 1), PAD)
    text[:, 0] = BEGIN
    lengths = torch.ones(batch, dtype=torch.int64)
    open_rows = lengths <= longest
    steps = drafted = accepted = 0
    while open_rows.any():
        room = min(ahead, longest - int(lengths[open_rows].max()))
        guesses = _guess(small, text, lengths, open_rows, room)
        last = text[rows, lengths - 1][:, None]
        own = _likeliest(large.feed(torch.cat([last, guesses], dim=1), open_rows * (room + 1)))  # (B, room + 1)
        steps += 1
        same = (guesses == own[:, :room]).long().cumprod(dim=1)
        matches = same.sum(dim=1)
        for row in open_rows.nonzero().flatten().tolist():
            new = own[row, : int(matches[row]) + 1].tolist()  # the pieces kept are the target's own, and one more is
            new = new[: new.index(END) + 1] if END in new else new
            agreed = min(int(matches[row]), len(new))
            drafted, accepted = drafted + min(agreed + 1, room, len(new)), accepted + agreed
            text[row, lengths[row] : lengths[row] + len(new)] = torch.tensor(new)
            lengths[row] += len(new)
            open_rows[row] = new[-1] != END and lengths[row] <= longest
        # The last piece has not been fed yet: a cache holds one fewer than the text.
        large.cache.rewind(torch.minimum(large.cache.lengths, lengths - 1))
        small.cache.rewind(torch.minimum(small.cache.lengths, lengths - 1))
    return Written(text[:, : int(lengths.max())], steps, drafted, accepted)


def _guess(small: TranslatorEngine, text: Tensor, lengths: Tensor, open_rows: Tensor, room: int) -> Tensor:
    """`room` more pieces of each row by the draft model, int64 (B, room). It first reads what it has not seen yet."""
    unseen = open_rows * (lengths - small.cache.lengths)
    places = small.cache.lengths[:, None] + torch.arange(int(unseen.max()))
    piece = text.gather(1, places.clamp_max(text.shape[1] - 1))
    guesses, counts = [torch.empty(len(text), 0, dtype=torch.int64)], unseen
    for _ in range(room):
        piece = _likeliest(small.feed(piece, counts, last=True))[:, None]
        guesses.append(piece)
        counts = open_rows.long()
    return torch.cat(guesses, dim=1)


def _likeliest(logits: Tensor) -> Tensor:
    """The best next piece, never BEGIN or PAD, as in decoding.greedy."""
    logits[..., [PAD, BEGIN]] = -torch.inf
    return logits.argmax(dim=-1)
