"""Lesson 10, quantization-aware training: its exercises and its questions."""

import torch
import torch.nn.functional as F

from lessons_lib.int8 import qat
from quizzes import case, exercise, question


def _values(draw, shape, lowest, highest):
    """v = x / step over the range and beyond, clear of half steps and of the ends, where two answers could be right."""
    whole = draw.integers(shape, lowest - 2, highest + 3)
    return whole + draw.tensor(shape, 0.1, 0.4) * (2 * draw.integers(shape, 0, 2) - 1)


def _straight(values, quantized):
    """quantized, with the gradient of values."""
    return values + (quantized - values).detach()


@exercise(
    points=3,
    minutes=10,
    hint="forward: x / scale, round, add the zero point, clamp, and back. ctx.save_for_backward keeps a mask. backward "
    "returns one gradient for every argument of forward, in order; None for those that need none.",
)
class fake_quantize(qat.FakeQuantize):
    """To codes and back, with a straight-through gradient: fake_quantize.apply(x, scale, zero_point, lowest, highest).

    x: FP32, any shape. scale: a number, the step. zero_point: the code of 0. lowest, highest: the ends of the codes.
    forward: code = round(x / scale) + zero_point, clamped to lowest ... highest; the result is
    (code - zero_point) * scale. (No case lies within 0.1 of a half step, or of either end.)
    backward: upstream, the gradient for the result, passes to x where lowest < x / scale + zero_point < highest, before
    any rounding; elsewhere x gets 0. The four numbers get no gradient: None.

    With scale 0.5, zero point 1 and codes 0 ... 3:
    x = [-0.90, -0.35, 0.30, 0.95, 1.15] -> result [-0.5, -0.5, 0.5, 1.0, 1.0], passes [0, 1, 1, 1, 0]
    """


@fake_quantize.cases
def _(draw):
    shown = torch.tensor([-0.90, -0.35, 0.30, 0.95, 1.15]).requires_grad_()
    yield case("the printed example", shown, 0.5, 1, 0, 3, observe="gradients", visible=True)
    inside = _values(draw, (4, 6), 3, 10) * 0.2
    yield case("inside the range", (inside - 1.0).requires_grad_(), 0.2, 5, 0, 15, observe="gradients")
    wide = _values(draw, (60,), -3, 12) * 0.37
    yield case("inside and beyond", wide.requires_grad_(), 0.37, 3, 0, 15, observe="gradients")
    signed = _values(draw, (5, 9), -2, 1) * 0.05
    yield case("two bits, signed", signed.requires_grad_(), 0.05, 0, -2, 1, observe="gradients")
    high = torch.tensor([0.9, 1.2, 1.4, -2.2, -2.4, 3.3]) * 0.1
    yield case("less than half a step beyond an end", high.requires_grad_(), 0.1, 0, -2, 1, observe="gradients")


fake_quantize.close(
    rtol=1e-6,
    atol=1e-6,
    reason="away from half steps every right way finds the same codes; (code - zero point) · scale rounds once or "
    "twice in FP32, 1.2e-7 of the value. Gradients are the upstream numbers themselves, or 0.",
)


@fake_quantize.mistake("Your gradient is zero everywhere: autograd makes that of round. Nothing would be learned.")
def _(x, scale, zero_point, lowest, highest):
    return ((x / scale).round().add(zero_point).clamp(lowest, highest) - zero_point) * scale


@fake_quantize.mistake(
    "The gradient passes everywhere, beyond the ends too. There a small move of x changes nothing, rounding or not: "
    "the gradient is 0."
)
def _(x, scale, zero_point, lowest, highest):
    codes = ((x / scale).round() + zero_point).clamp(lowest, highest)
    return _straight(x, (codes - zero_point) * scale)


@fake_quantize.mistake(
    "You asked whether the rounded code is a code. torch does so too: a value up to half a step beyond the end then "
    "still gets a gradient. Here it is asked before rounding."
)
def _(x, scale, zero_point, lowest, highest):
    return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, lowest, highest)


@fake_quantize.mistake("Your gradient is too large by 1 / scale: the result is multiplied by the scale again.")
def _(x, scale, zero_point, lowest, highest):
    y = qat.FakeQuantize.apply(x, scale, zero_point, lowest, highest)
    return y.detach() + (y - y.detach()) / scale


