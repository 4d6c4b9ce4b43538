"""Grades in other systems: the CSVs that Canvas and Moodle import, and nbgrader's own database."""

import csv
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from quizzes import lesson
from quizzes.grading.gradebook.class_file import ClassFile, Late, Person, Rule
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import grades
from quizzes.grading.reports import export, publish, to_nbgrader
from quizzes.grading.reports.export import ExportError
from tests.quizzes.grading.graded_class import LESSON, hand_in, right, small_class

MOST = lesson(LESSON).max_points
PEOPLE = (
    Person("Ann Lee", id="11", sis_id="S1", login="alee", email="ann@example.org", section="A"),
    Person("Bob", sis_id="S2", email="bob@example.org"),
    Person("Cyd"),
    Person("Dee", id="14", email="dee@example.org"),
)


def rows(path: Path) -> list[list[str]]:
    """A CSV, read as others would."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def book(tmp_path):
    gradebook = small_class(tmp_path / "out")
    gradebook.keep("class", ClassFile(PEOPLE, {LESSON: Rule(points=20), "04": Rule(counts=False)}).dumps())
    yield gradebook
    gradebook.close()


def canvas_reads(table: list[list[str]]) -> tuple[list[str], list[str], dict]:
    """What Canvas's importer makes of a table: assignments, points possible, and scores by who it finds them with.

    Its rules: the first column's heading holds Student and the second's ID; SIS User ID and SIS Login ID may follow;
    the last of what describes a student is Section; a row whose first cell holds Points Possible is about assignments.
    """
    header, *body = table
    assert "Student" in header[0]
    assert "ID" in header[1]
    assert re.match(r"SIS\s+User\s+ID", header[2])
    assert re.match(r"SIS\s+Login\s+ID", header[3])
    assert "Section" in header[4]
    possible = next(row for row in body if "Points Possible" in row[0])
    scores = {tuple(row[:5]): row[5:] for row in body if row is not possible}
    return header[5:], possible[5:], scores


def test_canvas_can_import_the_grades(book, tmp_path):
    written = export.write_canvas(book, tmp_path / "canvas.csv")
    assignments, possible, scores = canvas_reads(rows(written.path))
    assert assignments == [f"Lesson {LESSON}: Soft labels"]
    assert possible == ["20"]
    assert scores == {
        ("Ann Lee", "11", "S1", "alee", "A"): ["20"],
        ("Bob", "", "S2", "", ""): ["0"],
        ("Dee", "14", "", "", ""): [""],  # nothing handed in: the cell in Canvas stays as it is
    }
    assert written.left_out == ("Cyd",)  # Canvas would take whoever has that name


def test_canvas_needs_a_key(book, tmp_path):
    book.keep("class", ClassFile((Person("Ann Lee", email="ann@example.org"),)).dumps())
    with pytest.raises(ExportError, match="Canvas finds people by id, sis_id or login, and nobody here has one"):
        export.write_canvas(book, tmp_path / "canvas.csv")
    assert not (tmp_path / "canvas.csv").exists()


def test_an_id_counts_whichever_lesson_it_came_with(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    for student, number, id in (("leeann_4711", "04", "4711"), ("bob", LESSON, "")):
        book.finish(book.open(student, number, "x", "0" * 64, True, canvas_id=id), "graded", 10.0)
    book.keep("class", ClassFile((Person("Ann Lee"), Person("Bob"))).dumps())
    written = export.write_canvas(book, tmp_path / "canvas.csv")
    _, _, scores = canvas_reads(rows(written.path))
    assert scores == {("Ann Lee", "4711", "", "", ""): ["", "0"]}
    assert written.left_out == ("Bob",)
    book.close()


def test_an_id_counts_also_of_a_hand_in_that_a_later_one_replaced(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    for student, id in (("leeann_4711", "4711"), ("Ann Lee", "")):
        book.finish(book.open(student, LESSON, "x", "0" * 64, True, canvas_id=id), "graded", 10.0)
    book.keep("class", ClassFile((Person("Ann Lee"),)).dumps())
    _, _, scores = canvas_reads(rows(export.write_canvas(book, tmp_path / "canvas.csv").path))
    assert list(scores) == [("Ann Lee", "4711", "", "", "")]
    book.close()


def test_the_ids_in_canvas_own_download_lead_back_to_canvas(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    entry = book.open("leeann_4711", LESSON, "x", "0" * 64, True, canvas_id="4711")
    book.finish(entry, "graded", 10.0)
    _, _, scores = canvas_reads(rows(export.write_canvas(book, tmp_path / "canvas.csv").path))
    assert list(scores) == [("leeann_4711", "4711", "", "", "")]
    book.close()


def test_columns_may_be_called_what_canvas_calls_them(book, tmp_path):
    book.keep("class", ClassFile(PEOPLE, {LESSON: Rule(column="Soft labels (815)")}).dumps())
    assert rows(export.write_canvas(book, tmp_path / "canvas.csv").path)[0][5:] == ["Soft labels (815)"]


def test_moodle_gets_one_key_that_every_row_has(book, tmp_path):
    written = export.write_moodle(book, tmp_path / "moodle.csv")
    assert rows(written.path) == [
        ["Email address", "Full name", f"Lesson {LESSON}: Soft labels"],
        ["ann@example.org", "Ann Lee", "20"],
        ["bob@example.org", "Bob", "0"],
        ["dee@example.org", "Dee", ""],
    ]
    assert written.left_out == ("Cyd",)


def test_without_a_class_file_moodle_is_given_the_names_of_the_folders(tmp_path):
    book = small_class(tmp_path)
    table = rows(export.write_moodle(book, tmp_path / "moodle.csv").path)
    assert table[0][0] == "Username"
    assert [row[0] for row in table[1:]] == ["Ann Lee", "Bob", "Cyd"]
    book.close()


def test_a_roster_that_comes_after_the_grading_gives_moodle_one_row_a_person(tmp_path):
    book = Gradebook.in_folder(tmp_path)
    hand_in(book, "leeann_11", [right(next(iter(lesson(LESSON).exercises)))], canvas_id="11")
    book.keep("class", ClassFile(PEOPLE[:2]).dumps())
    table = rows(export.write_moodle(book, tmp_path / "moodle.csv").path)[1:]
    points = export.number(grades(book)[0].points)
    assert table == [["ann@example.org", "Ann Lee", points], ["bob@example.org", "Bob", ""]]
    assert float(points) > 0
    book.close()


def test_moodle_needs_a_key(book, tmp_path):
    book.keep("class", ClassFile((Person("Ann Lee"),)).dumps())
    with pytest.raises(ExportError, match="Moodle finds people by email, number or login"):
        export.write_moodle(book, tmp_path / "moodle.csv")


@pytest.mark.parametrize("write", [export.write_canvas, export.write_moodle])
def test_no_cell_is_a_formula(tmp_path, write):
    book = Gradebook.in_folder(tmp_path)
    hand_in(book, "=HYPERLINK(1)", [])
    for row in rows(write(book, tmp_path / "x.csv").path):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@"))]
    book.close()


@pytest.mark.parametrize("write", [export.write_canvas, export.write_moodle, to_nbgrader.write])
def test_nothing_to_export_says_so(tmp_path, write):
    book = Gradebook.in_folder(tmp_path)
    with pytest.raises(ExportError, match="there are no grades yet"):
        write(book, tmp_path / "x")
    book.close()


@pytest.mark.parametrize(("value", "text"), [(0.1 + 0.2, "0.3"), (12345.67, "12345.67"), (1e6, "1000000"), (0, "0")])
def test_points_are_written_plainly(value, text):
    assert export.number(value) == text


# nbgrader.


def nbgraders_own_export(course: Path) -> dict[tuple[str, str], dict]:
    """What `nbgrader export` writes, by assignment and student."""
    program = [sys.executable, "-m", "nbgrader", "export", "--to", "grades.csv"]
    done = subprocess.run(program, cwd=course, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open(course / "grades.csv", newline="") as file:
        return {(row["assignment"], row["student_id"]): row for row in csv.DictReader(file)}


def formgrader(course: Path):
    """What nbgrader's formgrader asks for everything it shows."""
    from nbgrader.apps import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory

    return NbGraderAPI(CourseDirectory(root=str(course)))


