"""A class's folder: layouts, broken notebooks, the gradebook, going on after a kill."""

import contextlib
import csv
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from quizzes import lesson
from quizzes.grading.gradebook.gradebook import FILE, Gradebook, GradebookError
from quizzes.grading.judging import folder
from quizzes.grading.judging.grader import Grader
from quizzes.grading.judging.schedule import FAULT, LOST
from quizzes.grading.reports import export
from tests.quizzes.grading.class_of_tests import cell, data, write

LESSON = "03"


class NoSandbox:
    """For hand-ins in which there is nothing to run: starting anything is an error."""

    def start(self, limits):
        raise AssertionError("a worker was started")


def solved_cells(number: str) -> list[dict]:
    """Cells that answer everything in a lesson's bank."""
    quiz = lesson(number)
    exercises = [cell(item.solution(), name) for name, item in quiz.exercises.items()]
    return exercises + [cell(f'quiz.ask("{id}", answer="{item.right}")') for id, item in quiz.questions.items()]


def stub_cells(number: str) -> list[dict]:
    """Cells as the lesson comes."""
    quiz = lesson(number)
    exercises = [cell(f"def {name}(*_):\n    raise NotImplementedError", name) for name in quiz.exercises]
    return exercises + [cell(f'quiz.ask("{id}", answer=...)') for id in quiz.questions]


