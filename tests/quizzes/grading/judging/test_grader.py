"""What a submission earns: shares of points, reasons, recognised mistakes. A plain process takes the same path."""

import pytest

from quizzes.grading.intake.submission import parse
from quizzes.grading.judging.grader import Grader, status_of
from quizzes.grading.sandbox.limits import SandboxLimits
from tests.quizzes.grading.class_of_tests import cell, data, lesson_of

NAMES = (
    "right",
    "partly",
    "known",
    "raising",
    "stub",
    "absent",
    "unparsed",
    "lost",
    "derived",
    "leaning",
    "undefined",
    "late",
    "lacking",
)

CELLS = (
    """
    from __future__ import annotations
    import torch
    from lessons_lib import affine
    FACTOR = 2
    scale = torch.tensor(2.0)
    half = scale[0]
    @affine.decorated
    def helper(x): return x
    """,
    cell("def right(x: Unknown):\n    quiz.check(right); display(x)\n    return FACTOR * x", "right"),
    cell("def partly(x):\n    return 2 * x if x.is_contiguous() else x", "partly"),
    cell("def known(x):\n    return x * x", "known"),
    cell("def raising(x):\n    return x.nothing", "raising"),
    cell("def stub(x):\n    '''Twice.'''\n    raise NotImplementedError", "stub"),
    cell("def unparsed(x)\n    return 2 * x", "unparsed"),
    cell("def lost(x):\n    return scale * x", "lost"),
    cell("def derived(x):\n    return half * x", "derived"),
    cell("def leaning(x):\n    return helper(x)", "leaning"),
    cell("@affine.decorated\ndef undefined(x):\n    return 2 * x", "undefined"),
    cell("def late(x):\n    if x.ndim > 1: raise NotImplementedError\n    return 2 * x", "late"),
    cell("def lacking(x):\n    return torch.nn.Module()(x)", "lacking"),
    'quiz.ask("1", answer="b")',
    'quiz.ask("2", answer="Z")',
)


@pytest.fixture(scope="module")
def found(plain):
    submission = parse(data(*CELLS))
    grader = Grader(5, plain, SandboxLimits(cpu_seconds=20))
    return {item.item: item for item in grader.judge(submission, lesson_of(*NAMES))}


@pytest.mark.parametrize(
    ("name", "points", "status", "detail"),
    [
        ("1", 1, "passed", "b"),
        ("2", 0, "wrong", "not one of the choices"),
        ("right", 2, "passed", ""),
        ("partly", 1.33, "wrong", ""),
        ("known", 0, "wrong", ""),
        ("raising", 0, "raised", "AttributeError: 'Tensor' object has no attribute 'nothing'"),
        ("stub", 0, "not attempted", "the stub is unchanged"),
        ("absent", 0, "not attempted", "no function of that name"),
        ("unparsed", 0, "cannot be parsed", "line 1 of its cell"),
        ("lost", 0, "raised", "takes only imports, functions, classes and literal constants. Make it inside"),
        ("derived", 0, "raised", "The notebook makes 'half' by running code; the grader takes only imports"),
        ("leaning", 0, "raised", "name 'helper' is not defined"),
        ("undefined", 0, "raised", "while it was defined: ImportError: lessons_lib.affine cannot be used here"),
        ("late", 0.67, "not attempted", ""),
        ("lacking", 0, "raised", "NotImplementedError: Module [Module] is missing the required"),
    ],
)
def test_each_answer_gets_its_points_and_its_reason(found, name, points, status, detail):
    assert (found[name].points, found[name].status) == (points, status)
    assert detail.lower() in found[name].detail.lower()


def test_what_failed_for_another_reason_is_not_said_to_be_made_by_running_code(found):
    assert "by running code" not in found["leaning"].detail


@pytest.mark.parametrize(
    ("damage", "honest"),
    [
        ("torch.set_default_device('meta')", "return 2 * x"),  # nothing can be copied any more
        ("torch.mul = torch.add", "return torch.mul(x, 2)"),
        ("Shared.lock.acquire(blocking=False)", "with Shared.lock: return 2 * x"),
    ],
)
def test_an_exercise_that_raises_takes_no_points_from_the_next(plain, damage, honest):
    shared = "import threading\nimport torch\nclass Shared:\n    lock = threading.Lock()"
    hurting = f"def hurting(x):\n    {damage}\n    raise ValueError"
    submission = parse(data(shared, cell(hurting), cell(f"def honest(x):\n    {honest}")))
    judged = Grader(5, plain, SandboxLimits(cpu_seconds=1)).judge(submission, lesson_of("hurting", "honest"))
    found = {item.item: (item.status, item.points) for item in judged}
    assert found["hurting"] == ("raised", 0)
    assert found["honest"] == ("passed", 2)


def test_a_known_mistake_is_recognised(found):
    assert found["known"].result.mistake == "You squared."


def test_nothing_is_started_for_a_submission_without_answers():
    class NoSandbox:
        def start(self, limits):
            raise AssertionError("a worker was started")

    judgements = list(Grader(5, NoSandbox()).judge(parse(data("x = 1")), lesson_of("f")))
    assert [item.status for item in judgements] == ["not attempted"] * 3


def test_what_is_known_is_not_judged_again():
    known = {("question", "1"), ("question", "2"), ("exercise", "f")}
    assert list(Grader(5, None).judge(parse(data("x = 1")), lesson_of("f"), known)) == []


@pytest.mark.parametrize(
    ("statuses", "line"),
    [
        ([("question", "1", "not attempted"), ("exercise", "f", "not attempted")], "not attempted"),
        ([("question", "1", "wrong"), ("exercise", "f", "not attempted")], "graded"),
        (
            [("exercise", "f", "passed"), ("exercise", "g", "ran out of time"), ("exercise", "h", "exited")],
            "graded; g ran out of time; h exited",
        ),
    ],
)
def test_a_status_says_what_went_wrong(statuses, line):
    assert status_of(statuses) == line


def test_a_comparison_that_fails_gives_no_points(monkeypatch):
    def broken(*_):
        raise OverflowError

    monkeypatch.setattr("quizzes.exercises.judging.AnswerKey.judge", broken)
    monkeypatch.setattr("quizzes.grading.judging.grader.Examination.ask", lambda *_: [])
    submission = parse(data("def f(x): return 2 * x"))
    judgement = list(Grader(5, None, questions_count=False).judge(submission, lesson_of("f")))[0]
    assert (judgement.points, judgement.status) == (0, "malformed answer")
