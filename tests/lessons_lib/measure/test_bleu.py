"""BLEU is sacrebleu's, from sums as from texts, and its intervals pair what belongs together."""

import numpy
import pytest
import sacrebleu

from lessons_lib.measure import bleu

WORDS = ("un", "deux", "trois", "cent", "mille", "vingt", "et", "quatre-vingt-dix")


def corpus(sentences=60, wrong=0.1, seed=0):
    draw = numpy.random.default_rng(seed)
    references = [list(draw.choice(WORDS, size=draw.integers(1, 14))) for _ in range(sentences)]
    changed = [[word if draw.random() > wrong else "million" for word in sentence] for sentence in references]
    return [" ".join(sentence) for sentence in changed], [" ".join(sentence) for sentence in references]


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.3])
def test_sums_of_counts_give_sacrebleu_s_score(wrong):
    hypotheses, references = corpus(wrong=wrong)
    wanted = sacrebleu.corpus_bleu(hypotheses, [references], force=True).score
    assert bleu.corpus_bleu(hypotheses, references) == pytest.approx(wanted, abs=1e-9)
    counts = bleu.statistics(hypotheses, references)
    assert float(bleu.from_statistics(counts.sum(axis=0))) == pytest.approx(wanted, abs=1e-9)


def test_brevity_is_punished_and_no_match_gives_zero():
    hypotheses, references = corpus(wrong=0.0)
    short = [" ".join(text.split()[:-1]) or text for text in hypotheses]
    counts = bleu.statistics(short, references).sum(axis=0)
    assert float(bleu.from_statistics(counts)) == pytest.approx(bleu.corpus_bleu(short, references))
    assert bleu.corpus_bleu(short, references) < 95
    assert bleu.corpus_bleu(["un deux"], ["un deux"]) == 0.0
    assert float(bleu.from_statistics(bleu.statistics(["un deux"], ["un deux"])[0])) == 0.0


def test_pack_and_unpack():
    counts = bleu.statistics(*corpus())
    assert (bleu.unpack(bleu.pack(counts)) == counts).all()


def test_an_interval_holds_the_score_and_narrows_with_more_sentences():
    few, many = (bleu.interval(bleu.statistics(*corpus(sentences))) for sentences in (30, 400))
    for found, sentences in ((few, 30), (many, 400)):
        assert found.low < bleu.corpus_bleu(*corpus(sentences)) < found.high
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_a_difference_is_paired_over_sentences_and_seeds():
    _, references = corpus(300)
    runs = {wrong: numpy.stack([bleu.statistics(corpus(300, wrong, 0)[0], references)] * 3) for wrong in (0.05, 0.2)}
    same = bleu.difference(runs[0.2], runs[0.2])
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gain = bleu.difference(runs[0.05], runs[0.2])
    assert gain.beats
    assert gain.value == pytest.approx(bleu.interval(runs[0.05]).value - bleu.interval(runs[0.2]).value)
    assert not bleu.difference(runs[0.05][:2], runs[0.2][:2]).beats, "two seeds beat nothing"


def test_seeds_that_disagree_widen_the_interval():
    counts = [bleu.statistics(*corpus(300, wrong)) for wrong in (0.05, 0.1, 0.3)]
    apart, alike = bleu.interval(numpy.stack(counts)), bleu.interval(numpy.stack([counts[1]] * 3))
    assert apart.high - apart.low > 3 * (alike.high - alike.low)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one reference a hypothesis"):
        bleu.corpus_bleu(["un"], [])
    with pytest.raises(ValueError, match="shape"):
        bleu.interval(numpy.zeros((3, 5)))
    with pytest.raises(ValueError, match="same runs and sentences"):
        bleu.difference(numpy.zeros((2, 5, 10)), numpy.zeros((3, 5, 10)))
