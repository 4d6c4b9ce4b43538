"""What the tests of attacks share: a submission whose every function is an attack, judged in the sandbox."""

from quizzes.grading.intake.submission import parse
from quizzes.grading.judging.grader import Grader, Judgement
from quizzes.grading.sandbox.limits import SandboxLimits
from tests.quizzes.grading.class_of_tests import cell, data, lesson_of
from tests.quizzes.grading.naive import IMPORTS

LIMITS = SandboxLimits(cpu_seconds=1, wall_seconds=30, memory_bytes=400 * 2**20)


def judged(bodies: dict[str, str], sandbox, limits: SandboxLimits = LIMITS) -> dict[str, Judgement]:
    """Judgements by exercise; every exercise is to return 2 * x, and has this body."""
    source = "\n".join([IMPORTS, *(f"def {name}(x):\n    {body}" for name, body in bodies.items())])
    grader = Grader(7, sandbox, limits, questions_count=False)
    return {item.item: item for item in grader.judge(parse(data(cell(source))), lesson_of(*bodies))}


def assert_verdict(judgement: Judgement, status: str) -> None:
    """It has this status, and points only when it passed."""
    assert judgement.status == status, judgement.detail
    assert judgement.points == (judgement.max_points if status == "passed" else 0)
