"""A page for each student and lesson: points, the first example that went wrong, the mistake, what to read again.

What a hidden case holds stays out. Of what a learner's code said, only its answer to a visible example is shown.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import jinja2

from lessons_lib.files import atomic
from quizzes import lessons
from quizzes.exercises.hand_ins import HandIn
from quizzes.grading.gradebook.grades import Grade, Item, item_name
from quizzes.grading.intake.names import folder_name
from quizzes.grading.judging.verdicts import measured_of

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"

FOLDER = "feedback"
UNREAD = "hand-in"  # the page of what belongs to no lesson
SAYS = {
    "wrong": "It ran, and some of its answers are not what was asked for.",
    "raised": "It raised an exception.",
    "not attempted": "Not attempted yet.",
    "ran out of time": "It took too long and was stopped.",
    "ran out of memory": "It used more memory than it may and was stopped.",
    "exited": "It ended the process instead of giving an answer.",
    "crashed": "It crashed the process.",
    "malformed answer": "Its answer was not one that can be compared.",
    "cannot be parsed": "Its cell is not valid Python.",
    "refused": "The model was not run.",
    "cannot be run": "The model could not be run on two public examples.",
    "no tier": "It was judged, and meets no tier yet.",
}
# Of these the detail is the grader's own, or about what everybody may know.
OWN_WORDS = ("cannot be parsed", "not attempted", "refused", "cannot be run")


@dataclass(frozen=True)
class Outline:
    """A lesson's title, and the section each piece of work stands in; both empty where the notebook is not at hand."""

    title: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def outline(number: str, folder: Path = NOTEBOOKS) -> Outline:
    """The outline of a lesson's notebook."""
    path = next(iter(sorted(folder.glob(f"{number}_*.ipynb"))), None)
    if not number or path is None:
        return Outline()
    title, section, sections = "", "", {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        exercise = cell["metadata"].get("exercise") or cell["metadata"].get("hand_in")
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# ") and not title:
                    title = line.removeprefix("# ").strip()
                if line.startswith("## "):
                    section = line.removeprefix("## ").strip()
        elif exercise and section:
            sections[exercise] = section
    return Outline(title, sections)


@dataclass(frozen=True)
class Shown:
    """One exercise or question as the page shows it."""

    name: str
    kind: str
    mark: str
    points: float
    max_points: float
    stem: str = ""
    says: str = ""
    mistake: str = ""
    call: str = ""
    expected: str = ""
    got: str = ""
    parts: tuple[str, ...] = ()
    hint: str = ""
    reread: str = ""
    comment: str = ""
    machine: float = 0.0
    facts: tuple[tuple[str, str], ...] = ()


@functools.cache
def pages() -> jinja2.Environment:
    """The templates. Everything put into one is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["points"] = lambda value: f"{value:g}"
    environment.filters["moment"] = lambda text: datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    return environment


def title(lesson: str) -> str:
    """A lesson as people know it."""
    name = outline(lesson).title
    return f"Lesson {lesson}: {name}" if lesson and name else f"Lesson {lesson}" if lesson else "Your hand-in"


@functools.cache
def _quiz(lesson: str) -> lessons.Lesson | None:
    """A lesson's exercises and questions, None for one that the gradebook has and the course has not."""
    return lessons.lesson(lesson) if lesson in lessons.numbers() else None


def page(grade: Grade) -> str:
    """One student's page for one lesson, as HTML."""
    views = [_shown(grade.lesson, item) for item in grade.items]
    both = list(zip(grade.items, views, strict=True))
    sections = [
        ("Exercises", [view for item, view in both if item.kind == "exercise"]),
        ("Questions", [view for item, view in both if item.kind == "question"]),
    ]
    graded = bool(grade.max_points)
    return (
        pages()
        .get_template("feedback.html")
        .render(title=title(grade.lesson), student=grade.student, grade=grade, sections=sections, graded=graded)
    )


def _shown(lesson: str, item: Item) -> Shown:
    right = item.points >= item.max_points
    kind, mark = ("right", "Right") if right else ("partly", "Partly right") if item.points else ("wrong", "Not right")
    verdict = item.verdict
    if verdict is not None and verdict.status == "not attempted" and not item.points:
        mark = "Not attempted"
    hand_in = _quiz(lesson).hand_ins.get(item.name) if _quiz(lesson) else None
    if hand_in is not None:
        details = _model(lesson, hand_in, item)
    else:
        details = _exercise(lesson, item) if item.kind == "exercise" else _question(lesson, item)
    if verdict is not None and verdict.model is not None:
        mark = verdict.status.capitalize()
    if item.override is not None:
        details |= {"comment": item.override.comment, "machine": verdict.points if verdict else 0.0}
    return Shown(item_name(item.kind, item.name), kind, mark, item.points, item.max_points, **details)


def _model(lesson: str, hand_in: HandIn, item: Item) -> dict:
    """What was measured of a model, or why nothing was; and what the tiers ask for."""
    verdict = item.verdict
    measured = measured_of(verdict) if verdict else None
    facts = tuple(hand_in.figures(measured) if measured else hand_in.budgets())
    says = SAYS.get(verdict.status, "") if verdict else ""
    if verdict and verdict.status in OWN_WORDS and verdict.detail:
        says = f"{says} ({verdict.detail})"
    if item.points >= item.max_points:
        return {"says": says, "facts": facts}
    return {"says": says, "facts": facts, "hint": hand_in.hint, "reread": _section(lesson, item.name)}


def _section(lesson: str, item: str) -> str:
    """Where to read again, empty when the notebook is not at hand."""
    section = outline(lesson).sections.get(item)
    return f"lesson {lesson}, section “{section}”" if section else ""


def _exercise(lesson: str, item: Item) -> dict:
    verdict = item.verdict
    if verdict is None or verdict.status == "passed":
        return {}
    says = SAYS.get(verdict.status, verdict.status)
    if verdict.groups:
        says = f"{says} {verdict.groups_right} of {verdict.groups} parts are right."
    elif verdict.status in OWN_WORDS and verdict.detail:
        says = f"{says} ({verdict.detail})"
    exercise = _quiz(lesson).exercises.get(item.name) if _quiz(lesson) else None
    return {
        "says": says,
        "mistake": verdict.mistake,
        "call": verdict.call,
        "expected": verdict.expected,
        "got": verdict.got,
        "parts": tuple(verdict.parts_wrong.splitlines()),
        "hint": exercise.hint if exercise else "",
        "reread": _section(lesson, item.name),
    }


def _question(lesson: str, item: Item) -> dict:
    """What the notebook says to the same answer: why this choice is not right, and a hint; never the right letter."""
    verdict = item.verdict
    question = _quiz(lesson).questions.get(item.name) if _quiz(lesson) else None
    if verdict is None or verdict.status == "passed" or question is None:
        return {}
    choice = question.choices.get(verdict.detail.strip().upper())
    says = f"{verdict.detail.strip().upper()}: {choice.explanation}" if choice else SAYS.get(verdict.status, "")
    if verdict.status == "wrong" and not choice:
        says = "The answer is not one of the choices."
    return {"stem": question.stem, "says": says, "hint": question.hint}


def write(grades: list[Grade], out: Path) -> Path:
    """Write OUT/feedback/<student>/NN.html for every hand-in, and remove pages of what is no longer there."""
    folder, written = out / FOLDER, set()
    for grade in grades:
        if grade.entry is None and not grade.items and grade.override is None:
            continue
        path = _free(folder / folder_name(grade.student), grade.lesson or UNREAD, written)
        atomic.write_text(path, page(grade))
        written.add(path)
    for path in _pages(folder):
        if path not in written:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    return folder


def _free(folder: Path, name: str, written: set[Path]) -> Path:
    path, number = folder / f"{name}.html", 1
    while path in written:
        number += 1
        path = folder / f"{name}-{number}.html"
    return path


def _pages(folder: Path) -> Iterator[Path]:
    for student in sorted(folder.iterdir()) if folder.is_dir() else ():
        if student.is_dir() and not student.is_symlink():
            yield from sorted(student.glob("*.html"))
