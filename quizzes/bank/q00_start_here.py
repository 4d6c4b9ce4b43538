"""Lesson 00, start here: its exercises and its questions."""

import torch

from lessons_lib.measure import benchmark, intervals, model_size
from quizzes import case, exercise, question


@exercise(points=1, minutes=2, hint="Mega is a prefix of the metric system. How many metres are a kilometre?")
def megabytes(n_bytes: int) -> float:
    """Bytes as megabytes, MB: one million bytes each, as on the label of a disk.

    Example: megabytes(2_500_000) -> 2.5
    """
    return n_bytes / 1_000_000


@megabytes.cases
def _(draw):
    yield case("the example", 2_500_000, visible=True)
    yield case("any size", 1)
    for _ in range(3):
        yield case("any size", draw.integer(10_000, 2_000_000_000))


megabytes.close(rtol=1e-6, reason="one division: FP32 rounds it by at most 2**-24, which is 6e-8 of the answer")


@megabytes.mistake("You divided by 1024 * 1024. That unit is the mebibyte, MiB, 4.9 % larger than the megabyte.")
def _(n_bytes):
    return n_bytes / 1024**2


@megabytes.mistake("You divided by a thousand: those are kilobytes.")
def _(n_bytes):
    return n_bytes / 1000


@megabytes.mistake("You cut off what stands behind the point: // gives whole megabytes alone. Divide with /.")
def _(n_bytes):
    return n_bytes // 1_000_000


@megabytes.mistake("You turned bytes into megabits: there is no factor of 8 between bytes and megabytes.")
def _(n_bytes):
    return 8 * n_bytes / 1_000_000


@megabytes.alternative
def _(n_bytes):
    return n_bytes * 1e-6


@exercise(points=2, minutes=8, hint="Two entries of one tensor have the same data_ptr(). What could you keep in a set?")
def state_bytes(state_dict: dict[str, torch.Tensor]) -> int:
    """Bytes of all tensors of a state dict.

    Each tensor counts numel() times element_size() bytes: parameters and buffers, whatever their type.
    Two entries that start at the same memory address, data_ptr(), are one tensor under two names and count once.
    Example: state_bytes({"weight": torch.ones(2, 3), "count": torch.tensor(7)}) -> 32, which is 6 * 4 + 8
    """
    return model_size.state_bytes(state_dict)


@state_bytes.cases
def _(draw):
    rows, columns = draw.integer(20, 40), draw.integer(4, 9)
    shared, bias = draw.normal((rows, columns)), torch.zeros(rows)
    norm = {"weight": torch.ones(rows), "running_mean": draw.normal((rows,)), "num_batches_tracked": torch.tensor(9)}
    fused = draw.normal((3 * rows, columns))
    yield case("the example", {"weight": torch.ones(2, 3), "count": torch.tensor(7)}, visible=True)
    yield case("types", {"half": draw.normal((rows, 3)).half(), "mask": torch.ones(rows, dtype=torch.bool)})
    yield case("types", {"codes": draw.integers((rows, 2), 0, 9).to(torch.uint8), "scale": torch.ones(3).double()})
    yield case("buffers", norm)
    yield case("shared tensors", {"embedding.weight": shared, "decoder.weight": shared, "decoder.bias": bias})
    yield case("shared tensors", {"encoder": shared, "decoder": shared.t(), "bias": bias})
    yield case("equal, but not shared", {"first.bias": bias, "second.bias": bias.clone()})
    yield case("parts of one tensor", {"query": fused[rows : 2 * rows], "key": fused[2 * rows :]})


state_bytes.exact("bytes are counted, not measured")


@state_bytes.mistake(
    "You counted a tensor under two names twice. Its entries start at the same data_ptr(); comparing with `is` or id() "
    "does not help, since a state dict wraps each entry anew."
)
def _(state_dict):
    return sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())


def _once(state_dict) -> list[torch.Tensor]:
    return list({tensor.data_ptr(): tensor for tensor in state_dict.values()}.values())


@state_bytes.mistake("You took four bytes for every number. FP16 has two, int64 has eight: ask element_size().")
def _(state_dict):
    return sum(tensor.numel() * 4 for tensor in _once(state_dict))


