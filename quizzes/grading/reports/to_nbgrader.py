"""Grades handed on to nbgrader: assignments, grade cells and scores in its own database, through its own interface."""

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import String
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quizzes import lessons
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import Grade, Item, grades, item_name, the_class
from quizzes.grading.gradebook.tables import Override
from quizzes.grading.intake.names import folder_name
from quizzes.grading.reports.export import ExportError
from quizzes.grading.reports.feedback import NOTEBOOKS

DATABASE = "gradebook.db"


class Ours(DeclarativeBase):
    """What this course keeps in nbgrader's database, beside nbgrader's own tables."""


class HandedOver(Ours):
    """What an export wrote where people write too: so the next one can take that back, and nothing of theirs."""

    __tablename__ = "handed_over_by_course"
    grade_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    said: Mapped[str] = mapped_column(default="")  # when people gave that here, and what: another is something new
    manual_score: Mapped[float | None]
    extra_credit: Mapped[float | None]
    manual_comment: Mapped[str | None]


def write(gradebook: Gradebook, course: Path, notebooks: Path = NOTEBOOKS) -> Path:
    """Write a course folder for nbgrader: gradebook.db, and source/<lesson>/, which its formgrader wants to see.

    A second export brings the machine's scores up to date, and so what was given by hand here, also when it was taken
    back. What was graded by hand in nbgrader stays as it is, unless somebody gave other points here since.
    Raises ExportError when nbgrader is not installed.
    """
    try:
        from nbgrader.api import Gradebook as Theirs
    except ImportError as error:
        raise ExportError("nbgrader is not installed; pip install nbgrader==0.9.6") from error
    everybody = [grade for grade in grades(gradebook) if grade.lesson and grade.counts]
    exported_grades = [grade for grade in everybody if grade.entry or grade.override or grade.items]
    if not exported_grades and not (course / DATABASE).exists():  # in a later export something may be left to take back
        raise ExportError("there are no grades yet; run course grade first")
    course.mkdir(parents=True, exist_ok=True)
    group, written = the_class(gradebook), set()
    with _alembic_at_hand(), Theirs(f"sqlite:///{course / DATABASE}") as theirs:
        Ours.metadata.create_all(theirs.db.connection())
        theirs.db.commit()
        for grade in everybody:  # those who handed in nothing have their row in nbgrader's exports too
            _introduce(theirs, grade)
        for lesson in sorted({grade.lesson for grade in exported_grades}):
            name, due = _source(lesson, course, notebooks), group.due(lesson)
            theirs.update_or_create_assignment(name, duedate=_naive(due) if due else None)
            mine = _scaled([grade for grade in exported_grades if grade.lesson == lesson])
            cells = _cells(theirs, name, _worth(mine))
            for grade, scale in mine:
                written |= _hand_over(theirs, name, grade, scale, cells)
        _take_back(theirs, written)
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


def _scaled(lesson_grades: list[Grade]) -> list[tuple[Grade, float]]:
    """The grades of one lesson, each with what a point of the bank is worth in the class's measure."""
    quiz = lessons.lesson(lesson_grades[0].lesson) if lesson_grades[0].lesson in lessons.numbers() else None
    # Who handed in nothing is measured as the others are; without others, as the bank has it.
    graded = max((grade.entry.max_points for grade in lesson_grades if grade.entry), default=0.0)
    usual = graded or (quiz.max_points if quiz else 0.0)
    worths = [grade.entry.max_points if grade.entry else usual for grade in lesson_grades]
    return [
        (grade, grade.max_points / worth if worth else 1.0) for grade, worth in zip(lesson_grades, worths, strict=True)
    ]


def _worth(scaled_grades: list[tuple[Grade, float]]) -> dict[str, float]:
    """Each item's points, in the class's measure; the bank's items where nothing was judged that would tell them."""
    lesson, scale = scaled_grades[0][0].lesson, scaled_grades[0][1]
    worth = {}
    if not any(item.verdict for grade, _ in scaled_grades for item in grade.items) and lesson in lessons.numbers():
        quiz = lessons.lesson(lesson)
        worth = {name: item.points * scale for name, item in quiz.work.items()}
        if sum(worth.values()) < scaled_grades[0][0].max_points - 1e-6:  # then questions count
            worth |= {item_name("question", id): scale for id in quiz.questions}
    for grade, scale in scaled_grades:
        worth |= {item_name(item.kind, item.name): item.max_points * scale for item in grade.items}
    return worth


def _cells(theirs, name: str, worth: dict[str, float]) -> list[str]:
    """The assignment's notebook with a cell for each item; returns their names."""
    theirs.update_or_create_notebook(name, name)
    for item, points in worth.items():
        cell = {"notebook": name, "assignment": name}
        theirs.update_or_create_grade_cell(item, **cell, max_score=points, cell_type="code")
        theirs.update_or_create_solution_cell(item, **cell)
        theirs.update_or_create_source_cell(item, **cell, source="", cell_type="code")
    return list(worth)


