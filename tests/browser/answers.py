"""What a learner types into the cell of an exercise."""

import ast
import inspect
import textwrap

from quizzes.exercises.exercises import Exercise
from quizzes.learner.solve import with_solution


def mistaken(stub: str, exercise: Exercise) -> tuple[str, str]:
    """The cell with the exercise's first known mistake in it, and what the check says to that."""
    mistake = exercise.mistakes[0]
    source = textwrap.dedent(inspect.getsource(mistake.function))
    definition = ast.parse(source).body[0]
    signature, *body = source.splitlines()[definition.lineno - 1 :]
    wrong = "\n".join([signature.replace(" _(", f" {exercise.name}("), *body])
    return with_solution(stub, exercise.name, wrong), mistake.text.replace("`", "")


def right(stub: str, exercise: Exercise) -> str:
    """The cell with a right solution in it."""
    return with_solution(stub, exercise.name, exercise.solution())
