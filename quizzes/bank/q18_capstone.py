"""Lesson 18, the capstone: its exercises, its hand-ins and its questions."""

from lessons_lib.capstone import budgets
from lessons_lib.int8 import mixed
from quizzes import case, exercise, hand_in, question, tier


@exercise(
    points=3,
    minutes=12,
    hint="itertools.combinations(options, count) gives all sets of `count` steps, in the order of the options. Go "
    "through count = 0, 1, 2 ... and keep a set only if it fits and loses less than the best one so far.",
)
def plan(budget: dict[str, float], options: dict[str, dict[str, float]]) -> list[str] | None:
    """The steps that are expected to meet a budget at the least loss.

    budget: for each figure the share of the teacher's that is allowed, such as {"bytes": 0.25, "ms": 0.5}.
    options: {step: {figure: the share that this step alone leaves of it, ..., "lost": what it loses}}. A share may be
    above 1, a loss below 0. Every step names every figure of the budget.
    Expected of several steps together: their shares multiply, their losses add up. A set of steps fits when every
    figure of the budget is at most what is allowed; the empty set leaves all shares at 1 and loses 0.
    Returns the fitting set with the least loss, as a list in the order of options. Of equal losses the set with the
    fewest steps, then the one whose steps come first in options: its first step decides, then its second, and so on.
    None when no set fits.

    >>> options = {"layers": {"bytes": 0.5, "ms": 0.5, "lost": 4.0}, "int8": {"bytes": 0.25, "ms": 0.5, "lost": 1.0}}
    >>> plan({"bytes": 0.3, "ms": 0.5}, options)
    ['int8']
    >>> plan({"bytes": 0.3, "ms": 0.3}, options)
    ['layers', 'int8']
    """
    return budgets.plan(budget, options)


def _options(draw, names, figures=("bytes", "ms")):
    """Steps whose shares are eighths and whose losses are quarters, so that products and sums are exact."""
    return {
        name: {figure: draw.integer(2, 7) / 8 for figure in figures} | {"lost": draw.integer(1, 20) / 4}
        for name in names
    }


@plan.cases
def _(draw):
    printed = {"layers": {"bytes": 0.5, "ms": 0.5, "lost": 4.0}, "int8": {"bytes": 0.25, "ms": 0.5, "lost": 1.0}}
    yield case("the printed example", {"bytes": 0.3, "ms": 0.5}, printed, visible=True)
    yield case("the printed example", {"bytes": 0.3, "ms": 0.3}, printed, visible=True)
    names = ["layers", "neurons", "vocabulary", "int8", "export"]
    for share in (0.3, 0.1, 0.03):
        yield case("several steps", {"bytes": share, "ms": 2 * share}, _options(draw, names))
    yield case("one figure", {"ms": 0.2}, _options(draw, names[:4]))
    yield case(
        "one figure",
        {"bytes": 0.3},
        {"a": {"bytes": 0.5, "lost": 1.0}, "b": {"bytes": 0.5, "lost": 1.5}, "c": {"bytes": 0.25, "lost": 3.0}},
    )
    yield case(
        "exactly the budget", {"bytes": 0.125}, {"a": {"bytes": 0.5, "lost": 1.0}, "b": {"bytes": 0.25, "lost": 1.0}}
    )
    yield case(
        "exactly the budget",
        {"bytes": 0.25},
        {"a": {"bytes": 0.5, "lost": 0.5}, "b": {"bytes": 0.5, "lost": 1}, "c": {"bytes": 0.125, "lost": 9.0}},
    )
    ties = {
        "a": {"bytes": 0.5, "lost": 1.0},
        "b": {"bytes": 0.5, "lost": 1.0},
        "c": {"bytes": 0.25, "lost": 2.0},
        "d": {"bytes": 0.25, "lost": 2.0},
    }
    yield case("ties", {"bytes": 0.5}, ties)
    yield case("ties", {"bytes": 0.25}, ties)
    yield case(
        "a step that gains, one that costs time",
        {"bytes": 0.6, "ms": 1.0},
        {
            "teach": {"bytes": 1.0, "ms": 1.0, "lost": -2.0},
            "pack": {"bytes": 0.5, "ms": 1.5, "lost": 0.25},
            "cut": {"bytes": 0.5, "ms": 0.5, "lost": 3.0},
        },
    )
    yield case(
        "a step that gains, one that costs time",
        {"bytes": 1.0},
        {"teach": {"bytes": 1.0, "lost": -1.5}, "cut": {"bytes": 0.5, "lost": 1.0}},
    )
    yield case("nothing fits", {"bytes": 0.01, "ms": 0.5}, _options(draw, names[:2]))
    yield case("nothing fits", {"bytes": 0.6}, {"cut": {"bytes": 0.5, "lost": 1.0}, "pack": {"bytes": 0.75, "lost": 0}})