def _student(grade: Grade) -> str:
    """A student's name in nbgrader: their login, else a name that can be a folder's, as nbgrader's are."""
    return grade.person.login if grade.person and grade.person.login else folder_name(grade.student)


def _introduce(theirs, grade: Grade) -> None:
    first, _, last = grade.student.replace(",", " ").rpartition(" ")
    email = grade.person.email if grade.person else ""
    names = {"first_name": first or None, "last_name": last or None, "email": email or None}
    theirs.update_or_create_student(_student(grade), **names)


def _hand_over(theirs, name: str, grade: Grade, scale: float, cells: list[str]) -> set[str]:
    """Write one student's grade for one lesson; returns the ids of nbgrader's grades."""
    student = _student(grade)
    handed_in = grade.entry.handed_in if grade.entry else ""
    moment = _naive(datetime.fromisoformat(handed_in)) if handed_in else None
    theirs.update_or_create_submission(name, student, timestamp=moment)
    submission = theirs.find_submission_notebook(name, name, student)
    items = {item_name(item.kind, item.name): item for item in grade.items}
    raw = sum(item.points for item in grade.items) * scale
    submission.late_submission_penalty = 0.0 if grade.override else raw * grade.penalty
    # What a person gave for the whole lesson, as the difference from what the items earned; one cell has it.
    extra = [(grade.points - raw if grade.override else None, _said(grade.override))] + [(None, "")] * len(cells)
    ids = {
        _score(theirs, submission, (cell, name, name, student), items.get(cell), scale, credit)
        for cell, credit in zip(cells, extra, strict=False)
    }
    theirs.db.commit()
    return ids


def _said(override: Override | None) -> str:
    return f"{override.made} {override.points:g}" if override else ""


def _score(theirs, submission, where: tuple, item: Item | None, scale: float, extra: tuple[float | None, str]) -> str:
    """Fill in nbgrader's grade for one cell and the comment beside it; returns the grade's id.

    extra: extra credit for the whole lesson, and when it was given.
    """
    from nbgrader.api import Comment, Grade, MissingEntry

    try:
        score, comment = theirs.find_grade(*where), theirs.find_comment(*where)
    except MissingEntry:  # the submission was made before the lesson had this item
        score = Grade(cell_id=theirs.find_grade_cell(*where[:3]).id, notebook=submission)
        comment = Comment(cell_id=theirs.find_solution_cell(*where[:3]).id, notebook=submission)
        theirs.db.add_all([score, comment])
        theirs.db.flush()
    verdict, by_hand = (item.verdict, item.override) if item else (None, None)
    score.auto_score = verdict.points * scale if verdict else 0.0
    comment.auto_comment = (verdict.mistake or verdict.status) if verdict else None
    score.needs_manual_grade = False
    credit, stamp = extra
    wanted = (by_hand.points * scale, credit, by_hand.comment) if by_hand else (None, credit, None)
    _by_hand(theirs, score, comment, wanted, _said(by_hand) + stamp)
    return score.id


def _by_hand(theirs, score, comment, wanted: tuple[float | None, float | None, str | None], stamp: str) -> None:
    """Bring points, extra credit and comment that people give up to date, and note what was written.

    stamp: when they were given here; the same as at the last export means that nobody gave any since.
    """
    before = theirs.db.get(HandedOver, score.id)
    if before is None:
        if all(value is None for value in wanted):
            return
        before = HandedOver(grade_id=score.id, said="")
        theirs.db.add(before)
    for name, value in zip(("manual_score", "extra_credit", "manual_comment"), wanted, strict=True):
        place = comment if name == "manual_comment" else score
        ours = getattr(before, name)
        # Given here since the last export, it counts. Taken back, or only measured anew, it replaces our own alone.
        if value != ours and ((value is not None and stamp != before.said) or getattr(place, name) == ours):
            setattr(place, name, value)
        setattr(before, name, value)
    before.said = stamp


def _take_back(theirs, written: set[str]) -> None:
    """Clear what an earlier export gave by hand to people who have nothing any more, neither a hand-in nor points."""
    from nbgrader.api import Grade

    for before in theirs.db.query(HandedOver).all():
        if before.grade_id not in written:
            score = theirs.db.get(Grade, before.grade_id)
            if score is not None:  # else somebody removed the submission over there
                where = (score.name, score.notebook.name, score.assignment.name, score.student.id)
                _by_hand(theirs, score, theirs.find_comment(*where), (None, None, None), "")
            theirs.db.delete(before)
    theirs.db.commit()


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
