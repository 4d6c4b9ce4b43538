"""Sensitivity asks what it says, the greedy allocator against every allocation, the Pareto front by its definition."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.int8 import mixed

COSTS = {"a": {2: (10, 8.0), 4: (20, 2.0), 8: (40, 0.0)}, "b": {2: (10, 3.0), 4: (20, 1.0), 8: (40, 0.0)}}


def test_sensitivity_asks_once_each_in_order():
    calls = []

    def evaluate(layer, bits):
        calls.append((layer, bits))
        return {"a": 10, "b": 20, None: 1}[layer] + bits

    assert mixed.sensitivity(evaluate, ["a", "b"], [8, 2]) == {"a": {8: 17, 2: 11}, "b": {8: 27, 2: 21}}
    assert calls == [(None, 0), ("a", 8), ("a", 2), ("b", 8), ("b", 2)]


def test_greedy_by_hand():
    assert mixed.allocate_bits(COSTS, 20) == {"a": 2, "b": 2}
    assert mixed.allocate_bits(COSTS, 30) == {"a": 4, "b": 2}  # 6 / 10 against 2 / 10
    assert mixed.allocate_bits(COSTS, 59) == {"a": 4, "b": 4}
    assert mixed.allocate_bits(COSTS, 60) == {"a": 8, "b": 4}  # 2 / 20 against 1 / 20
    assert mixed.allocate_bits(COSTS, 999) == {"a": 8, "b": 8}
    assert mixed.total_bytes(COSTS, {"a": 4, "b": 8}) == 60
    assert mixed.total_loss(COSTS, {"a": 4, "b": 2}) == 5


def test_of_equals_the_earliest_layer_then_the_fewest_bytes():
    twins = {"a": {2: (1, 4.0), 4: (2, 2.0), 8: (3, 0.0)}, "b": {2: (1, 4.0), 4: (2, 2.0), 8: (3, 0.0)}}
    assert mixed.allocate_bits(twins, 3) == {"a": 4, "b": 2}
    assert mixed.allocate_bits(twins, 4) == {"a": 8, "b": 2}  # a again: 2 / 1 for either, and a is first


def test_a_change_that_gains_nothing_is_left_and_one_may_leap():
    costs = {"a": {2: (1, 5.0), 3: (2, 6.0), 4: (3, 1.0)}}
    assert mixed.allocate_bits(costs, 2) == {"a": 2}
    assert mixed.allocate_bits(costs, 3) == {"a": 4}


@st.composite
def problems(draw):
    costs = {}
    for layer in range(draw(st.integers(1, 4))):
        weights, size = draw(st.integers(1, 20)), draw(st.floats(0.01, 1))
        costs[str(layer)] = {bits: (weights * bits, size * draw(st.floats(0.5, 2)) / 4**bits) for bits in (2, 3, 4, 8)}
    most = sum(options[8][0] for options in costs.values())
    return costs, draw(st.integers(sum(options[2][0] for options in costs.values()), most))


@settings(deadline=None, max_examples=150)
@given(problems())
def test_the_exact_search_finds_the_best_and_the_greedy_one_fits(problem):
    costs, budget = problem
    exact, greedy = mixed.best_allocation(costs, budget), mixed.allocate_bits(costs, budget)
    assert mixed.total_bytes(costs, greedy) <= budget
    assert mixed.total_loss(costs, exact) <= mixed.total_loss(costs, greedy)
    for bits in itertools.product((2, 3, 4, 8), repeat=len(costs)):
        other = dict(zip(costs, bits, strict=True))
        if mixed.total_bytes(costs, other) <= budget:
            assert mixed.total_loss(costs, exact) <= mixed.total_loss(costs, other)


def test_greedy_can_be_beaten():
    """Two small gains of a high rate fill the budget and leave no room for one large gain."""
    costs = {"small": {2: (1, 3.0), 4: (2, 1.0)}, "large": {2: (1, 10.0), 4: (11, 0.0)}}
    assert mixed.allocate_bits(costs, 12) == {"small": 4, "large": 2}
    assert mixed.best_allocation(costs, 12) == {"small": 2, "large": 4}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points):
    front = mixed.pareto_front(points)

    def beats(a, b):
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    assert all(not beats(other, points[place]) for place in front for other in points)
    kept = [points[place] for place in front]
    assert kept == sorted(set(kept))
    assert all(point in kept or any(beats(other, point) for other in kept) for point in points)
    assert all(points.index(points[place]) == place for place in front)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("over the budget", lambda: mixed.allocate_bits(COSTS, 19)),
        ("No allocation fits", lambda: mixed.best_allocation(COSTS, 19)),
        ("nothing to choose from", lambda: mixed.allocate_bits({}, 1)),
        ("'a' offers nothing", lambda: mixed.best_allocation({"a": {}}, 1)),
        ("too many to try", lambda: mixed.best_allocation({i: dict.fromkeys(range(4), (1, 1)) for i in range(20)}, 1)),
    ],
)
def test_what_cannot_be_is_refused(words, call):
    with pytest.raises(ValueError, match=words):
        call()
