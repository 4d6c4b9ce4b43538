"""How a case becomes arguments, and how a call becomes values. Public, and without any answer.

The same file runs in the grader and in the sandbox, where only the standard library, numpy and torch can be used.
A case crosses as JSON and contiguous tensors; so does what was observed. Nothing is ever pickled.

- `encode` turns arguments into a JSON tree and flat tensors, `build` turns them back, strides and sharing included.
- `Recipe` names an argument that values alone cannot carry: a generator, a small model, a callable, a stream.
- `observe` calls a function and returns a flat dict of tensors and numbers.
"""

import dis
import math
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

OBSERVE = ("value", "gradients", "parameters", "calls", "traces")
RAISE, TORCH = dis.opmap["RAISE_VARARGS"], os.path.dirname(torch.__file__)
MAX_DEPTH = 8
MAX_ENTRIES = 10_000


@dataclass(frozen=True)
class Recipe:
    """An argument to be made on the other side: `kind` names the maker, `parameters` are its values."""

    kind: str
    parameters: dict[str, Any] = field(default_factory=dict)


def generator(seed: int) -> Recipe:
    """A torch.Generator with this seed."""
    return Recipe("generator", {"seed": seed})


def stream(items: list) -> Recipe:
    """An iterator that can be walked once, as a data loader's is: a second pass finds it empty."""
    return Recipe("stream", {"items": items})


def lookup(table: dict) -> Recipe:
    """A callable that answers from a hidden table, keyed by its arguments, and remembers the calls in order."""
    return Recipe("lookup", {"table": table})


def tiny_encoder(
    seed: int, layers: int = 2, width: int = 16, heads: int = 2, vocab: int = 50, topics: int = 5, dropout: float = 0.1
) -> Recipe:
    """A random text classifier, in training mode: model(input_ids, attention_mask) -> logits (batch, topics)."""
    sizes = {"layers": layers, "width": width, "heads": heads, "vocab": vocab, "topics": topics, "dropout": dropout}
    return Recipe("tiny_encoder", {"seed": seed} | sizes)


class TinyEncoder(nn.Module):
    """Embedding, transformer layers, mean over real tokens, linear head: a text classifier small enough to send."""

    def __init__(self, layers: int, width: int, heads: int, vocab: int, topics: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True) for _ in range(layers)
        )
        self.head = nn.Linear(width, topics)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """input_ids, attention_mask: int64 (batch, length). Returns float32 logits (batch, topics)."""
        hidden = self.embedding(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=attention_mask == 0)
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * mask).sum(1) / mask.sum(1).clamp_min(1))


class Lookup:
    """A function given as a table; `calls` holds the arguments of every call, in order."""

    def __init__(self, table: dict):
        self._table = table
        self.calls: list = []

    def __call__(self, *arguments):
        key = arguments[0] if len(arguments) == 1 else arguments
        self.calls.append(key)
        if key not in self._table:
            raise KeyError(f"asked for {key!r}, which is not among the {len(self._table)} settings that can be asked")
        return self._table[key]


def _make_encoder(seed: int, **sizes) -> TinyEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyEncoder(**sizes).train()


_MAKERS = {
    "generator": lambda seed: torch.Generator().manual_seed(seed),
    "stream": lambda items: iter(items),
    "lookup": Lookup,
    "tiny_encoder": _make_encoder,
}


class _Encoder:
    """Collects tensors by storage, so that two views of one storage are still two views of one storage afterwards."""

    def __init__(self):
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple, str] = {}

    def tree(self, value):
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"!": "float", "value": str(value)}
        if isinstance(value, list):
            return [self.tree(item) for item in value]
        if isinstance(value, tuple):
            return {"!": "tuple", "items": [self.tree(item) for item in value]}
        if isinstance(value, dict):
            return {"!": "dict", "items": [[self.tree(key), self.tree(item)] for key, item in value.items()]}
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.dtype):
            return {"!": "dtype", "name": str(value).removeprefix("torch.")}
        if isinstance(value, Recipe):
            return {"!": "recipe", "kind": value.kind, "parameters": self.tree(value.parameters)}
        raise TypeError(
            f"a case cannot carry {type(value).__name__}; it carries None, bool, int, float, str, list, tuple, dict, "
            "tensors, dtypes and recipes. Wrap anything else in a Recipe."
        )

    def _tensor(self, tensor: torch.Tensor) -> dict:
        storage = tensor.untyped_storage()
        name = self._names.setdefault((storage.data_ptr(), tensor.dtype), f"t{len(self._names)}")
        if name not in self.tensors:
            self.tensors[name] = torch.empty(0, dtype=tensor.dtype).set_(storage).detach().clone()
        place = {"shape": list(tensor.shape), "stride": list(tensor.stride()), "offset": tensor.storage_offset()}
        return {"!": "tensor", "name": name, "grad": tensor.requires_grad} | place


def encode(value) -> tuple[Any, dict[str, torch.Tensor]]:
    """A value as a JSON tree and the flat, contiguous tensors that it refers to. Raises TypeError for other kinds."""
    encoder = _Encoder()
    return encoder.tree(value), encoder.tensors


