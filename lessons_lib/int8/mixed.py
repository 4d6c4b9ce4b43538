"""Mixed precision: how sensitive each layer is to few bits, how a budget of bytes is spent, and the model that results.

The costs of a choice are kept as {layer: {bits: (bytes, loss)}}. Losses of single layers are added up, which is exact
only while they are small; the bit widths of all layers together are judged by running the model.
Source of the idea: HAWQ, Z. Dong and others, 2019, arXiv 1905.03696; of one-at-a-time sensitivity, ZeroQ, Y. Cai and
others, 2020, arXiv 2001.00281, section 3.2.

In a text classifier the matrices that a width is chosen for together are a unit: the table of word embeddings, and in
each block query, key and value, the attention output, the first and the second feed-forward layer. Codes are signed and
symmetric, with a step of least squared error for each row. Biases, layer norms, positions and the head stay in FP32.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lessons_lib.arithmetic import affine
from lessons_lib.files import progress
from lessons_lib.int8.qat import least_error_steps

Costs = Mapping[str, Mapping[int, tuple[float, float]]]
Widths = dict[str, int]

MOST_ALLOCATIONS = 1_000_000  # that an exhaustive search tries
EMBEDDINGS = "embeddings"
PARTS = {
    "query, key, value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention output": ("attention.output.dense",),
    "first feed-forward": ("intermediate.dense",),
    "second feed-forward": ("output.dense",),
}
CANDIDATES = 8  # steps tried for a row


def sensitivity(evaluate: Callable, layers: Sequence[str], bits: Sequence[int]) -> dict[str, dict[int, float]]:
    """What each layer adds to the loss at each number of bits, all others untouched: {layer: {bits: loss}}.

    evaluate(layer, b) gives the loss with this one layer in b bits, evaluate(None, 0) that of the untouched model. Each
    is asked once: the untouched model first, then layer by layer, in the order of bits. A progress bar counts layers.
    """
    untouched = evaluate(None, 0)
    increases = {}
    for layer in progress.over(layers, "measuring", "layer"):
        increases[layer] = {b: evaluate(layer, b) - untouched for b in bits}
    return increases


def allocate_bits(costs: Costs, budget: float) -> Widths:
    """A number of bits for each layer within a budget of bytes, chosen greedily.

    Start with every layer at its fewest bytes. Again and again take, of all changes of one layer to a choice of more
    bytes that fits the budget and lowers the loss, the one that lowers it most for each byte added; of equals the
    earliest layer, then the fewest bytes. Stop when there is none.
    Raises ValueError when the fewest bytes exceed the budget.
    """
    chosen = {layer: min(options, key=lambda b: options[b][0]) for layer, options in _checked(costs).items()}
    used = total_bytes(costs, chosen)
    if used > budget:
        raise ValueError(f"The fewest bytes are {used:,.0f}, over the budget of {budget:,.0f}: offer fewer bits.")
    while True:
        best = None
        for layer, options in costs.items():
            bytes_now, loss_now = options[chosen[layer]]
            for b in sorted(options, key=lambda b: options[b][0]):
                more, less = options[b][0] - bytes_now, loss_now - options[b][1]
                # gain = loss saved / bytes added
                if more > 0 and less > 0 and used + more <= budget and (best is None or less / more > best[0]):
                    best = less / more, layer, b, more
        if best is None:
            return chosen
        _, layer, b, more = best
        chosen[layer], used = b, used + more


def best_allocation(costs: Costs, budget: float) -> Widths:
    """The bits for each layer with the least sum of losses within the budget; every allocation is tried.

    Of equal sums the one with fewer bytes. Raises ValueError when none fits, and beyond MOST_ALLOCATIONS: the number of
    allocations is multiplied by the number of choices with each layer.
    """
    count = math.prod(len(options) for options in _checked(costs).values())
    if count > MOST_ALLOCATIONS:
        raise ValueError(
            f"There are {count:,} allocations, too many to try ({MOST_ALLOCATIONS:,}): take fewer "
            "layers or choices, or allocate_bits."
        )
    best, widths = (math.inf, math.inf), None
    for bits in itertools.product(*costs.values()):
        options = [costs[layer][b] for layer, b in zip(costs, bits, strict=True)]
        size, loss = sum(option[0] for option in options), sum(option[1] for option in options)
        if size <= budget and (loss, size) < best:
            best, widths = (loss, size), dict(zip(costs, bits, strict=True))
    if widths is None:
        raise ValueError(f"No allocation fits {budget:,.0f} bytes: offer fewer bits.")
    return widths


def total_bytes(costs: Costs, chosen: Mapping[str, int]) -> float:
    """Bytes of an allocation."""
    return sum(costs[layer][b][0] for layer, b in chosen.items())


def total_loss(costs: Costs, chosen: Mapping[str, int]) -> float:
    """Sum of the single layers' losses of an allocation: a prediction of the model's."""
    return sum(costs[layer][b][1] for layer, b in chosen.items())


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points (bytes, loss) that no other point beats, by rising bytes; less of both is better.

    A point is beaten by one that is no worse in either and better in one. Of equal points the first stays.
    """
    front, least = [], math.inf
    for place in sorted(range(len(points)), key=lambda place: (*points[place], place)):
        if points[place][1] < least:
            front.append(place)
            least = points[place][1]
    return front


def _checked(costs: Costs) -> Costs:
    empty = [layer for layer, options in costs.items() if not options]
    if not costs or empty:
        raise ValueError(f"{empty[0] if empty else 'costs'!r} offers nothing to choose from; each layer needs a width.")
    return costs


def units(model: nn.Module) -> dict[str, list[str]]:
    """The units of a `topic_classifier.TopicClassifier`, from input to output: name -> names of weight matrices."""
    names = {EMBEDDINGS: ["encoder.embeddings.word_embeddings.weight"]}
    for block in range(len(model.encoder.encoder.layer)):
        for part, layers in PARTS.items():
            names[f"block {block}, {part}"] = [f"encoder.encoder.layer.{block}.{layer}.weight" for layer in layers]
    return names


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
