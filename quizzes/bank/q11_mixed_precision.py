"""Lesson 11, mixed precision and sensitivity: its exercises and its questions."""

from lessons_lib.int8 import mixed
from quizzes import case, exercise, question
from quizzes.inside import recipes


@exercise(
    points=2,
    minutes=7,
    hint="Ask for the untouched model before the loops, and keep the number. Then two loops, layers outside and bits "
    "inside, one call each.",
)
def sensitivity(evaluate, layers: list[str], bits: list[int]) -> dict[str, dict[int, float]]:
    """How much each layer adds to the loss at each number of bits, one layer at a time.

    evaluate(layer, b) runs the model with this one layer in b bits, all others untouched, and returns the loss;
    evaluate(None, 0) is the untouched model. Each call takes seconds, so each is made once: the untouched model first,
    then layer after layer, each in the order of bits.
    Returns {layer: {b: loss with this layer in b bits - loss of the untouched model}}.

    >>> losses = {(None, 0): 1.0, ("in", 8): 1.0, ("in", 4): 1.25, ("out", 8): 1.5, ("out", 4): 3.0}
    >>> sensitivity(lambda layer, b: losses[layer, b], ["in", "out"], [8, 4])
    {'in': {8: 0.0, 4: 0.25}, 'out': {8: 0.5, 4: 2.0}}
    """
    return mixed.sensitivity(evaluate, layers, bits)


def _losses(draw, layers, bits):
    """A table of losses in steps of 1/64, so that differences are exact, and a callable that answers from it."""
    table = {(None, 0): draw.integer(32, 128) / 64}
    table |= {(layer, b): table[None, 0] + draw.integer(1, 400) / 64 for layer in layers for b in bits}
    return recipes.lookup(table), layers, bits


@sensitivity.cases
def _(draw):
    printed = {(None, 0): 1.0, ("in", 8): 1.0, ("in", 4): 1.25, ("out", 8): 1.5, ("out", 4): 3.0}
    yield case("the printed example", recipes.lookup(printed), ["in", "out"], [8, 4], observe="calls", visible=True)
    yield case("more layers", *_losses(draw, ["query", "key", "value", "out"], [8, 6, 4]), observe="calls")
    yield case("more layers", *_losses(draw, [f"block {i}" for i in range(6)], [2, 8]), observe="calls")
    yield case("one width", *_losses(draw, ["a", "b", "c"], [draw.integer(2, 8)]), observe="calls")


sensitivity.exact("losses are multiples of 1/64, whose differences FP64 holds exactly; calls are counted")


@sensitivity.mistake("You ask for the untouched model again for every layer or width. It never changes: ask once.")
def _(evaluate, layers, bits):
    return {layer: {b: evaluate(layer, b) - evaluate(None, 0) for b in bits} for layer in layers}


@sensitivity.mistake("These are the losses themselves. Subtract that of the untouched model.")
def _(evaluate, layers, bits):
    evaluate(None, 0)
    return {layer: {b: evaluate(layer, b) for b in bits} for layer in layers}


@sensitivity.mistake("You went through the widths outside and the layers inside: the calls come in another order.")
def _(evaluate, layers, bits):
    untouched = evaluate(None, 0)
    losses = {b: {layer: evaluate(layer, b) - untouched for layer in layers} for b in bits}
    return {layer: {b: losses[b][layer] for b in bits} for layer in layers}


@sensitivity.alternative
def _(evaluate, layers, bits):
    untouched = evaluate(None, 0)
    found = {}
    for layer in layers:
        found[layer] = {}
        for b in bits:
            found[layer][b] = evaluate(layer, b) - untouched
    return found


@exercise(
    points=3,
    minutes=15,
    hint="Keep `chosen` and the bytes used. In each round go through all layers and all their larger choices that "
    "still fit, remember the one with the largest loss saved per byte added, and make it. Compare with >, not >=.",
)
def allocate_bits(costs: dict[str, dict[int, tuple[int, float]]], budget: int) -> dict[str, int]:
    """The bits of each layer within a budget of bytes, chosen greedily.

    costs: {layer: {bits: (bytes, loss)}}; more bits take more bytes. budget: bytes in all.
    Start with the fewest bits everywhere. Then, again and again, change one layer to more bits: of all changes that
    fit the budget and lower the loss take the one with the largest (loss saved) / (bytes added), where both are
    counted from what the layer has now. A change may leave out a width in between. Of equal ratios take the layer that
    comes first in costs, then the fewest bits. Stop when no change is left. The fewest bits always fit.
    Returns {layer: bits}, in the order of costs.

    >>> costs = {"a": {2: (10, 8.0), 4: (20, 2.0), 8: (40, 0.0)}, "b": {2: (10, 3.0), 4: (20, 1.0), 8: (40, 0.0)}}
    >>> allocate_bits(costs, 59)
    {'a': 4, 'b': 4}
    """
    return mixed.allocate_bits(costs, budget)


