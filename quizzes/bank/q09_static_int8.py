"""Lesson 09, static INT8: its exercises and its questions."""

import itertools

import torch

from lessons_lib.int8 import observers, static
from quizzes import case, exercise, question


@exercise(
    points=1,
    minutes=4,
    hint="An extreme of all batches is an extreme of the batches' extremes. Where do you start, before any batch?",
)
def min_max_observer(batches: list[torch.Tensor]) -> tuple[float, float]:
    """The range of a min-max observer after it saw these batches: the least and the greatest value of all.

    batches: a list of FP32 tensors of any shapes, at least one, none of them empty.
    Returns (low, high), two floats. The range is not widened to hold zero: `choose_qparams` does that later.

    >>> min_max_observer([torch.tensor([[0.5, 2.0]]), torch.tensor([1.0, 4.0, 3.0])])
    (0.5, 4.0)
    """
    return observers.min_max(batches)


@min_max_observer.cases
def _(draw):
    yield case("the printed example", [torch.tensor([[0.5, 2.0]]), torch.tensor([1.0, 4.0, 3.0])], visible=True)
    yield case("several batches", [draw.normal((4, 7)), 3 * draw.normal((2, 7)), draw.normal((5, 7))])
    yield case("several batches", [3 * draw.normal((6, 3)), draw.normal((2, 3))])
    yield case("all on one side of zero", [draw.tensor((3, 4), -5, -2), draw.tensor((2, 2), -7, -1)])
    yield case("all on one side of zero", [draw.tensor((9,), 1, 2), draw.tensor((1,), 3, 4)])
    yield case("other shapes and strides", [draw.strided((3, 4, 6)), draw.normal((2, 5, 6, 2))])


min_max_observer.exact("both ends are values of the batches; nothing is computed from them")


@min_max_observer.mistake("This is the range of the last batch. The observer must remember what it saw before.")
def _(batches):
    return batches[-1].min().item(), batches[-1].max().item()


@min_max_observer.mistake(
    "You averaged the extremes of the batches. That is another observer, the moving average; min-max keeps the widest."
)
def _(batches):
    lows, highs = [batch.min().item() for batch in batches], [batch.max().item() for batch in batches]
    return sum(lows) / len(lows), sum(highs) / len(highs)


@min_max_observer.mistake("You started from zero, so zero counts as seen. Start from the first batch.")
def _(batches):
    low, high = observers.min_max(batches)
    return min(low, 0.0), max(high, 0.0)


@min_max_observer.mistake("This range is symmetric: you took the largest absolute value. Each end stands for itself.")
def _(batches):
    reach = max(batch.abs().max().item() for batch in batches)
    return -reach, reach


@min_max_observer.alternative
def _(batches):
    values = torch.cat([batch.flatten() for batch in batches])
    return values.min().item(), values.max().item()


@exercise(
    points=2,
    minutes=8,
    hint="counts.cumsum(0) tells how many values lie below each right edge; put a zero before it for the first edge. "
    "Which is the last edge with no more than the allowed number below it?",
)
def percentile_range(counts: torch.Tensor, edges: torch.Tensor, percent: float) -> tuple[float, float]:
    """The range that keeps `percent` per cent of the values and leaves an equal share out at either end.

    counts: FP64 (bins,), how many values fell into each bin, whole numbers. edges: FP64 (bins + 1,), rising: bin i
    reaches from edges[i] to edges[i + 1]. percent: above 0, at most 100.
    At either end at most total · (100 - percent) / 200 values may lie outside. low is the highest edge with so few
    values below it, high the lowest edge with so few above it. (No case has exactly the allowed number below an edge.)
    Returns (low, high), two floats.

    >>> counts, edges = torch.tensor([1.0, 4.0, 90.0, 5.0]).double(), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).double()
    >>> percentile_range(counts, edges, 97.0)
    (-1.0, 2.0)
    """
    return observers.percentile_range(counts, edges, percent)


def _bell(draw, bins, low, high, most=1000):
    """Counts of a bell with random wiggles over equal bins."""
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    middle = (edges[:-1] + edges[1:]) / 2
    bell = most * (-((middle / ((high - low) / 7)) ** 2)).exp()
    return (bell * draw.tensor((bins,), 0.5, 1.5, dtype=torch.float64)).round() + 1, edges


