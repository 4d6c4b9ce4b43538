"""A lesson's quiz, as a notebook uses it: check, ask, hint, solution, progress."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from quizzes import bank, progress
from quizzes.display import notebook
from quizzes.exercises import exercises, hand_ins, judging, questions
from quizzes.exercises.exercises import Exercise
from quizzes.exercises.hand_ins import HandIn
from quizzes.exercises.questions import Question

if TYPE_CHECKING:
    from quizzes.models import check as model_check

PUBLIC_SEED = 20_05  # notebooks draw their cases from it; a grader draws from a secret seed of its own


def numbers() -> Mapping[str, str]:
    """Every lesson that has a bank: number -> name of its module, in order."""
    return _numbers(*bank.__path__)


@cache
def _numbers(*folders: str) -> Mapping[str, str]:
    names = sorted(module.name for module in pkgutil.iter_modules(folders) if module.name.startswith("q"))
    return MappingProxyType({name[1:3]: f"{bank.__name__}.{name}" for name in names})


def lesson(number: str) -> "Lesson":
    """The quiz of a lesson, by its two digits. Raises ValueError when there is no such lesson."""
    known = numbers()
    if number not in known:
        raise ValueError(f"there is no quiz for lesson {number!r}; there is one for {', '.join(known)}.")
    importlib.import_module(known[number])
    banks = (exercises.BANKS, questions.BANKS, hand_ins.BANKS)
    return Lesson(number, *(registry.get(known[number], {}) for registry in banks))


class Lesson:
    """Exercises, questions and hand-ins of one lesson, and the six things to do with them."""

    def __init__(
        self,
        number: str,
        exercises_by_name: dict[str, Exercise],
        questions_by_id: dict[str, Question],
        hand_ins_by_name: dict[str, HandIn] | None = None,
    ):
        self.number = number
        self.hand_ins: Mapping[str, HandIn] = MappingProxyType(hand_ins_by_name or {})
        self.exercises: Mapping[str, Exercise] = MappingProxyType(exercises_by_name)
        self.questions: Mapping[str, Question] = MappingProxyType(questions_by_id)

    @property
    def max_points(self) -> int:
        """Points of all exercises and hand-ins, and one for each question."""
        return sum(item.points for item in self.work.values()) + len(self.questions)

    @property
    def work(self) -> dict[str, Exercise | HandIn]:
        """Exercises and hand-ins by name: all that has points of its own."""
        return {**self.exercises, **self.hand_ins}

    def check(self, function: Callable) -> judging.CheckResult:
        """Ask a learner's function about every case and say what is wrong with it.

        Raises ValueError when no exercise of this lesson has the function's name.
        """
        exercise = self._exercise(function)
        cases = exercise.draw(PUBLIC_SEED)
        first = judging.ask(function, cases[0])
        # A stub is recognised by its first answer; asking it about the rest would only take time.
        rest = (
            [first] * (len(cases) - 1)
            if first.status == judging.NOT_ATTEMPTED
            else [judging.ask(function, case) for case in cases[1:]]
        )
        result = judging.judge(exercise, cases, [first, *rest])
        if result.status != judging.NOT_ATTEMPTED:
            progress.record(self.number, exercise.name, result.points)
        return result

    def ask(self, id: str, answer: object = ...) -> "notebook.QuestionView":
        """Show a question; with a letter, judge it. Raises ValueError for an unknown question or choice."""
        if id not in self.questions:
            raise ValueError(f"lesson {self.number} has no question {id!r}; it has {', '.join(self.questions)}.")
        question = self.questions[id]
        letter = question.letter(answer)
        if letter is not None:
            progress.record(self.number, f"question {id}", float(letter == question.right))
        return notebook.QuestionView(question, letter)

    def hand_in(self, name: str, folder: str = ".") -> "model_check.Result":
        """Judge the model that lies in a folder under the hand-in's file names, on public data.

        Raises ValueError when no hand-in of this lesson has the name.
        """
        from quizzes.models import check as model_check

        if name not in self.hand_ins:
            known = ", ".join(self.hand_ins) or "none"
            raise ValueError(f"lesson {self.number} has no hand-in {name!r}; it has {known}.")
        result = model_check.check(self.hand_ins[name], Path(folder), PUBLIC_SEED)
        if result.files:
            progress.record(self.number, name, result.points)
        return result

    def hint(self, function: Callable | str) -> "notebook.Note":
        """The hint of an exercise, or of a hand-in by its name."""
        return notebook.Note((self.hand_ins.get(function) or self._exercise(function)).hint)

    def solution(self, function: Callable | str, give_up: bool = False) -> "notebook.Code":
        """A right solution, once the exercise is passed, or at once with give_up=True.

        Raises PermissionError before that.
        """
        exercise = self._exercise(function)
        passed = progress.earned(self.number).get(exercise.name, 0) == exercise.points
        if not passed and not give_up:
            raise PermissionError(
                f"{exercise.name} is not passed yet. Try quiz.hint({exercise.name}) first; "
                f"quiz.solution({exercise.name}, give_up=True) shows the solution all the same."
            )
        return notebook.Code(exercise.solution())

    def progress(self) -> "notebook.ProgressView":
        """Points earned in this lesson, exercise by exercise and question by question."""
        earned = progress.earned(self.number)
        rows = [(name, earned.get(name), item.points) for name, item in self.work.items()]
        rows += [(f"question {id}", earned.get(f"question {id}"), 1) for id in self.questions]
        return notebook.ProgressView(self.number, rows)

    def _exercise(self, function: Callable | str) -> Exercise:
        name = function if isinstance(function, str) else getattr(function, "__name__", repr(function))
        if name not in self.exercises:
            raise ValueError(
                f"lesson {self.number} has no exercise {name!r}; it has {', '.join(self.exercises)}. "
                "Pass the function itself, under the exercise's own name."
            )
        return self.exercises[name]
