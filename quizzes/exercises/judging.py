"""From answers to a verdict. The same judgement serves the notebook's check and the grader: it sees values only."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from quizzes.display import html
from quizzes.display.tensors import Parting
from quizzes.exercises.exercises import Case, Exercise, Tolerance
from quizzes.inside import recipes

NOT_ATTEMPTED = "not attempted"
RAISED = "raised"
ANSWERED = "answered"


@dataclass(frozen=True)
class Answer:
    """What came back for one case: the observed values, or why there are none (`status` and `detail`)."""

    values: dict[str, Any] | None = None
    status: str = ANSWERED
    detail: str = ""


@dataclass(frozen=True)
class Failure:
    """One case that went wrong: the call as a learner would type it, what was expected, what came, where they part."""

    case: Case
    expected: dict[str, Any] | None
    answer: Answer
    difference: str
    tolerance: Tolerance

    @property
    def parting(self) -> Parting | None:
        """The first two values that differ, when both are tensors and there is more than one number to see."""
        got = self.answer.values or {}
        for path, wanted in self.expected.items():
            if path not in got or _entry(wanted, got[path], self.tolerance):
                break
        else:
            return None
        both = wanted, got.get(path)
        if not all(isinstance(value, torch.Tensor) for value in both) or max(value.numel() for value in both) < 2:
            return None
        alike = both[0].shape == both[1].shape and both[0].dtype == both[1].dtype
        return Parting(path, *both, ~_agree(*both, self.tolerance) if alike else None)


@dataclass(frozen=True)
class CheckResult:
    """The verdict on one exercise. `score` is the share of groups that passed, `points` what that is worth."""

    exercise: str
    score: float
    max_points: int
    status: str
    failures: list[Failure] = field(default_factory=list)
    groups: dict[str, bool] = field(default_factory=dict)
    mistake: str | None = None
    hint: str = ""

    @property
    def passed(self) -> bool:
        """Whether every group passed."""
        return self.score == 1.0

    @property
    def points(self) -> float:
        """Points earned, to two decimals."""
        return round(self.score * self.max_points, 2)

    @property
    def first_of_each_part(self) -> list[Failure]:
        """The first failing case of every group that has one."""
        firsts = {}
        for failure in self.failures:
            firsts.setdefault(failure.case.group, failure)
        return list(firsts.values())

    def case(self) -> tuple:
        """The arguments of the first failing call, made anew each time: `soften(*result.case())` runs it again.

        Raises ValueError when nothing failed.
        """
        if not self.failures:
            raise ValueError(f"{self.exercise} passed: there is no failing call to run again.")
        return self.failures[0].case.build()

    @property
    def feedback(self) -> str:
        """The verdict in words: the recognised mistake, then the first failing call."""
        return html.feedback_text(self)

    def __repr__(self) -> str:
        return self.feedback

    def _repr_html_(self) -> str:
        return html.feedback_html(self)

    def _ipython_display_(self) -> None:
        from quizzes.display import notebook

        notebook.show_check(self)


def ask(function: Callable, case: Case) -> Answer:
    """Call a function in this process with one case. What it raises becomes part of the answer."""
    try:
        return Answer(case.run(function))
    except Exception as error:  # whatever a learner's code raises is an answer too
        if recipes.not_written(error):
            return Answer(status=NOT_ATTEMPTED, detail=str(error))
        return Answer(status=RAISED, detail=f"{type(error).__name__}: {error}")


class AnswerKey:
    """What the reference and every known mistake answer to some cases: computed once, compared with many answers."""

    def __init__(self, exercise: Exercise, cases: list[Case]):
        self.exercise, self.cases = exercise, cases

    @cached_property
    def expected(self) -> list[dict[str, Any]]:
        """The reference's values, case by case."""
        return [case.run(self.exercise.reference) for case in self.cases]

    @cached_property
    def mistaken(self) -> list[tuple[str, list[Answer]]]:
        """What to say of each known mistake, and what it answers case by case."""
        return [(item.text, [ask(item.function, case) for case in self.cases]) for item in self.exercise.mistakes]

    def judge(self, answers: list[Answer]) -> CheckResult:
        """Compare answers with the reference's. A case without an answer counts as failed.

        Raises ValueError when there are not as many answers as cases.
        """
        exercise = self.exercise
        if len(self.cases) != len(answers):
            raise ValueError(
                f"{exercise.name}: {len(self.cases)} cases but {len(answers)} answers; send one answer a case."
            )
        failures, groups = [], {}
        for case, wanted, answer in zip(self.cases, self.expected, answers, strict=True):
            difference = _difference(wanted, answer, exercise.tolerance)
            groups[case.group] = groups.get(case.group, True) and difference is None
            if difference is not None:
                failures.append(Failure(case, wanted, answer, difference, exercise.tolerance))
        score = sum(groups.values()) / len(groups)
        mistake = self._recognise(answers, failures) if failures else None
        status = _status(failures)
        return CheckResult(exercise.name, score, exercise.points, status, failures, groups, mistake, exercise.hint)

    def _recognise(self, answers: list[Answer], failures: list[Failure]) -> str | None:
        """The known mistake that explains every failing case; of several the one that explains most."""
        if all(failure.answer.status == NOT_ATTEMPTED for failure in failures):
            return None
        failed = {id(failure.case) for failure in failures}
        best, mistake = 0, None
        for text, mistaken in self.mistaken:
            pairs = zip(mistaken, answers, strict=True)
            explained = [_same(theirs, answer, self.exercise.tolerance) for theirs, answer in pairs]
            all_failures = all(ok for ok, case in zip(explained, self.cases, strict=True) if id(case) in failed)
            if all_failures and sum(explained) > best:
                best, mistake = sum(explained), text
        return mistake


