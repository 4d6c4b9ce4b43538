"""Where a learner stands in the whole course: lessons, points, minutes, and what comes next."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from quizzes import lessons, progress
from quizzes.display import notebook

SYLLABUS = Path(__file__).resolve().parents[2] / "notebooks" / "syllabus.toml"


@dataclass(frozen=True)
class Standing:
    """One lesson: what was earned of what can be, and the minutes it takes.

    exercises (hand-ins too), questions: each by the name its points are kept under ("soften", "question 1"), and
    whether it is solved.
    """

    name: str
    title: str
    minutes: int
    points: float
    most: int
    exercises: dict[str, bool]
    questions: dict[str, bool]

    @property
    def number(self) -> str:
        """The lesson's two digits."""
        return self.name[:2]

    @property
    def minutes_left(self) -> int:
        """The share of the lesson's minutes that its missing points stand for."""
        return round(self.minutes * (1 - self.points / self.most))


def standings() -> list[Standing]:
    """Every lesson that is here, in the syllabus' order."""
    return [_standing(entry) for entry in ready()]


def ready() -> list[dict]:
    """The syllabus' entries of the lessons that are here, in order."""
    entries = tomllib.loads(SYLLABUS.read_text(encoding="utf-8"))["lessons"]
    return [entry for entry in entries if entry["status"] == "ready"]


def _standing(entry: dict) -> Standing:
    number = entry["name"][:2]
    quiz, earned = lessons.lesson(number), progress.earned(number)
    exercises = {name: earned.get(name, 0) == item.points for name, item in quiz.work.items()}
    questions = {name: earned.get(name, 0) == 1 for name in (f"question {id}" for id in quiz.questions)}
    points = sum(earned.get(name, 0) for name in (*exercises, *questions))
    return Standing(entry["name"], entry["title"], entry["minutes"], points, quiz.max_points, exercises, questions)


def following(rows: list[Standing]) -> tuple[Standing, str] | None:
    """The first exercise that is not solved, with its lesson; when all are, the first such question; else None."""
    for kind in ("exercises", "questions"):
        for row in rows:
            for name, solved in getattr(row, kind).items():
                if not solved:
                    return row, name
    return None


def course_progress() -> "notebook.CourseView":
    """The whole course at a glance, for a notebook."""
    rows = standings()
    return notebook.CourseView(rows, following(rows))
