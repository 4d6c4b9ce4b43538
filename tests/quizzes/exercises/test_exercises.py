"""Draws, cases, and the source of a solution."""

import math

import pytest
import torch

from quizzes import case
from quizzes.exercises import exercises
from quizzes.exercises.exercises import Draw


@pytest.fixture
def halve():
    @exercises.exercise(points=1, minutes=1, hint="divide")
    def halve(x, floor=False):
        """Half of x.

        halve(3.0) -> 1.5
        """
        return x / 2

    yield halve
    exercises.BANKS.pop(__name__, None)


def test_an_exercise_called_is_its_reference(halve):
    assert halve(3.0) == 1.5
    assert halve.doc.startswith("Half of x.")


def test_the_solution_stands_alone_under_the_exercises_name(halve):
    @halve.alternative
    def _(
        x,
        floor=False,
    ):
        # a comment that a learner should see
        return math.ldexp(x, -1)

    source = halve.solution()
    namespace = {}
    exec(source, namespace)
    assert namespace["halve"](3.0) == 1.5
    assert namespace["halve"].__doc__.startswith("Half of x.")
    assert source.startswith("import math\n")
    assert "a comment that a learner should see" in source
    assert "alternative" not in source


def test_a_class_can_be_a_solution(halve):
    @halve.alternative
    class Half:
        """Its own words."""

        def __new__(cls, x):
            return x / 2

    namespace = {}
    exec(halve.solution(), namespace)
    assert namespace["halve"](3.0) == 1.5
    assert namespace["halve"].__doc__ == "Its own words."


def test_what_is_missing_is_named(halve):
    with pytest.raises(ValueError, match="'halve' has no alternative"):
        halve.solution()
    with pytest.raises(ValueError, match="'halve' has no cases"):
        halve.draw(0)
    with pytest.raises(ValueError, match="can observe value, gradients"):
        case("group", 1, observe="everything")


def test_a_draw_depends_on_seed_and_name_alone():
    first, again, other, renamed = (Draw(*key).normal((5,)) for key in [(1, "a"), (1, "a"), (2, "a"), (1, "b")])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, renamed)


def test_draws_are_what_they_say():
    draw = Draw(0, "any")
    strided = draw.strided((2, 3, 5))
    assert strided.shape == (2, 3, 5)
    assert not strided.is_contiguous()
    values = draw.sorted_tensor(50, 2, 3)
    assert torch.equal(values, values.sort().values)
    assert 2 <= values.min() <= values.max() < 3
    assert {draw.integer(1, 3) for _ in range(60)} == {1, 2, 3}
    assert all(5 <= draw.number(5, 6) < 6 for _ in range(60))
    assert draw.choice("abc") in "abc"
    assert draw.tensor((2,), 0, 100, torch.int32).dtype == torch.int32