@state_bytes.mistake("You left the buffers out: running means, counters and masks are saved too.")
def _(state_dict):
    return sum(t.numel() * t.element_size() for t in _once({n: t for n, t in state_dict.items() if "weight" in n}))


@state_bytes.mistake("You left out what is not floating point: counters, masks and codes are saved too.")
def _(state_dict):
    return sum(tensor.numel() * tensor.element_size() for tensor in _once(state_dict) if tensor.is_floating_point())


@state_bytes.mistake("You counted equal tensors once. Two biases full of zeros are still two tensors in the file.")
def _(state_dict):
    kept = []
    for tensor in state_dict.values():
        if not any(tensor.data_ptr() == k.data_ptr() or torch.equal(tensor, k) for k in kept):
            kept.append(tensor)
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


@state_bytes.mistake("You counted whole storages. A slice holds fewer numbers than the tensor that it was cut from.")
def _(state_dict):
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in state_dict.values()}
    return sum(storage.nbytes() for storage in storages.values())


@state_bytes.mistake("You counted numbers, not bytes.")
def _(state_dict):
    return sum(tensor.numel() for tensor in _once(state_dict))


@state_bytes.alternative
def _(state_dict):
    seen, total = set(), 0
    for tensor in state_dict.values():
        if tensor.data_ptr() not in seen:
            total += tensor.numel() * tensor.element_size()
        seen.add(tensor.data_ptr())
    return total


@exercise(points=2, minutes=8, hint="The median of four samples stands at position 1.5: between which two?")
def percentile(samples: list[float], p: float) -> float:
    """The p-th percentile of the samples, with linear interpolation.

    samples: at least one latency in milliseconds, in any order. p: from 0 to 100.
    The sorted samples stand at the positions 0, 1, ..., n - 1. The answer is read at position p / 100 * (n - 1), and
    between two samples it lies on the straight line from one to the next. (numpy calls this method "linear".)
    Example: percentile([4.0, 1.0, 3.0, 2.0], 50) -> 2.5
    """
    return benchmark.percentile(samples, p)


@percentile.cases
def _(draw):
    def latencies(n):
        return draw.tensor((n,), 10, 20, dtype=torch.float64).tolist()

    yield case("the example", [4.0, 1.0, 3.0, 2.0], 50, visible=True)
    yield case("a slow request", [12.0, 11.0, 95.0, 10.0, 13.0], 95, visible=True)
    yield case("a slow request", [12.0, 11.0, 95.0, 10.0, 13.0], 99)
    yield case("the ends and a single sample", latencies(9), 0)
    yield case("the ends and a single sample", latencies(9), 100)
    yield case("the ends and a single sample", latencies(1), 99)
    for p in (50, 95, 99):
        yield case("many samples", latencies(draw.integer(40, 64)), p)
    for _ in range(3):
        yield case("any percentile", latencies(draw.integer(2, 30)), draw.number(5, 95))


percentile.close(
    rtol=1e-5,
    reason="in FP32 a position up to 63 is rounded by 4e-6 of the gap between two samples, and no gap here is much "
    "larger than the answer",
)


@percentile.mistake("You did not sort the samples. Latencies come in the order of the requests.")
def _(samples, p):
    position = p / 100 * (len(samples) - 1)
    low = int(position)
    high = min(low + 1, len(samples) - 1)
    return samples[low] + (position - low) * (samples[high] - samples[low])


