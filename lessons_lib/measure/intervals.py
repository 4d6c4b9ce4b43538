"""Quality with an interval: how far a score could lie from what one test set and a few seeds showed."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import comb

import numpy

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the two ends of its interval; 95 % unless the function that made it says otherwise."""

    value: float
    low: float
    high: float

    def __post_init__(self):
        if not (numpy.isfinite([self.value, self.low, self.high]).all() and self.low <= self.high):
            raise ValueError(f"an interval needs finite numbers with low <= high, not {self.low} and {self.high}")

    def scaled(self, factor: float) -> "Interval":
        """The same in other units, such as per cent with 100; factor is above 0. A Difference stays one."""
        return replace(self, value=factor * self.value, low=factor * self.low, high=factor * self.high)

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high

    def __format__(self, spec: str) -> str:
        """Each number formatted by the same spec: f"{interval:.1%}" gives 84.1% [82.0%, 86.3%]."""
        value, low, high = (format(number, spec or ".3g") for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self, "")


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference, a minus b, and the number of seeds behind it."""

    runs: int = 1

    @property
    def beats(self) -> bool:
        """What "a beats b" means in this course: at least three seeds, and the whole interval above zero."""
        return self.runs >= 3 and self.low > 0

    @property
    def beaten(self) -> bool:
        """The same the other way round: b beats a."""
        return self.runs >= 3 and self.high < 0


def wilson_interval(correct: int, total: int, z: float = 1.96) -> Interval:
    """Interval of a share, from `correct` successes in `total` independent trials.

    Stays inside 0..1 and keeps its coverage near 0 and 1, where value ± z standard errors does neither.
    The trials must be independent: for sentences of the same documents use `accuracy`.
    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total}: there must be at least one trial, and 0 <= correct <= total")
    if not (numpy.isfinite(z) and z > 0):
        raise ValueError(f"z counts standard errors and must be above zero, such as 1.96 for 95 %, not {z}")
    share = correct / total
    # centre = (p + z²/2n) / (1 + z²/n),  half = z sqrt(p(1 - p)/n + z²/4n²) / (1 + z²/n)
    shrink = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / shrink
    half = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5 / shrink
    # With nothing or everything correct one end is the value itself; rounding must not push it past.
    return Interval(share, min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


def accuracy(correct, documents, seed: int = 0) -> Interval:
    """Share of right answers with its 95 % interval, bootstrapped over documents.

    correct: 0/1 of shape (sentences,), or (runs, sentences) for several training seeds on one test set.
    documents: (sentences,) the document that each sentence comes from. Sentences of one document are alike, so a whole
    document is drawn or left out; drawing single sentences would give an interval that is too narrow.
    """
    runs = _answers(correct, "correct")
    value, low, high = _ends(runs, documents, seed)
    return Interval(value, max(0.0, low), min(1.0, high))


def paired_difference(correct_a, correct_b, documents, seed: int = 0) -> Difference:
    """Accuracy of a minus accuracy of b, with the 95 % interval over training seeds and test documents.

    correct_a, correct_b: 0/1 of shape (runs, sentences), or (sentences,) where nothing was trained. Run i of a and of b
    share their seed, and column j is the same sentence in both: what is hard for both then cancels.
    documents: (sentences,) the document of each sentence. The result's `beats` is the course's meaning of the word.
    """
    a, b = _answers(correct_a, "correct_a"), _answers(correct_b, "correct_b")
    if a.shape != b.shape:
        raise ValueError(f"paired answers need the same runs and sentences, not {a.shape} and {b.shape}")
    return Difference(*_ends(a - b, documents, seed), runs=len(a))


def paired_losses(losses_a, losses_b, seed: int = 0) -> Difference:
    """Mean loss of a minus mean loss of b, with the 95 % interval over training seeds and test documents.

    losses_a, losses_b: (runs, documents), finite numbers; run i of both has one seed, column j is one document. Smaller
    is better: a beats b when the whole interval is below zero, which is what `paired_losses(b, a).beats` says.
    """
    a, b = (numpy.asarray(losses, dtype=float) for losses in (losses_a, losses_b))
    if a.shape != b.shape or a.ndim != 2 or not a.size or not numpy.isfinite(a - b).all():
        raise ValueError(f"losses must be finite, of the same runs and documents: (runs, n), not {a.shape}, {b.shape}")
    return Difference(*_ends(a - b, numpy.arange(a.shape[1]), seed), runs=len(a))


def over_seeds(values) -> Interval:
    """Mean of one figure per training seed, with its 95 % interval by Student's t (seeds alone, no documents)."""
    figures = numpy.asarray(values, dtype=float)
    if figures.ndim != 1 or len(figures) < 2 or not numpy.isfinite(figures).all():
        raise ValueError("over_seeds needs one finite figure for each of at least two seeds")
    spread = seed_errors(figures, numpy.random.default_rng(0), 20 * RESAMPLES)
    half = float(numpy.quantile(numpy.abs(spread), LEVEL))
    mean = float(figures.mean())
    return Interval(mean, mean - half, mean + half)


def of_ratios(rounds) -> Interval:
    """Median of independent ratios above 0, one a round, with its 95 % interval.

    From six rounds on the ends are two of the ratios themselves: as many as possible are left out at each side, so that
    the true median lies beyond either end in at most 2.5 % of cases, whatever the distribution (the sign test's
    interval; J. D. Gibbons, Nonparametric Statistical Inference, 1971). Fewer rounds leave no such choice, and drawing
    from them again would reach from the smallest to the largest and hold the truth too seldom, of three in 75 % of
    cases: then Student's t on the logarithms. Raises ValueError for fewer than two rounds, and for ratios that are not
    finite and above 0.
    """
    ratios = numpy.sort(numpy.asarray(rounds, dtype=float))
    if ratios.ndim != 1 or len(ratios) < 2:
        raise ValueError("the interval of a ratio needs at least two rounds, as a list; repeat more often")
    if not (numpy.isfinite(ratios).all() and ratios[0] > 0):
        raise ValueError(
            f"ratios must be finite and above 0, not {ratios[0]:g} to {ratios[-1]:g}; a call that is too "
            "short for the clock takes 0 ms: let each call do more work"
        )
    # P(fewer than k of n ratios lie below the true median) = sum over i < k of (n choose i) / 2^n
    below = numpy.cumsum([comb(len(ratios), i) / 2 ** len(ratios) for i in range(len(ratios))])
    left_out = int(numpy.sum(below <= (1 - LEVEL) / 2)) - 1
    if left_out >= 0:
        return Interval(float(numpy.median(ratios)), float(ratios[left_out]), float(ratios[-1 - left_out]))
    logarithm = over_seeds(numpy.log(ratios))
    return Interval(float(numpy.median(ratios)), *numpy.exp([logarithm.low, logarithm.high]).tolist())


def _ends(runs: numpy.ndarray, documents, seed: int) -> tuple[float, float, float]:
    """Mean of (runs, sentences) and the ends of its interval: documents bootstrapped, seeds by Student's t.

    Three seeds cannot be bootstrapped: the interval would reach from the smallest to the largest and hold the truth
    in 75 % of cases. Their error is drawn from a t distribution with runs - 1 degrees of freedom instead, and added.
    Chance that strikes one run on one document counts in both parts: the interval is too wide rather than too narrow.
    """
    groups = numpy.asarray(documents)
    if groups.shape != runs.shape[1:]:
        raise ValueError(f"documents must name one document for each of {runs.shape[1]} sentences, not {groups.shape}")
    names, member = numpy.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("an interval over documents needs at least two documents")
    sums = numpy.bincount(member, weights=runs.mean(axis=0))
    sizes = numpy.bincount(member)
    value = float(sums.sum() / sizes.sum())

    times, generator = resamples(len(names), seed)
    draws = numpy.divide(*(times @ numpy.stack([sums, sizes], axis=1)).T)
    if len(runs) > 1:
        draws = draws + seed_errors(runs.mean(axis=1), generator, RESAMPLES)
    return value, *percentiles(draws)


def percentiles(draws: numpy.ndarray) -> tuple[float, float]:
    """The ends of the interval that holds LEVEL of these draws, equally many beyond either end."""
    low, high = numpy.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resamples(count: int, seed: int) -> tuple[numpy.ndarray, numpy.random.Generator]:
    """The bootstrap's draws: how often each of `count` documents, or phrases, is drawn, FP32 (RESAMPLES, count); and
    the generator after these draws."""
    times, state = _drawn(count, RESAMPLES, seed)
    generator = numpy.random.default_rng(seed)
    generator.bit_generator.state = state
    return times, generator


@lru_cache(maxsize=2)  # a lesson asks for many intervals over its test sets, and drawing is most of the work
def _drawn(count: int, resamples: int, seed: int) -> tuple[numpy.ndarray, dict]:
    generator = numpy.random.default_rng(seed)
    times = generator.multinomial(count, numpy.full(count, 1 / count), size=resamples)
    return times.astype(numpy.float32), generator.bit_generator.state  # whole numbers: exact, in half the memory


def seed_errors(figures: numpy.ndarray, generator: numpy.random.Generator, draws: int) -> numpy.ndarray:
    """Errors that the mean of these figures, one a seed, may have: standard error times Student's t."""
    standard_error = figures.std(ddof=1) / len(figures) ** 0.5
    return standard_error * generator.standard_t(len(figures) - 1, size=draws)


def _answers(correct, name: str) -> numpy.ndarray:
    answers = numpy.atleast_2d(numpy.asarray(correct, dtype=float))
    if answers.ndim != 2 or not answers.size:
        raise ValueError(f"{name} must have shape (sentences,) or (runs, sentences) and hold answers")
    if not numpy.isin(answers, (0.0, 1.0)).all():
        raise ValueError(f"{name} must hold 1 for a right answer and 0 for a wrong one, nothing else")
    return answers