def _costs(draw, layers, widths=(2, 3, 4, 8)):
    """Layers of different sizes whose losses fall by about four a bit; losses are multiples of 1/1024."""
    costs = {}
    for layer in range(layers):
        weights, size = draw.integer(1, 30), draw.number(0.2, 8)
        losses = [round(1024 * size * draw.number(0.7, 1.4) * 4.0 ** (2 - b)) / 1024 for b in widths]
        costs[f"layer {layer}"] = {b: (weights * b, loss) for b, loss in zip(widths, losses, strict=True)}
    return costs


def _budget(costs, share):
    """A budget this share of the way from the fewest bytes to the most."""
    least = sum(min(size for size, _ in options.values()) for options in costs.values())
    most = sum(max(size for size, _ in options.values()) for options in costs.values())
    return int(least + share * (most - least))


@allocate_bits.cases
def _(draw):
    printed = {"a": {2: (10, 8.0), 4: (20, 2.0), 8: (40, 0.0)}, "b": {2: (10, 3.0), 4: (20, 1.0), 8: (40, 0.0)}}
    yield case("the printed example", printed, 59, visible=True)
    for share in (0.2, 0.4, 0.7):
        costs = _costs(draw, 6)
        yield case("layers of different sizes", costs, _budget(costs, share))
    uneven = {
        "small": {2: (1, 3.0), 4: (2, 1.0)},
        "large": {2: (1, 10.0), 4: (11, 0.0)},
        "mid": {2: (4, 4.0), 4: (8, 0.5)},
    }
    yield case("what is best does not fit", uneven, 16)
    yield case("what is best does not fit", uneven, 9)
    leap = {"a": {2: (1, 5.0), 3: (2, 4.875), 4: (3, 1.0)}, "b": {2: (2, 2.0), 4: (4, 0.5)}}
    yield case("a width left out", leap, 5)
    yield case("a width left out", leap, 7)
    worse = {"a": {2: (1, 1.0), 4: (2, 1.5), 8: (4, 0.5)}, "b": {2: (1, 0.25), 4: (2, 0.25)}}
    yield case("more bits that do not help", worse, 3)
    yield case("more bits that do not help", worse, 99)
    twins = {name: {2: (1, 4.0), 4: (2, 2.0), 8: (3, 0.0)} for name in ("first", "second")}
    yield case("equal ratios", twins, 3)
    yield case("equal ratios", twins, 4)


allocate_bits.exact("bits are whole numbers; losses are multiples of 1/1024, so equal ratios are equal in FP64")


def _greedy(costs, budget, ratio=True, neighbours=False, gains_only=True, last=False, overshoot=False):
    """The rule, with parts to get wrong."""
    chosen = {layer: min(options) for layer, options in costs.items()}
    used = sum(costs[layer][b][0] for layer, b in chosen.items())
    while True:
        changes = []
        for place, (layer, options) in enumerate(costs.items()):
            size, loss = options[chosen[layer]]
            larger = sorted(b for b in options if b > chosen[layer])
            for b in larger[:1] if neighbours else larger:
                added, saved = options[b][0] - size, loss - options[b][1]
                if (used < budget if overshoot else used + added <= budget) and (saved > 0 or not gains_only):
                    rate, order = saved / added if ratio else saved, place if last else -place
                    changes.append((rate, order, -b, layer, b, added))
        if not changes:
            return chosen
        *_, layer, b, added = max(changes)
        chosen[layer], used = b, used + added


@allocate_bits.mistake("You took the largest saving in loss, whatever it costs. Divide it by the bytes added.")
def _(costs, budget):
    return _greedy(costs, budget, ratio=False)


@allocate_bits.mistake("You only go from one width to the next. A change may leave out a width that hardly helps.")
def _(costs, budget):
    return _greedy(costs, budget, neighbours=True)


