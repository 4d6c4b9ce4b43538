"""LoRA: a frozen linear layer, and beside it an update of low rank that is trained in its place.

Source: E. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv 2106.09685, section 4.1. Over a
base of 4-bit layers (`packed_linear.Linear4bit`) it is QLoRA: T. Dettmers et al., 2023, arXiv 2305.14314, equation 5.
`prepared` makes the language model ready for one of three ways of fine-tuning: all of it, LoRA, or QLoRA.
"""

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.files import tensor_files
from lessons_lib.files.tensor_files import FileError
from lessons_lib.four_bits import packed_linear
from lessons_lib.four_bits.packed_linear import Linear4bit
from lessons_lib.tasks import language_model, layers

FORMAT = "low-rank adapters, 1"
ATTENTION = ("q_proj", "v_proj")  # the layers that Hu and others chose
EVERY = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
METHODS = ("full", "lora", "qlora")
BLOCKS = "model.layers"  # the linear layers inside are quantized; embedding, norms and head stay as they are


def update(a: Tensor, b: Tensor, alpha: float, r: int) -> Tensor:
    """What an adapter adds to its weight: float (n_out, n_in). a: (r, n_in), b: (n_out, r).

    Raises ValueError when the shapes do not fit each other or r.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != r or b.shape[1] != r:
        raise ValueError(
            f"a has the shape {tuple(a.shape)} and b {tuple(b.shape)}; at rank {r} they must be "
            f"({r}, n_in) and (n_out, {r})."
        )
    # dW = alpha / r * B A
    return alpha / r * (b @ a)


def merge(weight: Tensor, a: Tensor, b: Tensor, alpha: float, r: int) -> Tensor:
    """The weight with its update, as a new tensor (n_out, n_in). Raises ValueError when shapes do not fit."""
    added = update(a, b, alpha, r)
    if weight.shape != added.shape:
        raise ValueError(
            f"The weight has the shape {tuple(weight.shape)}, its update {tuple(added.shape)}; an adapter "
            "fits the layer that it was made for alone."
        )
    return weight + added


def unmerge(weight: Tensor, a: Tensor, b: Tensor, alpha: float, r: int) -> Tensor:
    """A merged weight without its update: the weight from before, but for rounding. Raises as `merge`."""
    return merge(weight, a, b, -alpha, r)


class LoRA(nn.Module):
    """A linear layer, frozen, plus alpha / r * B A; b starts at zero, so at first it computes what its base does.

    base: nn.Linear or Linear4bit. a (r, n_in) and b (n_out, r) are FP32 parameters. Raises ValueError for a rank below
    1 or above the smaller side of the weight, or an alpha that is not above 0; TypeError for another kind of layer.
    """

    def __init__(self, base: nn.Linear | Linear4bit, r: int, alpha: float):
        super().__init__()
        n_out, n_in = _check(base, r, alpha)
        self.base, self.r, self.alpha = base.requires_grad_(False), r, alpha
        self.a = nn.Parameter(torch.empty(r, n_in))
        self.b = nn.Parameter(torch.zeros(n_out, r))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # uniform within 1 / sqrt(n_in), as peft draws it

    def forward(self, x: Tensor) -> Tensor:
        """x: float (..., n_in). Returns (..., n_out) of the same dtype; under autocast, of autocast's."""
        out = self.base(x)
        # y = W x + alpha / r * B (A x); the small matrices take the dtype of x, which may be BF16
        return out + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype)) * (self.alpha / self.r)

    def merged(self) -> nn.Linear:
        """An ordinary linear layer that computes the same. A base of four bits is read back: the sum is on no grid."""
        bias = self.base.bias
        layer = nn.utils.skip_init(nn.Linear, self.a.shape[1], self.b.shape[0], bias=bias is not None)
        weight = self.base.weight() if isinstance(self.base, Linear4bit) else self.base.weight
        with torch.no_grad():
            layer.weight.copy_(merge(weight, self.a, self.b, self.alpha, self.r))
            if bias is not None:
                layer.bias.copy_(bias)
        return layer.requires_grad_(False)

    def extra_repr(self) -> str:
        """What is shown of the layer."""
        return f"r={self.r}, alpha={self.alpha}"


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """(n_out, n_in) of a linear layer. Raises TypeError for another kind."""
    if isinstance(layer, Linear4bit):
        return layer.weight.rows, layer.weight.n
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    raise TypeError(f"LoRA stands beside a linear layer, ordinary or Linear4bit, not beside {type(layer).__name__}.")


def _check(layer: nn.Module, r: int, alpha: float) -> tuple[int, int]:
    """The shape of a layer that an adapter of this rank can stand beside."""
    n_out, n_in = shape_of(layer)
    if isinstance(r, bool) or not isinstance(r, int) or not 1 <= r <= min(n_out, n_in):
        raise ValueError(f"r is {r!r}; a layer of {n_out} x {n_in} allows whole numbers from 1 to {min(n_out, n_in)}.")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha is {alpha!r}; it must be a number above 0. Twice the rank is usual.")
    return n_out, n_in


