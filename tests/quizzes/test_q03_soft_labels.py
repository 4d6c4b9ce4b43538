"""Lesson 03's exercises: what their docstrings print is what the references return."""

import doctest

import pytest
import torch

from quizzes import lesson

EXERCISES = lesson("03").exercises


@pytest.mark.parametrize("name", EXERCISES)
def test_the_printed_example_is_true(name):
    exercise = EXERCISES[name]
    names = {name: exercise.reference, "torch": torch}
    example = doctest.DocTestParser().get_doctest(exercise.doc, names, name, None, 0)
    result = doctest.DocTestRunner(verbose=False).run(example)
    assert result.attempted >= 1
    assert result.failed == 0


def test_gradients_are_asked_about():
    observed = {name: {case.observe for case in exercise.draw(0)} for name, exercise in EXERCISES.items()}
    assert all("gradients" in seen for name, seen in observed.items() if name != "soften")