plan.exact("the answer is a list of names; shares are eighths and losses quarters, whose products and sums are exact")


@plan.mistake(
    "Your plan takes the step that loses least, then the next, until it fits. One larger cut alone may lose less."
)
def _(budget, options):
    chosen, shares = [], dict.fromkeys(budget, 1.0)
    for step in sorted(options, key=lambda step: options[step]["lost"]):
        if all(shares[figure] <= most for figure, most in budget.items()):
            break
        chosen.append(step)
        shares = {figure: share * options[step][figure] for figure, share in shares.items()}
    fits = all(shares[figure] <= most for figure, most in budget.items())
    return [step for step in options if step in chosen] if fits else None


@plan.mistake("Your shares of several steps are added. What is left of what was left: they multiply.")
def _(budget, options):
    import itertools

    best = None
    for count in range(len(options) + 1):
        for steps in itertools.combinations(options, count):
            saved = {figure: sum(1 - options[step][figure] for step in steps) for figure in budget}
            lost = sum(options[step]["lost"] for step in steps)
            if all(1 - saved[figure] <= most for figure, most in budget.items()) and (best is None or lost < best[0]):
                best = lost, list(steps)
    return best and best[1]


@plan.mistake("It is enough in your plan when one figure of the budget is met. All of them must be.")
def _(budget, options):
    plans = [budgets.plan({figure: most}, options) for figure, most in budget.items()]
    found = [steps for steps in plans if steps is not None]
    return min(found, key=lambda steps: sum(options[step]["lost"] for step in steps), default=None)


@plan.mistake("An empty list where nothing fits says: take the teacher as it is. None says: there is no plan.")
def _(budget, options):
    return budgets.plan(budget, options) or []


@plan.mistake("A share that is exactly what is allowed does not fit in yours. At most means: it does.")
def _(budget, options):
    return budgets.plan({figure: most * (1 - 1e-9) for figure, most in budget.items()}, options)


@plan.alternative
def _(budget, options):
    names = list(options)
    found = []
    for mask in range(2 ** len(names)):
        places = [place for place in range(len(names)) if mask >> place & 1]
        shares = dict.fromkeys(budget, 1.0)
        lost = 0.0
        for place in places:
            lost += options[names[place]]["lost"]
            for figure in budget:
                shares[figure] *= options[names[place]][figure]
        if all(shares[figure] <= budget[figure] for figure in budget):
            found.append((lost, len(places), places))
    return [names[place] for place in min(found)[2]] if found else None


@exercise(
    points=2,
    minutes=6,
    hint="First keep the rows whose figures are all at most what the budget says. Then take the minimum by the key "
    "(-quality, bytes); min keeps the first of equals.",
)
def choose(rows: list[dict], budget: dict[str, float]) -> str | None:
    """The name of the best model within a budget.

    rows: a dict for each model: "name", "quality" (more is better), "bytes" and other figures. budget: the most that a
    figure may be, such as {"bytes": 15_000_000, "ms": 20.0}; what it does not name is free.
    Of the rows that keep every figure of the budget (equal is allowed) it is the one with the best quality; of equal
    qualities the one with the fewest bytes, then the one that comes first. None when no row fits.

    >>> rows = [{"name": "teacher", "quality": 86.0, "bytes": 90, "ms": 40.0},
    ...         {"name": "int8", "quality": 85.5, "bytes": 23, "ms": 18.0},
    ...         {"name": "student", "quality": 85.5, "bytes": 60, "ms": 12.0}]
    >>> choose(rows, {"ms": 20.0})
    'int8'
    """
    return budgets.choose(rows, budget)


def _rows(draw, count):
    """Models whose qualities often tie."""
    return [
        {
            "name": f"model {place}",
            "quality": draw.integer(80, 84) / 1.0,
            "bytes": draw.integer(5, 90),
            "ms": draw.integer(4, 40) / 2,
        }
        for place in range(count)
    ]


