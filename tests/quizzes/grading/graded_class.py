"""A gradebook with verdicts of all kinds, formed without a sandbox."""

from datetime import UTC, datetime
from pathlib import Path

from quizzes import lesson
from quizzes.exercises import judging
from quizzes.grading.gradebook.gradebook import Entry, Gradebook
from quizzes.grading.judging.grader import Judgement, status_of
from quizzes.grading.judging.verdicts import verdict_of

LESSON = "03"


def judged(name: str, function, seed: int = 7) -> Judgement:
    """The judgement on a function, asked in this process."""
    exercise = lesson(LESSON).exercises[name]
    cases = exercise.draw(seed)
    result = judging.judge(exercise, cases, [judging.ask(function, case) for case in cases])
    detail = next((failure.answer.detail for failure in result.failures if failure.answer.detail), "")
    return Judgement("exercise", name, result.points, exercise.points, result.status, detail, result, 0.1)


def ended(name: str, status: str, detail: str = "") -> Judgement:
    """The judgement on a function that gave no answer."""
    return Judgement("exercise", name, 0.0, lesson(LESSON).exercises[name].points, status, detail)


def answered(id: str, letter: str) -> Judgement:
    """The judgement on a question."""
    right = letter == lesson(LESSON).questions[id].right
    return Judgement("question", id, float(right), 1.0, "passed" if right else "wrong", letter)


def hand_in(
    gradebook: Gradebook, student: str, judgements: list[Judgement], notebook: str = "03_soft_labels.ipynb", **known
) -> Entry:
    """Somebody's lesson with these verdicts; what they leave out is not attempted."""
    quiz = lesson(LESSON)
    there = {judgement.item for judgement in judgements}
    rest = [Judgement("question", id, 0.0, 1.0, "not attempted") for id in quiz.questions if id not in there]
    rest += [ended(name, "not attempted", "the stub is unchanged") for name in quiz.exercises if name not in there]
    entry = gradebook.open(student, LESSON, f"{student}/{notebook}", "0" * 64, True, **known)
    for judgement in [*judgements, *rest]:
        gradebook.add(entry, verdict_of(judgement))
    statuses = [(verdict.kind, verdict.item, verdict.status) for verdict in entry.verdicts]
    gradebook.finish(entry, status_of(statuses), float(quiz.max_points))
    return entry


def right(name: str) -> Judgement:
    """Full points for an exercise."""
    return judged(name, lesson(LESSON).exercises[name].reference)


def small_class(folder: Path) -> Gradebook:
    """Ann is all right, Bob makes a known mistake and more, Cyd handed in nothing that can be read."""
    gradebook, quiz = Gradebook.in_folder(folder), lesson(LESSON)
    names, moment = list(quiz.exercises), datetime(2026, 11, 20, 12, tzinfo=UTC)
    all_right = [right(name) for name in names]
    letters = [answered(id, question.right) for id, question in quiz.questions.items()]
    hand_in(gradebook, "Ann Lee", all_right + letters, handed_in=moment)
    first, second, third = (quiz.exercises[name] for name in names[:3])
    others = [
        answered(id, next(letter for letter in question.choices if letter != question.right))
        for id, question in quiz.questions.items()
    ]
    hand_in(
        gradebook,
        "Bob",
        [
            judged(first.name, first.mistakes[0].function),
            judged(second.name, lambda *arguments: arguments[0].nothing),
            ended(third.name, "ran out of time"),
            *others[:2],
        ],
        handed_in=moment,
    )
    broken = gradebook.open("Cyd", LESSON, "Cyd/03.ipynb", "03.ipynb is empty", True)
    gradebook.finish(broken, "03.ipynb is empty", float(quiz.max_points))
    return gradebook
