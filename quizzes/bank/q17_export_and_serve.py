"""Lesson 17, export and serve: its exercises and its questions."""

import math

import torch

from lessons_lib.serving import batching, load_test, onnx_export
from quizzes import case, exercise, question


@exercise(
    points=2,
    minutes=5,
    hint="Unsigned numbers have no negative differences: 3 - 5 becomes 254 in uint8. Convert before you subtract.",
)
def max_abs_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest distance of two numbers that stand at the same place: max |a - b|.

    a, b: tensors of one shape and any kind of number, not always of the same kind: FP32, FP16, int8, uint8. Compute in
    FP64, so that the difference itself is neither rounded nor wrapped round. At least one number each.
    If not a number (NaN) stands anywhere, in a or in b, the answer is NaN: such a model has not been checked.
    Returns a float.

    >>> max_abs_difference(torch.tensor([1.0, -2.0, 4.0]), torch.tensor([1.5, -2.0, 1.0]))
    3.0
    """
    return onnx_export.max_abs_difference(a, b)


@max_abs_difference.cases
def _(draw):
    yield case("the printed example", torch.tensor([1.0, -2.0, 4.0]), torch.tensor([1.5, -2.0, 1.0]), visible=True)
    logits = draw.normal((5, 7))
    yield case("logits", logits, logits + draw.normal((5, 7), std=0.01))
    yield case("logits", draw.strided((4, 6)), draw.normal((4, 6)))
    yield case("below", logits, logits + draw.tensor((5, 7), 0.5, 2.0))
    yield case("below", draw.integers((3, 8), 0, 100).to(torch.uint8), draw.integers((3, 8), 100, 256).to(torch.uint8))
    codes = draw.integers((6, 5), -127, -60).to(torch.int8)
    yield case("codes", codes, draw.integers((6, 5), 80, 127).to(torch.int8))
    yield case("kinds", (1000 * logits).to(torch.float16), 1000 * logits + 3)
    broken = logits.clone()
    broken[draw.integer(0, 4), draw.integer(0, 6)] = math.nan
    yield case("not a number", broken, logits + 1)
    yield case("not a number", logits, broken + 1)


max_abs_difference.close(
    rtol=1e-12,
    reason="numbers of all these kinds are exact in FP64, and one difference of two is rounded by 1e-16 of itself.",
)


@max_abs_difference.mistake("The largest difference with its sign misses every place where b is above a. Take |a - b|.")
def _(a, b):
    return (a.double() - b.double()).max().item()


@max_abs_difference.mistake("That is the mean: one wrong number among thousands of right ones hardly moves it.")
def _(a, b):
    return (a.double() - b.double()).abs().mean().item()


@max_abs_difference.mistake(
    "You subtracted before converting. Codes of 8 bits wrap round, and FP16 is rounded on the way."
)
def _(a, b):
    difference = (a - b).abs().flatten().tolist()
    return math.nan if any(math.isnan(d) for d in difference) else float(max(difference))


@max_abs_difference.mistake("You compared the largest number of a with the largest of b. Compare place by place.")
def _(a, b):
    return abs(a.double().max().item() - b.double().max().item())


@max_abs_difference.mistake("NaN went lost. A comparison with NaN is false, so a maximum by comparing passes over it.")
def _(a, b):
    largest = 0.0
    for x, y in zip(a.double().flatten().tolist(), b.double().flatten().tolist(), strict=True):
        if abs(x - y) > largest:
            largest = abs(x - y)
    return largest


@max_abs_difference.alternative
def _(a, b):
    distances = [abs(x - y) for x, y in zip(a.double().flatten().tolist(), b.double().flatten().tolist(), strict=True)]
    return float("nan") if any(d != d for d in distances) else max(distances)


@exercise(
    points=3,
    minutes=10,
    hint="Keep the open batch's deadline: the arrival of its first request plus max_wait. A new request joins unless "
    "the batch is full or the deadline has passed.",
)
def batch_requests(arrivals: list[float], max_batch: int, max_wait: float) -> tuple[list[list[int]], list[float]]:
    """Which requests go together, and when each batch leaves, by their arrival times alone.

    arrivals: seconds at which the requests come, in order; may be empty. A request that finds no open batch opens one.
    The batch leaves as soon as it holds max_batch requests, or max_wait seconds after it was opened, whatever comes
    first; a request that arrives at that very moment still goes along. The model is always free.
    Returns (batches, leaves): lists of the positions of the requests, 0 being the first, and the second at which each
    batch leaves.

    >>> batch_requests([0.0, 1.0, 2.0, 9.0], max_batch=2, max_wait=5.0)
    ([[0, 1], [2], [3]], [1.0, 7.0, 14.0])
    """
    return batching.batch_requests(arrivals, max_batch, max_wait)


def _arrivals(draw, count, gap):
    """Arrival times in order, on a grid of 1/64 s, so that sums are exact."""
    steps = draw.integers((count,), 0, 2 * gap + 1).cumsum(0)
    return [step / 64 for step in steps.tolist()]


@batch_requests.cases
def _(draw):
    yield case("the printed example", [0.0, 1.0, 2.0, 9.0], 2, 5.0, visible=True)
    yield case("waiting is over", [0.0, 1.0, 3.0, 4.5, 5.0, 9.0], 10, 2.0)
    yield case("waiting is over", _arrivals(draw, 20, 16), 100, 0.5)
    yield case("full", _arrivals(draw, 17, 1), 4, 1000.0)
    yield case("full", [0.5] * 7, 3, 1.0)
    yield case("both", _arrivals(draw, 60, 6), 5, 0.375)
    yield case("both", _arrivals(draw, 60, 6), 8, 0.5)
    yield case("at that very moment", [0.0, 2.0, 2.0, 4.0, 6.0], 8, 2.0)
    yield case("nobody waits", [0.0, 0.25, 0.25, 0.25, 1.0], 8, 0.0)
    yield case("batches of one", _arrivals(draw, 6, 8), 1, 1.0)


batch_requests.exact("positions are whole numbers, and all times are sums of multiples of 1/64, exact in FP64")


@batch_requests.mistake(
    "The wait starts anew with every request. A steady trickle then holds the first one back for ever: count from the "
    "first request of the batch."
)
def _(arrivals, max_batch, max_wait):
    batches, leaves = [], []
    for position, moment in enumerate(arrivals):
        if not batches or len(batches[-1]) == max_batch or moment > leaves[-1]:
            batches.append([])
            leaves.append(moment)
        batches[-1].append(position)
        leaves[-1] = moment if len(batches[-1]) == max_batch else moment + max_wait
    return batches, leaves


@batch_requests.mistake("A full batch leaves at once, when its last request arrives. You let it wait for its deadline.")
def _(arrivals, max_batch, max_wait):
    batches, leaves = batching.batch_requests(arrivals, max_batch, max_wait)
    return batches, [arrivals[batch[0]] + max_wait for batch in batches]


@batch_requests.mistake("You cut the requests into groups of max_batch and forgot max_wait: some wait for ever.")
def _(arrivals, max_batch, max_wait):
    groups = [list(range(i, min(i + max_batch, len(arrivals)))) for i in range(0, len(arrivals), max_batch)]
    return groups, [arrivals[group[-1]] for group in groups]


@batch_requests.mistake("Who arrives at the very moment of leaving still goes along: a new batch opens only after it.")
def _(arrivals, max_batch, max_wait):
    batches, leaves = [], []
    for position, moment in enumerate(arrivals):
        if not batches or len(batches[-1]) == max_batch or moment >= leaves[-1]:
            batches.append([])
            leaves.append(moment + max_wait)
        batches[-1].append(position)
        if len(batches[-1]) == max_batch:
            leaves[-1] = moment
    return batches, leaves


@batch_requests.mistake(
    "A batch that is not full leaves max_wait after it was opened. You let it go at its last arrival, which it cannot "
    "know to be the last."
)
def _(arrivals, max_batch, max_wait):
    batches, _ = batching.batch_requests(arrivals, max_batch, max_wait)
    return batches, [arrivals[batch[-1]] for batch in batches]


@batch_requests.alternative
def _(arrivals, max_batch, max_wait):
    batches, leaves, first = [], [], 0
    while first < len(arrivals):
        deadline = arrivals[first] + max_wait
        last = first
        while last + 1 < len(arrivals) and last + 1 - first < max_batch and arrivals[last + 1] <= deadline:
            last += 1
        batches.append(list(range(first, last + 1)))
        leaves.append(arrivals[last] if last + 1 - first == max_batch else deadline)
        first = last + 1
    return batches, leaves


@exercise(
    points=2,
    minutes=8,
    hint="For each text take the smallest of the sizes that are at least its length. The padding is what was computed "
    "minus what was real, divided by what was computed.",
)
def pad_to_bucket(lengths: list[int], sizes: list[int]) -> tuple[list[int | None], float]:
    """The bucket of each text, and the share of padding among the tokens that are computed.

    lengths: tokens of each text. sizes: the lengths that an engine was built for, in any order. A text goes to the
    smallest size that holds it, and is padded to it. Where no size does, its bucket is None, and it is not computed.
    Returns (buckets, padding): a list, one entry for each text in order, and a float, 0.0 when nothing is computed.

    >>> pad_to_bucket([3, 8, 9, 40], [32, 8, 16])
    ([8, 8, 16, None], 0.375)
    """
    return batching.pad_to_bucket(lengths, sizes)


@pad_to_bucket.cases
def _(draw):
    yield case("the printed example", [3, 8, 9, 40], [32, 8, 16], visible=True)
    yield case("random texts", draw.integers((12,), 1, 65).tolist(), [8, 16, 32, 64])
    yield case("random texts", draw.integers((9,), 10, 50).tolist(), [20, 64])
    yield case("any order", draw.integers((12,), 1, 60).tolist(), [64, 4, 24, 12, 48])
    yield case("exactly full", [16, 15, 17], [16, 32])
    yield case("too long", [12, 100, 30, 65], [16, 64])
    yield case("too long", [99, 70], [16, 64])


pad_to_bucket.close(rtol=1e-12, reason="sums of whole numbers and one division in FP64, rounded by 1e-16")


@pad_to_bucket.mistake("A text that fills a size exactly fits it: compare with at least, not with above.")
def _(lengths, sizes):
    buckets = [min((size for size in sizes if size > length), default=None) for length in lengths]
    pairs = [(length, size) for length, size in zip(lengths, buckets, strict=True) if size is not None]
    computed = sum(size for _, size in pairs)
    return buckets, 1 - sum(length for length, _ in pairs) / computed if computed else 0.0


@pad_to_bucket.mistake("You took the nearest size, which may be smaller than the text: its end would be cut off.")
def _(lengths, sizes):
    buckets = [min(sizes, key=lambda size: abs(size - length)) for length in lengths]
    return buckets, 1 - sum(map(min, lengths, buckets)) / sum(buckets)


@pad_to_bucket.mistake("The padding is a share of what is computed, padding included. You divided by the real tokens.")
def _(lengths, sizes):
    buckets, padding = batching.pad_to_bucket(lengths, sizes)
    return buckets, padding / (1 - padding)


@pad_to_bucket.mistake("You padded all texts to the size of the longest. Each goes to its own bucket.")
def _(lengths, sizes):
    fit = [length for length in lengths if length <= max(sizes)]
    size = min((size for size in sizes if size >= max(fit)), default=None) if fit else None
    buckets = [size if length <= max(sizes) else None for length in lengths]
    return buckets, 1 - sum(fit) / (size * len(fit)) if fit else 0.0


@pad_to_bucket.mistake("You took the first size in the list that fits. They come in any order: take the smallest.")
def _(lengths, sizes):
    buckets = [next((size for size in sizes if size >= length), None) for length in lengths]
    pairs = [(length, size) for length, size in zip(lengths, buckets, strict=True) if size is not None]
    computed = sum(size for _, size in pairs)
    return buckets, 1 - sum(length for length, _ in pairs) / computed if computed else 0.0


@pad_to_bucket.mistake("A text that no size holds is not computed: its tokens do not count, and its bucket is None.")
def _(lengths, sizes):
    buckets = [min((size for size in sizes if size >= length), default=max(sizes)) for length in lengths]
    return buckets, 1 - sum(map(min, lengths, buckets)) / sum(buckets)


@pad_to_bucket.alternative
def _(lengths, sizes):
    ordered = sorted(sizes)
    buckets, real, computed = [], 0, 0
    for length in lengths:
        bucket = None
        for size in reversed(ordered):
            if size >= length:
                bucket = size
        buckets.append(bucket)
        if bucket is not None:
            real, computed = real + length, computed + bucket
    return buckets, (computed - real) / computed if computed else 0.0


@exercise(points=1, minutes=4, hint="An objective of 99 % leaves 1 % of all requests. Which share of those is used up?")
def error_budget(slo: float, total: int, failed: int) -> tuple[float, float]:
    """How many requests may fail under a service level objective (SLO), and how much of that is spent.

    slo: the share of requests that must succeed, such as 0.999. total: requests so far. failed: of these, not answered
    as promised. Returns (allowed, spent): (1 - slo) * total, and failed divided by it, which is above 1 when the
    objective is broken. With nothing allowed, spent is 0.0 when nothing failed and infinite otherwise.

    >>> error_budget(0.75, 200, 10)
    (50.0, 0.2)
    """
    return load_test.error_budget(slo, total, failed)


@error_budget.cases
def _(draw):
    yield case("the printed example", 0.75, 200, 10, visible=True)
    yield case("within", 0.99, draw.integer(10_000, 90_000), draw.integer(1, 99))
    yield case("within", 0.999, 1_000_000, draw.integer(1, 999))
    yield case("broken", 0.999, draw.integer(1_000, 9_000), draw.integer(20, 99))
    yield case("nothing allowed", 1.0, 500, 3)
    yield case("nothing allowed", 1.0, 500, draw.integer(1, 400))
    yield case("no request yet", 0.99, 0, 0)
    yield case("no request yet", 0.75, 8, 1)


error_budget.close(rtol=1e-9, reason="1 - slo is rounded by 1e-16, which is 1e-13 of the 0.001 that is left of 0.999")


@error_budget.mistake("That is the share that must succeed. The budget is what may fail: 1 - slo.")
def _(slo, total, failed):
    allowed = slo * total
    return allowed, failed / allowed if allowed else 0.0


@error_budget.mistake("You gave what is left of the budget. Asked for is the share that is spent.")
def _(slo, total, failed):
    allowed, spent = load_test.error_budget(slo, total, failed)
    return allowed, 1 - spent


@error_budget.mistake("You divided the failures by all requests: that is the error rate, not the share of the budget.")
def _(slo, total, failed):
    return (1 - slo) * total, failed / total if total else 0.0


@error_budget.mistake("The share is cut off at 1. A broken objective must show by how much it is broken.")
def _(slo, total, failed):
    allowed, spent = load_test.error_budget(slo, total, failed)
    return allowed, min(spent, 1.0)


@error_budget.alternative
def _(slo, total, failed):
    allowed = total - slo * total
    if allowed <= 0:
        return 0.0, 0.0 if failed == 0 else float("inf")
    return allowed, failed / allowed


question(
    "1",
    "What is in an ONNX file?",
    A=("The Python code of the model", "No Python at all: that is why a server without torch can run it."),
    B=(
        "The weights alone, to be loaded into a model class",
        "That is what a safetensors file holds. ONNX also says what is to be done with them.",
    ),
    C=(
        "The operators in order, how they are connected, and the weights",
        "A graph that any program can run that knows the operators.",
        True,
    ),
    D=("Machine code for one processor", "That is made from it, when the file is opened."),
    hint="What did the table of the small model list?",
    steps=[
        "Each line was one operator with its inputs and outputs.",
        "The weights were among the inputs.",
        "Nothing else is needed to compute the logits.",
    ],
)

question(
    "2",
    "A forward pass loops over the positions with `for i in range(x.shape[1])`. It is traced with 7 tokens. What does "
    "the exported file do with 5?",
    A=("It loops five times.", "The loop ran in Python, once, while tracing. The file holds no loop."),
    B=(
        "It computes with seven, or refuses: the seven turns of the loop were written down one after the other.",
        "What Python decided is fixed. So run the file at another size before you trust it.",
        True,
    ),
    C=("It is slower, but right.", "It is not right: positions 5 and 6 do not exist."),
    D=("The export fails with an error.", "It may, but here it did not: the loop was unrolled without a word."),
    hint="Who runs the loop: the tracer, or the file?",
    steps=[
        "Tracing runs the model once and writes down the operators.",
        "Seven turns leave seven copies of the body.",
        "With five tokens the sixth copy has nothing to read.",
    ],
)

question(
    "3",
    "The logits of an exported FP32 model differ from torch's by 3e-6 at most; the largest logit is 5. What does that "
    "say?",
    A=(
        "The export is wrong: equal models give equal numbers.",
        "Equal formulas do. Sums are added in another order, and each addition is rounded.",
    ),
    B=("The accuracy drops by 3e-6.", "An answer changes only where two logits lie within that distance."),
    C=("The weights were rounded to FP16.", "That would be a thousand times as much."),
    D=(
        "Rounding: about ten times 6e-8, the precision of FP32, times the largest logit",
        "5 · 6e-8 is 3e-7, and a few hundred roundings in a row make ten times as much.",
        True,
    ),
    hint="What is the relative precision of FP32? Compare it with 3e-6 / 5.",
    steps=[
        "3e-6 / 5 = 6e-7.",
        "FP32 rounds each result by up to 6e-8 of itself.",
        "Ten such steps: the order of a sum changed, nothing else.",
    ],
)

question(
    "4",
    "Requests come at 100 a second, at random times. The model takes 20 ms for one text and 40 ms for a batch of "
    "eight. What does a server without batching do?",
    A=(
        "Its queue grows until requests are refused: it can answer 50 a second.",
        "1 / 0.020 s = 50. With batches of eight it could answer 200.",
        True,
    ),
    B=("It answers all, each after 20 ms.", "That needs 2 seconds of computing in each second."),
    C=("It answers all, each after 40 ms on average.", "No average lasts: the queue grows as long as the load does."),
    D=(
        "It answers half of them at once and the other half after a second.",
        "Order is kept: everybody waits longer and longer.",
    ),
    hint="How many seconds of computing arrive in each second?",
    steps=[
        "100 requests · 20 ms = 2 s of work a second.",
        "One worker does 1 s of work a second.",
        "In batches of eight: 100 / 8 · 40 ms = 0.5 s.",
    ],
)

question(
    "5",
    "Why should the queue of a server be bounded?",
    A=("Because memory for texts is expensive", "A thousand texts are a megabyte. It is time that runs out."),
    B=("To keep the order of the requests", "An unbounded queue keeps it as well."),
    C=(
        "Under overload an unbounded queue grows until every answer comes too late to be of use.",
        "With 64 places and 200 answers a second nobody waits longer than about 0.3 s; who finds no place knows it.",
        True,
    ),
    D=("So that batches are always full", "How full they are is up to the arrivals and to max_wait."),
    hint="At 1.5 times what the server can do, how long is the queue after a minute?",
    steps=[
        "More comes than goes, so the queue grows all the time.",
        "The wait is the length of the queue over the throughput.",
        "A bound on the length is a bound on the wait. The rest gets 429, at once, and may ask elsewhere.",
    ],
)

question(
    "6",
    "A load test waits for each answer before it sends the next request, with ten connections. Against a server that "
    "stalls for two seconds it reports a good p95. Why?",
    A=("Ten connections are too few to measure a p95.", "A thousand connections that wait would see as little."),
    B=(
        "While the server stalls the test sends nothing: of all its requests only ten meet the stall.",
        "People would have gone on sending. Requests at planned times do, and their wait counts from the planned time.",
        True,
    ),
    C=("Percentiles ignore the slowest requests.", "p95 leaves 5 % out; the stall should have hit far more than that."),
    D=("The stall is the client's fault.", "It is the server's. The client does not see it, and that is its fault."),
    hint="How many requests does such a test send during the two seconds?",
    steps=[
        "Each connection has one request under way and waits: ten in all.",
        "Over a run of thousands of requests ten are below 1 %.",
        "An open load sends on, and hundreds of requests meet the stall.",
    ],
)

question(
    "7",
    "A server gets the signal to stop while 12 requests wait and 8 are being computed. What is a clean shutdown?",
    A=("It ends at once, and the clients try again.", "20 accepted requests are lost; not every client tries again."),
    B=("It finishes the 8 and drops the 12.", "They have been accepted, too: nobody told them to go elsewhere."),
    C=("It goes on until no request has come for a while.", "Under load that never happens."),
    D=(
        "It takes no new requests, answers all 20, and ends.",
        "And it must end within a bound: each request has a timeout, so the whole does.",
        True,
    ),
    hint="What does a client know whose request was accepted?",
    steps=[
        "Close the door first: new requests go to another server.",
        "Then empty the queue, then end.",
        "With a timeout for each request there is a latest end for the whole.",
    ],
)

question(
    "8",
    'p95, throughput and error rate of a service are as always, but the share of the answer "sport" fell from 20 % '
    "to 4 % overnight. What do you do?",
    A=("Nothing: all alarms are about time and errors.", "A model can be quick and wrong. Answers are a signal, too."),
    B=("Restart the server.", "It does what it should. Something in front of it may not."),
    C=(
        "Look at the inputs: their source, language, length or encoding may have changed; and measure quality on "
        "labelled samples of today.",
        "Quality cannot be read off latencies. A shift of answers is the cheapest sign that something moved.",
        True,
    ),
    D=("Quantize to more bits.", "The weights are the same as yesterday. Bits do not change overnight."),
    hint="What did change, if it was not the model?",
    steps=[
        "Same file, same code: the same input gives the same answer.",
        "So the inputs are others than before.",
        "Whether the answers are wrong takes labels: sample some of today's texts and label them.",
    ],
)