@choose.cases
def _(draw):
    printed = [
        {"name": "teacher", "quality": 86.0, "bytes": 90, "ms": 40.0},
        {"name": "int8", "quality": 85.5, "bytes": 23, "ms": 18.0},
        {"name": "student", "quality": 85.5, "bytes": 60, "ms": 12.0},
    ]
    yield case("the printed example", printed, {"ms": 20.0}, visible=True)
    yield case("the best that fits", printed, {"bytes": 60, "ms": 12.0})
    yield case("the best that fits", _rows(draw, 12), {"bytes": 60, "ms": 15.0})
    yield case("the best that fits", _rows(draw, 12), {"bytes": 40})
    small = {"name": "small", "quality": 81.0, "bytes": 20, "ms": 5.0}
    large = {"name": "large", "quality": 81.0, "bytes": 40, "ms": 4.0}
    worse = {"name": "worse", "quality": 79.5, "bytes": 4, "ms": 1.0}
    yield case("ties", [worse, large, small], {"ms": 6.0}, visible=True)
    yield case("ties", [large | {"name": "first"}, large | {"name": "second", "ms": 3.0}, worse], {"bytes": 40})
    yield case("equal to the budget", [small, large, worse], {"bytes": 20, "ms": 5.0})
    yield case("equal to the budget", [large, worse], {"bytes": 40})
    yield case("no budget, and nothing that fits", [worse, small], {})
    yield case("no budget, and nothing that fits", [worse, small], {"bytes": 3})


choose.exact("the answer is the name of a row")


@choose.mistake("The budget is not asked: the best of all rows is chosen, whether it fits or not.")
def _(rows, budget):
    return budgets.choose(rows, {})


@choose.mistake("Yours is the smallest row that fits. The budget is there to be used: the best quality wins.")
def _(rows, budget):
    fitting = [row for row in rows if all(row[figure] <= most for figure, most in budget.items())]
    return min(fitting, key=lambda row: row["bytes"])["name"] if fitting else None


@choose.mistake("Of equal qualities the row that comes first is chosen. Fewest bytes decide before the order does.")
def _(rows, budget):
    fitting = [row for row in rows if all(row[figure] <= most for figure, most in budget.items())]
    return max(fitting, key=lambda row: row["quality"])["name"] if fitting else None


@choose.mistake("A row that equals the budget is left out in yours. At most means: equal is allowed.")
def _(rows, budget):
    fitting = [row for row in rows if all(row[figure] < most for figure, most in budget.items())]
    return budgets.choose(fitting, {})


@choose.alternative
def _(rows, budget):
    best = None
    for row in rows:
        if any(row[figure] > most for figure, most in budget.items()):
            continue
        better = best is None or row["quality"] > best["quality"]
        if better or (row["quality"] == best["quality"] and row["bytes"] < best["bytes"]):
            best = row
    return None if best is None else best["name"]


@exercise(
    points=3,
    minutes=8,
    hint="Two things can happen. Some point of the front is at most as large and at least as good: the front stays. "
    "Otherwise the new point enters, and those that it beats leave.",
)
def pareto_step(front: list[tuple[float, float]], point: tuple[float, float]) -> list[tuple[float, float]]:
    """A Pareto front of models after one more model was measured.

    A model is (bytes, quality): fewer bytes and more quality are better. It is beaten by another one that is no worse
    in either figure and better in at least one. front: models none of which beats another, by rising bytes; it may be
    empty. point: the new one.
    Returns the new front by rising bytes: without what is beaten. A point that equals one of the front changes nothing.
    The list that was given stays as it is.

    >>> pareto_step([(10, 80.0), (40, 85.0), (90, 86.0)], (30, 85.5))
    [(10, 80.0), (30, 85.5), (90, 86.0)]
    """
    return budgets.pareto_step(front, point)


def _front(draw, count):
    """A front of models a few bytes and a few quarters of a point apart."""
    size, quality, front = 0, 70.0, []
    for _ in range(count):
        size, quality = size + draw.integer(2, 9), quality + draw.integer(1, 8) / 4
        front.append((size, quality))
    return front


@pareto_step.cases
def _(draw):
    yield case("the printed example", [(10, 80.0), (40, 85.0), (90, 86.0)], (30, 85.5), visible=True)
    front = _front(draw, 7)
    yield case("it beats some", front, (front[2][0] - 1, front[4][1] + 0.125))
    yield case("it beats some", front, (front[0][0] - 1, front[-1][1]))
    yield case("it enters and beats none, or is beaten", front, (front[3][0] - 1, front[3][1] - 0.125), visible=True)
    yield case("it enters and beats none, or is beaten", front, (front[-1][0] + 5, front[-1][1] + 1.0))
    yield case("it enters and beats none, or is beaten", front, (front[3][0] + 1, front[3][1] - 0.125))
    yield case("it enters and beats none, or is beaten", front, (front[-1][0] + 1, front[0][1]))
    yield case("equal in one figure", front, (front[2][0], front[2][1] + 0.125))
    yield case("equal in one figure", front, (front[2][0] - 1, front[2][1]))
    yield case("equal in one figure", front, (front[2][0], front[2][1] - 0.125))
    yield case("equal in both, and an empty front", front, front[3])
    yield case("equal in both, and an empty front", [], (draw.integer(5, 50), 80.5))


