"""Zeros that last: the weights that are pruned, masks held while they train, and how sparsity grows in rounds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from lessons_lib.pruning import unstructured
from lessons_lib.pruning.unstructured import Masks

Weights = Mapping[str, nn.Parameter]


def linear_weights(model: nn.Module, without: Iterable[str] = ("head",)) -> dict[str, nn.Parameter]:
    """The matrices of all linear layers by name, in the order of the model; biases, norms and embeddings are not there.

    without: layers that stay as they are, by name. ValueError when no linear layer is left.
    """
    weights = {
        f"{name}.weight": layer.weight
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name not in without
    }
    if not weights:
        raise ValueError("the model has no linear layer to prune.")
    return weights


@torch.no_grad()
def apply_masks(weights: Weights, masks: Masks) -> None:
    """Zero in place what the masks leave out. ValueError unless each mask has its weight, and its shape."""
    for name, mask in masks.items():
        if name not in weights or weights[name].shape != mask.shape:
            raise ValueError(
                f"the mask {name!r} of shape {tuple(mask.shape)} fits no weight; make masks from the same "
                "dict of weights."
            )
        weights[name].masked_fill_(~mask.to(weights[name].device), 0.0)


@contextmanager
def held(weights: Weights, masks: Masks) -> Iterator[None]:
    """Zero what the masks leave out, now and after every step that an optimizer takes inside the block.

    Stopping the gradients is not enough: momentum collected before moves a weight without one.
    """
    apply_masks(weights, masks)
    handle = register_optimizer_step_post_hook(lambda *_: apply_masks(weights, masks))
    try:
        yield
    finally:
        handle.remove()


def cubic_schedule(step: int, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Sparsity after so many steps, or rounds: fast at first, slower the fewer weights are left.

    Up to begin it is initial, from end on it is final. ValueError unless 0 <= begin < end and both are shares.
    Source: M. Zhu and S. Gupta, To prune, or not to prune, 2017, arXiv:1710.01878, equation 1.
    """
    if not 0 <= begin < end:
        raise ValueError(f"the sparsity grows from step begin to step end, 0 <= begin < end, not {begin} to {end}.")
    for share in (initial, final):
        unstructured.pruned_count(1, share)
    # s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3
    left = 1 - (min(max(step, begin), end) - begin) / (end - begin)
    return final + (initial - final) * left**3


def input_norms(model: nn.Module, weights: Weights, calls: Iterable[Callable[[], object]]) -> dict[str, Tensor]:
    """The Euclidean norm of every input of these linear layers, over all tokens of some texts: FP32 (inputs,) by name.

    weights: as `linear_weights` names them. calls: functions that run the model once each, on texts without padding,
    since what stands at padding would count. Raises ValueError for a layer that none of the calls reached.
    """
    squares: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # ||X_j||^2, summed over all tokens
            squares[name] = squares.get(name, 0) + inputs[0].detach().float().flatten(0, -2).square().sum(dim=0)

        return add

    handles = [
        model.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(watch(name)) for name in weights
    ]
    try:
        with torch.no_grad():
            for call in calls:
                call()
    finally:
        for handle in handles:
            handle.remove()
    if missed := [name for name in weights if name not in squares]:
        raise ValueError(f"no call ran the layer {missed[0]!r}: let each call run the whole model.")
    return {name: total.sqrt() for name, total in squares.items()}
