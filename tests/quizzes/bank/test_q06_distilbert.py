"""Lesson 06's exercises ask about gradients, and about every term of a sum by itself."""

from quizzes import lesson

EXERCISES = lesson("06").exercises


def test_gradients_are_asked_about():
    observed = {name: {case.observe for case in exercise.draw(0)} for name, exercise in EXERCISES.items()}
    assert all("gradients" in observed[name] for name in ("cosine_loss", "triple_loss"))


def test_the_loss_itself_shows_every_part_of_its_sum():
    """One group for each term alone: who leaves a term out hears which one."""
    groups = {case.group: case for case in EXERCISES["triple_loss"].draw(0)}
    for alone in ("soft targets alone", "masked-language loss alone", "cosine alone"):
        weights = groups[alone].arguments[6]
        assert sorted(weights) == [0.0, 0.0, 1.0]