def judge(exercise: Exercise, cases: list[Case], answers: list[Answer]) -> CheckResult:
    """Compare answers with the reference's, once. Raises ValueError when there are not as many answers as cases."""
    return AnswerKey(exercise, cases).judge(answers)


def _status(failures: list[Failure]) -> str:
    """One word for the whole: "passed", "wrong", or what kept the first failing case from being answered."""
    if not failures:
        return "passed"
    return "wrong" if failures[0].answer.values is not None else failures[0].answer.status


def _difference(expected: dict[str, Any], answer: Answer, tolerance: Tolerance) -> str | None:
    if answer.values is None:
        return f"{answer.status}: {answer.detail}" if answer.detail else answer.status
    return compare(expected, answer.values, tolerance)


def compare(expected: dict[str, Any], got: dict[str, Any], tolerance: Tolerance) -> str | None:
    """Where two observed dicts first differ, in words, or None when they agree within the tolerance."""
    for path, wanted in expected.items():
        if path not in got:
            return f"{path} is missing: {_kind(got)} came back"
        problem = _entry(wanted, got[path], tolerance)
        if problem:
            return f"{path}: {problem}"
    extra = [path for path in got if path not in expected]
    return f"{extra[0]} was not asked for" if extra else None


def _kind(values: dict[str, Any]) -> str:
    if "value.length" in values:
        return f"a sequence of {values['value.length']}"
    value = values.get("value")
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)


def _entry(wanted, got, tolerance: Tolerance) -> str | None:
    """One value against another. A number and a tensor without axes may stand for one another."""
    if isinstance(wanted, torch.Tensor) and wanted.ndim == 0 and _is_number(got):
        got = torch.tensor(got, dtype=wanted.dtype)
    if _is_number(wanted) and isinstance(got, torch.Tensor) and got.ndim == 0:
        got = got.item()
    if isinstance(wanted, torch.Tensor):
        return _tensors(wanted, got, tolerance)
    if _is_number(wanted) and _is_number(got):
        if type(wanted) in (int, float) and type(got) in (int, float) and wanted == got:  # no __eq__ of their own
            return None
        wide = torch.float64
        close = _agree(torch.tensor(wanted, dtype=wide), torch.tensor(got, dtype=wide), tolerance)
        return None if bool(close) else f"expected {wanted!r}, got {got!r}"
    same = type(wanted) is type(got) and wanted == got
    return None if same else f"expected {html.brief(wanted)}, got {html.brief(got)}"


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tensors(wanted: torch.Tensor, got, tolerance: Tolerance) -> str | None:
    if not isinstance(got, torch.Tensor):
        return f"expected a tensor of shape {tuple(wanted.shape)}, got {html.brief(got)}"
    if got.shape != wanted.shape:
        return f"expected shape {tuple(wanted.shape)}, got {tuple(got.shape)}"
    if got.dtype != wanted.dtype:
        return f"expected dtype {wanted.dtype}, got {got.dtype}"
    if torch.equal(wanted, got):  # as most right answers are: the quick way
        return None
    apart = ~_agree(wanted, got, tolerance)
    if not apart.any():
        return None
    position = tuple(apart.nonzero()[0].tolist())
    where = f" at {list(position)}" if position else ""
    return (
        f"expected {wanted[position].item():.6g}, got {got[position].item():.6g}{where}; "
        f"{int(apart.sum())} of {apart.numel()} entries differ"
    )


def _agree(wanted: torch.Tensor, got: torch.Tensor, tolerance: Tolerance) -> torch.Tensor:
    """Entry by entry: equal, both NaN, or within the tolerance. Infinities agree only with themselves."""
    same = (wanted == got) | ((wanted != wanted) & (got != got))
    if tolerance.rtol == tolerance.atol == 0:
        return same
    wanted, got = wanted.double(), got.double()
    bound = tolerance.atol + tolerance.rtol * wanted.abs()
    return same | (((got - wanted).abs() <= bound) & wanted.isfinite())


def _same(left: Answer, right: Answer, tolerance: Tolerance) -> bool:
    if left.values is None or right.values is None:
        kind = [answer.detail.split(":")[0] for answer in (left, right)]
        return left.status == right.status == RAISED and kind[0] == kind[1]
    return compare(left.values, right.values, tolerance) is None
