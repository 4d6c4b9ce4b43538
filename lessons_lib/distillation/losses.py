"""Losses that teach a student to answer as its teacher does, and what stands around them.

Source: G. Hinton, O. Vinyals and J. Dean, Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
Logits of 16 bits are widened to FP32 first: a softmax in BF16 is off by up to 0.4 %.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

UNLABELLED = -100  # a label that stands for "nobody labelled this example", as in torch's cross_entropy


def soften(logits: Tensor, T: float) -> Tensor:
    """Soft labels: the softmax of logits / T over the last axis.

    logits: finite floats (..., classes). T: above zero; 1 leaves the softmax as it is, more makes it flatter.
    Returns probabilities (..., classes). Raises ValueError or TypeError for anything else.
    """
    return _log_soften(logits, T, "logits").exp()


def entropy(probabilities: Tensor) -> Tensor:
    """Uncertainty of distributions over the last axis, in nats: 0 for a hard label, log(classes) for a uniform one.

    probabilities: floats (..., classes), each row above or equal to 0 with the sum 1. Returns (...).
    """
    if not probabilities.is_floating_point() or not probabilities.numel():
        raise TypeError(f"probabilities must be floats, at least one row, not {_kind(probabilities)}")
    sums = probabilities.sum(-1, dtype=torch.float64)
    if not (probabilities >= 0).all() or not torch.allclose(sums, torch.ones_like(sums), atol=1e-2):
        raise ValueError("rows of probabilities must be at least 0 and sum to 1; soften(logits, T) gives such rows")
    # H(p) = - sum p log p,  with 0 log 0 = 0
    return torch.special.entr(probabilities).sum(-1)


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, T: float) -> Tensor:
    """T² times the KL divergence of the student from the teacher, both softened by T: mean over the batch, in nats.

    student_logits, teacher_logits: floats (batch, classes). The direction is KL(teacher ‖ student). No gradient
    reaches the teacher. Zero if and only if the two agree up to a constant added to a row of logits.
    """
    log_q, log_p = _pair(student_logits, teacher_logits, T)
    # KL(p ‖ q) = sum p (log p - log q);  both stay logarithms, because log(softmax) of a large logit is -inf
    divergence = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)
    return T**2 * divergence.mean()


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, T: float) -> Tensor:
    """T² times the cross-entropy against the teacher's soft labels: mean over the batch, in nats.

    Takes what `soft_loss` takes and has the same gradient. A perfect student brings it down to T² times the mean
    entropy of the soft labels, not to zero.
    """
    log_q, log_p = _pair(student_logits, teacher_logits, T)
    # H(p, q) = - sum p log q = H(p) + KL(p ‖ q)
    return T**2 * -(log_p.exp() * log_q).sum(-1).mean()


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, alpha: float, T: float) -> Tensor:
    """alpha · soft_loss(student, teacher, T) + (1 - alpha) · cross-entropy of the student at T = 1 with the labels.

    student_logits, teacher_logits: floats (batch, classes). labels: int64 (batch,), each 0 ... classes - 1, or
    UNLABELLED: such an example counts in the soft term alone, and the hard term is a mean over the labelled ones.
    alpha: 0 ... 1; with 0 nothing is distilled, with 1 the labels are not used.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha weighs the soft term and lies in 0 ... 1, not {alpha}")
    soft = soft_loss(student_logits, teacher_logits, T)
    return alpha * soft + (1 - alpha) * _hard_loss(student_logits, labels)


def token_distillation_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, T: float) -> Tensor:
    """soft_loss at every real token of a batch of sequences: the mean over real tokens, long sentences or short.

    student_logits, teacher_logits: floats (batch, length, vocabulary). mask: bool or 0/1 (batch, length), 1 for a real
    token. What stands at padding is never read, NaN included. A row of padding alone adds nothing; a batch of padding
    alone gives 0, with zero gradients.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.dim() != 3:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"both logits must have one shape (batch, length, vocabulary), not {shapes}")
    if mask.shape != student_logits.shape[:2] or not ((mask == 0) | (mask == 1)).all():
        wanted = tuple(student_logits.shape[:2])
        raise ValueError(f"mask must have the shape (batch, length) = {wanted} and hold 0 and 1, not {_kind(mask)}")
    real = mask.bool()
    # Padding is left out, not multiplied by zero: 0 · NaN is NaN.
    if not real.any():
        return _wide(student_logits[real]).sum()
    return soft_loss(student_logits[real], teacher_logits[real], T)


def retention(student_score: float, teacher_score: float, chance: float) -> float:
    """Share of what the teacher knows that the student kept: (student - chance) / (teacher - chance).

    All three are scores on one scale, such as accuracies from 0 to 1; chance is the score of guessing. 1 keeps all, 0
    is no better than guessing, above 1 is better than the teacher. Raises ValueError for a teacher that only guesses.
    """
    if not all(map(math.isfinite, (student_score, teacher_score, chance))) or teacher_score <= chance:
        raise ValueError(f"the teacher must score above chance, in finite numbers; not {teacher_score} over {chance}")
    return (student_score - chance) / (teacher_score - chance)


def _hard_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the labels, mean over the labelled examples; 0 where there are none."""
    batch, classes = student_logits.shape
    if labels.shape != (batch,) or labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 of shape ({batch},), one a row of logits, not {_kind(labels)}")
    labelled = labels != UNLABELLED
    if ((labels < 0) | (labels >= classes))[labelled].any():
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, or be {UNLABELLED} where there is none")
    total = F.cross_entropy(_wide(student_logits), labels, ignore_index=UNLABELLED, reduction="sum")
    return total / labelled.sum().clamp_min(1)


def _pair(student_logits: Tensor, teacher_logits: Tensor, T: float) -> tuple[Tensor, Tensor]:
    """Logarithms of both softened distributions, the teacher's without gradient."""
    if student_logits.shape != teacher_logits.shape or student_logits.dim() != 2:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(
            f"both logits must have one shape (batch, classes), not {shapes}; token_distillation_loss takes sequences"
        )
    log_q = _log_soften(student_logits, T, "student_logits")
    return log_q, _log_soften(teacher_logits.detach(), T, "teacher_logits")


def _log_soften(logits: Tensor, T: float, name: str) -> Tensor:
    if not (math.isfinite(T) and T > 0):
        raise ValueError(f"the temperature must be a finite number above 0, not {T}")
    if not logits.is_floating_point():
        raise TypeError(f"{name} must be floats, before any softmax, not {_kind(logits)}")
    if not logits.dim() or not logits.numel():
        raise ValueError(f"{name} must hold at least one row with at least one class, not {_kind(logits)}")
    scaled = _wide(logits) / T
    if not scaled.isfinite().all():
        raise ValueError(f"{name} / T must be finite: -inf as a mask, NaN, or a T near 0 make the loss NaN or infinite")
    return F.log_softmax(scaled, dim=-1)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
