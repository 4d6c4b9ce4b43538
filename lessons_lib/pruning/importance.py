"""How much a head or a neuron matters: by the gradient of its gate, and by what the loss is without it.

A gate is a number that what a head (or a neuron) says is multiplied with: 1 leaves the model as it is, 0 removes it.
Every sentence has gates of its own, so that one backward pass gives the gradients of each.
Source: P. Michel, O. Levy and G. Neubig, Are Sixteen Heads Really Better than One?, 2019, arXiv:1905.10650, equation 2.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.pruning import heads
from lessons_lib.pruning.structured import neuron_layers

Batch = dict[str, Tensor]
PARTS = ("heads", "neurons")


def gated(model: nn.Module, part: str) -> list[tuple[nn.Linear, int]]:
    """For each block of a classifier the linear layer that reads its heads, or its neurons, and how many there are."""
    if part == "heads":
        return [
            (block.attention.output.dense, many)
            for block, many in zip(model.encoder.encoder.layer, heads.count(model), strict=True)
        ]
    if part == "neurons":
        return [(second, second.in_features) for _, second in neuron_layers(model)]
    raise ValueError(f"there are gates for {' and '.join(PARTS)}, not for {part!r}.")


@contextmanager
def gates(model: nn.Module, part: str, open_at: list[Tensor]) -> Iterator[None]:
    """While in the body, what each head or neuron says is multiplied with its gate.

    open_at: for each block FP32 (B, units), or (units,) where all sentences share their gates.
    """

    def gate(values: Tensor):
        def hook(_, inputs):
            activations, shared = inputs[0], values[..., None, :]  # activations: (B, T, units · size)
            if not activations.shape[-1]:  # a block that lost all its units
                return activations
            return (
                (activations.unflatten(-1, (values.shape[-1], -1)) * shared[..., None])
                .flatten(-2)
                .to(activations.dtype)
            )

        return hook

    handles = [
        linear.register_forward_pre_hook(gate(values))
        for (linear, _), values in zip(gated(model, part), open_at, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def losses(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of each sentence of a batch with input_ids, attention_mask and topic: FP32 (B,)."""
    return F.cross_entropy(model(batch["input_ids"], batch["attention_mask"]), batch["topic"], reduction="none")


def gate_gradients(model: nn.Module, batches: Iterable[Batch], part: str = "heads") -> list[Tensor]:
    """Derivative of each sentence's loss by each of its gates, all open: for each block FP32 (sentences, units).

    batches: as for `losses`. Raises ValueError for no batch or another part.
    """
    gradients = []
    for batch in batches:
        rows = len(batch["topic"])
        values = [torch.ones(rows, units, requires_grad=True) for _, units in gated(model, part)]
        with torch.enable_grad(), gates(model, part, values):
            gradients.append(
                torch.autograd.grad(losses(model, batch).sum(), values, allow_unused=True, materialize_grads=True)
            )
    if not gradients:
        raise ValueError("there is no batch to take gradients of; an iterator that was walked before is empty.")
    return [torch.cat(block) for block in zip(*gradients, strict=True)]


def from_gates(gate_gradients: Tensor) -> Tensor:
    """Importance of heads or neurons: the absolute value in each sentence, then the sum over the sentences.

    gate_gradients: FP32 (sentences, ...). Returns (...). Raises ValueError for no sentence, NaN or infinity.
    A head that raises the loss of one sentence and lowers that of another matters to both: with its sign the sum would
    say that it matters to none.
    """
    if not gate_gradients.ndim or not len(gate_gradients) or not gate_gradients.isfinite().all():
        raise ValueError("gate_gradients holds finite numbers, one row for each of at least one sentence.")
    # I_h = sum_x | dL(x) / dg_h |
    return gate_gradients.abs().sum(dim=0)


@torch.inference_mode()
def exact_changes(model: nn.Module, batches: Iterable[Batch], blocks: Iterable[int] | None = None) -> list[Tensor]:
    """What each sentence's loss becomes without a head, minus what it is: for each block FP32 (sentences, heads).

    One run of the model for each head: as many as gate_gradients needs backward passes, times the number of heads.
    blocks: only the heads of these; all when it is left out.
    """
    batches = list(batches)
    sizes = [units for _, units in gated(model, "heads")]
    whole = torch.cat([losses(model, batch) for batch in batches])
    changes = []
    for block in range(len(sizes)) if blocks is None else blocks:
        without = []
        for head in range(sizes[block]):
            values = [torch.ones(units) for units in sizes]
            values[block][head] = 0
            with gates(model, "heads", values):
                without.append(torch.cat([losses(model, batch) for batch in batches]) - whole)
        changes.append(torch.stack(without, dim=1) if without else whole.new_zeros(len(whole), 0))
    return changes


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation of two lists of numbers (n,), n > 1: 1 for the same order, -1 for the reverse, near 0 for none.

    Equal numbers share the mean of their ranks. Raises ValueError for other shapes, or where all numbers are equal.
    Source: C. Spearman, The proof and measurement of association between two things, 1904.
    """
    if one.shape != other.shape or one.ndim != 1 or len(one) < 2:
        raise ValueError(
            f"two lists of equally many numbers are needed, not {tuple(one.shape)} and {tuple(other.shape)}."
        )
    ranks = []
    for values in (one, other):
        _, group, sizes = values.unique(return_inverse=True, return_counts=True)
        if len(sizes) < 2:
            raise ValueError("all numbers are equal, so they have no order.")
        # mean rank of a group of ties: those before it, and half of itself
        ranks.append((sizes.cumsum(0) - (sizes - 1) / 2)[group].double())
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def least(scores: list[Tensor], count: int) -> list[Tensor]:
    """Which units stay when the count least important of all blocks together go: for each block int64 positions.

    scores: for each block FP32 (units,). Of equal scores those that come first go first. Raises ValueError when count
    is not from 0 to the number of units.
    """
    together = torch.cat(scores)
    if not 0 <= count <= len(together):
        raise ValueError(f"0 to {len(together)} units can go, not {count}.")
    stays = torch.ones(len(together), dtype=torch.bool)
    stays[together.argsort(stable=True)[:count]] = False
    return [one.nonzero().flatten() for one in stays.split([len(block) for block in scores])]


def least_in_each(scores: list[Tensor], count: int) -> list[Tensor]:
    """Which units stay when the count least important of every block go: for each block int64 positions, ascending."""
    return [one for scored in scores for one in least([scored], count)]