@allocate_bits.mistake("You stop at the first change that does not fit. A smaller one may still fit.")
def _(costs, budget):
    chosen = {layer: min(options) for layer, options in costs.items()}
    used = sum(costs[layer][b][0] for layer, b in chosen.items())
    while True:
        best = None
        for layer, options in costs.items():
            size, loss = options[chosen[layer]]
            for b in sorted(options):
                added, saved = options[b][0] - size, loss - options[b][1]
                if added > 0 and saved > 0 and (best is None or saved / added > best[0]):
                    best = saved / added, layer, b, added
        if best is None or used + best[3] > budget:
            return chosen
        chosen[best[1]], used = best[2], used + best[3]


@allocate_bits.mistake("You go over the budget: look whether a change fits before it is made, not after.")
def _(costs, budget):
    return _greedy(costs, budget, overshoot=True)


@allocate_bits.mistake("You spend bytes on changes that do not lower the loss.")
def _(costs, budget):
    return _greedy(costs, budget, gains_only=False)


@allocate_bits.mistake("Of equal ratios the layer that comes first wins. Yours is the last: compare with >, not >=.")
def _(costs, budget):
    return _greedy(costs, budget, last=True)


@allocate_bits.alternative
def _(costs, budget):
    chosen = {layer: min(options) for layer, options in costs.items()}

    def spent():
        return sum(costs[layer][b][0] for layer, b in chosen.items())

    while True:
        left, changes = budget - spent(), []
        for layer, options in costs.items():
            size, loss = options[chosen[layer]]
            for b in sorted(options):
                if b > chosen[layer] and options[b][0] - size <= left and options[b][1] < loss:
                    changes.append(((loss - options[b][1]) / (options[b][0] - size), layer, b))
        if not changes:
            return chosen
        best = max(ratio for ratio, _, _ in changes)
        _, layer, b = next(change for change in changes if change[0] == best)
        chosen[layer] = b


@exercise(
    points=2,
    minutes=8,
    hint="Sort by bytes, then by loss. Going through, a point is on the front when its loss is below all before it.",
)
def pareto_front(points: list[tuple[float, float]]) -> list[int]:
    """The positions of the points on the Pareto front, by rising bytes.

    points: (bytes, loss) each, at least one; less of either is better. A point is beaten by another that is no worse in
    both and better in at least one. The front holds the points that none beats. Of equal points only the first is kept.
    Returns a list of positions in points, in the order of their bytes.

    >>> pareto_front([(30, 2.0), (10, 9.0), (20, 9.5), (20, 4.0)])
    [1, 3, 0]
    """
    return mixed.pareto_front(points)


@pareto_front.cases
def _(draw):
    yield case("the printed example", [(30, 2.0), (10, 9.0), (20, 9.5), (20, 4.0)], visible=True)
    for count in (12, 40):
        cloud = [(draw.integer(1, 1000), draw.integer(1, 1000) / 8) for _ in range(count)]
        yield case("a cloud", cloud)
    front = sorted({draw.integer(1, 500) for _ in range(9)})
    yield case("all on the front", [(size, 1000.0 - size) for size in reversed(front)])
    yield case("all on the front", [(size, 1000.0 / size) for size in front])
    yield case("the same bytes", [(5, 3.0), (7, 1.0), (5, 2.0), (7, 1.5), (5, 4.0), (9, 1.0)])
    yield case("the same bytes", [(4, 2.0), (4, 3.0), (6, 2.0), (6, 1.0), (8, 1.0)])
    yield case("equal points", [(9, 1.0), (3, 2.0), (3, 2.0), (9, 1.0), (2, 5.0)])


pareto_front.exact("positions are whole numbers")


@pareto_front.mistake("These are the points. Return their positions in the list.")
def _(points):
    return [points[place] for place in mixed.pareto_front(points)]


@pareto_front.mistake("The positions come in the order of the list. Sort them by bytes.")
def _(points):
    return sorted(mixed.pareto_front(points))


@pareto_front.mistake("A point with the same bytes and a larger loss is beaten too, and so is one with the same loss.")
def _(points):
    front = [i for i, (size, loss) in enumerate(points) if not any(a < size and b < loss for a, b in points)]
    return sorted(dict.fromkeys(points.index(points[i]) for i in front), key=lambda i: points[i])


@pareto_front.mistake("Of equal points only the first stays.")
def _(points):
    def beaten(one):
        return any(a <= one[0] and b <= one[1] and (a, b) != tuple(one) for a, b in points)

    return sorted((i for i, one in enumerate(points) if not beaten(one)), key=lambda i: points[i])


