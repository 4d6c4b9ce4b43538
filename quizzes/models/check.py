"""What a notebook says to a model in its folder: the same look into the file and the same measure as the grader's."""

import time
from dataclasses import dataclass
from pathlib import Path

from lessons_lib.measure.intervals import Interval
from quizzes.display import html
from quizzes.exercises.hand_ins import NO_TIER, HandIn, MeasuredModel, Tier
from quizzes.inside.onnx_check import ModelRefused
from quizzes.models import tasks


@dataclass(frozen=True)
class Result:
    """The verdict on a hand-in: which files were there, what was measured, or `problem`, why nothing was."""

    hand_in: HandIn
    files: tuple[str, ...] = ()
    measured: MeasuredModel | None = None
    problem: str = ""

    @property
    def tier(self) -> Tier | None:
        """The best tier that the model meets."""
        return self.hand_in.tier(self.measured) if self.measured else None

    @property
    def points(self) -> float:
        """What the tier is worth."""
        return self.hand_in.worth(self.tier)

    @property
    def quality(self) -> Interval | None:
        """Accuracy or BLEU on the public data, with its interval."""
        measurement = self.measured
        return Interval(measurement.quality, measurement.low, measurement.high) if measurement else None

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        if not self.files:
            return f"{self.hand_in.name}: not attempted yet. {self.problem}"
        if self.problem:
            return f"{self.hand_in.name}: not judged. {self.problem}"
        name = self.tier.name if self.tier else NO_TIER
        return f"{self.hand_in.name}: {name}, {self.points:g} of {self.hand_in.points} points, on public data."

    def rows(self) -> list[tuple[str, str]]:
        """What was measured, and what is missing for the next tier, as label and text."""
        return self.hand_in.figures(self.measured) if self.measured else self.hand_in.budgets()

    def __repr__(self) -> str:
        return "\n".join([self.headline, *(f"{label}: {text}" for label, text in self.rows())])

    def _repr_html_(self) -> str:
        return html.model_html(self.headline, self.rows())


def check(hand_in: HandIn, folder: Path, seed: int) -> Result:
    """Judge the model in a folder on public data, in this process: it is one's own."""
    from quizzes.inside import onnx_run

    task = tasks.TASKS[hand_in.task]
    paths = [folder / name for name in task.files]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        return Result(hand_in, problem=f"There is no {' and no '.join(missing)} in {folder.resolve().name}.")
    large = [path.name for path in paths if path.stat().st_size > task.most_bytes]
    if large:
        return Result(hand_in, task.files, problem=f"{large[0]} is too large: {task.most_bytes:,} bytes at most.")
    files = [path.read_bytes() for path in paths]
    try:
        model = onnx_run.TASKS[task.name](files, task.settings())
        model.run(task.sample())
        held = tasks.public(task.name, seed)
        begin = time.perf_counter()
        answers = model.run(held.inputs)
        seconds = time.perf_counter() - begin
        measurement = tasks.measured(hand_in, held, answers, sum(map(len, files)), seconds)
    except ModelRefused as error:
        return Result(hand_in, task.files, problem=f"The model {error}.")
    except Exception as error:  # ONNX Runtime's have no base of their own
        return Result(hand_in, task.files, problem=f"It cannot be run: {str(error).strip() or type(error).__name__}")
    return Result(hand_in, task.files, measurement)