def add(model: nn.Module, targets: Sequence[str] = EVERY, r: int = 8, alpha: float = 16, seed: int = 0) -> nn.Module:
    """Freeze a model and put an adapter beside every linear layer whose name ends in one of targets, in place.

    seed: draws a. Returns the model. Raises ValueError, with nothing changed, when a target names no linear layer, the
    model has adapters already, or r or alpha is refused by `LoRA`.
    """
    if adapters(model):
        raise ValueError("The model has adapters already. Train those, or begin with a fresh base.")
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if name.rpartition(".")[2] in targets and isinstance(layer, (nn.Linear, Linear4bit))
    }
    idle = set(targets) - {name.rpartition(".")[2] for name in layers}
    if idle or not layers:
        raise ValueError(
            f"No linear layer is called {', '.join(sorted(idle)) or 'by any name, for none was given'}; "
            f"this model has {', '.join(sorted(_last_names(model)))}."
        )
    for layer in layers.values():
        _check(layer, r, alpha)
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, layer in layers.items():
            model.set_submodule(name, LoRA(layer, r, alpha))
    return model


def _last_names(model: nn.Module) -> set[str]:
    return {
        name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, Linear4bit))
    }


def adapters(model: nn.Module) -> dict[str, LoRA]:
    """The adapters of a model by the name of the layer they stand beside."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRA)}


def trainable_fraction(model: nn.Module) -> float:
    """Trained numbers as a share of all: parameters that require gradients over all weights, packed ones included."""
    packed = sum(math.prod(shape_of(layer)) for layer in model.modules() if isinstance(layer, Linear4bit))
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return trained / (packed + sum(parameter.numel() for parameter in parameters))


def merged(model: nn.Module) -> nn.Module:
    """A copy of the model with ordinary linear layers in place of the adapters, their updates added; in eval mode."""
    return copy.deepcopy(model, {id(adapter): adapter.merged() for adapter in adapters(model).values()}).eval()


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Write the adapters of a model, without its base. Raises ValueError when there are none."""
    loras = adapters(model)
    if not loras:
        raise ValueError("The model has no adapters to save; `lora.add` makes them.")
    tensor_files.write(path, FORMAT, _state(loras), _settings(loras))


def load(path: str | os.PathLike, model: nn.Module) -> nn.Module:
    """Read adapters into a model that has adapters of the same ranks beside the same layers. Returns the model.

    Everything is checked before the first change. Raises FileError when the file is cut off, damaged or of another
    format, or when names, ranks, alphas or shapes are not the model's.
    """
    path, loras = Path(path), adapters(model)
    tensors, file_settings = tensor_files.read(path, FORMAT, "lora.save")
    own = _settings(loras)
    for name in sorted(set(file_settings) & set(own)):
        if file_settings[name] != own[name]:
            raise FileError(
                f"{path} does not fit: the adapter of {name!r} has {_words(file_settings[name])} in the file and "
                f"{_words(own[name])} in the model. Add adapters like the file's with `lora.add` first."
            )
    tensor_files.check(tensors, _state(loras), path, "Is it for this model, with the same targets?")
    with torch.no_grad():
        for name, tensor in _state(loras).items():
            tensor.copy_(tensors[name])
    return model


def _words(settings: dict) -> str:
    return f"rank {settings['r']} and alpha {settings['alpha']:g}"


def _state(loras: dict[str, LoRA]) -> dict[str, Tensor]:
    return {f"{name}.{part}": getattr(adapter, part).detach() for name, adapter in loras.items() for part in "ab"}


def _settings(loras: dict[str, LoRA]) -> dict[str, dict]:
    return {name: {"r": adapter.r, "alpha": adapter.alpha} for name, adapter in loras.items()}


def four_bit(model: nn.Module) -> nn.Module:
    """A copy of a language model with the linear layers of its blocks in NF4, scales quantized as well; in eval mode.

    Source: T. Dettmers et al., QLoRA, 2023, arXiv 2305.14314, section 3.
    """
    return layers.replaced(model, layers.linear_layers(model, BLOCKS), lambda _, layer: packed_linear.nf4_layer(layer))


def check_method(method: str) -> None:
    """Raises ValueError for another name than those in METHODS."""
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there is {', '.join(METHODS)}.")


def prepared(
    method: str,
    targets: Sequence[str] = EVERY,
    r: int = 8,
    alpha: float = 16,
    seed: int = 0,
    checkpointing: bool = False,
) -> nn.Module:
    """The language model as a method trains it; with "full", every weight, and targets, r, alpha and seed are idle.

    checkpointing: blocks keep their input alone and compute the rest once more for the gradient. Raises ValueError for
    an unknown method, and as `lora.add`.
    """
    check_method(method)
    model = language_model.language_model()
    if method == "qlora":
        model = four_bit(model)
    if method != "full":
        add(model, targets, r, alpha, seed)
    return with_checkpointing(model) if checkpointing else model


def with_checkpointing(model: nn.Module) -> nn.Module:
    """The same language model, told that its blocks keep their input alone and compute the rest again for the gradient.

    Source: T. Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv 1604.06174.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    return model