def _with_outliers(counts, edges, far=6):
    """The same bins, followed by `far` times as many, empty but for three values at the end."""
    step = edges[1] - edges[0]
    grown = torch.cat([counts, torch.zeros(far * len(counts), dtype=torch.float64)])
    grown[-1] = 3
    return grown, edges[0] + step * torch.arange(len(grown) + 1, dtype=torch.float64)


@percentile_range.cases
def _(draw):
    printed = torch.tensor([1.0, 4.0, 90.0, 5.0]).double(), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).double()
    yield case("the printed example", *printed, 97.0, visible=True)
    yield case("a bell", *_bell(draw, 60, -3.0, 4.0), 99.03)
    yield case("a bell", *_bell(draw, 41, -1.0, 2.5), 90.07)
    yield case("a far outlier", *_with_outliers(*_bell(draw, 40, -2.0, 3.0)), 99.91)
    skewed = torch.cat([torch.tensor([draw.integer(500, 900)]), draw.integers((30,), 5, 20)]).double()
    yield case("values that are never negative", skewed, torch.linspace(0, 6, 32, dtype=torch.float64), 98.01)
    empty = torch.cat([torch.zeros(7), draw.integers((10,), 3, 9), torch.zeros(4)]).double()
    yield case("one hundred per cent", empty, torch.arange(-9.0, 13.0).double(), 100.0)


percentile_range.exact("both ends are edges that were given; only which of them is computed")


@percentile_range.mistake("You left the whole share out at either end: twice too much. Half of it goes to each.")
def _(counts, edges, percent):
    return observers.percentile_range(counts, edges, max(2 * percent - 100, 1e-6))


@percentile_range.mistake("You cut a share of the range, wherever the values are. The share is one of the values.")
def _(counts, edges, percent):
    low, high = edges[0].item(), edges[-1].item()
    cut = (high - low) * (100 - percent) / 200
    return edges[edges <= low + cut].max().item(), edges[edges >= high - cut].min().item()


@percentile_range.mistake(
    "You are one bin too narrow at either end: the first edge with too many values below it already cuts too much off."
)
def _(counts, edges, percent):
    low, high = observers.percentile_range(counts, edges, percent)
    return edges[edges > low][0].item(), edges[edges < high][-1].item()


@percentile_range.mistake("You cut at the upper end alone. A share as large goes at the lower end.")
def _(counts, edges, percent):
    return edges[0].item(), observers.percentile_range(counts, edges, percent)[1]


@percentile_range.alternative
def _(counts, edges, percent):
    allowed = counts.sum().item() * (100 - percent) / 200
    low, high = 0, len(counts)
    while counts[: low + 1].sum().item() <= allowed:
        low += 1
    while counts[high - 1 :].sum().item() <= allowed:
        high -= 1
    return edges[low].item(), edges[high].item()


@exercise(
    points=3,
    minutes=15,
    hint="Two loops over the edges, one for each end. Inside: the values between the ends cost step² / 12 each, every "
    "other bin costs its count times the squared distance of its middle to the nearer end.",
)
def best_clip_mse(hist: torch.Tensor, edges: torch.Tensor, bits: int) -> tuple[float, float]:
    """The range with the least squared error, when values are quantized to unsigned codes of `bits` over it.

    hist: FP64 (bins,), how many values fell into each bin. edges: FP64 (bins + 1,), rising; the bins are equally wide,
    and zero is one of the edges. Candidates are all pairs low < high of edges with low <= 0 <= high.
    Each value counts as if it stood in the middle of its bin. With step = (high - low) / (2**bits - 1):
    a value inside the range costs step² / 12, a value outside costs its squared distance to the nearer end.
    The error is the sum over all values. Of equal errors the wider range wins, though no case has any.
    Returns (low, high), two floats.

    >>> hist, edges = torch.tensor([40.0, 60.0, 0.0, 0.0, 1.0]).double(), torch.arange(-1.0, 5.0).double()
    >>> best_clip_mse(hist, edges, 2), best_clip_mse(hist, edges, 4)
    ((-1.0, 1.0), (-1.0, 3.0))
    """
    return observers.best_clip_mse(hist, edges, bits)