@fake_quantize.mistake("You clamped without the zero point: the codes, it included, must lie in lowest ... highest.")
def _(x, scale, zero_point, lowest, highest):
    return qat.FakeQuantize.apply(x, scale, 0, lowest, highest)


@fake_quantize.alternative
class FakeQuantize(torch.autograd.Function):
    """Quantize and read back; let the gradient through where the value lies between the ends."""

    @staticmethod
    def forward(ctx, x, scale, zero_point, lowest, highest):
        """Codes, clamped, and back; remember who lies inside."""
        place = x / scale + zero_point
        ctx.save_for_backward(torch.logical_and(place > lowest, place < highest))
        codes = torch.clamp(torch.round(x / scale) + zero_point, lowest, highest)
        return (codes - zero_point) * scale

    @staticmethod
    def backward(ctx, upstream):
        """What comes from above, where the value lies inside; nothing for the numbers."""
        (inside,) = ctx.saved_tensors
        return torch.where(inside, upstream, 0.0), None, None, None, None


@exercise(
    points=3,
    minutes=10,
    hint="Three kinds of values: inside, at or below the lowest code, at or above the highest. Make one tensor of "
    "slopes with torch.where, multiply by upstream, add up, and divide by (N · Qp) ** 0.5.",
)
def lsq_gradient(
    x: torch.Tensor, step: torch.Tensor, lowest: int, highest: int, upstream: torch.Tensor
) -> torch.Tensor:
    """Gradient of the loss for the step of y = clamp(round(x / step), lowest, highest) · step, as LSQ defines it.

    x: FP32, any shape. step: FP32 without axes, above 0. lowest <= 0 < highest: the ends of the codes.
    upstream: FP32 shaped like x, the gradient of the loss for y.
    With v = x / step, each value has the slope round(v) - v where lowest < v < highest; lowest where v <= lowest;
    highest where v >= highest. The gradient is the sum of upstream · slope over all values, **times the factor**
    1 / sqrt(N · Qp), with N the number of values in x and Qp = highest.
    (No case lies within 0.1 of a half step, or of either end.) Returns FP32 without axes.

    >>> x = torch.tensor([-1.5, 0.15, 0.35, 0.75])
    >>> lsq_gradient(x, torch.tensor(0.5), -2, 1, torch.ones(4))     # slopes -2, -0.3, 0.3, 1; factor 1/2
    tensor(-0.5000)
    """
    return qat.lsq_gradient(x, step, lowest, highest, upstream)


@lsq_gradient.cases
def _(draw):
    step = torch.tensor(0.5)
    shown = torch.tensor([-1.5, 0.15, 0.35, 0.75])
    yield case("the printed example", shown, step, -2, 1, torch.ones(4), visible=True)
    yield case("inside the range", 0.2 * _values(draw, (5, 8), -5, 4), torch.tensor(0.2), -8, 7, draw.tensor((5, 8)))
    beyond = torch.cat([draw.tensor((9,), -30, -11), draw.tensor((9,), 9, 30)])
    yield case("beyond the ends", 0.03 * beyond, torch.tensor(0.03), -8, 7, draw.tensor((18,), 0.1, 1))
    yield case("everywhere", 0.7 * _values(draw, (6, 10), 0, 15), torch.tensor(0.7), 0, 15, draw.tensor((6, 10)))
    yield case("everywhere", 0.05 * _values(draw, (40,), -2, 1), torch.tensor(0.05), -2, 1, draw.tensor((40,)))
    near = torch.tensor([7.2, 7.35, -8.3, -8.15, 2.3, -4.4])
    yield case("less than half a step beyond an end", 0.1 * near, torch.tensor(0.1), -8, 7, draw.tensor((6,), 0.2, 1))


lsq_gradient.close(
    rtol=1e-4,
    atol=5e-5,
    reason="x / step reaches 30 and is off by two half steps of FP32, 4e-6; round(v) - v is off by as much, the sum of "
    "60 or fewer by 2e-4 at most, and the factor is then 1 / sqrt(60) or less.",
)


@lsq_gradient.mistake("The factor 1 / sqrt(N Qp) is missing.")
def _(x, step, lowest, highest, upstream):
    return qat.lsq_gradient(x, step, lowest, highest, upstream) * (x.numel() * highest) ** 0.5