def build(tree, tensors: dict[str, torch.Tensor]):
    """The value that `encode` was given, made anew: every call gets fresh tensors, models and generators."""
    return _build(tree, {name: tensor.clone() for name, tensor in tensors.items()})


def _build(tree, tensors):
    if isinstance(tree, list):
        return [_build(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree["!"]
    if kind == "float":
        return float(tree["value"])
    if kind == "tuple":
        return tuple(_build(item, tensors) for item in tree["items"])
    if kind == "dict":
        return {_build(key, tensors): _build(item, tensors) for key, item in tree["items"]}
    if kind == "tensor":
        flat = tensors[tree["name"]]
        view = torch.as_strided(flat, tree["shape"], tree["stride"], tree["offset"])
        return view.requires_grad_() if tree["grad"] else view
    if kind == "dtype":
        return getattr(torch, tree["name"])
    return _MAKERS[tree["kind"]](**_build(tree["parameters"], tensors))


def observe(function, arguments: tuple, what: str = "value") -> dict[str, Any]:
    """Call function(*arguments) and return what it did, as a flat dict of tensors, numbers, strings and None.

    what: "value" the returned value · "gradients" that, and the gradient of every argument that asks for one, under
    fixed upstream gradients · "parameters" the returned value and every model's state afterwards · "calls" the
    returned value and what was asked of every `lookup`, in order · "traces" the returned value, whether it carries a
    graph, and the mode in which every model is left.
    A class derived from torch.autograd.Function is called through its `apply`.
    Raises whatever the function raises, and TypeError when it returns something that is not values.
    """
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        function = function.apply
    returned = function(*arguments)
    seen = flatten(returned)
    if what == "gradients":
        seen |= flatten(_gradients(returned, arguments), "gradient")
    elif what == "parameters":
        states = [dict(item.state_dict()) for item in arguments if isinstance(item, nn.Module)]
        seen |= flatten(states, "parameters")
    elif what == "calls":
        seen |= flatten([item.calls for item in arguments if isinstance(item, Lookup)], "calls")
    elif what == "traces":
        tensors = [item for item in flatten(returned, keep_graph=True).values() if isinstance(item, torch.Tensor)]
        seen["carries a graph"] = any(item.requires_grad for item in tensors)
        seen |= flatten([item.training for item in arguments if isinstance(item, nn.Module)], "left in training mode")
    return seen


def _gradients(returned, arguments) -> list:
    outputs = [item for item in flatten(returned, keep_graph=True).values() if isinstance(item, torch.Tensor)]
    outputs = [item for item in outputs if item.requires_grad]
    if not outputs:
        raise TypeError(
            "the result carries no gradient: it was computed outside autograd, by .item(), .detach(), no_grad or numpy"
        )
    inputs = [item for item in arguments if isinstance(item, torch.Tensor) and item.requires_grad]
    # Upstream gradients that differ from entry to entry: all ones would hide a transposed or averaged gradient.
    upstream = [torch.linspace(0.5, 1.5, item.numel(), dtype=item.dtype).reshape(item.shape) for item in outputs]
    return list(torch.autograd.grad(outputs, inputs, upstream, allow_unused=True))


def not_written(error: BaseException) -> bool:
    """Whether an exception is the stub's own `raise NotImplementedError`, and not one of torch's.

    torch raises the same class where an operator or a forward pass is missing: that is an error like any other. The
    stub's comes from a raise statement outside of torch.
    """
    if not isinstance(error, NotImplementedError) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    return code.co_code[last.tb_lasti] == RAISE and not code.co_filename.startswith(TORCH)


def flatten(value, path: str = "value", keep_graph: bool = False, depth: int = 0) -> dict[str, Any]:
    """Nested values as one flat dict, path -> tensor, number, string or None; lists and tuples count as the same."""
    if depth > MAX_DEPTH:
        raise TypeError(f"{path} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, torch.Tensor):
        return {path: value if keep_graph else _plain(value)}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # numpy
        return {path: torch.tensor(value.tolist()) if getattr(value, "ndim", 0) else value.item()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {path: value}
    if isinstance(value, torch.dtype):
        return {path: str(value)}
    if isinstance(value, (list, tuple)):
        entries = {str(position): item for position, item in enumerate(value)}
    elif isinstance(value, dict):
        entries = {repr(key): item for key, item in value.items()}
    else:
        raise TypeError(f"{path} is a {type(value).__name__}; return tensors, numbers, strings, lists, tuples or dicts")
    if len(entries) > MAX_ENTRIES:
        raise TypeError(f"{path} has {len(entries)} entries; at most {MAX_ENTRIES} are looked at")
    flat: dict[str, Any] = {f"{path}.length": len(entries)}
    for key, item in entries.items():
        flat |= flatten(item, f"{path}.{key}", keep_graph, depth + 1)
    return flat


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """A dense, contiguous copy that shares nothing; of a subclass only the numbers, not what it says about them."""
    with torch._C.DisableTorchFunctionSubclass():
        return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
