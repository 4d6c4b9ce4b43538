"""What the inputs of linear layers look like over a few batches: all that GPTQ and AWQ ask of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Moments:
    """Sums over the inputs x of a layer: count of rows, second (n, n) of x xᵀ, size (n,) of |x|, all in FP32."""

    count: int
    sum_second: Tensor
    sum_size: Tensor

    @property
    def second(self) -> Tensor:
        """The mean of x xᵀ, FP32 (n, n)."""
        return self.sum_second / self.count

    @property
    def size(self) -> Tensor:
        """The mean of |x|, FP32 (n,)."""
        return self.sum_size / self.count


def moments(model: nn.Module, batches: Iterable[Mapping[str, Tensor]], layers: Iterable[str]) -> dict[str, Moments]:
    """Moments of the inputs of the named linear layers while the model reads the batches, in inference mode.

    batches: keyword arguments of the model, with an attention_mask (B, T) of 1 for real tokens; padding is not counted.
    Layers that read the very same tensor, such as query, key and value, share one Moments object.
    Raises ValueError when a layer saw nothing.
    """
    found: dict[str, Moments] = {}
    last: dict = {}

    def watch(name: str):
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if last.get("input") is not inputs[0]:
                last.update(input=inputs[0], layer=name)
                rows = inputs[0][last["mask"]].float()
                seen = found.setdefault(name, Moments(0, *(rows.new_zeros(2 * (rows.shape[1],)),
                                                           rows.new_zeros(rows.shape[1]))))
                seen.count += len(rows)
                # S += X Xᵀ
                seen.sum_second.addmm_(rows.t(), rows)
                seen.sum_size += rows.abs().sum(dim=0)
            found[name] = found[last["layer"]]

        return note

    hooks = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in layers]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                last.clear()
                last["mask"] = batch["attention_mask"].bool()
                model(**batch)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    silent = [name for name in layers if name not in found]
    if silent:
        raise ValueError(f"{silent[0]} saw no input: is it part of the forward pass, and are there batches?")
    return found


def linear_layers(model: nn.Module, inside: str) -> list[str]:
    """Names of the linear layers below the module of this name, in the order of the model."""
    below = model.get_submodule(inside)
    return [f"{inside}.{name}" for name, module in below.named_modules() if isinstance(module, nn.Linear)]