@lsq_gradient.mistake("Your factor leaves out Qp: it is 1 / sqrt(N · Qp), with Qp the highest code.")
def _(x, step, lowest, highest, upstream):
    return qat.lsq_gradient(x, step, lowest, highest, upstream) * highest**0.5


@lsq_gradient.mistake("Values beyond the ends have slopes too: the step moves what they are clipped to.")
def _(x, step, lowest, highest, upstream):
    v = x / step
    slope = torch.where((v > lowest) & (v < highest), v.round() - v, 0.0)
    return (upstream * slope).sum() / (x.numel() * highest) ** 0.5


@lsq_gradient.mistake("The slope inside has the wrong sign: it is round(v) - v.")
def _(x, step, lowest, highest, upstream):
    v = x / step
    slope = torch.where((v > lowest) & (v < highest), v - v.round(), v.clamp(lowest, highest))
    return (upstream * slope).sum() / (x.numel() * highest) ** 0.5


@lsq_gradient.mistake("A part is missing from your slope inside: a larger step also makes v = x / step smaller.")
def _(x, step, lowest, highest, upstream):
    return (upstream * (x / step).round().clamp(lowest, highest)).sum() / (x.numel() * highest) ** 0.5


@lsq_gradient.mistake(
    "You asked whether the rounded v is a code, as torch does. Here a value counts as inside when v itself lies "
    "between the ends."
)
def _(x, step, lowest, highest, upstream):
    v = x / step
    inside = (v.round() >= lowest) & (v.round() <= highest)
    slope = torch.where(inside, v.round() - v, v.clamp(lowest, highest))
    return (upstream * slope).sum() / (x.numel() * highest) ** 0.5


@lsq_gradient.alternative
def _(x, step, lowest, highest, upstream):
    total = 0.0
    for value, weight in zip(x.flatten().tolist(), upstream.flatten().tolist(), strict=True):
        v = value / step.item()
        slope = lowest if v <= lowest else highest if v >= highest else round(v) - v
        total += weight * slope
    return torch.tensor(total / (x.numel() * highest) ** 0.5)


@exercise(
    points=3,
    minutes=12,
    hint="y + (q - y).detach() has the value of q and the gradient of y. Let y be the clamped value before rounding: "
    "then clamp takes care of the ends. Give w_scales a second axis, one scale a row.",
)
def qat_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    x_scale: float,
    x_zero: int,
    w_scales: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    """A linear layer on fake-quantized inputs and weights, with straight-through gradients: fq(x) fq(weight)ᵀ + bias.

    x: FP32 (rows, n_in), to unsigned codes 0 ... 2**bits - 1 with x_scale and the zero point x_zero.
    weight: FP32 (n_out, n_in), to signed codes -2**(bits-1) ... 2**(bits-1) - 1, one scale of w_scales, FP32 (n_out,),
    for each row. bias: FP32 (n_out,), as it is.
    Both go to codes and back as in `fake_quantize` of this lesson: round, add the zero point (0 for the weights),
    clamp, and back. Gradients reach x, weight and bias; for x and weight they pass where the value lies between the
    ends before rounding, and are 0 elsewhere. x_scale and w_scales are fixed and get none.
    (No case lies within 0.1 of a half step, or of either end.) Returns FP32 (rows, n_out).

    >>> x, weight = torch.tensor([[0.3, 0.9]]), torch.tensor([[0.4, -0.35]])      # codes 1 and 2; 1 and -1
    >>> qat_linear(x, weight, torch.tensor([0.1]), 0.4, 0, torch.tensor([0.3]), 2)
    tensor([[-0.0200]])
    """
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    read = qat.FakeQuantize.apply(x, x_scale, x_zero, 0, 2**bits - 1)
    return F.linear(read, qat.LearnedStep.apply(weight, w_scales[:, None], lowest, highest), bias)


