"""Intervals against published values, and against simulated data whose truth is known."""

import numpy
import pytest

from lessons_lib.measure import intervals
from lessons_lib.measure.intervals import Interval, accuracy, over_seeds, paired_difference, wilson_interval


@pytest.fixture
def quick(monkeypatch):
    """Fewer draws, for tests that simulate a hundred intervals."""
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)


# Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_values(correct, total, low, high):
    interval = wilson_interval(correct, total, z=1.959964)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert correct / total in interval


def test_wilson_is_symmetric_and_stays_inside():
    low, high = wilson_interval(3, 40), wilson_interval(37, 40)
    assert (1 - high.high, 1 - high.low) == pytest.approx((low.low, low.high))
    assert wilson_interval(40, 40).high == 1.0


@pytest.mark.parametrize("arguments", [(0, 0), (5, 4), (-1, 4), (2, 4, 0.0), (2, 4, float("nan"))])
def test_wilson_refuses_impossible_counts(arguments):
    with pytest.raises(ValueError, match="must"):
        wilson_interval(*arguments)


def similar_sentences(generator, documents=60, sentences=8):
    """Answers whose chance of being right belongs to the document; the true accuracy is 0.75."""
    names = numpy.repeat(numpy.arange(documents), sentences)
    return generator.random(len(names)) < generator.beta(3, 1, documents)[names], names


def test_accuracy_by_document_covers_the_truth_where_counting_sentences_does_not(quick):
    generator = numpy.random.default_rng(3)
    by_document = by_sentence = 0
    for _ in range(200):
        correct, documents = similar_sentences(generator)
        by_document += 0.75 in accuracy(correct, documents)
        by_sentence += 0.75 in wilson_interval(int(correct.sum()), len(correct))
    assert 0.90 <= by_document / 200 <= 0.99  # 95 % ± three standard errors of 200 trials
    assert by_sentence / 200 < 0.88


def test_accuracy_is_the_share_of_sentences_and_repeats_itself():
    correct, documents = similar_sentences(numpy.random.default_rng(0))
    first = accuracy(correct, documents)
    assert first.value == pytest.approx(correct.mean())
    assert first == accuracy(correct, documents)
    assert first != accuracy(correct, documents, seed=1)
    assert accuracy(numpy.ones(6), [0, 0, 1, 1, 2, 2]) == Interval(1.0, 1.0, 1.0)


def test_order_of_sentences_and_names_of_documents_do_not_matter():
    correct, documents = similar_sentences(numpy.random.default_rng(0))
    names = [f"{document:03}" for document in documents]
    assert accuracy(correct, documents) == accuracy(correct[::-1], names[::-1])


def seeds_that_differ(generator, runs, gain):
    """Two methods whose accuracy varies with the training seed by 5 points; a is better than b by `gain`."""
    names = numpy.repeat(numpy.arange(60), 5)
    hard = generator.normal(0, 0.05, 60)[names]
    seeds = generator.normal(0, 0.05, (2, runs, 1))
    chances = numpy.array([0.6 + gain, 0.6])[:, None, None] + hard + seeds
    return (*(generator.random(chances.shape) < chances), names)


def test_three_seeds_are_enough_for_an_interval_that_holds_the_truth(quick):
    generator = numpy.random.default_rng(5)
    held = sum(0.1 in paired_difference(*seeds_that_differ(generator, 3, 0.1)) for _ in range(150))
    assert held / 150 >= 0.93


def test_without_the_seeds_the_interval_would_miss_the_truth(quick, monkeypatch):
    monkeypatch.setattr(intervals, "seed_errors", lambda figures, generator, draws: 0.0)
    generator = numpy.random.default_rng(5)
    held = sum(0.1 in paired_difference(*seeds_that_differ(generator, 3, 0.1)) for _ in range(150))
    assert held / 150 < 0.90


def test_beats_is_rarely_said_of_two_equal_methods_and_often_of_a_better_one(quick):
    generator = numpy.random.default_rng(7)
    equal = sum(paired_difference(*seeds_that_differ(generator, 3, 0.0)).beats for _ in range(100))
    better = sum(paired_difference(*seeds_that_differ(generator, 5, 0.3)).beats for _ in range(50))
    assert equal <= 6
    assert better >= 40


def test_beats_needs_three_seeds_and_an_interval_above_zero():
    right, wrong, documents = numpy.ones((3, 40)), numpy.zeros((3, 40)), numpy.arange(40) // 2
    assert paired_difference(right, wrong, documents).beats
    assert not paired_difference(wrong, right, documents).beats
    assert not paired_difference(right, right, documents).beats
    assert not paired_difference(right[:2], wrong[:2], documents).beats
    assert paired_difference(wrong, right, documents).beaten
    assert not paired_difference(right, wrong, documents).beaten
    assert not paired_difference(wrong[:2], right[:2], documents).beaten


