"""Linear layers that keep their weight packed, two codes a byte, and read it back at every call; their files.

A `Packed…` module holds one weight matrix: its codes, its scales, and how they are read. `Linear4bit` is a linear layer
around one. It saves memory between calls; the FP32 weight exists while the layer computes, and no longer.
`save` and `load` keep a model with such layers: one safetensors file, checked as a whole before anything of it is used.
The tensors are the model's own state; beside them the file says how each packed layer is laid out. Nothing is pickled.
"""

import os
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.arithmetic import formats, nf4
from lessons_lib.files import tensor_files
from lessons_lib.files.tensor_files import FileError
from lessons_lib.four_bits.groupwise import Grouped
from lessons_lib.measure import model_size

FORMAT = "four-bit layers, 1"


class PackedNF4(nn.Module):
    """A weight (rows, n) in NF4: codes packed, and a scale for each block, itself quantized where double is true."""

    kind = "nf4"

    def __init__(self, rows: int, n: int, group_size: int = nf4.BLOCK, double: bool = True):
        super().__init__()
        _check_shape(rows, n, group_size)
        self.rows, self.n, self.group_size, self.double = rows, n, group_size, double
        blocks = rows * n // group_size
        self.register_buffer("packed", torch.zeros(rows * n // 2, dtype=torch.uint8))
        if double:
            self.register_buffer("absmax_codes", torch.zeros(blocks, dtype=torch.uint8))
            self.register_buffer("absmax_scales", torch.zeros(-(-blocks // nf4.SCALE_BLOCK)))
            self.register_buffer("absmax_offset", torch.zeros(()))
        else:
            self.register_buffer("absmax", torch.zeros(blocks))

    @classmethod
    def of(cls, weight: Tensor, group_size: int = nf4.BLOCK, double: bool = True) -> "PackedNF4":
        """The NF4 codes of a float weight (rows, n). Raises as `nf4.quantize`, or when blocks would cross rows."""
        module = cls(*weight.shape, group_size, double)
        codes, absmax = nf4.quantize(weight, group_size)
        module.packed = formats.pack_nibbles(codes.flatten())
        if double:
            module.absmax_codes, module.absmax_scales, module.absmax_offset = nf4.double_quantize(absmax)
        else:
            module.absmax = absmax
        return module

    @property
    def layout(self) -> dict:
        """What makes an empty one that this one's tensors fit into."""
        return {"rows": self.rows, "n": self.n, "group_size": self.group_size, "double": self.double}

    def forward(self) -> Tensor:
        """The weight as it reads back: FP32 (rows, n)."""
        absmax = (
            self.absmax
            if not self.double
            else nf4.double_dequantize(nf4.Doubled(self.absmax_codes, self.absmax_scales, self.absmax_offset))
        )
        return nf4.dequantize(self.packed, absmax, self.group_size).view(self.rows, self.n)


class PackedGroups(nn.Module):
    """A weight (rows, n) in 4-bit groups: codes and zero points packed, FP16 scales; with factors, those of AWQ."""

    kind = "groups"

    def __init__(self, rows: int, n: int, group_size: int, factors: bool = False):
        super().__init__()
        _check_shape(rows, n, group_size)
        self.rows, self.n, self.group_size = rows, n, group_size
        groups = rows * n // group_size
        self.register_buffer("packed", torch.zeros(rows * n // 2, dtype=torch.uint8))
        self.register_buffer("scales", torch.zeros(groups, dtype=torch.float16))
        self.register_buffer("zero_points", torch.zeros((groups + 1) // 2, dtype=torch.uint8))
        self.register_buffer("factors", torch.zeros(n, dtype=torch.float16) if factors else None)

    @classmethod
    def of(cls, grouped: Grouped, factors: Tensor | None = None) -> "PackedGroups":
        """Pack what `groupwise.quantize_groups`, `gptq.gptq` or `awq.awq` made. factors: FP32 (n,), AWQ's.

        Raises ValueError for codes above 15, or shapes that do not fit.
        """
        rows, n = grouped.codes.shape
        module = cls(rows, n, n // grouped.scales.shape[1], factors is not None)
        module.packed = formats.pack_nibbles(grouped.codes.flatten())
        module.scales = grouped.scales.flatten().half()
        module.zero_points = formats.pack_nibbles(grouped.zero_points.flatten())
        module.factors = None if factors is None else factors.half()
        return module

    @property
    def layout(self) -> dict:
        """What makes an empty one that this one's tensors fit into."""
        return {"rows": self.rows, "n": self.n, "group_size": self.group_size, "factors": self.factors is not None}

    def forward(self) -> Tensor:
        """The weight as it reads back, AWQ's factors divided out: FP32 (rows, n)."""
        zero_points = torch.empty(2 * len(self.zero_points))
        nf4.look_up(self.zero_points, _whole_pairs(), zero_points)
        # w = (code - zero_point) * scale
        groups = nf4.unpack_scaled(self.packed, _whole_pairs(), self.scales.float(), self.group_size, zero_points)
        weight = groups.view(self.rows, self.n)
        return weight if self.factors is None else weight.div_(self.factors.float())


@lru_cache(maxsize=1)
def _whole_pairs() -> Tensor:
    """The pairs of whole numbers 0 ... 15 by byte, as `nf4.paired` makes them."""
    return nf4.paired(torch.arange(16.0))


class _Product(torch.autograd.Function):
    """x Wᵀ with a packed W, which is read back once more for the gradient instead of being kept for it."""

    @staticmethod
    def forward(ctx, x, packed):
        ctx.packed = packed
        return F.linear(x, packed().to(x.dtype))

    @staticmethod
    def backward(ctx, upstream):
        # dL/dx = dL/dy W
        return upstream @ ctx.packed().to(upstream.dtype), None


class Linear4bit(nn.Module):
    """A linear layer over a packed weight, which is frozen; the bias stays as it is. Computes in the dtype of x."""

    def __init__(self, weight: PackedNF4 | PackedGroups, bias: Tensor | None = None):
        super().__init__()
        self.weight = weight
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x: float (..., n_in). Returns (..., n_out) of the same dtype. Gradients reach x, never the weight."""
        out = _Product.apply(x, self.weight)
        return out if self.bias is None else out + self.bias.to(x.dtype)

    def extra_repr(self) -> str:
        """What is shown of the layer."""
        return ", ".join(f"{name}={value}" for name, value in self.weight.layout.items())


KINDS = {kind.kind: kind for kind in (PackedNF4, PackedGroups)}


def nf4_layer(layer: nn.Linear, group_size: int = nf4.BLOCK, double: bool = True) -> Linear4bit:
    """A linear layer with its weight in NF4."""
    return Linear4bit(PackedNF4.of(layer.weight.detach(), group_size, double), layer.bias)


def packed_bytes(model: nn.Module) -> tuple[int, int]:
    """Bytes of the packed weights of a model, scales included, and how many weights they stand for."""
    modules = [module for module in model.modules() if isinstance(module, tuple(KINDS.values()))]
    stored = sum(tensor.nbytes for module in modules for tensor in module.buffers())
    return stored, sum(module.rows * module.n for module in modules)


def _check_shape(rows: int, n: int, group_size: int) -> None:
    if rows < 1 or group_size < 2 or group_size % 2 or n < 1 or n % group_size:
        raise ValueError(
            f"A weight of {rows} rows of {n} does not split into groups of {group_size} within its rows; "
            "choose an even group size that divides the row."
        )


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Write a model and the layout of its packed layers. A tensor under two names is written once."""
    layouts = {
        name: {"kind": module.weight.kind, "bias": module.bias is not None} | module.weight.layout
        for name, module in model.named_modules()
        if isinstance(module, Linear4bit)
    }
    if not layouts:
        raise ValueError("The model has no packed layer: save it like any other model.")
    tensor_files.write(path, FORMAT, model_size.distinct(model), layouts)


def load(path: str | os.PathLike, model: nn.Module) -> nn.Module:
    """Put the layers and tensors of a file into a model of the same shape with ordinary linear layers, in place.

    Names, shapes, dtypes and group sizes are checked before the first change. Returns the model.
    Raises FileError when the file is cut off, damaged, of another format, or does not fit the model.
    """
    path = Path(path)
    tensors, layouts = tensor_files.read(path, FORMAT, "packed_linear.save")
    layers = {name: _empty(name, dict(layout), model, path) for name, layout in layouts.items()}
    tensor_files.check(tensors, _expected(model, layers), path, "Was it packed with another group size?")
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
        actual = tuple(layer.weight.shape) if isinstance(layer, nn.Linear) else type(layer).__name__
        raise FileError(
            f"{path} holds {name!r}, a linear layer of {shape} {'with' if bias else 'without'} bias; the "
            f"model has {actual} there. Load it into a model of the same shape."
        )
    try:
        return Linear4bit(KINDS[kind](**layout), torch.empty(shape[0]) if bias else None)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} says of {name!r}: {kind} {layout}, which cannot be: {error}") from None


def _expected(model: nn.Module, layers: dict[str, Linear4bit]) -> dict[str, Tensor]:
    """The state of the model once these layers are in place, tied tensors once."""
    state = {
        name: tensor for name, tensor in model_size.distinct(model).items() if name.rpartition(".")[0] not in layers
    }
    return state | {
        f"{name}.{key}": tensor for name, layer in layers.items() for key, tensor in layer.state_dict().items()
    }
