"""Lesson 14, magnitude pruning: its exercises and its questions."""

import torch

from lessons_lib.pruning import schedules, storage, unstructured
from quizzes import case, exercise, question


@exercise(
    points=3,
    minutes=8,
    hint="A threshold alone cannot stop in the middle of equal weights. weight.abs().flatten().argsort(stable=True) "
    "puts all of them in order and keeps equal ones as they stand. How many places of it go?",
)
def magnitude_mask(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Which weights stay when exactly round(sparsity * n) of the n go: those smallest in absolute value.

    weight: FP32 of any shape, contiguous or not. sparsity: 0 ... 1. round is Python's. Of equally small weights those
    with the lowest index go first, counted row by row as weight.flatten() puts them.
    Returns a bool tensor of the same shape, True where the weight stays.

    >>> magnitude_mask(torch.tensor([[0.5, -0.1, 0.1], [2.0, -0.1, -3.0]]), 0.33)
    tensor([[ True, False, False],
            [ True,  True,  True]])
    """
    return unstructured.magnitude_mask(weight, sparsity)


@magnitude_mask.cases
def _(draw):
    yield case("the printed example", torch.tensor([[0.5, -0.1, 0.1], [2.0, -0.1, -3.0]]), 0.33, visible=True)
    yield case("all different", draw.normal((13, 17)), 0.5)
    yield case("all different", draw.normal((7, 3, 5)), draw.number(0.1, 0.9))
    yield case("signs", torch.tensor([-4.0, 1.0, -3.0, 2.0, -1.5, 0.5]), 0.5, visible=True)
    yield case("the count is rounded", draw.normal((31,)), 0.5)
    yield case("the count is rounded", draw.normal((7, 11)), 0.66)
    yield case("ties", draw.integers((12, 9), -2, 3).float(), draw.number(0.2, 0.8))
    yield case("ties", torch.full((6, 10), -0.25), 0.35)
    yield case("strided", draw.strided((9, 14)), 0.7)
    yield case("ends", draw.normal((5, 6)), 0.0)


magnitude_mask.exact("the order of absolute values and the rule for ties leave one right answer")


@magnitude_mask.mistake(
    "Your mask keeps or drops all weights that equal the threshold together, so the count is off where weights tie."
)
def _(weight, sparsity):
    count = round(sparsity * weight.numel())
    if count == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    return weight.abs() > weight.abs().flatten().kthvalue(count).values


@magnitude_mask.mistake("Signs count in your order: large negative weights go first. Compare absolute values.")
def _(weight, sparsity):
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[weight.flatten().argsort(stable=True)[: round(sparsity * weight.numel())]] = False
    return mask.view(weight.shape)


@magnitude_mask.mistake("The mask is upside down: True marks a weight that stays.")
def _(weight, sparsity):
    return ~unstructured.magnitude_mask(weight, sparsity)


@magnitude_mask.mistake("Your count is cut off instead of rounded: int(0.66 * 77) is 50, round gives 51.")
def _(weight, sparsity):
    return unstructured.magnitude_mask(weight, int(sparsity * weight.numel()) / weight.numel())


@magnitude_mask.mistake("Of equally small weights your last ones go first; the lowest index goes first.")
def _(weight, sparsity):
    return unstructured.magnitude_mask(weight.flatten().flip(0), sparsity).flip(0).view(weight.shape)


@magnitude_mask.alternative
def _(weight, sparsity):
    sizes = weight.abs().flatten().tolist()
    order = sorted(range(len(sizes)), key=sizes.__getitem__)  # stable: equal sizes stay in order
    kept = torch.ones(len(sizes), dtype=torch.bool)
    kept[order[: round(sparsity * len(sizes))]] = False
    return kept.reshape(weight.shape)


@exercise(
    points=3,
    minutes=8,
    hint="Flatten every tensor and put them behind one another with torch.cat: that is one vector with one threshold. "
    "split takes the mask apart again.",
)
def global_masks(weights: dict[str, torch.Tensor], sparsity: float) -> dict[str, torch.Tensor]:
    """One mask for each tensor, such that round(sparsity * n) of all n weights together go: the smallest of them all.

    weights: FP32 tensors of any shapes by name. sparsity: 0 ... 1. round is Python's. Of equally small weights go
    first those of the tensor that stands first in the dict, within it those with the lowest index of flatten().
    Returns a dict with the same names in the same order: bool tensors shaped as the weights, True where one stays.

    >>> global_masks({"a": torch.tensor([0.1, 5.0]), "b": torch.tensor([[0.2, -0.3]])}, 0.5)
    {'a': tensor([False,  True]), 'b': tensor([[False,  True]])}
    """
    return unstructured.global_masks(weights, sparsity)


def _layers(draw, *scales):
    return {
        f"layer {place}": scale * draw.normal((draw.integer(3, 9), draw.integer(3, 9)))
        for place, scale in enumerate(scales)
    }


@global_masks.cases
def _(draw):
    yield case(
        "the printed example", {"a": torch.tensor([0.1, 5.0]), "b": torch.tensor([[0.2, -0.3]])}, 0.5, visible=True
    )
    yield case("layers of different sizes", _layers(draw, 1.0, 0.3, 3.0), 0.6)
    yield case("layers of different sizes", _layers(draw, 5.0, 0.1), draw.number(0.2, 0.7))
    ties = {"z": torch.full((2, 3), -0.5), "a": torch.full((7,), 0.5)}
    yield case("ties across tensors", ties, 0.31, visible=True)
    yield case("ties across tensors", {name: draw.integers((5, 4), -1, 2).float() for name in "cab"}, 0.5)
    yield case(
        "a vector, a cube, a strided matrix",
        {"vector": draw.normal((9,)), "cube": draw.normal((2, 3, 4)), "matrix": draw.strided((6, 5))},
        0.45,
    )


global_masks.exact("the order of absolute values and the rule for ties leave one right answer")


@global_masks.mistake("Every tensor loses the same share here. Globally there is one threshold for all of them.")
def _(weights, sparsity):
    return unstructured.local_masks(weights, sparsity)


@global_masks.mistake("Each tensor was divided by its own largest weight first. The weights compete as they are.")
def _(weights, sparsity):
    return unstructured.global_masks({name: weight / weight.abs().max() for name, weight in weights.items()}, sparsity)


@global_masks.mistake("Your masks keep or drop all weights that equal the threshold together: the count is then off.")
def _(weights, sparsity):
    together = torch.cat([weight.abs().flatten() for weight in weights.values()])
    threshold = together.kthvalue(max(1, round(sparsity * len(together)))).values
    return {name: weight.abs() > threshold for name, weight in weights.items()}


@global_masks.mistake("Your tensors compete in alphabetical order: of equal weights the first in the dict go first.")
def _(weights, sparsity):
    masks = unstructured.global_masks({name: weights[name] for name in sorted(weights)}, sparsity)
    return {name: masks[name] for name in weights}


@global_masks.alternative
def _(weights, sparsity):
    places = [
        (abs(value), number, index, name)
        for number, (name, weight) in enumerate(weights.items())
        for index, value in enumerate(weight.flatten().tolist())
    ]
    masks = {name: torch.ones(weight.numel(), dtype=torch.bool) for name, weight in weights.items()}
    for _, _, index, name in sorted(places)[: round(sparsity * len(places))]:
        masks[name][index] = False
    return {name: mask.view(weights[name].shape) for name, mask in masks.items()}


@exercise(
    points=2,
    minutes=6,
    hint="Let left be the share of the way that is still to go: 1 at begin, 0 at end. At begin the sparsity is "
    "initial, at end final. What must left³ be multiplied with?",
)
def cubic_schedule(step: int, begin: int, end: int, final: float, initial: float) -> float:
    """The sparsity after so many steps, by the cubic rule of Zhu and Gupta (2017).

    step: 0, 1, 2 ... Up to step begin the sparsity is initial, from step end on it is final; begin < end. Between them
    it is final + (initial - final) · (1 - (step - begin) / (end - begin))³: fast at first, slower towards the end.
    Returns a float.

    >>> round(cubic_schedule(20, 0, 40, 0.8, 0.0), 6)
    0.7
    """
    return schedules.cubic_schedule(step, begin, end, final, initial)


@cubic_schedule.cases
def _(draw):
    yield case("the printed example", 20, 0, 40, 0.8, 0.0, visible=True)
    yield case("from zero", 3, 0, draw.integer(8, 20), 0.9, 0.0)
    yield case("from an initial sparsity", 35, 20, 80, 0.9, draw.number(0.1, 0.4), visible=True)
    yield case("from an initial sparsity", draw.integer(12, 17), 10, 20, 0.75, 0.5)
    yield case("before begin and after end", draw.integer(2, 6), 10, 30, 0.9, 0.2)
    yield case("before begin and after end", draw.integer(45, 99), 10, 40, 0.85, 0.3)
    yield case("at both ends", 10, 10, 40, 0.85, 0.3)
    yield case("at both ends", 40, 10, 40, 0.85, 0.3)


cubic_schedule.close(
    rtol=1e-9,
    atol=1e-12,
    reason="a dozen operations on FP64 numbers below 1, each off by 1e-16 at most: 1e-9 leaves a millionfold",
)


@cubic_schedule.mistake("Your sparsity grows on a straight line: the third power is missing.")
def _(step, begin, end, final, initial):
    done = (min(max(step, begin), end) - begin) / (end - begin)
    return initial + (final - initial) * done


@cubic_schedule.mistake(
    "Yours starts slowly and ends fast. The third power belongs to the part still to go, not to the part that is done."
)
def _(step, begin, end, final, initial):
    done = (min(max(step, begin), end) - begin) / (end - begin)
    return initial + (final - initial) * done**3


@cubic_schedule.mistake("Before begin and after end the formula runs on. Hold the step between the two first.")
def _(step, begin, end, final, initial):
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3


@cubic_schedule.mistake("The sparsity at begin is 0 in yours, whatever initial says.")
def _(step, begin, end, final, initial):
    return schedules.cubic_schedule(step, begin, end, final)


@cubic_schedule.mistake("You divided by end. The way from begin to end has end - begin steps.")
def _(step, begin, end, final, initial):
    if step <= begin:
        return initial
    return final + (initial - final) * (1 - (min(step, end) - begin) / end) ** 3


@cubic_schedule.alternative
def _(step, begin, end, final, initial):
    if step <= begin:
        return initial
    if step >= end:
        return final
    left = (end - step) / (end - begin)
    return final * (1 - left**3) + initial * left**3


@exercise(
    points=3,
    minutes=8,
    hint="w.reshape(-1, m) has one group in each row. A stable argsort of the absolute values of each row, and "
    "scatter_ puts False at its first m - n places.",
)
def n_m_mask(w: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Which weights stay when of every m neighbours in a row exactly n stay: the largest in absolute value.

    w: FP32 (outputs, inputs), the inputs a multiple of m. A group is m neighbours along the inputs: columns 0 ... m - 1
    of a row, then m ... 2m - 1, and so on. Of equally small weights of a group those with the lowest index go first.
    Returns a bool tensor of the same shape, True where the weight stays.

    >>> n_m_mask(torch.tensor([[4.0, -1.0, 2.0, -3.0, 1.0, 1.0, 1.0, 1.0]]), 2, 4)
    tensor([[ True, False, False,  True, False, False,  True,  True]])
    """
    return unstructured.n_m_mask(w, n, m)


@n_m_mask.cases
def _(draw):
    yield case("the printed example", torch.tensor([[4.0, -1.0, 2.0, -3.0, 1.0, 1.0, 1.0, 1.0]]), 2, 4, visible=True)
    yield case("2 of 4", draw.normal((8, 16)), 2, 4)
    yield case("1 of 4", torch.tensor([[0.3, -0.9, 0.1, 0.5]]), 1, 4, visible=True)
    yield case("1 of 4", draw.normal((4, 12)), 1, 4)
    yield case("other patterns", draw.normal((8, 16)), 5, 8)
    yield case("other patterns", draw.normal((6, 9)), 1, 3)
    yield case("ties", draw.integers((8, 24), -1, 2).float(), 2, 4)
    yield case("strided", draw.strided((8, 20)), 3, 4)


n_m_mask.exact("the order within a group and the rule for ties leave one right answer")


@n_m_mask.mistake("You zeroed n of every m. n of them stay, and m - n go; with 2 of 4 the two are the same.")
def _(w, n, m):
    return unstructured.n_m_mask(w, m - n, m) if n < m else torch.zeros_like(w, dtype=torch.bool)


@n_m_mask.mistake("Your groups run down the columns. Neighbours stand beside each other in a row, along the inputs.")
def _(w, n, m):
    grown = torch.cat([w, torch.zeros(-len(w) % m, w.shape[1])])  # so that there is an answer for any height
    return unstructured.n_m_mask(grown.t(), n, m).t()[: len(w)]


@n_m_mask.mistake("The share is right over a whole row, but not in every group of m.")
def _(w, n, m):
    return unstructured.row_mask(w, 1 - n / m)


@n_m_mask.mistake("Signs count in your order. Compare absolute values.")
def _(w, n, m):
    return unstructured.n_m_mask(w - w.min() + 1, n, m)


@n_m_mask.mistake("Of equally small weights your last ones go first; the lowest index goes first.")
def _(w, n, m):
    return unstructured.n_m_mask(w.flip(-1), n, m).flip(-1)


@n_m_mask.alternative
def _(w, n, m):
    mask = torch.zeros(w.shape, dtype=torch.bool)
    for row in range(w.shape[0]):
        for start in range(0, w.shape[1], m):
            places = sorted(range(start, start + m), key=lambda column: (abs(w[row, column].item()), column))
            for column in places[m - n :]:
                mask[row, column] = True
    return mask


@exercise(
    points=3,
    minutes=8,
    hint="weight.abs() * act_norm multiplies column j with the norm of input j. Then every row is put in order by "
    "itself: argsort(dim=-1, stable=True).",
)
def wanda_mask(w: torch.Tensor, act_norm: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Which weights stay by the score of Wanda, every row by itself.

    w: FP32 (outputs, inputs). act_norm: FP32 (inputs,), the Euclidean norm of each input over some texts.
    The score of w[i, j] is |w[i, j]| · act_norm[j]. In every row the round(sparsity * inputs) weights with the smallest
    score go; round is Python's, and of equal scores the lowest column goes first.
    Returns a bool tensor of the same shape, True where the weight stays.

    >>> wanda_mask(torch.tensor([[4.0, 1.0, -1.0], [3.0, -2.0, 0.5]]), torch.tensor([0.1, 1.0, 2.0]), 0.33)
    tensor([[False,  True,  True],
            [False,  True,  True]])
    """
    return unstructured.wanda_mask(w, act_norm, sparsity)


@wanda_mask.cases
def _(draw):
    yield case(
        "the printed example",
        torch.tensor([[4.0, 1.0, -1.0], [3.0, -2.0, 0.5]]),
        torch.tensor([0.1, 1.0, 2.0]),
        0.33,
        visible=True,
    )
    yield case("a layer", draw.normal((9, 14)), draw.tensor((14,), 0.05, 4), 0.5)
    yield case("a layer", draw.normal((12, 12)), draw.tensor((12,), 0.05, 4), draw.number(0.3, 0.7))
    large = draw.normal((8, 10)) * torch.tensor([20.0, 1.0] * 4)[:, None]
    yield case("rows of different sizes", large, draw.tensor((10,), 0.05, 4), 0.4)
    yield case("an input that is always zero", draw.normal((6, 7)), draw.tensor((7,), 0, 1).round(), 0.57)
    yield case("ties", draw.integers((10, 12), -1, 2).float(), torch.tensor([1.0, 2.0] * 6), 0.5)


wanda_mask.exact("scores are single products, the same on every machine, and ties are settled by the rule")


@wanda_mask.mistake("All rows compete with one another. Each output has to keep its own share.")
def _(w, act_norm, sparsity):
    return unstructured.magnitude_mask(w * act_norm, sparsity)


@wanda_mask.mistake("The inputs play no part in your score: this is pruning by size, row by row.")
def _(w, act_norm, sparsity):
    return unstructured.row_mask(w, sparsity)


@wanda_mask.mistake("The sign of the weight stands in your score. Take the absolute value.")
def _(w, act_norm, sparsity):
    scores, mask = w * act_norm, torch.ones_like(w, dtype=torch.bool)
    return mask.scatter_(1, scores.argsort(dim=1, stable=True)[:, : round(sparsity * w.shape[1])], False)


@wanda_mask.mistake("The mask is upside down: True marks a weight that stays.")
def _(w, act_norm, sparsity):
    return ~unstructured.wanda_mask(w, act_norm, sparsity)


@wanda_mask.mistake("You divided by the norm of the input. A weight that meets large inputs matters more, not less.")
def _(w, act_norm, sparsity):
    return unstructured.wanda_mask(w, 1 / act_norm.clamp_min(1e-6), sparsity)


@wanda_mask.alternative
def _(w, act_norm, sparsity):
    count, rows = round(sparsity * w.shape[1]), []
    for row in w:
        scores = [abs(value.item()) * norm.item() for value, norm in zip(row, act_norm, strict=True)]
        gone = set(sorted(range(len(scores)), key=lambda column: (scores[column], column))[:count])
        rows.append([column not in gone for column in range(len(scores))])
    return torch.tensor(rows)


@exercise(
    points=2,
    minutes=6,
    hint="Three tensors: the values, a column index for each value, and where each row begins. A matrix of 2 rows has "
    "3 row starts: the last one says where the second row ends.",
)
def csr_bytes(weight: torch.Tensor, index_bytes: int) -> int:
    """Bytes of a matrix stored as compressed sparse rows (CSR), with its indices.

    weight: floating point (rows, columns), zeros among its numbers. Stored are: every value that is not zero, in the
    dtype of the matrix; for each of them its column, index_bytes bytes; and rows + 1 row starts of 4 bytes each.
    Returns a whole number.

    >>> csr_bytes(torch.tensor([[0.0, 1.5, 0.0], [2.0, 0.0, -1.0]]), 2)     # 3 values of 4 + 2 bytes, 3 starts of 4
    30
    """
    return storage.csr_bytes(weight, index_bytes)


@csr_bytes.cases
def _(draw):
    yield case("the printed example", torch.tensor([[0.0, 1.5, 0.0], [2.0, 0.0, -1.0]]), 2, visible=True)
    yield case("a pruned layer", draw.integers((20, 30), -3, 1).clamp_min(-1).float(), 4)
    yield case("a pruned layer", draw.normal((40, 25)) * draw.tensor((40, 25), 0, 1).round(), 8)
    yield case("an empty row, a full matrix", torch.tensor([[0.0, 0.0], [1.0, 2.0]]), 4, visible=True)
    yield case("an empty row, a full matrix", draw.normal((6, 7)), 2)
    yield case("half precision", (draw.normal((15, 12)) * draw.tensor((15, 12), 0, 1).round()).bfloat16(), 2)


csr_bytes.exact("bytes are whole numbers")


@csr_bytes.mistake("The column of every value is missing: without it nobody knows where the value belongs.")
def _(weight, index_bytes):
    return int(weight.count_nonzero()) * weight.element_size() + 4 * (len(weight) + 1)


@csr_bytes.mistake("The row starts are missing.")
def _(weight, index_bytes):
    return int(weight.count_nonzero()) * (weight.element_size() + index_bytes)


@csr_bytes.mistake("One row start is missing: the last one says where the last row ends.")
def _(weight, index_bytes):
    return storage.csr_bytes(weight, index_bytes) - 4


@csr_bytes.mistake("Every value has a row index in yours. CSR stores where each row begins, once a row.")
def _(weight, index_bytes):
    return int(weight.count_nonzero()) * (weight.element_size() + 2 * index_bytes)


@csr_bytes.mistake("You counted 4 bytes a value. This matrix may have a narrower dtype: ask element_size().")
def _(weight, index_bytes):
    return storage.csr_bytes(weight.float(), index_bytes)


@csr_bytes.alternative
def _(weight, index_bytes):
    rows = weight.tolist()
    values = sum(1 for row in rows for value in row if value != 0)
    return values * torch.finfo(weight.dtype).bits // 8 + values * index_bytes + (len(rows) + 1) * 4


question(
    "1",
    "A model has 1,000,000 linear weights. You set 900,000 of them to zero and save it with safetensors. How large is "
    "the file?",
    A=("As large as before", "A zero takes four bytes in FP32, like any other number.", True),
    B=("A tenth", "Only a format that leaves out zeros gets smaller, and it has to say where the others stand."),
    C=("About a fifth", "That is what values with 4-byte indices would take. A plain file stores no indices."),
    D=("Slightly larger, for the mask", "The mask is not stored: the zeros are in the weights."),
    hint="How many bytes does the FP32 number 0.0 take?",
    steps=["1,000,000 values of 4 bytes before.", "1,000,000 values of 4 bytes after; 900,000 of them are 0.0."],
)

question(
    "2",
    "You prune half of the weights, locally in one copy and globally in another. In the global copy the first layer "
    "has lost 20 %, the last 75 %. What does that say?",
    A=("The global mask was computed wrongly.", "The shares may differ; only the total is fixed."),
    B=("The last layer matters less.", "Its weights are smaller. Whether it matters less has to be measured."),
    C=(
        "The weights of the last layer are smaller than those of the first.",
        "There is one threshold for all layers, and three quarters of the last one lie below it.",
        True,
    ),
    D=("The first layer has fewer weights.", "The number of weights does not move the share below a threshold."),
    hint="What do all layers have in common when the threshold is global?",
    steps=[
        "One threshold, the same for all layers.",
        "The share of a layer that goes is the share below it.",
        "So the shares compare the sizes of the weights, and nothing else.",
    ],
)

question(
    "3",
    "You multiply the gradients by the mask, and leave the optimizer alone: SGD with momentum, under way since before "
    "the pruning. What happens to a pruned weight?",
    A=("It stays zero: no gradient, no change.", "That holds for plain SGD without momentum."),
    B=(
        "It moves at the next step, by what the momentum still holds.",
        "The average of earlier gradients is not zero, and the step follows the average.",
        True,
    ),
    C=("It becomes NaN.", "All numbers stay finite; the weight moves like any other."),
    D=("Weight decay keeps it at zero.", "Decay of a zero is zero, but the momentum's part is not."),
    hint="What does SGD with momentum add to a weight: the gradient, or something else?",
    steps=[
        "velocity = 0.9 velocity + gradient.",
        "The masked gradient is 0; the velocity from before is not.",
        "weight = weight - lr · velocity: it moves. So the mask is applied to the weights, after the step.",
    ],
)

question(
    "4",
    "An FP32 matrix of 1000 x 1000 is stored as CSR with 4-byte column indices. From about which sparsity on is it "
    "smaller than the plain matrix?",
    A=("0 %: any zero that is left out saves something", "Each value that stays costs four bytes more than before."),
    B=("25 %", "At 25 % the file is half as large again: 750,000 values of 8 bytes."),
    C=("90 %", "It is five times smaller there; it began to pay long before."),
    D=("50 %", "A kept weight costs 8 bytes instead of 4, so half of them must go.", True),
    hint="How many bytes does one kept weight take, index included?",
    steps=[
        "Dense: 4 bytes for every weight.",
        "CSR: 8 bytes for every kept weight, and little for the rows.",
        "8 (1 - s) = 4 gives s = 0.5.",
    ],
)

question(
    "5",
    "Two inputs of a layer: one is always near 10, the other near 0.01. The weights on them are 0.1 and 1. Which goes "
    "first by Wanda, and which by size?",
    A=("Both drop the weight 0.1.", "By size, yes. Wanda's scores are 0.1 · 10 = 1 and 1 · 0.01 = 0.01."),
    B=("Both drop the weight 1.", "By Wanda's score, yes. By size 0.1 is the smaller."),
    C=("Wanda drops the weight 0.1, size the weight 1.", "It is the other way round: compute the two products."),
    D=(
        "Wanda drops the weight 1, size the weight 0.1.",
        "What reaches the output is weight times input: 0.01 against 1.",
        True,
    ),
    hint="Multiply each weight with the size of its input.",
    steps=[
        "Scores: 0.1 x 10 = 1 and 1 x 0.01 = 0.01.",
        "The smaller score goes: the weight 1.",
        "By size alone: 0.1 is smaller than 1.",
    ],
)

question(
    "6",
    "A colleague prunes 80 % at once and trains for 40 steps; then prunes 80 % in four rounds of 10 steps. The rounds "
    "are two points better, with one seed each and the learning rate of the rounds for both. What is missing?",
    A=("Nothing: both had 40 steps.", "Equal steps are right, but not enough for the conclusion."),
    B=(
        "A learning rate tuned for each, and more seeds.",
        "A rate that suits one way may be poor for the other, and two runs differ by chance alone.",
        True,
    ),
    C=("A higher sparsity.", "It would be another question, with the same gaps in its answer."),
    D=("A measurement of the time.", "Useful, but it does not decide which keeps more quality."),
    hint="What else differs between the two runs, and what would a second run of the same way show?",
    steps=[
        "Same steps: fair.",
        "Same rate, chosen for one of them: not fair.",
        "One seed each: the difference may be that of two seeds.",
    ],
)

question(
    "7",
    "Half of the weights are zero. Which of these makes a layer faster on this processor, as measured in the lesson?",
    A=("A mask with the zeros at random places", "The same multiplications run, half of them with zeros."),
    B=("The 2:4 pattern in a plain tensor", "It takes hardware with instructions for it, and a kernel that uses them."),
    C=("Leaving out half of the rows", "The matrix is half as large, so half of the multiplications are gone.", True),
    hint="Which of them makes the matrix smaller?",
    steps=[
        "A plain matrix product multiplies every entry, zero or not.",
        "Without half of the rows there are half as many products.",
    ],
)