def _errors(hist, edges, bits, levels=None, power=2, rounding=1.0, clipping=1.0):
    """{(low, high): error} of every candidate, with parts of the formula to play with."""
    middle, found = (edges[:-1] + edges[1:]) / 2, {}
    for low, high in itertools.combinations(edges.tolist(), 2):
        if low <= 0 <= high:
            outside = (low - middle).clamp_min(0) + (middle - high).clamp_min(0)
            inside = hist[(middle > low) & (middle < high)].sum()
            step = (high - low) / (levels or 2**bits - 1)
            cost = rounding * inside * step**2 / 12 + clipping * (hist * outside**power).sum()
            found[low, high] = cost.item()
    return found


def _least(errors):
    return min(errors, key=lambda ends: (errors[ends], ends[0] - ends[1]))


def _clear(draw, make, bits):
    """A histogram whose best range is best by a hundredth, so that no order of summation can change it."""
    while True:
        hist, edges = make()
        first, second = sorted(_errors(hist, edges, bits).values())[:2]
        if second > 1.01 * first:
            return hist, edges, bits


def _tailed(draw, negative, positive, most=300):
    """A peak at zero and a thin tail of values on the positive side; edges are quarters."""
    edges = torch.arange(-negative, positive + 1).double() / 4
    middle = (edges[:-1] + edges[1:]) / 2
    peak = most * (-middle.abs() / draw.number(0.3, 0.9)).exp()
    return (peak * draw.tensor((len(middle),), 0.4, 1.6, dtype=torch.float64)).round(), edges


@best_clip_mse.cases
def _(draw):
    hist, edges = torch.tensor([40.0, 60.0, 0.0, 0.0, 1.0]).double(), torch.arange(-1.0, 5.0).double()
    yield case("the printed examples", hist, edges, 2, visible=True)
    yield case("the printed examples", hist, edges, 4, visible=True)
    for bits in (2, 3):
        yield case("few bits", *_clear(draw, lambda: _tailed(draw, 6, 14), bits))
    yield case("few bits", *_clear(draw, lambda: _tailed(draw, 10, 10), 3))
    yield case("more bits", *_clear(draw, lambda: _tailed(draw, 4, 20), 4))
    yield case("never negative", *_clear(draw, lambda: _tailed(draw, 0, 18), 3))
    yield case("never negative", *_clear(draw, lambda: _tailed(draw, 0, 18), 2))


best_clip_mse.exact("both ends are edges that were given; the best range of each case is best by a hundredth")


@best_clip_mse.mistake("Only rounding counts here, so the narrowest range wins. Add what clipping costs outside.")
def _(hist, edges, bits):
    return _least(_errors(hist, edges, bits, clipping=0.0))


@best_clip_mse.mistake("Only clipping counts here, so the full range wins. Inside, rounding costs step² / 12 a value.")
def _(hist, edges, bits):
    return _least(_errors(hist, edges, bits, rounding=0.0))


@best_clip_mse.mistake("The distance of clipped values must be squared, as the rounding error is.")
def _(hist, edges, bits):
    return _least(_errors(hist, edges, bits, power=1))


@best_clip_mse.mistake(
    "A rounding error of step² is what a value off by a whole step would cost. Evenly spread within half a step to "
    "either side it is step² / 12 on average."
)
def _(hist, edges, bits):
    return _least(_errors(hist, edges, bits, rounding=12.0))


@best_clip_mse.alternative
def _(hist, edges, bits):
    middle = (edges[:-1] + edges[1:]) / 2
    best = None
    for low in edges[edges <= 0].tolist():
        for high in edges[edges >= 0].tolist():
            if low < high:
                inside = hist[(middle > low) & (middle < high)].sum().item()
                clipped = (hist * (middle - middle.clamp(low, high)) ** 2).sum().item()
                error = inside * ((high - low) / (2**bits - 1)) ** 2 / 12 + clipped
                if best is None or (error, low - high) < best[0]:
                    best = (error, low - high), (low, high)
    return best[1]


