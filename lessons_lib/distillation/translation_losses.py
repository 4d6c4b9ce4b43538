"""What a small translator can learn from a large one: its next pieces, its translations, its hidden states.

Sources: Y. Kim and A. Rush, Sequence-Level Knowledge Distillation, 2016, arXiv:1606.07947 (word and sequence level);
A. Romero et al., FitNets, 2015, arXiv:1412.6550 (hidden states through a projection); S. Mirzadeh et al., Improved
Knowledge Distillation via Teacher Assistant, 2020, arXiv:1902.03393 (in steps).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.distillation import losses, students
from lessons_lib.files import progress
from lessons_lib.tasks import decoding
from lessons_lib.tasks.layers import evaluating
from lessons_lib.tasks.phrase_pairs import PAD
from lessons_lib.tasks.translator import Translator, keep_layers, trimmed

Batch = dict[str, Tensor]

WORD_ALPHA = 0.5  # weight of the teacher's distributions; the rest is the cross-entropy with the text
HIDDEN_WEIGHT = 1.0  # of the hidden-state term, added to the cross-entropy


def word_level_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, alpha: float) -> Tensor:
    """alpha · KL(teacher ‖ student) + (1 - alpha) · cross-entropy with the text, each a mean over real pieces, in nats.

    student_logits, teacher_logits: floats (B, T, pieces). target: int64 (B, T), the piece that is right at each place,
    PAD where there is none. alpha: 0 ... 1. Source: arXiv:1606.07947, equation 5.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha weighs the teacher's distributions and lies in 0 ... 1, not {alpha}")
    if target.shape != student_logits.shape[:2] or target.dtype != torch.int64:
        raise ValueError(
            f"target must be int64 {tuple(student_logits.shape[:2])}, one piece a row of logits, "
            f"not {target.dtype} {tuple(target.shape)}"
        )
    soft = losses.token_distillation_loss(student_logits, teacher_logits, target != PAD, T=1.0)
    hard = F.cross_entropy(student_logits.float().flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum")
    return alpha * soft + (1 - alpha) * hard / (target != PAD).sum().clamp_min(1)


def hidden_state_loss(student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of hidden states (B, T, width) over real places, each number counted alike.

    mask: bool (B, T), True for a real piece. What stands at padding is never read. 0 when there is no real piece.
    """
    if student_hidden.shape != teacher_hidden.shape or mask.shape != student_hidden.shape[:2]:
        raise ValueError(
            f"hidden states must have one shape (B, T, width), the mask (B, T); they have "
            f"{tuple(student_hidden.shape)}, {tuple(teacher_hidden.shape)} and {tuple(mask.shape)}"
        )
    if not mask.any():
        return student_hidden[mask].float().sum()
    return F.mse_loss(student_hidden[mask].float(), teacher_hidden[mask].float())


def sequence_level_data(teacher: Translator, sources: Sequence[str], beams: int = 4) -> list[str]:
    """The teacher's own translations of untranslated sources, in their order: a student trains on them as if they were
    right. Source: arXiv:1606.07947, section 3.2."""
    return decoding.translate(teacher, sources, beams=beams)


@torch.no_grad()
def teacher_outputs(teacher: Translator, data: Batch, batch_size: int = 256) -> Batch:
    """What a student is to match, computed once: `data` with the teacher's logits and last hidden states, in BF16.

    data: source (N, S), target (N, T). Added: logits (N, T-1, pieces), encoded (N, S, width), decoded (N, T-1, width).
    """
    parts: dict[str, list[Tensor]] = {"logits": [], "encoded": [], "decoded": []}
    pairs = list(zip(data["source"].split(batch_size), data["target"].split(batch_size), strict=True))
    with evaluating(teacher):
        for source, target in progress.over(pairs, "reading", "batch"):
            logits, encoded, decoded = teacher(source, target[:, :-1], hidden=True)
            for name, tensor in zip(parts, (logits, encoded[-1], decoded[-1]), strict=True):
                parts[name].append(tensor.bfloat16())
    return data | {name: torch.cat(tensors) for name, tensors in parts.items()}


class Projected(nn.Module):
    """A student with two linear maps from its width to its teacher's, trained with it and left behind afterwards."""

    def __init__(self, student: Translator, teacher_width: int):
        super().__init__()
        self.student = student
        self.encoded, self.decoded = (nn.Linear(student.shape.width, teacher_width) for _ in range(2))

    def forward(self, source: Tensor, target: Tensor):
        """The student's logits, and its last hidden states mapped to the teacher's width: encoder's, decoder's."""
        logits, encoded, decoded = self.student(source, target, hidden=True)
        return logits, self.encoded(encoded[-1]), self.decoded(decoded[-1])


class Direct(nn.Module):
    """A student as wide as its teacher, whose last hidden states are compared as they are."""

    def __init__(self, student: Translator):
        super().__init__()
        self.student = student

    def forward(self, source: Tensor, target: Tensor):
        """The student's logits, and its last hidden states: encoder's, decoder's."""
        logits, encoded, decoded = self.student(source, target, hidden=True)
        return logits, encoded[-1], decoded[-1]


def projected(student: Translator, teacher_width: int, seed: int) -> Projected:
    """A Projected student whose maps are drawn from the seed; torch's own random state is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Projected(student, teacher_width)


def _cut(batch: Batch) -> tuple[Tensor, Tensor, Batch]:
    """Source and target without idle columns, and the teacher's outputs cut alike."""
    source, target = trimmed(batch["source"]), trimmed(batch["target"])
    places = {"logits": target.shape[1] - 1, "decoded": target.shape[1] - 1, "encoded": source.shape[1]}
    return source, target, {name: batch[name][:, :width] for name, width in places.items() if name in batch}


def word_loss(model: nn.Module, batch: Batch) -> Tensor:
    """word_level_loss on a batch with the teacher's cached logits."""
    source, target, cached = _cut(batch)
    return word_level_loss(model(source, target[:, :-1]), cached["logits"], target[:, 1:], WORD_ALPHA)


def hidden_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy with the text, and the distance to the teacher's last hidden states; model: a Projected or a Direct
    student."""
    source, target, cached = _cut(batch)
    logits, encoded, decoded = model(source, target[:, :-1])
    right = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
    apart = hidden_state_loss(encoded, cached["encoded"], source != PAD)
    apart = apart + hidden_state_loss(decoded, cached["decoded"], target[:, 1:] != PAD)
    return right + HIDDEN_WEIGHT * apart


def stage_plan(n_teacher: int, n_student: int, step: int = 2) -> list[list[int]]:
    """The layers kept at every stage from n_teacher down to n_student layers, `step` fewer at a time.

    Each list numbers the layers of the model before: floor((i + 1) · before / after) - 1 for i = 0 ... after - 1, as in
    students.take_layers. A student as deep as its teacher needs no stage. Raises ValueError for a deeper one.
    """
    if not 1 <= n_student <= n_teacher or step < 1:
        raise ValueError(f"a student has 1 ... {n_teacher} layers, a step removes some; not {n_student}, {step}")
    plan, before = [], n_teacher
    while before > n_student:
        after = max(n_student, before - step)
        plan.append(students.take_layers(before, after))
        before = after
    return plan


def shallower(model: Translator, layer_numbers: list[int], dropout: float) -> Translator:
    """A student of the same width that starts from these layers of encoder and decoder alike."""
    return keep_layers(model, layer_numbers, layer_numbers, dropout)