@percentile.mistake("You read position p / 100 * n. The last sample stands at n - 1, and the 100th percentile with it.")
def _(samples, p):
    ordered = sorted(samples)
    position = min(p / 100 * len(ordered), len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


@percentile.mistake("You took the sample below the position. Between two samples the answer lies between them.")
def _(samples, p):
    return sorted(samples)[int(p / 100 * (len(samples) - 1))]


@percentile.mistake("You took the nearest rank. That is a method too, but the docstring asks for linear interpolation.")
def _(samples, p):
    return sorted(samples)[max(0, -int(-p / 100 * len(samples) // 1) - 1)]


@percentile.mistake("You took p for a share between 0 and 1. Here 95 stands for 95 percent.")
def _(samples, p):
    ordered = sorted(samples)
    low = int(p * (len(ordered) - 1))
    return ordered[low] + (p * (len(ordered) - 1) - low) * (ordered[low + 1] - ordered[low])


@percentile.alternative
def _(samples, p):
    return torch.quantile(torch.tensor(samples, dtype=torch.float64), p / 100).item()


@exercise(points=1, minutes=4, hint="How many items in all, and how many seconds for all batches together?")
def throughput(latencies: list[float], batch_size: int) -> float:
    """Items a second, when batches run one after another.

    latencies: milliseconds of each batch, at least one. batch_size: items in every batch.
    It is the number of all items divided by the time of all batches.
    Example: throughput([10.0, 30.0], 8) -> 400.0, because 16 items took 40 ms
    """
    return benchmark.throughput(latencies, batch_size)


@throughput.cases
def _(draw):
    yield case("the example", [10.0, 30.0], 8, visible=True)
    yield case("batches of one", draw.tensor((12,), 2, 20).tolist(), 1)
    for _ in range(3):
        yield case("any batches", draw.tensor((draw.integer(5, 40),), 5, 60).tolist(), draw.integer(2, 128))


throughput.close(rtol=1e-5, reason="an FP32 sum of 40 latencies is off by at most 40 * 2**-24, 2.4e-6 of it")


@throughput.mistake("You averaged the rate of each batch. Fast batches then count more than the little time they take.")
def _(latencies, batch_size):
    return sum(1000 * batch_size / latency for latency in latencies) / len(latencies)


@throughput.mistake("You forgot that latencies are in milliseconds: this is items a millisecond.")
def _(latencies, batch_size):
    return batch_size * len(latencies) / sum(latencies)


@throughput.mistake("You counted batches, not items. Each batch answers batch_size items.")
def _(latencies, batch_size):
    return 1000 * len(latencies) / sum(latencies)


@throughput.mistake("You counted the items of one batch, but the time of all of them.")
def _(latencies, batch_size):
    return 1000 * batch_size / sum(latencies)


@throughput.mistake(
    "You divided by the median latency. Slow batches take time too, and only the mean counts all of it."
)
def _(latencies, batch_size):
    return 1000 * batch_size / torch.tensor(latencies).quantile(0.5).item()


@throughput.alternative
def _(latencies, batch_size):
    seconds_a_batch = torch.tensor(latencies, dtype=torch.float64).mean() / 1000
    return (batch_size / seconds_a_batch).item()


@exercise(points=2, minutes=8, hint="Compute 1 + z**2 / n first: both the centre and the half width are divided by it.")
def wilson_interval(correct: int, total: int, z: float) -> tuple[float, float]:
    """Low and high end of Wilson's interval for a share, here with n = total and p = correct / total:

        centre = (p + z**2 / (2 n)) / (1 + z**2 / n)
        half   = z * sqrt(p (1 - p) / n + z**2 / (4 n**2)) / (1 + z**2 / n)

    Returns (centre - half, centre + half).
    Example: wilson_interval(8, 10, 1.96) -> (0.4902, 0.9433), rounded
    """
    interval = intervals.wilson_interval(correct, total, z)
    return interval.low, interval.high


@wilson_interval.cases
def _(draw):
    yield case("the example", 8, 10, 1.96, visible=True)
    yield case("all or none", 0, draw.integer(5, 30), 1.96)
    yield case("all or none", 12, 12, 1.96)
    for z in (1.0, 1.96, 2.576):
        total = draw.integer(20, 300)
        yield case("any share", draw.integer(2, total - 2), total, z)


wilson_interval.close(atol=2e-6, reason="the ends lie in 0..1 and take about ten operations, each 6e-8 off in FP32")


@wilson_interval.mistake(
    "This is p ± z standard errors, the first interval of most textbooks. With all correct it has no width."
)
def _(correct, total, z):
    share = correct / total
    half = z * (share * (1 - share) / total) ** 0.5
    return share - half, share + half


@wilson_interval.mistake(
    "You put p in the middle. Wilson's centre is pulled towards one half, more so when n is small."
)
def _(correct, total, z):
    share, shrink = correct / total, 1 + z**2 / total
    half = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5 / shrink
    return share - half, share + half


@wilson_interval.mistake("You forgot to divide by 1 + z**2 / n.")
def _(correct, total, z):
    share = correct / total
    half = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5
    return share + z**2 / (2 * total) - half, share + z**2 / (2 * total) + half


@wilson_interval.mistake("You left z**2 / (4 n**2) out of the root.")
def _(correct, total, z):
    share, shrink = correct / total, 1 + z**2 / total
    centre, half = (share + z**2 / (2 * total)) / shrink, z * (share * (1 - share) / total) ** 0.5 / shrink
    return centre - half, centre + half


@wilson_interval.mistake("You returned the centre and the half width, not the two ends.")
def _(correct, total, z):
    share, shrink = correct / total, 1 + z**2 / total
    half = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5 / shrink
    return (share + z**2 / (2 * total)) / shrink, half


@wilson_interval.alternative
def _(correct, total, z):
    # The ends are the two shares q with (p - q)**2 = z**2 q (1 - q) / n, a quadratic equation in q.
    a, b, c = total + z**2, -(2 * correct + z**2), correct**2 / total
    root = max(b**2 - 4 * a * c, 0.0) ** 0.5
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


question(
    "1",
    "A model has 22.7 million weights, each an FP32 number of 32 bits. How large is its file, about?",
    A=("22.7 MB", "That would be one byte a weight. 32 bits are four bytes."),
    B=("90.8 MB", "22.7 million times four bytes.", True),
    C=("726 MB", "Those are 726 million bits. Eight bits make a byte."),
    D=("86.6 MB", "That is the right number of bytes divided by 1024 * 1024: 86.6 MiB, not MB."),
    hint="Eight bits make a byte. How many bytes is one weight?",
    steps=[
        "32 bits are 4 bytes.",
        "22.7 million * 4 bytes = 90.8 million bytes.",
        "A megabyte is a million bytes: 90.8 MB.",
    ],
)

question(
    "2",
    "A language model ties its output layer to its embedding: 30,000 rows of 400 FP32 numbers, under two names in the "
    "state dict. How large are they in the file?",
    A=("12 MB", "Those are 12 million numbers. Each takes four bytes."),
    B=("96 MB", "That counts the tensor once under each name."),
    C=("48 MB", "12 million numbers of four bytes, once: both names mean the same memory.", True),
    D=("24 MB", "That would be the tensor in a format of two bytes a number."),
    hint="How many tensors are there in memory?",
    steps=[
        "30,000 * 400 = 12 million numbers.",
        "Four bytes each make 48 million bytes.",
        "Two names, one tensor: it counts once.",
    ],
)

question(
    "3",
    "A service reports p95 = 40 ms. What does that say?",
    A=("The mean latency is 40 ms, give or take 5 %.", "A percentile says nothing about the mean."),
    B=(
        "95 of 100 requests were answered within 40 ms.",
        "And five took longer: how much longer, p95 does not say.",
        True,
    ),
    C=("95 of 100 requests took 40 ms or more.", "The other way round: 95 of 100 lie below a p95, not above."),
    D=("The slowest request took 40 ms.", "That would be p100, the maximum."),
    hint="Sort 100 latencies. Where does the p95 stand?",
    steps=["Sort the latencies.", "The p95 is the value that 95 % of them do not exceed, so 5 % are slower."],
)

question(
    "4",
    "You time 20 calls after loading a model: the first takes 100 ms, the others 5 ms each. What do you report?",
    A=(
        "The median and the p95 of the calls after the first; the first on its own, if starting matters.",
        "Steady use and starting up are two different questions, and each gets its own figure.",
        True,
    ),
    B=("The mean of all 20, 9.75 ms.", "No call took about 9.75 ms. The mean mixes starting up with steady use."),
    C=("The fastest call, since the rest is noise.", "Users meet the noise. The fastest call hides all of it."),
    D=(
        "100 ms, to be on the safe side.",
        "It is paid once. Every later user would be told a figure 20 times too high.",
    ),
    hint="Which of the 20 calls will a user of a running service meet?",
    steps=[
        "The first call loads code and allocates memory: it happens once.",
        "Warm up, leave those calls out, and describe the rest by its median and its tail.",
    ],
)

question(
    "5",
    "One sentence takes 8 ms. A batch of 32 takes 64 ms. What does batching do here?",
    A=("It makes everything 8 times as fast.", "Nobody gets an answer sooner: each waits for the whole batch."),
    B=("Throughput falls, because 64 ms are more than 8 ms.", "It rises: 32 answers in 64 ms are 500 a second."),
    C=(
        "Throughput grows 32-fold, since 32 run at once.",
        "The batch would have to take as long as one sentence. It takes 8 times as long.",
    ),
    D=(
        "4 times the throughput, 8 times the wait.",
        "125 answers a second become 500, and each of them comes after 64 ms instead of 8.",
        True,
    ),
    hint="Work out answers a second in both cases, then what one user waits.",
    steps=[
        "Alone: 1 answer in 8 ms, 1000 / 8 = 125 a second.",
        "In batches: 32 answers in 64 ms, 32,000 / 64 = 500 a second.",
        "500 / 125 = 4 times the throughput; 64 / 8 = 8 times the wait.",
    ],
)

question(
    "6",
    "Your test set has 5,000 sentences from 650 documents. Counting sentences gives an interval of ±1.0 points, "
    "drawing whole documents ±1.4. Which one do you report?",
    A=(
        "±1.0, since more data make an interval narrower.",
        "There are 5,000 sentences, but not 5,000 independent ones.",
    ),
    B=(
        "The mean of the two, ±1.2.",
        "One of the two rests on an assumption that is false. Averaging does not mend it.",
    ),
    C=("Neither: with 5,000 sentences there is no uncertainty.", "Another 650 documents would give another accuracy."),
    D=(
        "±1.4, since sentences of one document are alike.",
        "They tend to be right or wrong together, so they tell less than as many sentences from different documents.",
        True,
    ),
    hint="If you know that nine sentences of an article are recognised, does the tenth still surprise you?",
    steps=[
        "An interval by sentence assumes that every sentence is an independent trial.",
        "Sentences of one article share words and subject, so errors come in groups.",
        "Drawing whole documents keeps the groups together, and shows the wider, honest interval.",
    ],
)

question(
    "7",
    "You time the old model for a minute, then the new one for a minute, and the new one is 10 % slower. Meanwhile "
    "the laptop grew hot. What do you do?",
    A=(
        "Report it: a minute is long enough.",
        "A long run does not help when both halves ran under different conditions.",
    ),
    B=(
        "Time them in turns, round by round, and report the ratio with its interval.",
        "Heat then slows both alike, and the ratio within a round hardly feels it.",
        True,
    ),
    C=("Take the fastest call of each.", "That compares two lucky moments and says nothing about what users meet."),
    D=("Run the new one first next time.", "Then the heat favours the new one. The order would still decide."),
    hint="How can both models meet the same conditions?",
    steps=[
        "Conditions drift: heat, other programs, power saving.",
        "Taking turns exposes both to the same drift.",
        "The ratio of neighbouring runs cancels what they share; its interval says how sure you are.",
    ],
)

question(
    "8",
    "Model a is right on 84.0 % of 5,000 sentences, [82.6, 85.4]. Model b on 83.0 %, [81.6, 84.4]. Both answered the "
    "same sentences, in three training runs each. Does a beat b?",
    A=("Yes, 84 is more than 83.", "Another test set or another training run could turn it round. How likely is that?"),
    B=("No, since the intervals overlap.", "Overlap settles nothing here: both models meet the same hard sentences."),
    C=(
        "It depends: the interval of the paired difference must lie above zero.",
        "What is hard for both cancels in the difference. Its interval can be far narrower than either of the two.",
        True,
    ),
    D=("That can never be known.", "It can: the same sentences and several seeds are what it takes."),
    hint="What do the two models have in common that widens both intervals alike?",
    steps=[
        "Much of the width of each interval comes from which sentences were drawn, and both met the same ones.",
        "Subtract sentence by sentence, and this common part is gone.",
        "Draw an interval for the difference over documents and seeds. a beats b when all of it lies above zero.",
    ],
)
