"""Grades handed on to nbgrader: assignments, grade cells and scores in its own database, through its own interface."""

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SAWarning

from quizzes.grading.export import ExportError
from quizzes.grading.gradebook import Gradebook
from quizzes.grading.grades import Grade, Item, grades, item_name, the_class
from quizzes.grading.names import folder_name
from quizzes.grading.outline import NOTEBOOKS

DATABASE = "gradebook.db"


def write(gradebook: Gradebook, course: Path, notebooks: Path = NOTEBOOKS) -> Path:
    """Write a course folder for nbgrader: gradebook.db, and source/<lesson>/, which its formgrader wants to see.

    A second export brings the machine's scores up to date and leaves what was graded by hand in nbgrader as it is.
    Raises ExportError when nbgrader is not installed.
    """
    try:
        from nbgrader.api import Gradebook as Theirs
    except ImportError as error:
        raise ExportError("nbgrader is not installed; pip install nbgrader==0.9.6") from error
    everybody = [grade for grade in grades(gradebook) if grade.lesson and grade.counts]
    found = [grade for grade in everybody if grade.entry]
    if not found:
        raise ExportError("there are no grades yet; run course grade first")
    course.mkdir(parents=True, exist_ok=True)
    group = the_class(gradebook)
    with _alembic_at_hand(), Theirs(f"sqlite:///{course / DATABASE}") as theirs:
        for grade in everybody:             # those who handed in nothing have their row in nbgrader's exports too
            _introduce(theirs, grade)
        for lesson in sorted({grade.lesson for grade in found}):
            mine = [grade for grade in found if grade.lesson == lesson]
            name = _source(lesson, course, notebooks)
            due = group.due(lesson)
            theirs.update_or_create_assignment(name, duedate=_naive(due) if due else None)
            theirs.update_or_create_notebook(name, name)
            worth = _worth(mine)
            for item, points in worth.items():
                cell = {"notebook": name, "assignment": name}
                theirs.update_or_create_grade_cell(item, **cell, max_score=points, cell_type="code")
                theirs.update_or_create_solution_cell(item, **cell)
                theirs.update_or_create_source_cell(item, **cell, source="", cell_type="code")
            for grade in mine:
                _hand_over(theirs, name, grade, list(worth))
    return course / DATABASE


def _source(lesson: str, course: Path, notebooks: Path) -> str:
    """The assignment's name, which is the lesson's; a copy of the lesson's notebook becomes its source."""
    path = next(iter(sorted(notebooks.glob(f"{lesson}_*.ipynb"))), None)
    name = path.stem if path else f"lesson_{lesson}"
    folder = course / "source" / name
    folder.mkdir(parents=True, exist_ok=True)
    if path and not (folder / path.name).exists():
        shutil.copyfile(path, folder / path.name)
    return name


def _worth(found: list[Grade]) -> dict[str, float]:
    """Each item's points, in the class's measure."""
    return {item_name(item.kind, item.name): item.max_points * _scale(grade) for grade in found for item in grade.items}


def _scale(grade: Grade) -> float:
    return grade.max_points / grade.entry.max_points if grade.entry.max_points else 1.0


def _student(grade: Grade) -> str:
    """A student's name in nbgrader: their login, else a name that can be a folder's, as nbgrader's are."""
    return grade.person.login if grade.person and grade.person.login else folder_name(grade.student)


def _introduce(theirs, grade: Grade) -> None:
    first, _, last = grade.student.replace(",", " ").rpartition(" ")
    email = grade.person.email if grade.person else ""
    names = {"first_name": first or None, "last_name": last or None, "email": email or None}
    theirs.update_or_create_student(_student(grade), **names)


def _hand_over(theirs, name: str, grade: Grade, cells: list[str]) -> None:
    student = _student(grade)
    moment = _naive(datetime.fromisoformat(grade.entry.handed_in)) if grade.entry.handed_in else None
    theirs.update_or_create_submission(name, student, timestamp=moment)
    submission = theirs.find_submission_notebook(name, name, student)
    items = {item_name(item.kind, item.name): item for item in grade.items}
    scores = [_score(theirs, submission, (cell, name, name, student), items.get(cell), _scale(grade)) for cell in cells]
    raw = sum(item.points for item in grade.items) * _scale(grade)
    submission.late_submission_penalty = 0.0 if grade.override else raw * grade.penalty
    if grade.override and scores:
        # What a person gave for the whole lesson, as the difference from what the items earned.
        scores[0].extra_credit = grade.points - raw
    theirs.db.commit()


def _score(theirs, submission, where: tuple, item: Item | None, scale: float):
    """Fill in nbgrader's grade for one cell and the comment beside it."""
    from nbgrader.api import Comment, Grade, MissingEntry

    try:
        score, comment = theirs.find_grade(*where), theirs.find_comment(*where)
    except MissingEntry:                    # the submission was made before the lesson had this item
        score = Grade(cell_id=theirs.find_grade_cell(*where[:3]).id, notebook=submission)
        comment = Comment(cell_id=theirs.find_solution_cell(*where[:3]).id, notebook=submission)
        theirs.db.add_all([score, comment])
    score.auto_score = item.verdict.points * scale if item and item.verdict else 0.0
    if item and item.verdict:
        comment.auto_comment = item.verdict.mistake or item.verdict.status
    if item and item.override:
        score.manual_score = item.override.points * scale
        comment.manual_comment = item.override.comment
    score.needs_manual_grade = False
    return score


@contextlib.contextmanager
def _alembic_at_hand() -> Iterator[None]:
    """nbgrader starts alembic by name, and finds it only where an activated environment would. It also warns."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)
            yield
    finally:
        os.environ["PATH"] = before


def _naive(moment: datetime) -> str:
    """A moment as nbgrader takes it: UTC without saying so."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
