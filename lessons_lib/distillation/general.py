"""General distillation: a shallow encoder learns from a deep one on plain text, before there is any task.

Source: DistilBERT, Sanh et al. 2019, arXiv:1910.01108: three losses (section 2), and a student that starts from its
teacher's layers (section 3). The weights of the losses and the temperature are those of the authors' code.
"""

import copy
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lessons_lib.distillation import masked_language
from lessons_lib.distillation.features import real_tokens
from lessons_lib.distillation.losses import UNLABELLED, soft_loss
from lessons_lib.distillation.masked_language import MaskedLanguageModel
from lessons_lib.distillation.students import take_layers
from lessons_lib.training import loop

WEIGHTS = (5.0, 2.0, 1.0)  # of the soft targets, the masked-language loss, and the cosine of the hidden states
TEMPERATURE = 2.0
LAYER = re.compile(r"(?P<before>(?:.*\.)?layer\.)(?P<number>\d+)(?P<after>\..*)")


def cosine_loss(student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor) -> Tensor:
    """1 minus the cosine between the two hidden states of a token: the mean over real tokens, 0 to 2.

    student_hidden, teacher_hidden: floats (B, T, H), of one width. mask: bool or 0/1 (B, T), 1 for a real token; what
    stands at padding is never read, NaN included. Zero when every pair points the same way, whatever its lengths.
    No gradient reaches the teacher. Raises ValueError for shapes that do not fit or a mask without a real token.
    """
    if student_hidden.shape != teacher_hidden.shape or student_hidden.dim() != 3:
        shapes = f"{tuple(student_hidden.shape)} and {tuple(teacher_hidden.shape)}"
        raise ValueError(
            f"both hidden states must have one shape (batch, length, width), not {shapes}; a student of "
            "another width needs a projection, see features.hint_loss"
        )
    real = real_tokens(mask, student_hidden.shape[:2])
    # mean over real tokens of 1 - <s, t> / (|s| |t|)
    return (1 - F.cosine_similarity(student_hidden[real].float(), teacher_hidden[real].detach().float(), dim=-1)).mean()


def triple_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    student_hidden: Tensor,
    teacher_hidden: Tensor,
    mask: Tensor,
    weights: Sequence[float] = WEIGHTS,
    T: float = TEMPERATURE,
) -> Tensor:
    """The loss of DistilBERT: soft targets, masked-language loss and cosine, each times its weight, added up.

    student_logits, teacher_logits: floats (M, vocabulary), at the M chosen positions of the batch. labels: int64 (M,),
    the tokens that stood there. student_hidden, teacher_hidden: floats (B, T, H). mask: 0/1 (B, T), 1 for a real token.
    weights: three numbers of at least 0, in that order. T: temperature of the soft targets alone.
    A batch in which no token was chosen has the cosine alone. Raises ValueError for what does not fit.
    """
    if len(weights) != 3 or not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError(f"weights are three finite numbers, 0 or more: soft, masked-language, cosine; not {weights}")
    if labels.shape != student_logits.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64, one a row of the logits {tuple(student_logits.shape)}, not "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    soft_weight, masked_weight, cosine_weight = weights
    # L = w1 T² KL(teacher ‖ student) + w2 cross-entropy(token) + w3 (1 - cos)
    loss = 0.0 * student_logits.sum()  # a zero with a graph, for a batch in which no token was chosen
    if soft_weight and len(labels):
        loss = loss + soft_weight * soft_loss(student_logits, teacher_logits, T)
    if masked_weight and len(labels):
        loss = loss + masked_weight * F.cross_entropy(student_logits.float(), labels)
    if cosine_weight:
        loss = loss + cosine_weight * cosine_loss(student_hidden, teacher_hidden, mask)
    return loss


def init_from_teacher(student_layers: Sequence[int], teacher_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of a student whose layer k is a copy of the teacher's layer student_layers[k].

    student_layers: positions in the teacher, counted from 0. teacher_state: tensors by name; those of layer i have a
    part `layer.i.` in their name. They are renumbered, layers that nobody takes are left out, and all that belongs to
    no layer, such as embeddings and head, is copied as it is. Every tensor is a copy.
    Raises ValueError for a layer that the teacher does not have.
    """
    named = {name: LAYER.fullmatch(name) for name in teacher_state}
    depth = 1 + max((int(match["number"]) for match in named.values() if match), default=-1)
    if not student_layers or not all(0 <= layer < depth for layer in student_layers):
        raise ValueError(f"the teacher's layers are 0 ... {depth - 1}; the student asks for {list(student_layers)}")
    state = {name: tensor for name, tensor in teacher_state.items() if not named[name]}
    for position, layer in enumerate(student_layers):
        for name, match in named.items():
            if match and int(match["number"]) == layer:
                state[f"{match['before']}{position}{match['after']}"] = teacher_state[name]
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def new_student(teacher: MaskedLanguageModel, n_layers: int) -> MaskedLanguageModel:
    """A student of so many layers that starts from evenly spaced layers of its teacher, its embeddings and its head.

    Nothing about it is random. Its embeddings are frozen, as the teacher's were. Raises ValueError for a student deeper
    than its teacher.
    """
    config = copy.deepcopy(teacher.encoder.config)
    layers = take_layers(config.num_hidden_layers, n_layers)
    config.num_hidden_layers = n_layers
    with torch.random.fork_rng():
        student = masked_language.new_model(type(teacher.encoder)(config, add_pooling_layer=False))
    student.load_state_dict(init_from_teacher(layers, teacher.state_dict()))
    return student


def distil(
    student: MaskedLanguageModel,
    teacher: MaskedLanguageModel,
    data: dict[str, Tensor],
    *,
    weights: Sequence[float] = WEIGHTS,
    T: float = TEMPERATURE,
    steps: int,
    batch_size: int = 32,
    lr: float,
    seed: int,
    progress: bool = False,
) -> loop.History:
    """Train a student in place on tokens without labels, masked anew in every batch.

    data: input_ids and attention_mask. Teacher and student see the same masked sentence. With the weights of both terms
    that need it at zero the teacher is not asked.
    """
    needs_teacher = bool(weights[0] or weights[2])

    def loss(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
        masked, labels = masked_language.masked_batch(batch["input_ids"])
        chosen, mask = labels != UNLABELLED, batch["attention_mask"]
        logits, hidden = model(masked, mask, chosen)
        with torch.no_grad():
            target = teacher(masked, mask, chosen) if needs_teacher else (logits, hidden)
        return triple_loss(logits, target[0], labels[chosen], hidden, target[1], mask, weights, T)

    return loop.train(student, data, loss, steps=steps, batch_size=batch_size, lr=lr, seed=seed, progress=progress)
