"""Deciding under a budget: which steps to take, which of the models that came out to use, which are worth keeping."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lessons_lib.int8.mixed import pareto_front

Point = tuple[float, float]  # bytes, quality: less of the one and more of the other is better
MOST_OPTIONS = 16  # steps whose sets are all tried


def plan(budget: Mapping[str, float], options: Mapping[str, Mapping[str, float]]) -> list[str] | None:
    """The steps that are expected to meet a budget at the least loss, in the order of the options; None when none do.

    budget: for each figure, such as "bytes" or "ms", the share of the teacher's that is allowed. options: for each step
    what it alone leaves of each figure, as a share, and what it loses, as "lost". Expected of several steps: shares
    multiply, losses add up. Of equal losses the fewest steps, then those that come first.
    Raises ValueError for more than MOST_OPTIONS steps, or a step without a figure that the budget names.
    """
    if len(options) > MOST_OPTIONS:
        raise ValueError(f"all sets of at most {MOST_OPTIONS} steps are tried; {len(options)} are too many.")
    for step, effect in options.items():
        if missing := {*budget, "lost"} - set(effect):
            raise ValueError(f"the step {step!r} does not say what it does to {sorted(missing)[0]!r}.")
    best, least = None, math.inf
    for count in range(len(options) + 1):
        for steps in itertools.combinations(options, count):
            # share of all steps = product of their shares,  loss of all = sum of their losses
            fits = all(math.prod(options[step][figure] for step in steps) <= most for figure, most in budget.items())
            lost = sum(options[step]["lost"] for step in steps)
            if fits and lost < least:
                best, least = list(steps), lost
    return best


def choose(rows: Sequence[Mapping[str, Any]], budget: Mapping[str, float]) -> str | None:
    """The name of the row of best quality among those that fit; None when none does.

    rows: figures by name, among them "name", "quality" and "bytes". budget: the most that a figure may be. Of equal
    qualities the fewest bytes, then the row that comes first.
    """
    fitting = [row for row in rows if all(row[figure] <= most for figure, most in budget.items())]
    best = min(fitting, key=lambda row: (-row["quality"], row["bytes"]), default=None)
    return best and best["name"]


def pareto_step(front: Sequence[Point], point: Point) -> list[Point]:
    """A Pareto front after one more model: its points (bytes, quality) by rising bytes.

    A point is beaten by one that is no worse in either figure and better in one. A beaten point is not there, and one
    that equals a point of the front changes nothing.
    """
    points = [*front, point]
    return [points[place] for place in pareto_front([(size, -quality) for size, quality in points])]
