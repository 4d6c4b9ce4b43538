"""Plans are the best of all sets, the choice is the best that fits, a front grown point by point is the front."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessons_lib.capstone import budgets

EIGHTHS = st.integers(1, 12).map(lambda n: n / 8)
QUARTERS = st.integers(-4, 20).map(lambda n: n / 4)
OPTION = st.fixed_dictionaries({"bytes": EIGHTHS, "ms": EIGHTHS, "lost": QUARTERS})
POINT = st.tuples(st.integers(1, 12), st.integers(0, 12).map(lambda n: n / 4))


@given(st.lists(OPTION, max_size=6), EIGHTHS, EIGHTHS)
def test_no_set_of_steps_that_fits_loses_less_than_the_plan(effects, most_bytes, most_ms):
    options, budget = {f"step {n}": one for n, one in enumerate(effects)}, {"bytes": most_bytes, "ms": most_ms}
    found = budgets.plan(budget, options)
    ranked = []
    for taken in itertools.product([True, False], repeat=len(options)):  # all taken comes first: by position
        steps = [name for name, take in zip(options, taken, strict=True) if take]
        if all(math.prod(options[s][figure] for s in steps) <= most for figure, most in budget.items()):
            ranked.append((sum(options[s]["lost"] for s in steps), len(steps), steps))
    least = min(ranked, key=lambda one: one[:2], default=None)  # the first of equals
    assert found == (least and least[2])


def test_a_plan_may_take_nothing_or_find_nothing():
    options = {"cut": {"bytes": 0.5, "lost": 1.0}}
    assert budgets.plan({"bytes": 1.0}, options) == []
    assert budgets.plan({"bytes": 0.4}, options) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cut": {"lost": 1.0}}, "'cut' does not say what it does to 'bytes'"),
        ({"cut": {"bytes": 0.5}}, "'cut' does not say what it does to 'lost'"),
        ({f"step {n}": {"bytes": 1.0, "lost": 0.0} for n in range(17)}, "17 are too many"),
    ],
)
def test_a_plan_refuses_what_it_cannot_count(options, said):
    with pytest.raises(ValueError, match=said):
        budgets.plan({"bytes": 0.5}, options)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4)), max_size=8), st.integers(1, 4))
def test_no_row_that_fits_is_better_than_the_choice(figures, most):
    rows = [{"name": f"row {n}", "quality": q, "bytes": b, "ms": ms} for n, (q, b, ms) in enumerate(figures)]
    found = budgets.choose(rows, {"ms": most})
    fitting = [row for row in rows if row["ms"] <= most]
    if not fitting:
        assert found is None
        return
    best = next(row for row in rows if row["name"] == found)
    assert best in fitting
    for row in fitting:
        assert (row["quality"], -row["bytes"]) <= (best["quality"], -best["bytes"])
        assert rows.index(best) <= rows.index(row) or (row["quality"], row["bytes"]) != (best["quality"], best["bytes"])


def test_a_figure_that_the_budget_does_not_name_is_free():
    assert budgets.choose([{"name": "only", "quality": 1.0, "bytes": 10**12}], {}) == "only"


@given(st.lists(POINT, max_size=12))
def test_a_front_grown_point_by_point_holds_exactly_the_points_that_none_beats(points):
    front = []
    for point in points:
        front = budgets.pareto_step(front, point)

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    assert front == sorted({point for point in points if not any(beats(other, point) for other in points)})


def test_the_front_that_was_given_stays_as_it_is():
    front = [(1, 0.5)]
    assert budgets.pareto_step(front, (1, 0.75)) == [(1, 0.75)]
    assert front == [(1, 0.5)]
