"""From a judgement, which may hold hidden inputs, to what is kept of it."""

from dataclasses import asdict, fields

from quizzes.display import html
from quizzes.exercises.hand_ins import MeasuredModel
from quizzes.exercises.judging import CheckResult, Failure
from quizzes.grading.gradebook.tables import Model, Verdict
from quizzes.grading.judging.grader import Judgement


def verdict_of(judgement: Judgement) -> Verdict:
    """A row for the gradebook. Call, expected and got are of the first *visible* example that went wrong, if any."""
    result = judgement.result
    verdict = Verdict(
        kind=judgement.kind,
        item=judgement.item,
        points=judgement.points,
        max_points=judgement.max_points,
        status=judgement.status,
        detail=judgement.detail,
        seconds=judgement.seconds,
        mistake="",
        groups_right=0,
        groups=0,
        parts_wrong="",
        call="",
        expected="",
        got="",
    )
    verdict.model = Model(**asdict(judgement.measured)) if judgement.measured else None
    if result is not None:
        verdict.mistake = result.mistake or ""
        verdict.groups_right, verdict.groups = sum(result.groups.values()), len(result.groups)
        verdict.parts_wrong = "\n".join(group for group, right in result.groups.items() if not right)
        _show(verdict, result)
    return verdict


def measured_of(verdict: Verdict) -> MeasuredModel | None:
    """What was measured of a model, if the verdict is on one that could be measured."""
    row = verdict.model
    return MeasuredModel(**{field.name: getattr(row, field.name) for field in fields(MeasuredModel)}) if row else None


def _show(verdict: Verdict, result: CheckResult) -> None:
    failure = next((item for item in result.failures if item.case.visible), None)
    if failure is not None:
        verdict.call = html.call(result.exercise, failure.case.arguments)
        verdict.expected = html.values(failure.expected)
        verdict.got = _got(failure)


def _got(failure: Failure) -> str:
    answer = failure.answer
    if answer.values is None:
        return f"{answer.status}: {answer.detail}" if answer.detail else answer.status
    return f"{html.values(answer.values)}\n({failure.difference})"
