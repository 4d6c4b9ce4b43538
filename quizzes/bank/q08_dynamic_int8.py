"""Lesson 08, dynamic INT8: its exercises and its questions."""

import torch

from lessons_lib.int8 import dynamic
from quizzes import case, exercise, question


def clear_rows(draw, rows, n):
    """FP32 rows of very different size whose steps lie 0.1 away from every half; each holds its largest code once."""
    steps = draw.integers((rows, n), -125, 126) + draw.tensor((rows, n), -0.4, 0.4)
    for row, place in enumerate(draw.integers((rows,), 0, n).tolist()):
        steps[row, place] = 127 if row % 2 else -127
    return steps * draw.tensor((rows, 1), 0.2, 1.0) * torch.logspace(-3, -1, rows)[:, None]


@exercise(
    points=3,
    minutes=10,
    hint="x.abs().amax(dim=1, keepdim=True) has one number for each row, in a shape that divides x row by row.",
)
def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed 8-bit codes of an activation, with a scale for every row.

    x: FP32 (rows, n). The scale of a row is its largest absolute value divided by 127; a row of zeros gets the scale 1.
    The codes are x / scale, rounded to the nearest: -127 ... 127. (No case lies within 0.1 of a half step.)
    Returns (codes, scales): int8 shaped like x, and FP32 (rows, 1).

    >>> quantize_rows(torch.tensor([[1.27, -0.50], [0.0, -12.7]]))
    (tensor([[ 127,  -50],
            [   0, -127]], dtype=torch.int8), tensor([[0.0100],
            [0.1000]]))
    """
    return dynamic.quantize_rows(x)


@quantize_rows.cases
def _(draw):
    yield case("the printed example", torch.tensor([[1.27, -0.50], [0.0, -12.7]]), visible=True)
    yield case("rows of different size", clear_rows(draw, 5, 12))
    yield case("rows of different size", clear_rows(draw, 1, 40))
    square = clear_rows(draw, 6, 6)
    yield case("as many rows as columns", square)
    silent = clear_rows(draw, 4, 8)
    silent[2] = 0
    yield case("a row of zeros", silent)
    yield case("not contiguous", clear_rows(draw, 6, 9).t().contiguous().t())


quantize_rows.close(
    rtol=3e-7,
    reason="A scale is one division, rounded by 6e-8 in the answer and in the reference. Codes are whole numbers, and "
    "no case lies within 0.1 of a half step.",
)


@quantize_rows.mistake("One scale for all rows. A quiet token then shares the step of the loudest: take one each.")
def _(x):
    scale = x.abs().max() / 127
    return (x / scale).round().to(torch.int8), scale.expand(x.shape[0], 1)


@quantize_rows.mistake("You took the maximum down each column. A token is a row: reduce over dim=1.")
def _(x):
    scales = x.abs().amax(dim=0, keepdim=True) / 127
    return (x / scales).round().to(torch.int8), scales.t()


@quantize_rows.mistake("The largest value is not the largest absolute value: large negative numbers are cut off.")
def _(x):
    scales = x.amax(dim=1, keepdim=True) / 127
    scales = torch.where(scales == 0, 1.0, scales)
    return (x / scales).round().clamp(-128, 127).to(torch.int8), scales


@quantize_rows.mistake("You divided by 128. Signed codes end at 127; the largest value is cut off, or wraps round.")
def _(x):
    scales = x.abs().amax(dim=1, keepdim=True) / 128
    scales = torch.where(scales == 0, 1.0, scales)
    return (x / scales).round().clamp(-128, 127).to(torch.int8), scales


@quantize_rows.mistake("A row of zeros divides 0 by 0. Give it the scale 1.")
def _(x):
    scales = x.abs().amax(dim=1, keepdim=True) / 127
    return (x / scales).round().nan_to_num(0.0).to(torch.int8), scales


@quantize_rows.mistake("The codes are cut off, not rounded: .to(torch.int8) drops the fraction. Round first.")
def _(x):
    scales = x.abs().amax(dim=1, keepdim=True) / 127
    scales = torch.where(scales == 0, 1.0, scales)
    return (x / scales).to(torch.int8), scales


@quantize_rows.mistake("The scales need the shape (rows, 1), to multiply row by row. keepdim=True keeps the axis.")
def _(x):
    scales = x.abs().amax(dim=1) / 127
    scales = torch.where(scales == 0, 1.0, scales)
    return (x / scales[:, None]).round().to(torch.int8), scales


@quantize_rows.alternative
def _(x):
    codes, scales = [], []
    for row in x:
        largest = max(abs(row.min().item()), abs(row.max().item()))
        scale = torch.tensor(largest) / 127 if largest > 0 else torch.tensor(1.0)
        codes.append(torch.floor(row / scale + 0.5).to(torch.int8))
        scales.append(scale.reshape(1))
    return torch.stack(codes), torch.stack(scales)


@exercise(
    points=3,
    minutes=12,
    hint="Quantize x row by row, multiply the codes in int32, then give back both scales: that of the row to each row, "
    "that of the output channel to each column.",
)
def int8_linear(
    x: torch.Tensor, w_codes: torch.Tensor, w_scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """A linear layer on 8-bit codes: x is quantized as in `quantize_rows`, multiplied in integers, and scaled back.

    x: FP32 (rows, n_in). w_codes: int8 (n_out, n_in). w_scales: FP32 (n_out,), one for each output channel.
    bias: FP32 (n_out,), added at the end, or None.
    The integers are added exactly, in int32: torch._int_mm(a, b) multiplies int8 (M, K) by int8 (K, N), or convert with
    .int() and use @. Returns FP32 (rows, n_out).

    >>> weight = torch.tensor([[100, 2]], dtype=torch.int8)
    >>> int8_linear(torch.tensor([[1.27, -0.50]]), weight, torch.tensor([0.01]), None)
    tensor([[1.2600]])
    """
    return dynamic.int8_linear(x, w_codes, w_scales, bias)


@int8_linear.cases
def _(draw):
    weight = torch.tensor([[100, 2]], dtype=torch.int8)
    yield case("the printed example", torch.tensor([[1.27, -0.50]]), weight, torch.tensor([0.5]), None, visible=True)
    for rows, n_in, n_out in ((3, 16, 5), (draw.integer(2, 6), 40, 7)):
        weight = draw.integers((n_out, n_in), -127, 128).to(torch.int8)
        scales, bias = draw.tensor((n_out,), 0.001, 0.02), draw.normal((n_out,))
        yield case("random layers", clear_rows(draw, rows, n_in), weight, scales, bias)
        yield case("without a bias", clear_rows(draw, rows, n_in), weight, scales, None)
    weight = draw.integers((8, 8), -127, 128).to(torch.int8)
    yield case("a square layer", clear_rows(draw, 8, 8), weight, draw.tensor((8,), 0.001, 0.02), draw.normal((8,)))
    weight = draw.integers((6, 24), 90, 128).to(torch.int8)
    loud = clear_rows(draw, 4, 24).abs()
    yield case("large sums", loud, weight, draw.tensor((6,), 0.001, 0.02), draw.normal((6,)))


int8_linear.close(
    rtol=1e-6,
    atol=1e-6,
    reason="The sums are whole numbers below 2**24, exact in FP32. Two scales, their product and a bias of size 1 are "
    "rounded by 6e-8 each. Activations that were not quantized would be off by 1e-3 of an output.",
)


@int8_linear.mistake("x was not quantized: you multiplied FP32 by codes. Then no integer hardware can be used.")
def _(x, w_codes, w_scales, bias):
    out = x @ (w_codes.float() * w_scales[:, None]).t()
    return out if bias is None else out + bias


@int8_linear.mistake("The scales of the weights are missing: each output channel has one, multiplied in at the end.")
def _(x, w_codes, w_scales, bias):
    scales = x.abs().amax(dim=1, keepdim=True) / 127
    out = ((x / scales).round() @ w_codes.float().t()) * scales
    return out if bias is None else out + bias


@int8_linear.mistake("The scales of the rows are missing: multiply them back in, a row at a time.")
def _(x, w_codes, w_scales, bias):
    scales = x.abs().amax(dim=1, keepdim=True) / 127
    out = ((x / scales).round() @ w_codes.float().t()) * w_scales
    return out if bias is None else out + bias


@int8_linear.mistake("The products were added in int8 and wrapped round. A sum of 8-bit products needs int32.")
def _(x, w_codes, w_scales, bias):
    scales = x.abs().amax(dim=1, keepdim=True) / 127
    sums = ((x / scales).round() @ w_codes.float().t()).long().to(torch.int8)
    out = sums.float() * scales * w_scales
    return out if bias is None else out + bias


@int8_linear.mistake("The bias was scaled with the product. It is an FP32 number of its own: add it after the scales.")
def _(x, w_codes, w_scales, bias):
    scales = x.abs().amax(dim=1, keepdim=True) / 127
    sums = (x / scales).round() @ w_codes.float().t()
    return (sums if bias is None else sums + bias) * scales * w_scales


@int8_linear.mistake("The bias is missing.")
def _(x, w_codes, w_scales, bias):
    scales = x.abs().amax(dim=1, keepdim=True) / 127
    return ((x / scales).round() @ w_codes.float().t()) * scales * w_scales


@int8_linear.mistake("One scale for the whole of x: give each row its own, as in quantize_rows.")
def _(x, w_codes, w_scales, bias):
    scale = x.abs().max() / 127
    out = ((x / scale).round() @ w_codes.float().t()) * scale * w_scales
    return out if bias is None else out + bias


@int8_linear.alternative
def _(x, w_codes, w_scales, bias):
    largest = x.abs().amax(dim=1, keepdim=True)
    scales = torch.where(largest == 0, 1.0, largest / 127)
    codes = (x / scales).round().int()
    out = (codes @ w_codes.int().t()) * (scales * w_scales)
    return out if bias is None else out + bias


@exercise(points=1, minutes=4, hint="Three conditions must hold at once; at the limits the answer is still True.")
def should_quantize(kind: str, n_in: int, n_out: int, rows: int) -> bool:
    """Whether an operation is worth dynamic INT8, by the break-even measured in this lesson.

    kind: "linear", "embedding", "layer norm" or "softmax". n_in, n_out: of the layer. rows: tokens in a batch.
    True for a linear layer with at least 131,072 weights (n_in * n_out) and at least 64 rows, else False. Smaller
    products do not make up for quantizing the activations, and the other kinds have no matrix product.

    >>> should_quantize("linear", 384, 384, 128)
    True
    """
    return dynamic.should_quantize(kind, n_in, n_out, rows)


@should_quantize.cases
def _(draw):
    yield case("the printed example", "linear", 384, 384, 128, visible=True)
    yield case("rows", "linear", 384, 1536, 64)
    yield case("rows", "linear", 384, 1536, 63)
    yield case("rows", "linear", 1536, 384, 1)
    yield case("size", "linear", 256, 512, 128)
    yield case("size", "linear", 255, 512, 128)
    yield case("size", "linear", 384, 5, 1280)
    yield case("size", "linear", 128, draw.integer(1100, 3000), draw.integer(64, 99))
    yield case("kinds", "linear", 512, draw.integer(300, 900), draw.integer(80, 500))
    for kind in ("embedding", "layer norm", "softmax"):
        yield case("kinds", kind, 30522, 384, 1280)


should_quantize.exact("the rule is three comparisons of whole numbers and words")


@should_quantize.mistake("At the limit the answer is True: at least 64 rows, at least 131,072 weights.")
def _(kind, n_in, n_out, rows):
    return kind == "linear" and n_in * n_out > 131_072 and rows > 64


@should_quantize.mistake("Rows count too: with a single token the overhead is larger than what the product saves.")
def _(kind, n_in, n_out, rows):
    return kind == "linear" and n_in * n_out >= 131_072


@should_quantize.mistake("Size counts too: a layer of five outputs is done before its input is quantized.")
def _(kind, n_in, n_out, rows):
    return kind == "linear" and rows >= 64


@should_quantize.mistake("Only linear layers have a matrix product. An embedding is a look-up, however large it is.")
def _(kind, n_in, n_out, rows):
    return n_in * n_out >= 131_072 and rows >= 64


@should_quantize.mistake("You looked at n_in and n_out one by one. The weights are their product.")
def _(kind, n_in, n_out, rows):
    return kind == "linear" and n_in >= 256 and n_out >= 256 and rows >= 64


@should_quantize.alternative
def _(kind, n_in, n_out, rows):
    if kind != "linear":
        return False
    return not (rows < 64 or n_in * n_out < 2**17)


question(
    "1",
    "What is dynamic in dynamic INT8?",
    A=("The weights are quantized anew for every batch.", "They are quantized once, when the model is converted."),
    B=("The number of bits changes with the layer.", "That is mixed precision. Here all codes have 8 bits."),
    C=(
        "The ranges of the activations are taken from each input as it comes.",
        "Weights once, activations on the fly.",
        True,
    ),
    D=("Layers are switched off when they are not needed.", "Every layer runs. Only its arithmetic changes."),
    hint="Weights are known beforehand. What is not?",
    steps=[
        "Weights do not change after training: quantize them once.",
        "Activations differ with every input, so their scale is computed when they arrive.",
    ],
)

question(
    "2",
    "A row of activations has the largest absolute value 6.35. Which code does -1.00 get, symmetric, 8 bits?",
    A=("-20", "The scale is 6.35 / 127 = 0.05, and -1.00 / 0.05 = -20.", True),
    B=("-1", "That would be a scale of 1."),
    C=("-16", "That is -100 / 6.35: the 127 was taken for 100."),
    D=("-40", "255 steps over the reach to one side? There are 127 on each."),
    hint="The scale is the largest absolute value over 127.",
    steps=["6.35 / 127 = 0.05.", "-1.00 / 0.05 = -20."],
)

question(
    "3",
    "Why is one scale for each row of x possible without leaving integers inside the sum?",
    A=("Because all rows have similar ranges.", "They need not. That is why each has its own."),
    B=(
        "Because an output adds up products of one row of x: its scale can be taken out of the sum.",
        "s[i] does not depend on k, the index of the sum.",
        True,
    ),
    C=("Because torch._int_mm takes scales as an argument.", "It takes two int8 matrices, and returns int32."),
    D=("It is not: the sum has to be done in FP32.", "The sum is exact in int32. Scales come afterwards."),
    hint="Over which index is added, and which index does the scale have?",
    steps=[
        "y[i, j] adds over k.",
        "The scale s[i] has the index i alone, so it stands before the sum.",
        "A scale for each column k of x could not be taken out.",
    ],
)

question(
    "4",
    "The teacher has 22.7 million weights, 11.9 million of them in embeddings. Its linear layers become INT8, the "
    "embeddings stay FP32. How large is the file, about, against FP32?",
    A=("25 %", "That would need every weight in INT8."),
    B=("50 %", "Half of the weights, but each of them shrinks to a quarter, not to nothing."),
    C=("40 %", "The other way round: the embeddings are the larger part."),
    D=("64 %", "11.9 of 22.7 stay whole, 52 %; the other 48 % shrink to a quarter, 12 %.", True),
    hint="The share that stays, plus a quarter of the rest.",
    steps=["11.9 / 22.7 = 52 % stay.", "48 % / 4 = 12 %.", "52 + 12 = 64 %."],
)

question(
    "5",
    "With one short sentence at a time dynamic INT8 gains little, or loses. Why?",
    A=("The codes are less exact for short sentences.", "Exactness does not change with length, nor with time."),
    B=("INT8 instructions need batches of 32.", "They multiply any codes. The work around them is what stays."),
    C=(
        "Finding scales, rounding and scaling back are extra calls. With few rows they cost more than is saved.",
        "Each call has a fixed cost, and a product of few rows is soon done in FP32.",
        True,
    ),
    D=("The weights are quantized anew for each sentence.", "They are quantized once."),
    hint="Which part of the work grows with the rows, and which cost is there for each call?",
    steps=[
        "FP32: one call a layer. INT8: several, each with a fixed cost.",
        "The saving grows with the rows; the fixed cost does not.",
    ],
)

question(
    "6",
    "A processor without INT8 instructions runs a dynamic INT8 model. What do you expect?",
    A=(
        "A file as small as on any other, and no speed-up, or a slow-down.",
        "Bytes do not depend on the processor, speed does.",
        True,
    ),
    B=("It cannot run at all.", "It can: the products are done with other instructions, more slowly."),
    C=("Half the speed-up, because of 16 bits.", "No such rule. Without the instructions there may be none."),
    D=("Worse accuracy.", "The integers are the same on every processor."),
    hint="What depends on the hardware: the result, the size, or the time?",
    steps=[
        "The codes and sums are whole numbers, the same everywhere.",
        "How many are multiplied at once is up to the processor.",
    ],
)

question(
    "7",
    "One activation of a token is 50, the others lie within ±0.5. What does a scale for each row do to this token?",
    A=("Nothing, that is what scales are for.", "The row's scale is set by the 50. The others have to live with it."),
    B=("It overflows: 50 is more than an int8 code holds.", "The 50 gets the code 127: the scale sees to its size."),
    C=("It keeps the small values and cuts the 50 off.", "Nothing is cut off: the scale reaches to the largest."),
    D=(
        "Its step is 50 / 127 = 0.39: the other values become -1, 0 or 1.",
        "Every value within ±0.5 lies within 1.3 steps of zero. Lesson 09 treats such outliers.",
        True,
    ),
    hint="How large is the step of this row?",
    steps=["50 / 127 = 0.39.", "0.5 / 0.39 = 1.3, which rounds to 1: three codes are left for all but one."],
)
