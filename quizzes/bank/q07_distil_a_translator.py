"""Lesson 07, distil a translator: its exercises and its questions."""

import math
from collections import Counter

import torch
import torch.nn.functional as F

from lessons_lib.distillation import translation_losses
from lessons_lib.measure import bleu
from quizzes import case, exercise, question
from quizzes.inside import recipes

PAD = 0
END = "</s>"


@exercise(
    points=2,
    minutes=10,
    hint="Select the rows of logits where target is not 0 first. How many rows are left to average over?",
)
def word_level_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, target: torch.Tensor, alpha: float
) -> torch.Tensor:
    """alpha · KL(teacher ‖ student) + (1 - alpha) · cross-entropy with the text: each a mean over real pieces, in nats.

    student_logits, teacher_logits: FP32 (batch, length, pieces), both at T = 1. No gradient goes to the teacher.
    target: int64 (batch, length), the right piece at each place; 0 is padding, which counts in neither term.
    alpha: weight of the teacher, 0 ... 1. At least one piece is real.
    Returns a scalar.

    >>> student = torch.zeros(1, 3, 2)
    >>> teacher = torch.tensor([[[0.0, 2.0], [0.0, -2.0], [9.0, 9.0]]])
    >>> word_level_loss(student, teacher, torch.tensor([[1, 1, 0]]), 0.5)
    tensor(0.5105)
    """
    return translation_losses.word_level_loss(student_logits, teacher_logits, target, alpha)


def _targets(draw, lengths: list[int], pieces: int) -> torch.Tensor:
    """Real pieces, then padding, in rows of these lengths."""
    target = draw.integers((len(lengths), max(lengths)), 1, pieces)
    return target * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


@word_level_loss.cases
def _(draw):
    teacher = torch.tensor([[[0.0, 2.0], [0.0, -2.0], [9.0, 9.0]]])
    yield case("the printed example", torch.zeros(1, 3, 2), teacher, torch.tensor([[1, 1, 0]]), 0.5, visible=True)
    for alpha in (0.0, 1.0, draw.number(0.1, 0.4)):
        yield case(
            "sentences of several lengths",
            draw.normal((3, 7, 9)),
            draw.normal((3, 7, 9), std=3),
            _targets(draw, [7, 2, 5], 9),
            alpha,
        )
    yield case(
        "a real size",
        draw.normal((8, 12, 40)),
        draw.normal((8, 12, 40), std=2),
        _targets(draw, [12, 3, 4, 7, 2, 9, 12, 1], 40),
        draw.number(0.6, 0.9),
    )
    yield case(
        "gradients",
        draw.normal((2, 4, 6)).requires_grad_(),
        draw.normal((2, 4, 6), std=2).requires_grad_(),
        _targets(draw, [4, 2], 6),
        0.7,
        observe="gradients",
    )


word_level_loss.close(
    rtol=1e-5,
    atol=2e-6,
    reason="logarithms of probabilities stay below 16 here, where half a step of FP32 is 4.8e-7. Each piece takes "
    "three rounded steps in the answer and in the reference, and a mean does not add errors up: below 2e-6 + "
    "1e-5 of the value.",
)


def _log_terms(student_logits, teacher_logits):
    return F.log_softmax(student_logits, -1), F.log_softmax(teacher_logits.detach(), -1)


def _hard(student_logits, target):
    return F.cross_entropy(student_logits.flatten(0, 1), target.flatten(), ignore_index=PAD)


@word_level_loss.mistake("Padding counts in your means. Leave out the places where target is 0, in both terms.")
def _(student_logits, teacher_logits, target, alpha):
    log_q, log_p = _log_terms(student_logits, teacher_logits)
    soft = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).mean()
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits.flatten(0, 1), target.flatten())


@word_level_loss.mistake(
    'reduction="batchmean" divides by the number of sentences, so long sentences weigh more. Divide by the real pieces.'
)
def _(student_logits, teacher_logits, target, alpha):
    log_q, log_p = _log_terms(student_logits, teacher_logits)
    masked = F.kl_div(log_q, log_p, log_target=True, reduction="none") * (target != PAD)[..., None]
    return alpha * masked.sum() / len(target) + (1 - alpha) * _hard(student_logits, target)


@word_level_loss.mistake("alpha and 1 - alpha are exchanged: alpha weighs the teacher's distributions.")
def _(student_logits, teacher_logits, target, alpha):
    real = target != PAD
    log_q, log_p = _log_terms(student_logits[real], teacher_logits[real])
    soft = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return (1 - alpha) * soft + alpha * _hard(student_logits, target)


