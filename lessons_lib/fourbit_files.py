"""Models with packed layers on disk: one safetensors file, checked as a whole before anything of it is used.

The tensors are the model's own state; beside them the file says how each packed layer is laid out. Nothing is pickled.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from lessons_lib import checked_files, measure
from lessons_lib.checked_files import FileError
from lessons_lib.linear4bit import KINDS, Linear4bit

FORMAT = "four-bit layers, 1"


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Write a model and the layout of its packed layers. A tensor under two names is written once."""
    layouts = {
        name: {"kind": module.weight.kind, "bias": module.bias is not None} | module.weight.layout
        for name, module in model.named_modules()
        if isinstance(module, Linear4bit)
    }
    if not layouts:
        raise ValueError("The model has no packed layer: save it like any other model.")
    checked_files.write(path, FORMAT, measure.distinct(model), layouts)


def load(path: str | os.PathLike, model: nn.Module) -> nn.Module:
    """Put the layers and tensors of a file into a model of the same shape with ordinary linear layers, in place.

    Names, shapes, dtypes and group sizes are checked before the first change. Returns the model.
    Raises FileError when the file is cut off, damaged, of another format, or does not fit the model.
    """
    path = Path(path)
    tensors, layouts = checked_files.read(path, FORMAT, "fourbit_files.save")
    layers = {name: _empty(name, dict(layout), model, path) for name, layout in layouts.items()}
    checked_files.check(tensors, _expected(model, layers), path, "Was it packed with another group size?")
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    model.load_state_dict(tensors, strict=False)  # a tied tensor is in the file once, and in the state twice
    return model


def _empty(name: str, layout: dict, model: nn.Module, path: Path) -> Linear4bit:
    """A packed layer without values, for the place of a linear layer."""
    kind, bias = layout.pop("kind"), layout.pop("bias")
    layer = dict(model.named_modules()).get(name)
    shape = (layout["rows"], layout["n"])
    if not isinstance(layer, nn.Linear) or tuple(layer.weight.shape) != shape or bias != (layer.bias is not None):
        found = tuple(layer.weight.shape) if isinstance(layer, nn.Linear) else type(layer).__name__
        raise FileError(
            f"{path} holds {name!r}, a linear layer of {shape} {'with' if bias else 'without'} bias; the "
            f"model has {found} there. Load it into a model of the same shape."
        )
    try:
        return Linear4bit(KINDS[kind](**layout), torch.empty(shape[0]) if bias else None)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} says of {name!r}: {kind} {layout}, which cannot be: {error}") from None


def _expected(model: nn.Module, layers: dict[str, Linear4bit]) -> dict[str, Tensor]:
    """The state of the model once these layers are in place, tied tensors once."""
    state = {name: tensor for name, tensor in measure.distinct(model).items() if name.rpartition(".")[0] not in layers}
    return state | {
        f"{name}.{key}": tensor for name, layer in layers.items() for key, tensor in layer.state_dict().items()
    }
