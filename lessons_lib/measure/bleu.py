"""BLEU by sacrebleu, and its intervals: sentences bootstrapped, seeds by Student's t.

Sources: K. Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, ACL 2002; M. Post, A Call
for Clarity in Reporting BLEU Scores, 2018, arXiv:1804.08771; the paired bootstrap: P. Koehn, EMNLP 2004.
"""

import base64
import zlib
from collections.abc import Sequence

import numpy

from lessons_lib.measure.intervals import Difference, Interval, percentiles, resamples, seed_errors

ORDERS = 4  # n-grams of one to four words
COLUMNS = 2 * ORDERS + 2  # matching n-grams by order, all n-grams by order, words written, words of the reference


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> float:
    """BLEU of texts against one reference each, 0 to 100, by sacrebleu; without smoothing.

    tokenize: how sacrebleu finds words; "none" splits at spaces alone, "13a" takes punctuation apart as well.
    Raises ValueError unless there are as many references as hypotheses, and at least one.
    """
    import sacrebleu

    _paired(hypotheses, references)
    metric = sacrebleu.BLEU(smooth_method="none", tokenize=tokenize, force=True)
    return metric.corpus_score(list(hypotheses), [list(references)]).score


def _paired(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if not len(hypotheses) or len(hypotheses) != len(references):
        raise ValueError(f"one reference a hypothesis, and at least one: not {len(references)} for {len(hypotheses)}.")


def statistics(hypotheses: Sequence[str], references: Sequence[str]) -> numpy.ndarray:
    """What sacrebleu counts in each sentence: int64 (N, COLUMNS). Sums of rows are all that BLEU needs."""
    import sacrebleu

    _paired(hypotheses, references)
    metric = sacrebleu.BLEU(effective_order=True)  # spares a warning for each sentence; the counts are the same
    scores = [metric.sentence_score(text, [right]) for text, right in zip(hypotheses, references, strict=True)]
    return numpy.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores])


def from_statistics(sums) -> numpy.ndarray:
    """BLEU of summed counts (..., COLUMNS): 0 where some order of n-grams has no match at all."""
    sums = numpy.asarray(sums, dtype=float)
    matches, totals = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    written, wanted = sums[..., -2], sums[..., -1]
    some = (matches > 0).all(axis=-1)
    # BLEU = 100 min(1, e^(1 - r/c)) (p1 p2 p3 p4)^(1/4)
    precision = numpy.where(matches > 0, matches, 1) / numpy.where(matches > 0, totals, 1)
    brevity = numpy.minimum(0.0, 1 - wanted / numpy.where(written > 0, written, 1))
    return numpy.where(some, 100 * numpy.exp(brevity + numpy.log(precision).mean(axis=-1)), 0.0)


def interval(runs, seed: int = 0) -> Interval:
    """Mean BLEU of several training seeds with its 95 % interval over seeds and sentences.

    runs: statistics (runs, N, COLUMNS), or (N, COLUMNS) where nothing was trained.
    """
    counts = _runs(runs)
    draws = _scores(counts, resamples(counts.shape[1], seed)[0])
    value, low, high = _spread(from_statistics(counts.sum(axis=1)), draws, seed)
    return Interval(value, max(0.0, low), min(100.0, high))


def difference(a, b, seed: int = 0) -> Difference:
    """Mean BLEU of a minus that of b, run by run and on the same drawn sentences, with its 95 % interval.

    a, b: statistics (runs, N, COLUMNS) of the same sentences; run i of both shares its seed. `beats` as in intervals.
    """
    a, b = _runs(a), _runs(b)
    if a.shape != b.shape:
        raise ValueError(f"paired scores need the same runs and sentences, not {a.shape[:2]} and {b.shape[:2]}")
    times, _ = resamples(a.shape[1], seed)
    exact = from_statistics(a.sum(axis=1)) - from_statistics(b.sum(axis=1))
    return Difference(*_spread(exact, _scores(a, times) - _scores(b, times), seed), runs=len(a))


def pack(counts: numpy.ndarray) -> str:
    """Statistics (N, COLUMNS) as short text, for the table of a study."""
    return base64.b85encode(zlib.compress(counts.astype(numpy.uint8).tobytes(), 9)).decode()


def unpack(text: str) -> numpy.ndarray:
    """What `pack` was given."""
    return numpy.frombuffer(zlib.decompress(base64.b85decode(text)), dtype=numpy.uint8).reshape(-1, COLUMNS).astype(int)


def _runs(counts) -> numpy.ndarray:
    counts = numpy.asarray(counts)
    counts = counts[None] if counts.ndim == 2 else counts
    if counts.ndim != 3 or counts.shape[2] != COLUMNS or counts.shape[1] < 2:
        raise ValueError(
            f"statistics have the shape (runs, sentences, {COLUMNS}), two sentences or more, not {counts.shape}"
        )
    return counts


def _scores(counts: numpy.ndarray, times: numpy.ndarray) -> numpy.ndarray:
    """BLEU of every run on every resample, (runs, RESAMPLES)."""
    return from_statistics(numpy.stack([times @ run.astype(numpy.float32) for run in counts]))


def _spread(figures: numpy.ndarray, draws: numpy.ndarray, seed: int) -> tuple[float, float, float]:
    """Mean over runs and the ends of its interval: bootstrapped means, each with an error of the seeds added.

    figures: one a run. draws: (runs, RESAMPLES). Three seeds cannot be bootstrapped; see intervals.
    """
    means = draws.mean(axis=0)
    if len(figures) > 1:
        means = means + seed_errors(figures, numpy.random.default_rng(seed + 1), len(means))
    low, high = percentiles(means)
    value = float(figures.mean())
    return value, min(low, value), max(high, value)