pareto_step.exact("figures are copied, not computed")


@pareto_step.mistake("The new point is put in its place, but what it beats stays on your front.")
def _(front, point):
    beaten = any(size <= point[0] and quality >= point[1] for size, quality in front)
    return list(front) if beaten else sorted([*front, point])


@pareto_step.mistake("Your front takes every new point. Ask first whether some point of the front beats it.")
def _(front, point):
    kept = [other for other in front if not (point[0] <= other[0] and point[1] >= other[1])]
    return sorted([*kept, point])


@pareto_step.mistake("Less quality counts as better in yours. Fewer bytes, more quality.")
def _(front, point):
    points = [*front, point]
    return [points[place] for place in mixed.pareto_front(points)]


@pareto_step.mistake("Your new point enters only if it beats another one. It may also stand between two and beat none.")
def _(front, point):
    kept = [other for other in front if not (point[0] <= other[0] and point[1] >= other[1])]
    return sorted([*kept, point]) if len(kept) < len(front) or not front else list(front)


@pareto_step.mistake("A point with equal bytes and more quality beats the old one; in yours both stay.")
def _(front, point):
    def beats(a, b):
        return a[0] < b[0] and a[1] >= b[1] or a == b

    if any(beats(other, point) for other in front):
        return list(front)
    return sorted([*[other for other in front if not beats(point, other)], point])


@pareto_step.alternative
def _(front, point):
    size, quality = point
    new = []
    placed = False
    for other in front:
        if other[0] <= size and other[1] >= quality:
            return list(front)
        if not placed and other[0] >= size:
            new.append(point)
            placed = True
        if not (other[0] >= size and other[1] <= quality):
            new.append(other)
    return new if placed else [*new, point]


hand_in(
    "topics_model",
    task="topics",
    points=6,
    minutes=20,
    hint="Write the pipeline as a list of steps that ends with 'export' and 'int8', make it, and copy its file with "
    "pipeline.hand_in. What is the largest part of the file: layers, or words?",
    tiers=[
        tier("gold", most_bytes=11_280_000, least=0.955, share=1.0),
        tier("silver", most_bytes=15_050_000, least=0.955, share=0.75),
        tier("bronze", most_bytes=23_000_000, least=0.93, share=0.5),
    ],
)

hand_in(
    "translator_model",
    task="translator",
    points=6,
    minutes=20,
    hint="Layers cost bytes on both sides, but the decoder's run once for every piece, the encoder's once for every "
    "phrase. Teach the model again after you have cut it.",
    tiers=[
        tier("gold", most_bytes=1_420_000, least=-1.0, share=1.0),
        tier("silver", most_bytes=1_895_000, least=-1.5, share=0.75),
        tier("bronze", most_bytes=2_840_000, least=-3.0, share=0.5),
    ],
)


question(
    "1",
    "A classifier answers too slowly. Half of its file is a table of word vectors, and somebody has trimmed the table "
    "to the words in use. The file is half as large. What happened to the time of an answer?",
    A=("It is half as long.", "Bytes on disk are not time. A sentence looks up as many rows of the table as before."),
    B=("It hardly changed.", "Looking up a few rows costs next to nothing, whatever the size of the table.", True),
    C=("It grew, because words are missing.", "Missing words are read as one unknown word. That costs no time."),
    D=("That depends on the batch size.", "At every batch size each token looks up one row."),
    hint="What does the model do with a table of word vectors, and how often?",
    steps=[
        "Each token reads one row of the table: a copy of a few hundred numbers.",
        "The matrix products of the layers are thousands of times as much work, and none of them changed.",
    ],
)