@word_level_loss.mistake(
    "The divergence runs the wrong way: KL(teacher ‖ student) weighs by the teacher's probabilities."
)
def _(student_logits, teacher_logits, target, alpha):
    real = target != PAD
    log_q, log_p = _log_terms(student_logits[real], teacher_logits[real])
    soft = F.kl_div(log_p, log_q, log_target=True, reduction="batchmean")
    return alpha * soft + (1 - alpha) * _hard(student_logits, target)


@word_level_loss.mistake('reduction="mean" divides by the number of pieces in the vocabulary too. Sum over those.')
def _(student_logits, teacher_logits, target, alpha):
    real = target != PAD
    log_q, log_p = _log_terms(student_logits[real], teacher_logits[real])
    soft = F.kl_div(log_q, log_p, log_target=True, reduction="none").mean()
    return alpha * soft + (1 - alpha) * _hard(student_logits, target)


@word_level_loss.mistake("The value is right, but a gradient reaches the teacher. Detach its logits.")
def _(student_logits, teacher_logits, target, alpha):
    real = target != PAD
    log_q, log_p = F.log_softmax(student_logits[real], -1), F.log_softmax(teacher_logits[real], -1)
    soft = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return alpha * soft + (1 - alpha) * _hard(student_logits, target)


@word_level_loss.alternative
def _(student_logits, teacher_logits, target, alpha):
    real = target != 0
    log_q = student_logits.log_softmax(-1)[real]
    log_p = teacher_logits.detach().log_softmax(-1)[real]
    soft = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    hard = -log_q.gather(1, target[real][:, None]).mean()
    return alpha * soft + (1 - alpha) * hard


@exercise(
    points=2,
    minutes=12,
    hint="A beam of two pieces adds up two negative numbers, a beam of six adds six. Which looks better?",
)
def sequence_level_data(teacher, sources: list[str]) -> list[tuple[str, list[str]]]:
    """Pairs for a student, from untranslated sources and the teacher's own beams.

    teacher(source) runs the teacher's beam search and returns a list of (pieces, score): pieces a list of strings, the
    last of them "</s>" when the beam was finished; score the sum of the log-probabilities of these pieces.
    sources: texts, possibly with repetitions.
    Returns a list of (source, pieces), in the order in which each source first occurs. Each distinct source is asked
    once: a beam search is the expensive part. Of its finished beams take the one with the largest score divided by its
    number of pieces, "</s>" counted; of equal ones the first. Leave "</s>" out of the pair. A source without a
    finished beam is left out.

    >>> teacher = {"two": [(["deux", "</s>"], -1.0), (["dix", "-deux", "</s>"], -1.2)]}.__getitem__
    >>> sequence_level_data(teacher, ["two", "two"])
    [('two', ['dix', '-deux'])]
    """
    chosen = {}
    for source in dict.fromkeys(sources):
        finished = [beam for beam in teacher(source) if beam[0][-1] == END]
        if finished:
            best = max(finished, key=lambda beam: beam[1] / len(beam[0]))
            chosen[source] = best[0][:-1]
    return list(chosen.items())


WORDS = ("un", "deux", "trois", "cent", "mille", "vingt", "dix")


def _beam(draw, length: int, score: float, finished: bool = True) -> tuple[list[str], float]:
    return [*(draw.choice(WORDS) for _ in range(length)), *([END] if finished else [])], score


@sequence_level_data.cases
def _(draw):
    example = {"two": [(["deux", END], -1.0), (["dix", "-deux", END], -1.2)]}
    yield case("the printed example", recipes.lookup(example), ["two", "two"], observe="calls", visible=True)
    names = ["six", "nine", "one", "seven", "four"]
    # The first beam has the largest sum, a longer one the largest mean, a short one the smallest of both.
    table = {
        name: [_beam(draw, 2, -0.9 - 0.1 * draw.number(0, 1)), _beam(draw, 5, -1.2), _beam(draw, 1, -1.9)]
        for name in names
    }
    yield case("the best of several beams", recipes.lookup(table), names, observe="calls")
    cut = {
        "one": [_beam(draw, 6, -0.5, finished=False), _beam(draw, 2, -2.1), _beam(draw, 3, -2.4)],
        "two": [_beam(draw, 6, -1.0, finished=False), _beam(draw, 5, -2.0, finished=False)],
        "ten": [_beam(draw, 2, -2.5), _beam(draw, 4, -2.6)],
    }
    yield case("beams that were cut off", recipes.lookup(cut), ["one", "two", "ten"], observe="calls")
    yield case("sources that come again", recipes.lookup(table), ["six", "one", "six", "nine", "one"], observe="calls")


