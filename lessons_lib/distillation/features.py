"""Losses on what happens inside a model: hidden states, attention maps, and relations between tokens or examples.

Every loss is zero for a student that equals its teacher, ignores padding, and sends no gradient into the teacher.
Source of each: at its function. The losses on the output are in `losses`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.distillation.students import take_layers

STRATEGIES = ("uniform", "last", "first")


@dataclass(frozen=True)
class Insides:
    """One forward pass of a classifier, layer by layer.

    logits: (B, topics). hidden: the embeddings, then each layer's output, all (B, T, H). attention: each layer's maps
    (B, heads, T, T), or empty when not asked for. values: the last layer's value vectors, (B, T, H). pooled: the mean
    over real tokens that the head reads, (B, H).
    """

    logits: Tensor
    hidden: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]
    values: Tensor
    pooled: Tensor


def look_inside(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, attention: bool = False) -> Insides:
    """A forward pass of a TopicClassifier that keeps what it passes on the way.

    attention: also keep the attention maps. The fast kernel, scaled dot-product attention, never writes them down, so
    the encoder is switched to its eager form, which computes the same numbers and takes longer.
    """
    from lessons_lib.tasks.topic_classifier import mean_pool

    wanted = "eager" if attention else "sdpa"
    if model.encoder.config._attn_implementation != wanted:
        model.encoder.set_attn_implementation(wanted)
    seen = model.encoder(
        input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, output_attentions=attention
    )
    values = model.encoder.encoder.layer[-1].attention.self.value(seen.hidden_states[-2])
    with torch.autocast(input_ids.device.type, enabled=False):
        pooled = mean_pool(seen.last_hidden_state.float(), attention_mask)
        return Insides(model.head(pooled), seen.hidden_states, seen.attentions or (), values, pooled)


def layer_map(n_student: int, n_teacher: int, strategy: str = "uniform") -> list[int]:
    """For each student layer the teacher layer that it imitates, both counted from 0.

    "uniform": student layer i imitates teacher layer (i + 1) n_teacher / n_student - 1, rounded down; the last one
    always meets the last (TinyBERT, Jiao et al. 2020, arXiv:1909.10351). "last": the last n_student layers.
    "first": the first. Two layers against six: uniform [2, 5], last [4, 5], first [0, 1].
    """
    if not 1 <= n_student <= n_teacher:
        raise ValueError(f"a student needs 1 to {n_teacher} layers, as many as its teacher at most, not {n_student}")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if strategy == "last":
        return list(range(n_teacher - n_student, n_teacher))
    return take_layers(n_teacher, n_student, "alternate" if strategy == "uniform" else "first")


def hint_loss(student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor, projection: Tensor | None = None) -> Tensor:
    """Mean squared error between hidden states at real tokens: the mean over those tokens and the teacher's channels.

    student_hidden: (B, T, Hs). teacher_hidden: (B, T, Ht). mask: 0/1 (B, T). projection: (Ht, Hs), the weight of a
    linear layer from the student's width to the teacher's; needed when they differ, trained with the student.
    Source: FitNets, Romero et al. 2015, arXiv:1412.6550, equation 3, as a mean instead of half a sum.
    """
    if projection is not None:
        wanted = (teacher_hidden.shape[-1], student_hidden.shape[-1])
        if projection.shape != wanted:
            raise ValueError(f"projection must have the widths (teacher, student) = {wanted}, not {projection.shape}")
        student_hidden = F.linear(student_hidden, projection)
    if student_hidden.shape != teacher_hidden.shape:
        shapes = f"{tuple(student_hidden.shape)} and {tuple(teacher_hidden.shape)}"
        raise ValueError(f"hidden states have the shapes {shapes}; give a projection where the widths differ")
    real = real_tokens(mask, student_hidden.shape[:2])
    # mean over real tokens and channels of (W h_student - h_teacher)²
    return (student_hidden[real].float() - teacher_hidden[real].detach().float()).square().mean()


def attention_loss(student_maps: Tensor, teacher_maps: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error between attention maps: the mean over heads and over pairs of real tokens.

    student_maps, teacher_maps: (B, heads, T, T), a row for each query. mask: 0/1 (B, T). Equal numbers of heads needed.
    Source: TinyBERT, Jiao et al. 2020, arXiv:1909.10351, equation 7, on the maps after the softmax.
    """
    if student_maps.shape != teacher_maps.shape or student_maps.dim() != 4:
        shapes = f"{tuple(student_maps.shape)} and {tuple(teacher_maps.shape)}"
        raise ValueError(f"both maps must have one shape (batch, heads, length, length), not {shapes}")
    real = real_tokens(mask, (student_maps.shape[0], student_maps.shape[-1]))
    pairs = real[:, None, :, None] & real[:, None, None, :]
    # Padding is replaced before the square, or its gradient would be 0 · NaN.
    gaps = (student_maps.float() - teacher_maps.detach().float()).where(pairs, 0)
    return gaps.square().sum() / (pairs.sum() * student_maps.shape[1])


