"""Grades as tables that other programs read: grades.csv, and what the gradebooks of Canvas and Moodle import."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from lessons_lib.files import atomic
from quizzes.grading.gradebook.class_file import ClassFile, Person
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import Grade, grades, the_class
from quizzes.grading.reports import feedback

GRADES = "grades.csv"
COLUMNS = ("student", "lesson", "points", "max_points", "status")
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
# Moodle finds people by one of these; whoever imports chooses the column and the field it stands for.
MOODLE = {"email": "Email address", "number": "ID number", "login": "Username"}


class ExportError(ValueError):
    """There is nothing to export, or nobody whom the other system would know."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and who is not in it."""

    path: Path
    left_out: tuple[str, ...] = ()


def write_grades(gradebook: Gradebook, folder: Path) -> Path:
    """Write grades.csv, a row for each student and lesson. The file is replaced whole."""
    rows = [
        (_inert(grade.student), grade.lesson, number(grade.points), number(grade.max_points), _inert(grade.status))
        for grade in grades(gradebook)
    ]
    return _write(folder / GRADES, [COLUMNS, *rows])


def write_canvas(gradebook: Gradebook, path: Path) -> Exported:
    """Write the CSV that Canvas's gradebook imports: a column a lesson that counts, and the row of points possible.

    Who handed in nothing has an empty cell, which changes nothing in Canvas. People are found by their Canvas ID,
    which the names in Canvas's download hold, or by the SIS ID or login of the class file. For a row with none of them
    Canvas would guess by the name; so with a roster such people are left out and named. Without one nothing is known.
    """
    group, lessons, students = _by_student(gradebook)
    known = {student: _known_to_canvas(mine) for student, mine in students.items()}
    left_out = tuple(student for student, (*keys, _) in known.items() if group.students and not any(keys))
    if len(left_out) == len(students):
        raise ExportError(
            "Canvas finds people by id, sis_id or login, and nobody here has one; give them in the class "
            "file's students, or give --class the CSV that Canvas's gradebook exports"
        )
    possible = {grade.lesson: number(grade.max_points) for mine in students.values() for grade in mine.values()}
    rows = [[*CANVAS, *(_column(group, lesson) for lesson in lessons)]]
    rows.append(["    Points Possible", "", "", "", "", *(possible[lesson] for lesson in lessons)])
    for student, mine in students.items():
        if student not in left_out:
            rows.append([_inert(student), *map(_inert, known[student]), *_cells(mine, lessons)])
    return Exported(_write(path, rows), left_out)


def _person(mine: dict[str, Grade]) -> Person | None:
    """Who on the roster somebody's grades belong to."""
    return next(iter(mine.values())).person


def _known_to_canvas(mine: dict[str, Grade]) -> tuple[str, str, str, str]:
    """ID, SIS ID, login and section. The roster may lack the ID; then any hand-in that came from Canvas has it."""
    person = _person(mine) or Person("")
    id = person.id or next((grade.canvas_id for grade in mine.values() if grade.canvas_id), "")
    return id, person.sis_id, person.login, person.section


def write_moodle(gradebook: Gradebook, path: Path) -> Exported:
    """Write a CSV for Moodle's gradebook: one column that says who, and one for each lesson that counts.

    Moodle stops at the first person it does not know, and gives a row without a key to the person above. So the key is
    the one that most have, and who lacks it is left out and named. Without a class file it is the student's own name.
    """
    group, lessons, students = _by_student(gradebook)
    people = {name: _person(mine) for name, mine in students.items()}
    if not any(people.values()):
        key, known = "login", {name: name for name in students}
    else:
        keys = {
            key: {name: getattr(person, key) for name, person in people.items() if person and getattr(person, key)}
            for key in MOODLE
        }
        key = max(keys, key=lambda key: len(keys[key]))
        known = keys[key]
        if not known:
            raise ExportError("Moodle finds people by email, number or login; give them in the class file's students")
    rows = [[MOODLE[key], "Full name", *(_column(group, lesson) for lesson in lessons)]]
    for student, mine in students.items():
        if student in known:
            rows.append([_inert(known[student]), _inert(student), *_cells(mine, lessons)])
    return Exported(_write(path, rows), tuple(student for student in students if student not in known))


def _by_student(gradebook: Gradebook) -> tuple[ClassFile, list[str], dict[str, dict[str, Grade]]]:
    """The class, the lessons that count, and everybody's grades in them. Raises ExportError when there are none."""
    students: dict[str, dict[str, Grade]] = {}
    for grade in grades(gradebook):
        if grade.lesson and grade.counts:
            mine = students.setdefault(grade.student, {})
            if grade.lesson not in mine or mine[grade.lesson].missing:
                mine[grade.lesson] = grade
    if not students:
        raise ExportError("there are no grades yet; run course grade first")
    return the_class(gradebook), sorted({lesson for mine in students.values() for lesson in mine}), students


def _column(group: ClassFile, lesson: str) -> str:
    return _inert(group.rule(lesson).column or feedback.title(lesson))


def _cells(mine: dict[str, Grade], lessons: list[str]) -> list[str]:
    """A number for each lesson, empty where nothing was handed in and nobody gave points."""
    lesson_grades = [mine.get(lesson) for lesson in lessons]
    return [
        number(grade.points) if grade and (grade.entry or grade.items or grade.override) else ""
        for grade in lesson_grades
    ]


def number(value: float) -> str:
    """Points with at most two decimals and no exponent."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _write(path: Path, rows) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    atomic.write_text(path, text.getvalue())
    return path


def _inert(value: str) -> str:
    """Text that a spreadsheet will not take for a formula: a student chooses the names of files and exceptions."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