question(
    "2",
    "INT8 alone leaves 25 % of the bytes, a student with half of the layers 75 %, since the word vectors stay. Both "
    "together leave about 19 %. Leaving out half of the words as well halves the table, which is half of the teacher's "
    "bytes. Why is the file of all three smaller than half of 19 %, or larger?",
    A=("It is exactly half: shares multiply.", "They multiply only where each step cuts the same share of every part."),
    B=(
        "Smaller: three steps always gain more than two.",
        "More steps leave less, but how much less follows from the parts, not from the number of steps.",
    ),
    C=(
        "Larger: without half of the layers the table is two thirds of what is left, and half of it goes, a third.",
        "Count the parts: layers 0.25, table 0.5 of the teacher. Then the table 0.25: 0.5 is left of 0.75.",
        True,
    ),
    D=("Larger: INT8 cannot be applied to a table.", "It can, and was counted in the 25 %."),
    hint="Write down the layers and the table as shares of the teacher's file, before and after each step.",
    steps=[
        "Teacher: layers 0.5, table 0.5. Half of the layers: 0.25 + 0.5 = 0.75.",
        "Half of the table: 0.25 + 0.25 = 0.5, which is two thirds of 0.75 and not a half.",
        "INT8 then takes a quarter of each part: 0.19 becomes 0.125, not 0.094.",
    ],
)

question(
    "3",
    "Five steps were taken in one go. The file is 8 times as small, and the accuracy fell from 86 % to 41 %. What do "
    "you do first?",
    A=("Train for longer at the end.", "Perhaps one of the steps is wrong altogether. Find out which before you pay."),
    B=("Take a smaller rate of each of the five.", "That costs size everywhere to mend what one step may have broken."),
    C=("Go back to four bits instead of eight.", "Fewer bits lose more, not less."),
    D=(
        "Take the steps one after the other, and judge after each.",
        "The row in which the accuracy falls names the step, and often the reason.",
        True,
    ),
    hint="Which question can one number at the end not answer?",
    steps=[
        "One number says that something is wrong, not what.",
        "With a number after each step the step that did it stands in the table.",
    ],
)

question(
    "4",
    "Which of these orders cannot work at all?",
    A=("export, int8, distil", "Distilling changes weights by gradients. A file of 8-bit codes has none.", True),
    B=("distil, layers, export", "It works. But what the layers take away nobody teaches again."),
    C=("vocabulary, layers, distil", "It works: the student learns with the words that it will have."),
    D=("layers, export, int8", "It works, and shows what happens when nobody teaches the rest."),
    hint="Which step needs a model that can still be trained?",
    steps=["Distilling needs gradients, so a torch model in floating point.", "An export is a graph in a file."],
)

question(
    "5",
    "The words were trimmed by a sample of sport pages. On a test set of sport pages nothing is lost. What follows?",
    A=("The words that went were not needed.", "Not for sport. On politics they may carry the topic."),
    B=(
        "Nothing about other topics: what chose the words also judged them.",
        "Choose and judge on what the model will meet, and on texts that did not choose.",
        True,
    ),
    C=("A test set should be larger.", "A larger set of sport pages says the same."),
    D=("The model should be distilled again.", "Before you mend anything, measure on texts like those to come."),
    hint="What do the sample and the test set have in common that real use does not?",
    steps=["Both hold sport alone.", "On other topics the missing words become unknown, and no figure here shows it."],
)

question(
    "6",
    "A small translator that starts from random weights and sees all translated pairs comes close to the one that was "
    "distilled from a large teacher with few pairs. What does this control say?",
    A=("Distillation does not work.", "With the same few pairs and no teacher the small model is far worse."),
    B=("The measurement must be wrong.", "Both can be right: the two had different data."),
    C=(
        "Where translated pairs are plentiful, the small model may need no teacher; where they are few, the teacher's "
        "translations take their place.",
        "Compare at equal data: a control shows what the method adds, and where.",
        True,
    ),
    D=("Large models are of no use.", "Somebody has to translate the phrases for which there is no translation."),
    hint="Compare what each of the models was allowed to see.",
    steps=[
        "From scratch with few pairs: far behind. From scratch with all pairs: close.",
        "So the teacher stands in for pairs that one does not have.",
    ],
)

question(
    "7",
    "Model X: 12 MB, 84.0 %. Model Y: 9 MB, 84.1 %. Model Z: 9 MB, 82.0 %. Which of them are on the Pareto front of "
    "the three?",
    A=("X and Y", "Y is smaller than X and better: X is beaten."),
    B=("Y and Z", "Both have 9 MB, and Y is better: Z is beaten."),
    C=("All three", "X and Z are both beaten by Y."),
    D=("Y alone", "It is no larger and no worse than either of the others, and better in one figure.", True),
    hint="For each model look for another one that is no larger and no worse, and better in one of the two.",
    steps=["Y against X: 9 < 12 MB and 84.1 > 84.0 %.", "Y against Z: equal bytes, 84.1 > 82.0 %."],
)
