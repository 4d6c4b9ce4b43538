"""Mixed precision: how sensitive each layer is to few bits, and how to spend a budget of bytes on those that need it.

The costs of a choice are kept as {layer: {bits: (bytes, loss)}}. Losses of single layers are added up, which is exact
only while they are small; the bit widths of all layers together are judged by running the model.
Source of the idea: HAWQ, Z. Dong and others, 2019, arXiv 1905.03696; of one-at-a-time sensitivity, ZeroQ, Y. Cai and
others, 2020, arXiv 2001.00281, section 3.2.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from lessons_lib import bars

Costs = Mapping[str, Mapping[int, tuple[float, float]]]
Widths = dict[str, int]

MOST_ALLOCATIONS = 1_000_000  # that an exhaustive search tries


def sensitivity(evaluate: Callable, layers: Sequence[str], bits: Sequence[int]) -> dict[str, dict[int, float]]:
    """What each layer adds to the loss at each number of bits, all others untouched: {layer: {bits: loss}}.

    evaluate(layer, b) gives the loss with this one layer in b bits, evaluate(None, 0) that of the untouched model. Each
    is asked once: the untouched model first, then layer by layer, in the order of bits. A progress bar counts layers.
    """
    untouched = evaluate(None, 0)
    found = {}
    for layer in bars.over(layers, "measuring", "layer"):
        found[layer] = {b: evaluate(layer, b) - untouched for b in bits}
    return found


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
    best, found = (math.inf, math.inf), None
    for bits in itertools.product(*costs.values()):
        options = [costs[layer][b] for layer, b in zip(costs, bits, strict=True)]
        size, loss = sum(option[0] for option in options), sum(option[1] for option in options)
        if size <= budget and (loss, size) < best:
            best, found = (loss, size), dict(zip(costs, bits, strict=True))
    if found is None:
        raise ValueError(f"No allocation fits {budget:,.0f} bytes: offer fewer bits.")
    return found


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