sequence_level_data.exact("pieces are strings and the scores of two beams are never closer than a hundredth")


def _pairs(teacher, sources, key, keep=lambda beam: beam[0][-1] == END, cut=True):
    chosen = {}
    for source in dict.fromkeys(sources):
        beams = [beam for beam in teacher(source) if keep(beam)]
        if beams:
            best = max(beams, key=key)[0]
            chosen[source] = best[:-1] if cut and best[-1] == END else best
    return list(chosen.items())


@sequence_level_data.mistake(
    "You compared the sums of log-probabilities. Every piece lowers the sum, so short beams win."
)
def _(teacher, sources):
    return _pairs(teacher, sources, key=lambda beam: beam[1])


@sequence_level_data.mistake(
    "Beams that were cut off before </s> took part. A student would learn to stop in mid-phrase."
)
def _(teacher, sources):
    return _pairs(teacher, sources, key=lambda beam: beam[1] / len(beam[0]), keep=lambda beam: True)


@sequence_level_data.mistake(
    "</s> stands in your pairs. The pair holds the text; the end is added where the student trains."
)
def _(teacher, sources):
    return _pairs(teacher, sources, key=lambda beam: beam[1] / len(beam[0]), cut=False)


@sequence_level_data.mistake(
    "You took the beam with the smallest mean. Log-probabilities are negative: nearer to zero is better."
)
def _(teacher, sources):
    return _pairs(teacher, sources, key=lambda beam: -beam[1] / len(beam[0]))


@sequence_level_data.mistake("You asked for a source each time it came. Ask once for each distinct source.")
def _(teacher, sources):
    return [pair for source in sources for pair in _pairs(teacher, [source], key=lambda beam: beam[1] / len(beam[0]))]


@sequence_level_data.alternative
def _(teacher, sources):
    pairs, seen = [], set()
    for source in sources:
        if source in seen:
            continue
        seen.add(source)
        best, best_mean = None, float("-inf")
        for pieces, score in teacher(source):
            mean = score / len(pieces)
            if pieces[-1] == "</s>" and mean > best_mean:
                best, best_mean = pieces[:-1], mean
        if best is not None:
            pairs.append((source, best))
    return pairs


@exercise(
    points=3,
    minutes=20,
    hint="Count first, over all sentences; divide once, at the end. min(a Counter, a Counter) is written a & b.",
)
def corpus_bleu(hypotheses: list[list[str]], references: list[list[str]]) -> float:
    """BLEU of a whole corpus, 0 to 100: n-grams of 1 to 4 words, one reference a sentence, no smoothing.

    hypotheses, references: lists of equal length; each sentence a list of words, possibly shorter than 4 words.
    p_n: matching n-grams of all sentences over n-grams of all hypotheses. An n-gram matches at most as often as it
    occurs in the reference of its own sentence (clipped).
    BLEU = 100 · min(1, exp(1 - r / c)) · (p_1 p_2 p_3 p_4)^(1/4), with c the words of all hypotheses and r the words of
    all references. 0.0 when some p_n has no match, or no n-gram at all.

    >>> round(corpus_bleu([["le", "six", "mai", "mille", "neuf", "cent", "dix"]],
    ...                   [["le", "six", "mai", "mille", "huit", "cent", "dix"]]), 4)
    48.8923
    """
    texts = [[" ".join(sentence) for sentence in side] for side in (hypotheses, references)]
    return bleu.corpus_bleu(*texts, tokenize="none")


def _sentence(draw, length: int) -> list[str]:
    return [draw.choice(WORDS) for _ in range(length)]


def _changed(draw, sentence: list[str], places: int) -> list[str]:
    """The sentence with some words exchanged for a word that is not among WORDS."""
    changed = list(sentence)
    for _ in range(places):
        changed[draw.integer(0, len(changed) - 1)] = "million"
    return changed