def test_nbgrader_shows_and_exports_the_same_grades(book, tmp_path):
    due = datetime(2026, 11, 19, 12, tzinfo=UTC).isoformat()
    rule = {LESSON: Rule(points=20, deadline=due)}
    book.keep("class", ClassFile(PEOPLE, rule, late=Late(per_day=25)).dumps())
    first = list(lesson(LESSON).exercises)[0]
    publish.override(book, "Bob", LESSON, first, 1.0, "The idea was right.")
    publish.override(book, "Cyd", LESSON, "lesson", 7.5, "Spoken.")
    course = tmp_path / "course"
    assert to_nbgrader.write(book, course) == course / "gradebook.db"
    with formgrader(course).gradebook as theirs:  # somebody grades by hand over there
        theirs.find_grade("question 1", "03_soft_labels", "03_soft_labels", "alee").manual_score = 0.25
        theirs.db.commit()
    to_nbgrader.write(book, course)  # brings up to date, doubles nothing, and leaves that as it is
    mine = {item.student: item for item in grades(book) if item.entry}
    assert mine["Ann Lee"].points == 15
    theirs = nbgraders_own_export(course)
    assert set(theirs) == {("03_soft_labels", student) for student in ("alee", "Bob", "Cyd", "Dee")}
    assert theirs["03_soft_labels", "Dee"]["score"] == "0.0"
    for student, id in (("Ann Lee", "alee"), ("Bob", "Bob"), ("Cyd", "Cyd")):
        row = theirs["03_soft_labels", id]
        by_hand = 0.25 - 20 / MOST if student == "Ann Lee" else 0
        assert float(row["score"]) == pytest.approx(mine[student].points + by_hand, abs=0.01)
        assert float(row["max_score"]) == pytest.approx(20)
    ann = theirs["03_soft_labels", "alee"]
    assert (ann["first_name"], ann["last_name"], ann["timestamp"]) == ("Ann", "Lee", "2026-11-20 12:00:00")
    assert float(ann["late_submission_penalty"]) == pytest.approx(5)
    shown = formgrader(course)
    (assignment,) = shown.get_assignments()
    assert (assignment["name"], assignment["max_score"]) == ("03_soft_labels", pytest.approx(20))
    submissions = {item["student"]: item for item in shown.get_submissions("03_soft_labels")}
    assert submissions["Cyd"]["score"] == pytest.approx(7.5)
    assert {item["autograded"] for item in submissions.values()} == {True}
    assert {item["needs_manual_grade"] for item in submissions.values()} == {False}
    assert {item["id"] for item in shown.get_students()} == {"alee", "Bob", "Cyd", "Dee"}
    with shown.gradebook as theirs:
        score = theirs.find_grade(first, "03_soft_labels", "03_soft_labels", "Bob")
        comment = theirs.find_comment(first, "03_soft_labels", "03_soft_labels", "Bob")
        assert (score.auto_score, score.manual_score) == (0, pytest.approx(20 / MOST))
        assert comment.auto_comment == lesson(LESSON).exercises[first].mistakes[0].text
        assert comment.manual_comment == "The idea was right."


def test_without_nbgrader_it_says_what_to_install(book, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader.api", None)
    with pytest.raises(ExportError, match="pip install nbgrader==0.9.6"):
        to_nbgrader.write(book, tmp_path / "course")