@exercise(
    points=2,
    minutes=6,
    hint="With alpha = 0.5, an activation up to 64 and a weight up to 4 should meet halfway, at 16 each. Which divisor "
    "does that?",
)
def smooth_scales(act_max: torch.Tensor, w_max: torch.Tensor, alpha: float) -> torch.Tensor:
    """SmoothQuant's divisor for each input channel of a linear layer.

    act_max: FP32 (n_in,), the largest absolute activation of each channel. w_max: FP32 (n_in,), the largest absolute
    weight that multiplies it. alpha: 0 ... 1, the share of the difficulty that moves from activations into weights.
    Activations will be divided by the result and weights multiplied by it: s = act_max**alpha / w_max**(1 - alpha).
    A channel in which either maximum is zero gets 1. Returns FP32 (n_in,).

    >>> smooth_scales(torch.tensor([64.0, 1.0, 0.0]), torch.tensor([4.0, 0.25, 2.0]), 0.5)
    tensor([4., 2., 1.])
    """
    return static.smooth_scales(act_max, w_max, alpha)


@smooth_scales.cases
def _(draw):
    printed = torch.tensor([64.0, 1.0, 0.0]), torch.tensor([4.0, 0.25, 2.0])
    yield case("the printed example", *printed, 0.5, visible=True)
    for alpha in (0.5, draw.number(0.2, 0.4), draw.number(0.6, 0.9)):
        yield case("alpha from 0.2 to 0.9", draw.tensor((24,), 0.1, 30), draw.tensor((24,), 0.05, 0.5), alpha)
    for alpha in (0.0, 1.0):
        yield case("alpha 0 and 1", draw.tensor((9,), 0.1, 30), draw.tensor((9,), 0.05, 0.5), alpha)
    quiet = draw.tensor((12,), 0.1, 30)
    quiet[3], quiet[8] = 0, 0
    dead = draw.tensor((12,), 0.05, 0.5)
    dead[5] = 0
    yield case("channels that are zero", quiet, dead, 0.75)
    yield case("channels that are zero", quiet, dead, 0.5)


smooth_scales.close(
    rtol=1e-5,
    atol=0,
    reason="two powers and a division, each within a few half steps of FP32, 6e-8; through logarithms of numbers up to "
    "30 a few times that: 1e-5 leaves room for either.",
)


@smooth_scales.mistake("alpha belongs to the activations: at alpha = 1 all of the difficulty moves into the weights.")
def _(act_max, w_max, alpha):
    return static.smooth_scales(act_max, w_max, 1 - alpha)


@smooth_scales.mistake("This is the factor upside down: activations would be multiplied by what should divide them.")
def _(act_max, w_max, alpha):
    return 1 / static.smooth_scales(act_max, w_max, alpha)


@smooth_scales.mistake("A channel of zeros got 0, infinity or NaN. Nothing needs smoothing there: give it 1.")
def _(act_max, w_max, alpha):
    return act_max**alpha / w_max ** (1 - alpha)


@smooth_scales.mistake("You multiplied by the weights' power. A channel with large weights has less room for more.")
def _(act_max, w_max, alpha):
    return (act_max**alpha * w_max ** (1 - alpha)).where((act_max > 0) & (w_max > 0), 1.0)


@smooth_scales.alternative
def _(act_max, w_max, alpha):
    scales = torch.ones_like(act_max)
    used = (act_max != 0) & (w_max != 0)
    scales[used] = (alpha * act_max[used].log() - (1 - alpha) * w_max[used].log()).exp()
    return scales


question(
    "1",
    "What does static quantization know before the first request that dynamic quantization does not?",
    A=("The range of the weights", "Both know it: weights do not change after training."),
    B=("The range of the activations", "It was measured on calibration data, and it is kept.", True),
    C=("The length of the texts", "Neither depends on it: a range holds for any number of tokens."),
    D=("The right answers", "Calibration looks at inputs alone. It needs no labels."),
    hint="Which of the two has to look at each input before it can quantize it?",
    steps=[
        "Weights are quantized once in both.",
        "Dynamic: find the range of each input as it comes. Static: the range was found beforehand.",
    ],
)

question(
    "2",
    "A layer was calibrated to the range -1 ... 3. In service a value of 5 arrives. What does the layer compute with?",
    A=("5, with a larger step", "The step is fixed; making it larger for this input would be dynamic quantization."),
    B=("5, because codes above the highest are kept in int32", "Only sums are kept in int32; codes have 8 bits."),
    C=("3, the end of the range", "Its code is clamped to the highest, and that stands for 3.", True),
    D=("0, because it is no valid value", "Codes are clamped at the ends, not set to zero."),
    hint="Look at the last step of the formula for codes in lesson 01.",
    steps=["The scale is 4 / 255, so 5 lies 127 steps beyond the highest code.", "clamp gives the highest code: 3."],
)

