"""Lesson 03's exercises ask about gradients too."""

from quizzes import lesson

EXERCISES = lesson("03").exercises


def test_gradients_are_asked_about():
    observed = {name: {case.observe for case in exercise.draw(0)} for name, exercise in EXERCISES.items()}
    assert all("gradients" in seen for name, seen in observed.items() if name != "soften")
