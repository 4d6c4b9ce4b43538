"""A text classifier whose weight matrices have different bit widths: tried in place, written to a file, read back.

The matrices that a width is chosen for together are a unit: the table of word embeddings, and in each block query, key
and value, the attention output, the first and the second feed-forward layer. Codes are signed and symmetric, with a
step of least squared error for each row. Biases, layer norms, positions and the head stay in FP32.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lessons_lib import affine
from lessons_lib.qat_model import least_error_steps

EMBEDDINGS = "embeddings"
PARTS = {
    "query, key, value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention output": ("attention.output.dense",),
    "first feed-forward": ("intermediate.dense",),
    "second feed-forward": ("output.dense",),
}
CANDIDATES = 8  # steps tried for a row


def units(model: nn.Module) -> dict[str, list[str]]:
    """The units of a `models.TopicClassifier`, from input to output: name -> names of weight matrices."""
    found = {EMBEDDINGS: ["encoder.embeddings.word_embeddings.weight"]}
    for block in range(len(model.encoder.encoder.layer)):
        for part, layers in PARTS.items():
            found[f"block {block}, {part}"] = [f"encoder.encoder.layer.{block}.{layer}.weight" for layer in layers]
    return found


def quantize(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Signed codes, int8 shaped like weight (rows, n), and the step of each row, FP32 (rows,). bits: 2 to 8."""
    steps = least_error_steps(weight, bits, CANDIDATES)
    return affine.quantize(weight, steps, torch.zeros_like(steps), bits, signed=True, axis=0), steps


def dequantize(codes: Tensor, steps: Tensor) -> Tensor:
    """The FP32 weights that codes and steps stand for."""
    return affine.dequantize(codes, steps, torch.zeros_like(steps), axis=0)


class Rounder:
    """Rounds units of a model to chosen widths. The codes of a matrix at a width are computed once and kept."""

    def __init__(self, model: nn.Module):
        self.model, self.units, self.kept = model, units(model), {}

    @contextmanager
    def in_bits(self, widths: Mapping[str, int]) -> Iterator[None]:
        """While in the body, the named units have their weights rounded to so many bits; then they are as before.

        Raises ValueError for a unit that the model does not have.
        """
        rounded = {name: dequantize(*self._codes(name, bits)) for name, bits in self._matrices(widths).items()}
        weights = {name: self.model.get_parameter(name) for name in rounded}
        exact = {name: weight.data for name, weight in weights.items()}
        try:
            for name, weight in weights.items():
                weight.data = rounded[name]
            yield
        finally:
            for name, weight in weights.items():
                weight.data = exact[name]

    def packed_state(self, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """What is written to a file: for each named unit packed codes, steps and bits, other tensors as they are."""
        state = dict(self.model.state_dict())
        for name, bits in self._matrices(widths).items():
            codes, steps = self._codes(name, bits)
            del state[name]
            state |= {f"{name}.packed": pack(codes, bits), f"{name}.steps": steps, f"{name}.bits": torch.tensor(bits)}
        return state

    def _codes(self, name: str, bits: int) -> tuple[Tensor, Tensor]:
        if (name, bits) not in self.kept:
            self.kept[name, bits] = quantize(self.model.get_parameter(name), bits)
        return self.kept[name, bits]

    def _matrices(self, widths: Mapping[str, int]) -> dict[str, int]:
        unknown = [unit for unit in widths if unit not in self.units]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no unit of this model; there are {', '.join(self.units)}.")
        return {name: bits for unit, bits in widths.items() for name in self.units[unit]}


def restore(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Fill the model, of the same shape as the one that was packed, with what the file holds; returns the model."""
    plain = {}
    for name, old in model.state_dict().items():
        if name in state:
            plain[name] = state[name]
        else:
            codes = unpack(state[f"{name}.packed"], int(state[f"{name}.bits"]), old.numel())
            plain[name] = dequantize(codes.view(old.shape), state[f"{name}.steps"])
    model.load_state_dict(plain)
    return model


def pack(codes: Tensor, bits: int) -> Tensor:
    """Signed codes of any shape as one stream of bits, lowest bit first: uint8 (ceil(n bits / 8),).

    A code is stored as code + 2**(bits - 1). Raises ValueError for codes that do not fit.
    """
    lowest, highest = affine.code_range(bits, signed=True)
    if bits > 8 or codes.numel() and (codes.min() < lowest or codes.max() > highest):
        raise ValueError(f"Codes of {bits} bits are {lowest} ... {highest}, with 2 to 8 bits; some do not fit.")
    unsigned = (codes.flatten().int() - lowest).to(torch.uint8)
    stream = ((unsigned[:, None] >> torch.arange(bits, dtype=torch.uint8)) & 1).flatten()
    stream = torch.cat([stream, stream.new_zeros(-len(stream) % 8)]).view(-1, 8)
    return (stream << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, n: int) -> Tensor:
    """The n codes that `pack` packed: int8 (n,). Raises ValueError for another number of bytes."""
    if len(packed) != (n * bits + 7) // 8:
        raise ValueError(f"{len(packed)} bytes do not hold {n} codes of {bits} bits; {(n * bits + 7) // 8} do.")
    lowest = affine.code_range(bits, signed=True)[0]
    stream = ((packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()[: n * bits].view(n, bits)
    unsigned = (stream << torch.arange(bits, dtype=torch.uint8)).sum(1, dtype=torch.uint8)
    return (unsigned.short() + lowest).to(torch.int8)