@corpus_bleu.cases
def _(draw):
    right = ["le", "six", "mai", "mille", "huit", "cent", "dix"]
    yield case("the printed example", [["le", "six", "mai", "mille", "neuf", "cent", "dix"]], [right], visible=True)
    yield case(
        "a word too often",
        [["cent", "cent", "deux", "cent", "deux", "mille", "un", "cent", "cent"]],
        [["cent", "deux", "cent", "deux", "mille", "un"]],
    )
    long = [_sentence(draw, draw.integer(9, 14)) for _ in range(6)]
    yield case("shorter than the references", [sentence[:-3] for sentence in long], long)
    yield case("longer than the references", [[*sentence, "euros", "et"] for sentence in long], long)
    mixed = [_sentence(draw, length) for length in (12, 2, 9, 1, 15, 3, 8)]
    changed = [
        _changed(draw, mixed[0], 2),
        mixed[1],
        _changed(draw, mixed[2], 1),
        mixed[3],
        mixed[4],
        _changed(draw, mixed[5], 1),
        mixed[6][:-1],
    ]
    yield case("sentences of all lengths", changed, mixed)
    yield case("sentences of all lengths", [["un", "deux"], ["cent"]], [["un", "deux"], ["cent"]])


corpus_bleu.close(
    rtol=1e-5,
    reason="four precisions, four logarithms and two exponentials, each rounded by at most 6e-8 of itself in FP32: "
    "below 1e-5 even when they are computed in single precision; a different rule differs by far more.",
)


def _grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _bleu(hypotheses, references, *, clip=True, brevity=True, both_ways=False, mean="geometric", scale=100.0, orders=4):
    matches, totals = [0] * orders, [0] * orders
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for n in range(orders):
            wrote, wanted = (_grams(side, n + 1) for side in (hypothesis, reference))
            kept = Counter(wrote) & Counter(wanted) if clip else [gram for gram in wrote if gram in wanted]
            matches[n] += kept.total() if clip else len(kept)
            totals[n] += len(wrote)
    if 0 in matches:
        return 0.0
    precisions = [match / total for match, total in zip(matches, totals, strict=True)]
    written, wanted = sum(map(len, hypotheses)), sum(map(len, references))
    ratio = max(wanted / written, written / wanted) if both_ways else wanted / written
    penalty = min(1.0, math.exp(1 - ratio)) if brevity else 1.0
    averaged = math.prod(precisions) ** (1 / orders) if mean == "geometric" else sum(precisions) / orders
    return scale * penalty * averaged


@corpus_bleu.mistake(
    "A repeated word matches again and again. Clip: an n-gram counts at most as often as in its reference."
)
def _(hypotheses, references):
    return _bleu(hypotheses, references, clip=False)


@corpus_bleu.mistake("Nothing punishes a translation that stops early. Multiply by min(1, exp(1 - r / c)).")
def _(hypotheses, references):
    return _bleu(hypotheses, references, brevity=False)


@corpus_bleu.mistake(
    "Your penalty also punishes long hypotheses. Their precision is lower already; it is for short ones."
)
def _(hypotheses, references):
    return _bleu(hypotheses, references, both_ways=True)


@corpus_bleu.mistake("You averaged the precisions. BLEU takes their geometric mean: one bad order pulls all down.")
def _(hypotheses, references):
    return _bleu(hypotheses, references, mean="arithmetic")


@corpus_bleu.mistake("You averaged the BLEU of single sentences. Add up the counts of all sentences, then divide once.")
def _(hypotheses, references):
    return sum(_bleu([h], [r]) for h, r in zip(hypotheses, references, strict=True)) / len(hypotheses)


@corpus_bleu.mistake("Your result runs from 0 to 1. BLEU is given from 0 to 100.")
def _(hypotheses, references):
    return _bleu(hypotheses, references, scale=1.0)


@corpus_bleu.mistake("You counted single words only. Word order shows in n-grams of 2, 3 and 4 words.")
def _(hypotheses, references):
    return _bleu(hypotheses, references, orders=1)


@corpus_bleu.alternative
def _(hypotheses, references):
    log_precision = 0.0
    for n in range(1, 5):
        matching = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            available = Counter(tuple(reference[i : i + n]) for i in range(len(reference) - n + 1))
            for i in range(len(hypothesis) - n + 1):
                total += 1
                gram = tuple(hypothesis[i : i + n])
                if available[gram] > 0:
                    available[gram] -= 1
                    matching += 1
        if not matching:
            return 0.0
        log_precision += math.log(matching / total) / 4
    written, wanted = sum(map(len, hypotheses)), sum(map(len, references))
    return 100 * math.exp(min(0.0, 1 - wanted / written) + log_precision)