@pareto_front.alternative
def _(points):
    kept = []
    for i, (size, loss) in enumerate(points):
        beaten = any(
            (a <= size and b <= loss and (a < size or b < loss)) or (a == size and b == loss and j < i)
            for j, (a, b) in enumerate(points)
        )
        if not beaten:
            kept.append(i)
    return sorted(kept, key=lambda i: points[i][0])


question(
    "1",
    "What does the sensitivity of a layer to 3 bits tell?",
    A=("How much the loss grows when this layer alone has 3 bits", "All others stay untouched meanwhile.", True),
    B=("How large the rounding error of its weights is", "That is no loss yet: a large error may not matter."),
    C=("How much the loss grows when the whole model has 3 bits", "Then nobody could say which layer was to blame."),
    hint="How many layers are changed at a time?",
    steps=["One layer is rounded, the model is run, the layer is put back.", "The difference in loss is its own."],
)

question(
    "2",
    "Layer a has 1,000 weights and loses 0.04 at 2 bits, layer b has 10,000 weights and loses 0.08. At 4 bits both "
    "lose nothing. Both have 2 bits, and 2,600 bytes are left to spend. Who gets 4 bits first, by the greedy rule?",
    A=("b, because its loss is larger", "It is, but it costs ten times as many bytes to repair."),
    B=("a, because it saves more loss for each byte", "0.04 / 250 bytes against 0.08 / 2,500 bytes.", True),
    C=("Either: the ratio is the same", "0.04 / 250 = 0.00016 and 0.08 / 2,500 = 0.000032."),
    D=("Neither: both should get 3 bits", "Three bits are not offered, and the rule changes one layer at a time."),
    hint="How many bytes do two more bits for each weight take?",
    steps=["a: 1,000 · 2 / 8 = 250 bytes; b: 2,500 bytes.", "Loss saved for each byte: 0.00016 against 0.000032."],
)

question(
    "3",
    "25 layers, 5 widths each. Why does nobody try all allocations?",
    A=("Most of them do not fit the budget.", "Many do, and one would have to look at all to know."),
    B=("The loss of an allocation cannot be known.", "It can be predicted by a sum, or measured by running the model."),
    C=("There are 125 of them.", "That would be quick. The widths of all layers combine: they multiply."),
    D=("There are 5 to the power of 25, about 3 · 10^17.", "At a million a second that is nine thousand years.", True),
    hint="Each layer can take any width, whatever the others take.",
    steps=["Choices of independent layers multiply: 5 · 5 · … · 5, 25 times."],
)

question(
    "4",
    "The predicted loss of an allocation, the sum of the layers' own losses, is 0.15. The model, run with it, loses "
    "0.48. What happened?",
    A=("The sensitivities were measured wrongly.", "They may be exact: each with the other layers untouched."),
    B=(
        "Errors of several layers add up to more than their single losses.",
        "A layer that reads rounded inputs is off by more. The sum holds only while all are small.",
        True,
    ),
    C=("The budget was exceeded.", "Bytes do not change the loss."),
    hint="Under which condition was each of the summands measured?",
    steps=["One at a time: all other layers exact.", "All at once: each reads what the others spoiled."],
)

question(
    "5",
    "At the same bytes a mixed allocation gives 85.0 % and the uniform one 85.0 % accuracy; the divergence from FP32 "
    "is 0.006 against 0.011. What follows?",
    A=("Mixing is of no use.", "It halves the divergence. No answer tips at this size, so accuracy does not show it."),
    B=("Mixing is better in every respect.", "Not in the accuracy, which is what a user would notice."),
    C=(
        "At this size both are good enough; the gain will show in accuracy where bits are fewer.",
        "Divergence moves long before answers do. Where uniform begins to fail, look again.",
        True,
    ),
    D=("The measurement is broken.", "Both figures can be right: most answers have room before they tip."),
    hint="How much must a sentence's logits move before its answer changes?",
    steps=["The largest logit usually leads by a wide gap.", "Small divergences leave nearly all gaps open."],
)

question(
    "6",
    "The Pareto front of allocations (bytes, loss) holds 40 points. What can be said of a point that is not on it?",
    A=(
        "Some point is no larger and no worse, and better in one of the two.",
        "That is what not being on the front means.",
        True,
    ),
    B=(
        "Its loss is larger than that of every point on the front.",
        "Only than that of some: small points have large losses.",
    ),
    C=("It does not fit the budget.", "The front knows no budget. A budget picks one of its points."),
    hint="Read the definition of `beaten` backwards.",
    steps=["Not on the front: some point beats it.", "To beat: no worse in both, better in at least one."],
)