question(
    "3",
    "The activations of a layer reach from 0 to 6.375. In calibration a single value of 255 turns up. Codes have 8 "
    "bits, ranges come from a min-max observer. How many codes are left for the values from 0 to 6.375?",
    A=("255", "That was so without the outlier: a step of 6.375 / 255 = 0.025."),
    B=("About 128", "An outlier at twice the range would leave half. This one is 40 times the range away."),
    C=("40", "40 is the factor by which the step grew."),
    D=("7", "The step is 255 / 255 = 1, so the codes 0 to 6 remain.", True),
    hint="How wide is a step, once the range reaches 255?",
    steps=["step = (255 - 0) / 255 = 1.", "6.375 rounds to 6, so the codes 0, 1, ..., 6 are in use: seven."],
)

question(
    "4",
    "Activations have a zero point z, so each product is (q_x - z) q_w. What does z cost while the model serves?",
    A=(
        "Nothing: z times the sum of a row of weight codes is known beforehand and goes into the bias.",
        "The sum over q_w does not depend on the input. It is computed once.",
        True,
    ),
    B=("One subtraction for each activation", "So the formula reads, but the subtraction can be taken out of the sum."),
    C=("A second matrix product", "It would be one of a matrix whose entries are all z: the same number in every row."),
    hint="Multiply the bracket out and look which of the two sums depends on the input.",
    steps=["sum (q_x - z) q_w = sum q_x q_w - z sum q_w.", "The second sum needs the weights alone."],
)

question(
    "5",
    "At 8 bits a model calibrated on one sentence is as good as one calibrated on 128. At 4 bits both lose much, with "
    "min-max ranges. Which conclusion holds?",
    A=("Calibration data do not matter.", "At 8 bits, for these sets: an outlier in the data mattered at 8 bits too."),
    B=("More calibration data repair 4 bits.", "More data make a min-max range wider, not narrower."),
    C=(
        "At 4 bits a different rule for the range may gain more than more data.",
        "The range must leave rare values out; which sentences it was measured on is second to that.",
        True,
    ),
    D=("One sentence is enough for every model.", "One model on one task cannot show that."),
    hint="What do more batches do to the range of a min-max observer?",
    steps=[
        "A min-max range never shrinks.",
        "With 16 codes a wide range leaves few for the many small values.",
        "Percentiles and least error choose a narrower one from the same data.",
    ],
)

question(
    "6",
    "A channel of activations reaches 64, the weights that multiply it reach 0.25. SmoothQuant with alpha = 0.5 "
    "divides the activations and multiplies the weights. By what, and where do they meet?",
    A=("By 16; at 4 and 4", "s = sqrt(64 / 0.25) = 16; 64 / 16 = 4 and 0.25 · 16 = 4.", True),
    B=("By 256; at 0.25 and 64", "That only swaps the two: the difficulty is now all in the weights."),
    C=("By 8; at 8 and 2", "8 is sqrt(64): the weights' maximum is missing from the formula."),
    D=("By 4; at 16 and 1", "sqrt(64 · 0.25) = 4 multiplies where the formula divides."),
    hint="s = 64**0.5 / 0.25**0.5.",
    steps=["64**0.5 = 8 and 0.25**0.5 = 0.5.", "s = 8 / 0.5 = 16.", "64 / 16 = 4, and 0.25 · 16 = 4: halfway."],
)

question(
    "7",
    "A token attends equally to 1,000 others: after softmax every weight is 0.001. The weights are quantized to 8 bits "
    "over the range 0 ... 1. What is left of them?",
    A=("1,000 weights of 0.0039, the smallest above zero", "0.001 is nearer to 0 than to 0.0039, so it rounds down."),
    B=("Nothing: all become 0", "A step is 0.0039, and 0.001 is less than half of it.", True),
    C=("1,000 weights of 0.001", "No code stands for 0.001: codes stand for multiples of 0.0039."),
    hint="How wide is a step over 0 ... 1 with 255 steps, and what is half of it?",
    steps=["step = 1 / 255 = 0.0039.", "0.001 / 0.0039 = 0.255, which rounds to 0."],
)