@exercise(
    points=1,
    minutes=6,
    hint="Write a loop that ends at n_student. How many layers does the stage after 5 have, when 4 is the goal?",
)
def stage_plan(n_teacher: int, n_student: int) -> list[list[int]]:
    """The layers that each stage keeps, from n_teacher down to n_student layers, two fewer at a time.

    A stage goes from `before` to `after = max(n_student, before - 2)` layers and keeps the layers
    floor((i + 1) · before / after) - 1 for i = 0 ... after - 1: evenly spaced, the last one among them. They are
    numbered from 0 in the model *before*, which has been trained meanwhile: not in the first teacher.
    Returns a list with one list for each stage; n_teacher = n_student needs none.

    >>> stage_plan(6, 2)
    [[0, 2, 3, 5], [1, 3]]
    """
    return translation_losses.stage_plan(n_teacher, n_student)


@stage_plan.cases
def _(draw):
    yield case("6 to 2", 6, 2, visible=True)
    n_student = draw.integer(2, 4)
    yield case("an even way down", n_student + 2 * draw.integer(2, 4), n_student)
    yield case("an odd way down", 6, 3)
    yield case("an odd way down", 8 + draw.integer(0, 4) * 2, 3)
    yield case("one stage or none", 5, 4)
    yield case("one stage or none", 6, 4)
    yield case("one stage or none", 4, 4)
    yield case("down to one layer", draw.integer(5, 12), 1)


stage_plan.exact("positions of layers are whole numbers")


