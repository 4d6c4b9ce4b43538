"""Movement pruning: a weight that training drives away from zero stays, one that it drives towards zero goes.

Source: V. Sanh, T. Wolf and A. Rush, Movement Pruning: Adaptive Sparsity by Fine-Tuning, 2020, arXiv:2005.07683.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.optimizer import register_optimizer_step_post_hook

from lessons_lib.pruning import unstructured

WAYS = ("magnitude", "movement")


def movement_scores(weights: Sequence[Tensor], grads: Sequence[Tensor]) -> Tensor:
    """Scores after some steps: minus the sum over the steps of weight times gradient. The highest stay.

    weights: the dense weights before each step. grads: the gradient of the loss by the masked weights at that step, all
    of one shape. Raises ValueError for no step, or shapes that differ.
    Source: equation 4, plain gradient descent with a learning rate of 1 for the scores; any other gives the same order.
    """
    shapes = {tuple(one.shape) for one in (*weights, *grads)}
    if len(weights) != len(grads) or len(shapes) != 1:
        raise ValueError(
            f"one gradient for each of at least one step's weights, all of one shape: there are "
            f"{len(weights)} weights, {len(grads)} gradients and the shapes {sorted(shapes)}."
        )
    # S_ij = - sum over t of (dL / dW'_ij)_t (W_ij)_t
    return -sum(weight * grad for weight, grad in zip(weights, grads, strict=True))


class _StraightThrough(torch.autograd.Function):
    """W' = W · M. The gradient reaches W where the mask is open, and the scores everywhere: to them the mask, a step
    function, counts as if it were the score itself. Section 4 of the paper."""

    @staticmethod
    def forward(ctx, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """Weights, scores and mask (bool) of one shape; returns the masked weights."""
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """What the weights and the scores are to follow."""
        weight, mask = ctx.saved_tensors
        # dL/dW = dL/dW' · M        dL/dS = dL/dW' · W
        return grad * mask, grad * weight, None


class Masked(nn.Module):
    """Stands before a weight: what the layer sees is the weight times a mask, chosen anew by `choose`.

    By movement it has scores, FP32 of the weight's shape: parameters that start at zero and are trained with the rest.
    """

    def __init__(self, weight: Tensor, way: str):
        """weight: of any shape. way: what decides, the size of a weight or its movement so far."""
        super().__init__()
        if way not in WAYS:
            raise ValueError(f"weights go by {' or '.join(WAYS)}, not by {way!r}.")
        self.scores = nn.Parameter(torch.zeros_like(weight, dtype=torch.float32)) if way == "movement" else None
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight, of the same shape."""
        return weight * self.mask if self.scores is None else _StraightThrough.apply(weight, self.scores, self.mask)

    def choose(self, weight: Tensor, sparsity: float) -> None:
        """Close the mask for this share of the weights: the lowest scores, or the smallest weights."""
        self.mask = (
            unstructured.magnitude_mask(weight, sparsity)
            if self.scores is None
            else unstructured.score_mask(self.scores, sparsity)
        )


@contextmanager
def pruned_while_training(
    model: nn.Module, names: Mapping[str, object], way: str, sparsity_at: Callable[[int], float], every: int = 1
) -> Iterator[None]:
    """Masks on these weights, every layer by itself, chosen anew while an optimizer works inside the block; after it
    the closed weights are zero for good.

    names: of the weights in the model, as `schedules.linear_weights` gives them. way: "magnitude" or "movement".
    sparsity_at(step): the share that is closed after so many steps of the optimizer, asked at every `every`-th.
    A weight under a closed mask gets no gradient, only what momentum and weight decay still do to it. It may come back
    when others have fallen behind it.
    """
    layers = [model.get_submodule(name.removesuffix(".weight")) for name in names]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Masked(layer.weight, way))
    steps = 0

    def choose(*_) -> None:
        nonlocal steps
        steps += 1
        if steps % every == 0:
            for layer in layers:
                of_weight = layer.parametrizations.weight
                of_weight[0].choose(of_weight.original.detach(), sparsity_at(steps))

    handle = register_optimizer_step_post_hook(choose)
    try:
        yield
    finally:
        handle.remove()
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
