"""The layers of a model: linear ones found by name, watched, replaced in a copy, narrowed; attention written out.

`moments` is what the inputs of linear layers look like over a few batches: all that GPTQ and AWQ ask of them.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, every module of a model is in eval mode; afterwards each is in the mode in which it came."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training


def linear_layers(model: nn.Module, inside: str = "") -> dict[str, nn.Linear]:
    """Every linear layer by its name in the model, in the order of the modules; inside: only those of this module."""
    start = f"{inside}." if inside else ""
    return {
        f"{start}{name}": module
        for name, module in model.get_submodule(inside).named_modules()
        if isinstance(module, nn.Linear)
    }


def watch(
    model: nn.Module, batches: Iterable[Batch], see: Callable[[str, Tensor], None], names: Iterable[str] | None = None
) -> None:
    """Run the model on batches and call see(name, x) with the input of every linear layer, as it comes.

    batches: keyword arguments of the model, with an attention_mask (B, T) of 1 for real tokens. x: FP32 (tokens, n_in)
    without padding, which nobody reads, or (B, n_in). Layers that read one tensor, such as query, key and value, are
    shown the very same x. names: of the layers to watch; all of them when it is left out.
    The model runs in eval mode without gradients and is left as it was.
    """
    last: dict[str, Tensor] = {}

    def told(name):
        def hook(_, inputs):
            if last.get("input") is not inputs[0]:
                fits = inputs[0].shape[:2] == last["mask"].shape
                last.update(input=inputs[0], x=inputs[0][last["mask"]] if fits else inputs[0])
            see(name, last["x"])

        return hook

    watched = linear_layers(model) if names is None else {name: model.get_submodule(name) for name in names}
    hooks = [layer.register_forward_pre_hook(told(name)) for name, layer in watched.items()]
    try:
        with evaluating(model), torch.inference_mode():
            for batch in batches:
                last.clear()
                last["mask"] = batch["attention_mask"].bool()
                model(**batch)
    finally:
        for hook in hooks:
            hook.remove()


def replaced(model: nn.Module, names: Iterable[str], make: Callable[[str, nn.Linear], nn.Module]) -> nn.Module:
    """A copy of the model, in eval mode, in which each named linear layer is make(name, layer).

    Raises ValueError when a name is that of no linear layer; the model itself is never changed.
    """
    known, memo = linear_layers(model), {}
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is no linear layer of this model; it has {', '.join(list(known)[:3])} ...")
        memo[id(known[name])] = make(name, known[name])
    # What is replaced need not be copied first: the copy finds the new layer in its place.
    return copy.deepcopy(model, memo).eval()


def positions(indices: Tensor, there: int, what: str) -> Tensor:
    """indices as int64 (n,), checked: whole numbers from 0 to there - 1, at least one, none twice; else ValueError."""
    indices = torch.as_tensor(indices)
    if indices.is_floating_point() or indices.dtype == torch.bool or indices.ndim != 1 or not len(indices):
        raise ValueError(
            f"{what} to keep are given by their positions: a list of at least one whole number. A mask "
            "becomes one with mask.nonzero().flatten()."
        )
    if int(indices.min()) < 0 or int(indices.max()) >= there or len(indices.unique()) != len(indices):
        raise ValueError(f"{what} to keep must lie in 0 ... {there - 1}, none twice.")
    return indices.long()


@torch.no_grad()
def narrow(linear: nn.Linear, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Leave a linear layer, in place, only these of its outputs (rows, with their biases) or its inputs (columns)."""
    axis, indices = (0, rows) if columns is None else (1, columns)
    trained = linear.weight.requires_grad
    linear.weight = nn.Parameter(linear.weight.index_select(axis, indices), requires_grad=trained)
    if rows is not None and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[indices], requires_grad=linear.bias.requires_grad)
    linear.out_features, linear.in_features = linear.weight.shape


@contextmanager
def attention_written_out(model: nn.Module) -> Iterator[None]:
    """Inside, every encoder of transformers in the model computes attention as plain products and a softmax.

    On short texts that is the faster one to train, and as a graph the shorter one.
    """
    encoders = {
        module: module.config._attn_implementation
        for module in model.modules()
        if hasattr(module, "set_attn_implementation")
    }
    try:
        for encoder in encoders:
            encoder.set_attn_implementation("eager")
        yield
    finally:
        for encoder, name in encoders.items():
            encoder.set_attn_implementation(name)


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


def moments(model: nn.Module, batches: Iterable[Batch], names: Sequence[str]) -> dict[str, Moments]:
    """Moments of the inputs of the named linear layers while the model reads the batches, in inference mode.

    batches: keyword arguments of the model, with an attention_mask (B, T) of 1 for real tokens; padding is not counted.
    Layers that read the very same tensor, such as query, key and value, share one Moments object.
    Raises ValueError when a layer saw nothing.
    """
    layer_moments: dict[str, Moments] = {}
    last: dict = {}

    def note(name: str, x: Tensor) -> None:
        if last.get("x") is not x:
            last.update(x=x, layer=name)
            rows = x.float()
            n = rows.shape[1]
            seen = layer_moments.setdefault(name, Moments(0, rows.new_zeros(n, n), rows.new_zeros(n)))
            seen.count += len(rows)
            # S += X Xᵀ
            seen.sum_second.addmm_(rows.t(), rows)
            seen.sum_size += rows.abs().sum(dim=0)
        layer_moments[name] = layer_moments[last["layer"]]

    watch(model, batches, note, names)
    silent = [name for name in names if name not in layer_moments]
    if silent:
        raise ValueError(f"{silent[0]} saw no input: is it part of the forward pass, and are there batches?")
    return layer_moments