@qat_linear.cases
def _(draw):
    shown = torch.tensor([[0.3, 0.9]]).requires_grad_(), torch.tensor([[0.4, -0.35]]).requires_grad_()
    bias = torch.tensor([0.1]).requires_grad_()
    yield case("the printed example", *shown, bias, 0.4, 0, torch.tensor([0.3]), 2, observe="gradients", visible=True)

    def drawn(rows, n_in, n_out, bits, x_zero, reach):
        """Arguments whose values go beyond the ends of the codes by reach, if it is above 0, or stay inside."""
        codes, half = 2**bits - 1, 2 ** (bits - 1)
        scales = draw.tensor((n_out,), 0.05, 0.5)
        x = 0.1 * _values(draw, (rows, n_in), 3 - x_zero - reach, codes - x_zero - 3 + reach)
        weight = scales[:, None] * _values(draw, (n_out, n_in), 3 - half - reach, half - 4 + reach)
        leaves = [tensor.requires_grad_() for tensor in (x, weight, draw.normal((n_out,)))]
        return *leaves, 0.1, x_zero, scales, bits

    yield case("inside the range", *drawn(4, 5, 3, 8, 100, 0), observe="gradients")
    yield case("inside and beyond", *drawn(6, 7, 4, 4, 6, 3), observe="gradients")
    yield case("inside and beyond", *drawn(5, 8, 3, 3, 2, 3), observe="gradients")
    yield case("two bits", *drawn(6, 9, 5, 2, 1, 3), observe="gradients")


qat_linear.close(
    rtol=1e-5,
    atol=2e-4,
    reason="products reach 25 · 60 = 1,500 at 8 bits and are added 9 at a time or fewer, gradients 24 at a time; each "
    "rounds by 6e-8 of the largest partial sum, so that 1e-5 of the value or 2e-4 leave room for any order.",
)


@qat_linear.mistake("Nothing reaches the weights: round has no gradient. Let it pass straight through.")
def _(x, weight, bias, x_scale, x_zero, w_scales, bits):
    half = 2 ** (bits - 1)
    codes = (weight / w_scales[:, None]).round().clamp(-half, half - 1)
    read = ((x / x_scale).round() + x_zero).clamp(0, 2**bits - 1) - x_zero
    return F.linear(read * x_scale, codes * w_scales[:, None], bias)


@qat_linear.mistake("Inputs go in as they are. Here they pass through codes too, before the product.")
def _(x, weight, bias, x_scale, x_zero, w_scales, bits):
    half = 2 ** (bits - 1)
    return F.linear(x, qat.LearnedStep.apply(weight, w_scales[:, None], -half, half - 1), bias)


@qat_linear.mistake("The gradient passes beyond the ends. What is clipped does not move.")
def _(x, weight, bias, x_scale, x_zero, w_scales, bits):
    half = 2 ** (bits - 1)
    read = (((x / x_scale).round() + x_zero).clamp(0, 2**bits - 1) - x_zero) * x_scale
    codes = (weight / w_scales[:, None]).round().clamp(-half, half - 1)
    return F.linear(_straight(x, read), _straight(weight, codes * w_scales[:, None]), bias)


@qat_linear.mistake("The weights have unsigned codes in your layer: all that is negative was clipped to 0.")
def _(x, weight, bias, x_scale, x_zero, w_scales, bits):
    read = qat.FakeQuantize.apply(x, x_scale, x_zero, 0, 2**bits - 1)
    return F.linear(read, qat.LearnedStep.apply(weight, w_scales[:, None], 0, 2**bits - 1), bias)


@qat_linear.mistake("Your weights share one scale, the largest. Each output channel, a row, has its own.")
def _(x, weight, bias, x_scale, x_zero, w_scales, bits):
    half = 2 ** (bits - 1)
    read = qat.FakeQuantize.apply(x, x_scale, x_zero, 0, 2**bits - 1)
    shared = w_scales.max().expand(len(w_scales), 1)
    return F.linear(read, qat.LearnedStep.apply(weight, shared, -half, half - 1), bias)


@qat_linear.alternative
def _(x, weight, bias, x_scale, x_zero, w_scales, bits):
    def fake(values, scale, zero, lowest, highest):
        clamped = (values / scale + zero).clamp(lowest, highest)  # its gradient stops at the ends
        rounded = clamped + (clamped.round() - clamped).detach()  # and passes the rounding
        return (rounded - zero) * scale

    half = 2 ** (bits - 1)
    read = fake(x, x_scale, x_zero, 0, 2**bits - 1)
    return read @ fake(weight, w_scales[:, None], 0, -half, half - 1).t() + bias