def graded(submissions, out, sandbox=None, **options) -> dict:
    """Grade a folder; rows of grades.csv by student."""
    gradebook = Gradebook.in_folder(out)
    folder.grade(submissions, gradebook, Grader(gradebook.seed, sandbox or NoSandbox(), **options))
    path = export.write_grades(gradebook, out)
    gradebook.close()
    with open(path, newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_broken_hand_ins_get_a_status_and_the_class_goes_on(tmp_path):
    submissions = tmp_path / "class"
    contents = {
        "empty": b"",
        "truncated": data(*stub_cells(LESSON), lesson=LESSON)[:-50],
        "not json": b"Dear teacher",
        "old": b'{"nbformat": 3, "worksheets": []}',
        "other course": data("x = 1", lesson="77"),
        "untouched": data(*stub_cells(LESSON), lesson=LESSON),
    }
    for student, content in contents.items():
        (submissions / student).mkdir(parents=True)
        (submissions / student / "03_soft_labels.ipynb").write_bytes(content)
    write(submissions / "Zoë O'Hara 🙂 = x" / "homework.ipynb", "x = 1", lesson=None)
    (submissions / "nothing").mkdir()
    (submissions / "link").mkdir()
    (submissions / "link" / "03_x.ipynb").symlink_to(submissions / "untouched" / "03_soft_labels.ipynb")
    (submissions / "stray.txt").write_text("x")
    (submissions / "another").symlink_to(submissions / "untouched")
    rows = graded(submissions, tmp_path / "out")
    most = lesson(LESSON).max_points
    expected = {
        "empty": "03_soft_labels.ipynb is empty",
        "truncated": "not JSON, perhaps cut off",
        "not json": "not JSON",
        "old": "notebook format 3",
        "other course": "is for lesson 77, which has no exercises here",
        "untouched": "not attempted",
        "Zoë O'Hara 🙂 = x": "names no lesson",
        "nothing": "no notebook handed in",
        "link": "is a link",
        "another": "is a link, not a folder",
    }
    assert set(rows) == set(expected)
    for student, words in expected.items():
        assert words in rows[student]["status"]
        assert rows[student]["points"] == "0"
    assert rows["truncated"]["lesson"] == rows["untouched"]["lesson"] == LESSON
    assert rows["truncated"]["max_points"] == rows["untouched"]["max_points"] == f"{most:g}"


def test_nbgraders_layout_is_understood(tmp_path):
    write(tmp_path / "course" / "submitted" / "ann" / "ps1" / "03_x.ipynb", *stub_cells(LESSON), lesson=LESSON)
    (tmp_path / "course" / "source").mkdir()
    for place in ("course", "course/submitted"):
        rows = graded(tmp_path / place, tmp_path / place.replace("/", "-"))
        assert {name: row["status"] for name, row in rows.items()} == {"ann": "not attempted"}


def test_of_two_notebooks_for_a_lesson_one_counts_and_the_other_is_named(tmp_path):
    right = next(iter(lesson(LESSON).questions.values()))
    write(tmp_path / "class/ann/03_x.ipynb", f'quiz.ask("{right.id}", answer="{right.right}")', lesson=LESSON)
    write(tmp_path / "class/ann/03_x-Copy1.ipynb", "x = 1", lesson=LESSON)
    (tmp_path / "class/ann/03.ipynb").write_text("broken")
    row = graded(tmp_path / "class", tmp_path / "out")["ann"]
    assert row["points"] == "1"
    assert row["status"] == "graded; not graded, for the same lesson: ann/03.ipynb, ann/03_x-Copy1.ipynb"


def test_questions_can_be_left_out(tmp_path):
    right = next(iter(lesson(LESSON).questions.values()))
    write(tmp_path / "class/ann/03_x.ipynb", f'quiz.ask("{right.id}", answer="{right.right}")', lesson=LESSON)
    row = graded(tmp_path / "class", tmp_path / "out", questions_count=False)["ann"]
    exercises = sum(item.points for item in lesson(LESSON).exercises.values())
    assert (row["points"], row["max_points"], row["status"]) == ("0", f"{exercises:g}", "not attempted")


def test_a_spreadsheet_gets_no_formula(tmp_path):
    write(tmp_path / "class" / "=HYPERLINK(1)" / "03_x.ipynb", "x = 1", lesson=LESSON)
    assert list(graded(tmp_path / "class", tmp_path / "out")) == ["'=HYPERLINK(1)"]


def test_another_file_is_not_taken_for_a_gradebook(tmp_path):
    (tmp_path / FILE).write_text("my notes, which are long enough to be no database " * 10)
    with pytest.raises(GradebookError, match="is not a gradebook; move it away"):
        Gradebook.in_folder(tmp_path)


def test_only_what_changed_is_graded_again(tmp_path):
    first, second, *_ = lesson(LESSON).questions.values()
    for student in ("ann", "bob", "cyd"):
        one = f'quiz.ask("{first.id}", answer="{first.right}")'
        write(tmp_path / f"class/{student}/03_x.ipynb", one, lesson=LESSON)
    assert graded(tmp_path / "class", tmp_path / "out")["bob"]["points"] == "1"
    both = "\n".join(f'quiz.ask("{item.id}", answer="{item.right}")' for item in (first, second))
    write(tmp_path / "class/bob/03_x.ipynb", both, lesson=LESSON)
    (tmp_path / "class/cyd/03_x.ipynb").rename(tmp_path / "class/cyd/03_y.ipynb")
    gradebook, fresh = Gradebook.in_folder(tmp_path / "out"), []
    grader = Grader(gradebook.seed, NoSandbox())
    folder.grade(tmp_path / "class", gradebook, grader, lambda entry, new: fresh.append((entry.student, new)))
    assert fresh == [("ann", False), ("bob", True), ("cyd", True)]
    assert [(row.student, row.points) for row in gradebook.rows()] == [("ann", 1), ("bob", 2), ("cyd", 1)]
    gradebook.close()


@pytest.mark.parametrize("status", [LOST, f"{FAULT} (IndexError: list index out of range)"], ids=["lost", "fault"])
def test_what_the_grading_itself_failed_on_is_graded_again_and_keeps_its_verdicts(tmp_path, status):
    first = next(iter(lesson(LESSON).questions.values()))
    answered = f'quiz.ask("{first.id}", answer="{first.right}")'
    for student in ("ann", "bob"):
        write(tmp_path / f"class/{student}/03_x.ipynb", answered, lesson=LESSON)
    before = graded(tmp_path / "class", tmp_path / "out")
    gradebook = Gradebook.in_folder(tmp_path / "out")
    ann = gradebook.entries()[0]  # as after three deaths: questions have their verdicts, exercises none
    ann.verdicts = [verdict for verdict in ann.verdicts if verdict.kind == "question"]
    kept = [verdict.id for verdict in ann.verdicts]
    gradebook.finish(ann, status, ann.max_points)
    grader, said = Grader(gradebook.seed, NoSandbox()), []
    for _ in range(2):
        folder.grade(tmp_path / "class", gradebook, grader, lambda entry, new: said.append((entry.student, new)))
    assert said == [("bob", False), ("ann", True), ("ann", False), ("bob", False)]
    ann = gradebook.entries()[0]
    assert ann.status == before["ann"]["status"] == "graded"
    assert [verdict.id for verdict in ann.verdicts][: len(kept)] == kept
    assert len(ann.verdicts) == len(kept) + len(lesson(LESSON).exercises)
    gradebook.close()


def test_the_same_submission_gets_the_same_grade_twice(tmp_path, plain):
    names = list(lesson(LESSON).exercises)
    wrong = cell(f"def {names[0]}(x, *rest):\n    return x", names[0])
    write(tmp_path / "class/ann/03_x.ipynb", *solved_cells(LESSON)[1:], wrong, lesson=LESSON)
    rows = [graded(tmp_path / "class", tmp_path / out, plain)["ann"] for out in ("first", "second")]
    assert rows[0] == rows[1]
    assert 0 < float(rows[0]["points"]) < float(rows[0]["max_points"])


def grade_command(submissions, out, *options):
    """`course grade` as a process of its own."""
    command = [sys.executable, "-m", "quizzes", "grade", str(submissions), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def verdicts(out) -> list[tuple]:
    """Everything in a gradebook but the times."""
    gradebook = Gradebook.in_folder(out)
    columns = ("kind", "item", "points", "max_points", "status", "detail", "groups_right", "groups")
    found = [
        (entry.student, entry.lesson, entry.points, entry.status, *(getattr(verdict, name) for name in columns))
        for entry in gradebook.entries()
        for verdict in entry.verdicts
    ]
    gradebook.close()
    return found


@pytest.mark.needs("bwrap")
def test_a_killed_grader_goes_on_where_it_was(tmp_path):
    for student in ("ann", "bob"):
        write(tmp_path / f"class/{student}/03_x.ipynb", *solved_cells(LESSON), lesson=LESSON)
    out = tmp_path / "out"
    running = grade_command(tmp_path / "class", out)
    # The second exercise of somebody has its verdict: the grader is in the middle of a notebook.
    questions, deadline = len(lesson(LESSON).questions), time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None and _committed(out) <= questions:
        time.sleep(0.02)
    assert running.poll() is None, running.communicate()[0]
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = verdicts(out)
    assert questions < len(before) < 2 * (questions + len(lesson(LESSON).exercises))
    resumed = grade_command(tmp_path / "class", out, "--resume")
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    after = verdicts(out)
    assert [row[4:] for row in before] == [row[4:] for row in after][: len(before)]
    full = (float(lesson(LESSON).max_points), "graded")
    assert [(row.points, row.status) for row in _rows(out)] == [full, full]
    assert len(after) == len({row[:2] + row[4:6] for row in after}) == 2 * (questions + len(lesson(LESSON).exercises))


def test_many_open_a_new_gradebook_at_once_and_find_the_same_one(tmp_path):
    def seed(_):
        gradebook = Gradebook.in_folder(tmp_path / "out")
        gradebook.close()
        return gradebook.seed

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(seed, range(24)))) == 1


def _committed(out) -> int:
    """How many verdicts are there, asked without opening a gradebook, which would make one."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{out / FILE}?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM verdicts").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def _rows(out):
    gradebook = Gradebook.in_folder(out)
    rows = gradebook.rows()
    gradebook.close()
    return rows