def _spaced(before, after):
    return [(i + 1) * before // after - 1 for i in range(after)]


def _stages(n_teacher, n_student, kept=_spaced, step=2):
    plan = []
    while n_teacher > n_student:
        after = max(n_student, n_teacher - step)
        plan.append(kept(n_teacher, after))
        n_teacher = after
    return plan


@stage_plan.mistake("You went down in one jump. Each stage has two layers fewer than the one before.")
def _(n_teacher, n_student):
    return [_spaced(n_teacher, n_student)] if n_teacher > n_student else []


@stage_plan.mistake("You removed one layer at a time. A stage removes two; the last one removes what is left.")
def _(n_teacher, n_student):
    return _stages(n_teacher, n_student, step=1)


@stage_plan.mistake(
    "You numbered the layers as in the first teacher. The second stage takes layers of the model before it."
)
def _(n_teacher, n_student):
    plan, layers = [], list(range(n_teacher))
    for kept in _stages(n_teacher, n_student):
        layers = [layers[position] for position in kept]
        plan.append(layers)
    return plan


@stage_plan.mistake("You kept the lowest layers. Keep them evenly spaced, with the last one among them.")
def _(n_teacher, n_student):
    return _stages(n_teacher, n_student, kept=lambda before, after: list(range(after)))


@stage_plan.mistake(
    "You kept the first layer of every stretch. floor((i + 1) · before / after) - 1 is the last one of it."
)
def _(n_teacher, n_student):
    return _stages(n_teacher, n_student, kept=lambda before, after: [i * before // after for i in range(after)])


@stage_plan.alternative
def _(n_teacher, n_student):
    sizes = [*range(n_teacher, n_student, -2), n_student]
    plan = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        ends = {stretch * before // after for stretch in range(1, after + 1)}
        plan.append([layer for layer in range(before) if layer + 1 in ends])
    return plan


question(
    "1",
    "A translator writes nothing but the word “cent” for every phrase. Its precision of single words is high whenever "
    "the reference holds “cent”. What keeps its BLEU at 0?",
    A=("The brevity penalty", "It lowers the score, by exp(1 - r / c), but never to exactly 0."),
    B=("Clipping", "“cent” written once matches at most once in its reference, which is allowed."),
    C=(
        "The geometric mean with longer n-grams",
        "It never writes two words in a row, so no 2-gram matches, and a product with one factor 0 is 0.",
        True,
    ),
    D=("Smoothing", "Smoothing does the opposite: it puts something small where a count is 0."),
    hint="How many 2-grams does a text of one word hold?",
    steps=[
        "Hypotheses of one word hold no 2-grams, 3-grams or 4-grams.",
        "So p_2 = 0, and p_1 p_2 p_3 p_4 = 0.",
        "The fourth root of 0 is 0: BLEU is 0 without smoothing.",
    ],
)

question(
    "2",
    "You have 300 translated pairs and 4,000 English phrases without French. Which form of distillation can use the "
    "4,000?",
    A=(
        "Word level on the pairs",
        "It needs a French text, whose next pieces teacher and student both predict: only the 300 have one.",
    ),
    B=(
        "Sequence level",
        "The teacher writes the missing French itself, and the student trains on it as on any text.",
        True,
    ),
    C=("None: without references there is no loss", "The teacher's translation takes the place of the reference."),
    D=("All of them alike", "Only after the teacher has translated: word and hidden-state level need its text first."),
    hint="At which places would you compare the two distributions, if there is no French text?",
    steps=[
        "A distribution over the next piece needs the pieces before it.",
        "For an untranslated source there are none.",
        "Beam search makes them; from then on every level can be used on top.",
    ],
)

question(
    "3",
    "Teacher outputs are cached for 4,300 pairs of 13 French pieces each, with logits over 160 pieces in BF16. How "
    "large is the cache of logits, about?",
    A=("18 MB", "4,300 · 13 · 160 numbers of 2 bytes.", True),
    B=("0.1 MB", "That is 4,300 · 13 · 2 bytes: one number a piece, as sequence-level data needs, not a distribution."),
    C=("1.4 MB", "That is one distribution a pair, 4,300 · 160 · 2 bytes. There is one at every place of the text."),
    D=(
        "18 GB",
        "For 160 pieces it is a thousand times less. With a vocabulary of 32,000 it would be 3.6 GB, and one "
        "would keep the few largest logits of each place.",
    ),
    hint="One distribution at every place of every text.",
    steps=["4,300 · 13 = 55,900 places.", "55,900 · 160 = 8.9 million numbers.", "Two bytes each: 18 MB."],
)

question(
    "4",
    "Two small translators are compared: one trained on 300 pairs for 30 passes, one on 300 pairs and 4,000 distilled "
    "ones for 30 passes. The second wins. What is wrong with this comparison?",
    A=("Nothing, both saw their data equally often", "Equal passes over 14 times the data are 14 times the steps."),
    B=("The first should have been trained on the teacher's output too", "Then it would be the other method."),
    C=("BLEU cannot compare two models", "It can, on the same test sentences, with an interval."),
    D=(
        "The second made 14 times as many steps",
        "Part of the gain may be training time. Compare at equal steps, each "
        "with the learning rate and dropout that suit it on validation "
        "data.",
        True,
    ),
    hint="How many gradient steps did each of them make?",
    steps=[
        "Steps = passes · pairs / batch size.",
        "4,300 pairs are 14.3 times 300.",
        "Equal steps, and settings tuned with equal care, leave the method as the only difference.",
    ],
)

question(
    "5",
    "The vocabulary pieces of the test phrases all occur in training, yet no test number does. What would happen if "
    "the test numbers were drawn at random from the same range instead of from held-out blocks?",
    A=("The test would be harder", "Random numbers have near neighbours in training, which makes them easier."),
    B=(
        "It would test interpolation: nearly every stretch of the phrase would have been seen",
        "Beside 52,417 training would hold 52,418. A held-out block of 51,000 to 53,999 asks for a combination that "
        "training never showed.",
        True,
    ),
    C=(
        "Nothing: a number is either in training or not",
        "The exact number is new in both cases, its stretches are not.",
    ),
    D=("BLEU would be lower", "Seen 4-grams make it higher, and the two translators harder to tell apart."),
    hint="Which 4-grams of the French phrase has the model written before?",
    steps=[
        "A random split leaves every “cinquante-deux mille” in training.",
        "What remains to be found is the rest, which also occurs elsewhere.",
        "A held-out block makes the head of the phrase new.",
    ],
)

question(
    "6",
    "6 → 4 → 2 layers is compared with 6 → 2. The first uses 600 steps a stage, the second 600 steps. What must "
    "change?",
    A=(
        "Each stage of the first gets 300 steps, so that both make 600 in all",
        "Then both spend the same training, and a difference is due to the way down.",
        True,
    ),
    B=("The second gets a smaller learning rate", "Both may be tuned, but that does not even out the steps."),
    C=("The first must start from random weights", "Both start from the teacher's layers; that is what they share."),
    D=(
        "Nothing: a stage is a training, and both have the same stages' length",
        "The first trains twice as long in all.",
    ),
    hint="Add up the steps of all stages.",
    steps=[
        "6 → 4 and 4 → 2 are two trainings.",
        "With 600 steps each they make 1,200, against 600.",
        "Halve them, or give 6 → 2 the 1,200.",
    ],
)