def token_relation_loss(student_states: Tensor, teacher_states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """KL divergence between how tokens relate to one another in teacher and student: mean over heads and real tokens.

    student_states: (B, T, Hs). teacher_states: (B, T, Ht), of any width; both are cut into as many relation heads, so
    the widths need not agree. In each head, a token's relation to the others is the softmax of its scaled dot products.
    Source: MiniLM, Wang et al. 2020, arXiv:2002.10957, equations 6 to 8, cut into relation heads as in its second
    version, arXiv:2012.15828.
    """
    real = real_tokens(mask, student_states.shape[:2])
    student = _relations(student_states, real, heads)
    teacher = _relations(teacher_states.detach(), real, heads)
    divergence = F.kl_div(student, teacher, log_target=True, reduction="none")
    pairs = real[:, None, :, None] & real[:, None, None, :]
    return divergence.where(pairs, 0).sum() / (real.sum() * heads)


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the pairwise distances of a batch, each batch's distances divided by their own mean.

    student: (B, Hs), teacher: (B, Ht), one embedding an example, B at least 2. Free of scale and of width: a student
    that is the teacher rotated, shifted and stretched has zero loss. Mean over the B (B - 1) ordered pairs.
    Source: Relational Knowledge Distillation, Park et al. 2019, arXiv:1904.05068, equations 5 to 7.
    """
    _batches(student, teacher)
    apart = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    return F.huber_loss(_scaled_distances(student)[apart], _scaled_distances(teacher.detach())[apart])


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines of the angles that triplets of a batch form: relation_loss with a third point.

    Takes what `relation_loss` takes. Source: Park et al. 2019, arXiv:1904.05068, equations 8 and 9.
    """
    _batches(student, teacher)
    return F.huber_loss(_cosines(student), _cosines(teacher.detach()))


def _scaled_distances(embeddings: Tensor) -> Tensor:
    # psi(i, j) = |e_i - e_j| / mean over pairs |e_i - e_j|;  i = j is left out, where the norm has no gradient
    gaps = (embeddings[:, None] - embeddings[None]).float()
    apart = ~torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    distances = torch.zeros(gaps.shape[:2], device=gaps.device)
    distances[apart] = gaps[apart].square().sum(-1).clamp_min(1e-12).sqrt()
    return distances / distances[apart].mean()


def _cosines(embeddings: Tensor) -> Tensor:
    # cos of the angle at j between i and k, for all triplets (j, i, k)
    towards = F.normalize((embeddings[None] - embeddings[:, None]).float(), dim=-1)
    return towards @ towards.transpose(1, 2)


def _relations(states: Tensor, real: Tensor, heads: int) -> Tensor:
    """Log-softmax over real tokens of the dot products of each head, (B, heads, T, T)."""
    batch, length, width = states.shape
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} relation heads do not divide the width {width}; choose a divisor of it")
    # What stands at padding must not enter, not even as 0 · NaN.
    states = states.float().where(real[..., None], 0).view(batch, length, heads, width // heads).transpose(1, 2)
    scores = states @ states.transpose(-1, -2) / (width // heads) ** 0.5
    return scores.masked_fill(~real[:, None, None, :], torch.finfo(scores.dtype).min).log_softmax(-1)


def real_tokens(mask: Tensor, shape) -> Tensor:
    """The 0/1 mask as bool. Raises ValueError for another shape, other values, or no real token at all."""
    if mask.shape != tuple(shape) or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"mask must have the shape {tuple(shape)} and hold 0 and 1; it has {tuple(mask.shape)}")
    if not mask.any():
        raise ValueError("the mask must hold at least one 1: it holds no real token, so there is nothing to compare")
    return mask.bool()


def _batches(student: Tensor, teacher: Tensor) -> None:
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher) or len(student) < 2:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"relations need two or more examples, (batch, width) for both models, not {shapes}")