question(
    "1",
    "What is the derivative of round(x), away from the half steps?",
    A=("1", "That is what the straight-through estimator puts in its place. The true one differs."),
    B=("0", "The staircase is flat between its steps. Descending along it, nothing would ever move.", True),
    C=("round(x) - x", "That is the rounding error; LSQ meets it as the slope for the step, not for x."),
    D=("It has none anywhere.", "It has none at the half steps. Between them it is as smooth as a function can be."),
    hint="Draw the staircase and put a ruler on one of its treads.",
    steps=["Between two half steps round(x) does not change.", "A function that does not change has the derivative 0."],
)

question(
    "2",
    "Codes are -2 ... 1 and the step is 0.5. A weight is 0.7. Does a gradient reach it, by the rule of this lesson and "
    "by torch's?",
    A=("Both pass it", "v = 1.4 lies above 1, so the rule of this lesson gives 0."),
    B=("Both give 0", "torch rounds first: round(1.4) = 1 is a code, so it passes."),
    C=("Ours passes it, torch gives 0", "The other way round: torch is the more generous of the two."),
    D=("Ours gives 0, torch passes it", "v = 1.4 is beyond the end, but by less than half a step.", True),
    hint="Compute v = 0.7 / 0.5. Compare v with the highest code, then round(v).",
    steps=[
        "v = 1.4.",
        "1.4 > 1: outside by the rule of this lesson, so 0.",
        "round(1.4) = 1: a code, so torch passes.",
    ],
)

question(
    "3",
    "All weights of a channel lie beyond the highest code. The loss would fall if the values that they become were "
    "larger. What happens under LSQ?",
    A=(
        "The step grows",
        "Beyond the end the slope for the step is the highest code: a larger step raises them all.",
        True,
    ),
    B=(
        "Nothing: no gradient passes beyond the ends",
        "None passes to the weights. The step gets one from every value.",
    ),
    C=("The weights grow", "Their gradient is 0 out there. It is the step that can help."),
    D=("The step shrinks", "That would lower highest · step, and the weights with it."),
    hint="What does a weight become that lies beyond the highest code? Which number is in it?",
    steps=[
        "Each becomes highest · step.",
        "Its derivative for the step is highest, above 0.",
        "To make it larger, the step must grow.",
    ],
)

question(
    "4",
    "A colleague trains with fake quantization and compares with the same model quantized before that training. "
    "Accuracy rises by two points. What is missing before you can say what fake quantization is worth?",
    A=("A test with more bits", "That asks another question: where it is worth something."),
    B=("The speed of both models", "Both end with the same codes in the same layers: the speed is the same."),
    C=(
        "The same training without fake quantization, then quantized",
        "Some or all of the two points may come from training longer.",
        True,
    ),
    hint="Two things changed between the two models. Name both.",
    steps=[
        "The model was trained further, and it was trained on quantized values.",
        "The comparison must take the same further steps in floating point and quantize afterwards.",
    ],
)

question(
    "5",
    "Why does the converted integer layer agree with the fake-quantized one, though one adds integers and the other "
    "floating-point numbers?",
    A=(
        "It does not: they differ by up to half a step of every weight.",
        "Both compute with the same codes, so the rounding of weights is in both.",
    ),
    B=(
        "Its weights are rounded to the nearest code of the trained ones.",
        "True of both layers, and so no reason why they agree.",
    ),
    C=("The training drove the differences to zero.", "They agree before any training too."),
    D=(
        "Both hold the same codes, and scales can be taken out of a sum.",
        "Fake-quantized values are code · scale; only the last digits of FP32 differ.",
        True,
    ),
    hint="Write a fake-quantized weight and a fake-quantized input as products.",
    steps=[
        "Every term is (code · s)(code · t).",
        "The sum is s · t · the sum of products of codes.",
        "The integer layer computes that sum exactly and multiplies once.",
    ],
)

question(
    "6",
    "A linear layer is followed by batch normalisation, which will be folded into it for use. Where does fake "
    "quantization of the weights belong in training?",
    A=(
        "On the weights before folding",
        "The codes that ship are those of the folded weights, and they round differently.",
    ),
    B=(
        "On the folded weights, computed anew at every step",
        "Then training sees the very values that the shipped codes stand for.",
        True,
    ),
    C=(
        "On neither; quantize the output of the normalisation",
        "That quantizes activations. The weights stay untouched.",
    ),
    hint="Which numbers are turned into codes in the model that is used?",
    steps=[
        "The shipped layer has the weights gain · W.",
        "Their codes depend on the gain of each channel.",
        "Fake quantization must see gain · W.",
    ],
)