def test_pairing_cancels_what_is_hard_for_both():
    correct, documents = similar_sentences(numpy.random.default_rng(0))
    worse = correct.copy()
    worse[correct.nonzero()[0][:10]] = False
    paired = paired_difference(correct, worse, documents)
    alone = accuracy(correct, documents)
    assert paired.value == pytest.approx(10 / len(correct))
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_over_seeds_is_students_interval():
    interval = over_seeds([1.0, 2.0, 3.0])  # t(2, 97.5 %) = 4.3027, standard error 1 / sqrt(3)
    assert interval.value == 2.0
    assert interval.high - 2.0 == pytest.approx(4.3027 / 3**0.5, rel=0.02)
    assert 2.0 - interval.low == pytest.approx(interval.high - 2.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: accuracy([0.3, 1], [0, 1]), "1 for a right answer"),
        (lambda: accuracy([float("nan"), 1], [0, 1]), "1 for a right answer"),
        (lambda: accuracy([], []), "hold answers"),
        (lambda: accuracy([1, 0], [0, 0]), "at least two documents"),
        (lambda: accuracy([1, 0, 1], [0, 1]), "one document for each"),
        (lambda: paired_difference([[1, 0]], [[1, 0, 1]], [0, 1]), "same runs and sentences"),
        (lambda: over_seeds([1.0]), "at least two seeds"),
        (lambda: Interval(1.0, 2.0, 0.0), "low <= high"),
        (lambda: Interval(1.0, float("nan"), 2.0), "finite"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_an_interval_reads_well():
    interval = Interval(0.8412, 0.8201, 0.8634)
    assert f"{interval:.1%}" == "84.1% [82.0%, 86.3%]"
    assert str(interval) == "0.841 [0.82, 0.863]"
    assert 0.85 in interval
    assert 0.87 not in interval


def test_paired_losses_are_those_of_answers_where_losses_are_answers_and_refuse_what_is_not_paired():
    draw = numpy.random.default_rng(0)
    a, b = (draw.random((3, 40)) < share for share in (0.8, 0.3))
    expected = intervals.paired_difference(a, b, numpy.arange(40))
    found = intervals.paired_losses(a, b)
    assert found == expected
    assert found.beats
    assert not intervals.paired_losses(b, a).beats
    assert intervals.paired_losses(2.5 * a, 2.5 * b).high == pytest.approx(2.5 * expected.high)
    for wrong in (b[:2], b[:, :20], b[0], numpy.full((3, 40), numpy.nan)):
        with pytest.raises(ValueError, match="of the same runs and documents"):
            intervals.paired_losses(a, wrong)


def test_other_units_keep_the_kind_and_the_seeds():
    assert Interval(0.5, 0.25, 0.75).scaled(100) == Interval(50.0, 25.0, 75.0)
    assert intervals.Difference(0.02, 0.01, 0.03, runs=3).scaled(100) == intervals.Difference(2.0, 1.0, 3.0, runs=3)


def test_the_ends_of_a_ratio_are_those_of_the_sign_test():
    """The ranks in tables of the sign test's interval for a median, at most 2.5 % at each side."""
    for rounds, rank in {6: 1, 8: 1, 9: 2, 12: 3, 20: 6, 40: 14}.items():
        found = intervals.of_ratios(numpy.arange(rounds, 0, -1))
        assert (found.low, found.high) == (rank, rounds + 1 - rank)


def test_few_ratios_have_the_interval_of_students_t():
    found = intervals.of_ratios([1.0, 2.0, 4.0])  # logarithms 0, 1, 2 times log 2
    half = 4.302653 * numpy.log(2) / 3**0.5  # t of two degrees of freedom, 97.5 %
    assert found.value == 2.0
    assert (found.low, found.high) == pytest.approx((2 / numpy.exp(half), 2 * numpy.exp(half)), rel=0.03)


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([], "at least two rounds"),
        ([1.0], "at least two rounds"),
        ([[1.0, 2.0]], "at least two rounds"),
        ([1.0, 0.0], "do more work"),
        ([1.0, float("nan")], "above 0"),
        ([1.0, float("inf")], "do more work"),
    ],
)
def test_ratios_that_have_no_interval_are_refused(rounds, words):
    with pytest.raises(ValueError, match=words):
        intervals.of_ratios(rounds)
