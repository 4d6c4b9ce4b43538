"""Points given by hand on their way to nbgrader: given, changed, taken back, and those that a teacher gave there."""

import shutil
from dataclasses import replace

import pytest

from quizzes import lesson
from quizzes.grading.gradebook.class_file import ClassFile, Person, Rule
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import grades, the_class
from quizzes.grading.reports import publish, to_nbgrader
from tests.quizzes.grading.graded_class import LESSON, answered, hand_in, small_class

ASSIGNMENT, OTHER = "03_soft_labels", "04"
FIRST, SECOND, *_ = lesson(LESSON).exercises
SCALE = 20 / lesson(LESSON).max_points


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A class and its first export: nbgrader takes seconds to make a database. Each test has a copy."""
    place = tmp_path_factory.mktemp("exported")
    gradebook = small_class(place / "out")
    people = tuple(map(Person, ("Ann Lee", "Bob", "Cyd", "Dee")))
    gradebook.keep("class", ClassFile(people, {LESSON: Rule(points=20), OTHER: Rule(points=10)}).dumps())
    to_nbgrader.write(gradebook, place / "course")
    gradebook.close()
    return place


@pytest.fixture
def book(exported, tmp_path):
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    gradebook = Gradebook.in_folder(tmp_path / "out")
    yield gradebook
    gradebook.close()


class Course:
    """A course folder, and what stands in nbgrader's gradebook there."""

    def __init__(self, book, folder):
        self.book, self.folder = book, folder
        self.export()

    def export(self) -> None:
        """Export, again perhaps."""
        to_nbgrader.write(self.book, self.folder)

    def override(self, student: str, item: str, points: float | None, number: str = LESSON) -> None:
        """Give points by hand here, or take them back, and export."""
        publish.override(self.book, student, number, item, points, "Spoken." if points is not None else "")
        self.export()

    def opened(self):
        """nbgrader's gradebook."""
        from nbgrader.api import Gradebook as Theirs

        return Theirs(f"sqlite:///{self.folder / to_nbgrader.DATABASE}")

    def score(self, student: str, assignment: str = ASSIGNMENT) -> tuple[float, float]:
        """Somebody's points, of how many."""
        with self.opened() as theirs:
            submission = theirs.find_submission(assignment, student)
            return pytest.approx(submission.score, abs=0.01), pytest.approx(submission.max_score)

    def cell(self, student: str, item: str) -> tuple:
        """What people gave for an item."""
        with self.opened() as theirs:
            where = item, ASSIGNMENT, ASSIGNMENT, student
            score, comment = theirs.find_grade(*where), theirs.find_comment(*where)
            return score.manual_score, score.extra_credit, comment.manual_comment

    def give(self, student: str, item: str, **values) -> None:
        """Somebody grades by hand over there."""
        with self.opened() as theirs:
            where = item, ASSIGNMENT, ASSIGNMENT, student
            for name, value in values.items():
                place = theirs.find_comment(*where) if name == "manual_comment" else theirs.find_grade(*where)
                setattr(place, name, value)
            theirs.db.commit()


@pytest.fixture
def course(book, tmp_path):
    return Course(book, tmp_path / "course")


def mine(book, student: str, number: str = LESSON) -> float:
    """Somebody's points here."""
    return next(grade.points for grade in grades(book) if (grade.student, grade.lesson) == (student, number))


@pytest.mark.parametrize("item", [FIRST, "question 1", "lesson"])
@pytest.mark.parametrize("student", ["Ann Lee", "Bob", "Cyd"])
def test_points_that_are_taken_back_are_taken_back_there(book, course, student, item):
    before = mine(book, student)
    assert course.score(student) == (before, 20)
    for points in (0.5, 0.25, None):
        course.override(student, item, points)
        assert course.score(student) == (mine(book, student), 20)
        assert (mine(book, student) == before) == (points is None)
    assert {course.cell(student, name) for name in (FIRST, SECOND, "question 1")} == {(None, None, None)}


def test_what_a_teacher_gave_over_there_stays(course):
    course.give("Bob", SECOND, manual_score=0.75, extra_credit=0.5, manual_comment="Mine.")
    course.override("Bob", FIRST, 1.0)
    course.override("Bob", "lesson", 3.0)
    course.give("Bob", FIRST, manual_score=0.25, extra_credit=1.5, manual_comment="Mine too.")
    course.export()  # nothing new was said here
    assert course.cell("Bob", FIRST) == (0.25, 1.5, "Mine too.")
    course.override("Bob", "lesson", None)
    course.override("Bob", FIRST, None)
    assert course.cell("Bob", FIRST) == (0.25, 1.5, "Mine too.")
    assert course.cell("Bob", SECOND) == (0.75, 0.5, "Mine.")
    course.override("Bob", FIRST, 0.5)  # later than what was said there
    assert course.cell("Bob", FIRST) == (pytest.approx(0.5 * SCALE), 1.5, "Spoken.")


def test_what_a_teacher_gave_over_there_stays_also_when_the_machine_grades_again(book, course):
    course.override("Bob", "lesson", 3.0)
    course.override("Bob", SECOND, 0.5)
    course.give("Bob", FIRST, extra_credit=1.5)
    hand_in(book, "Bob", [answered("1", "A")], notebook="again.ipynb")  # earns something else than before
    group = the_class(book)
    book.keep("class", replace(group, lessons=group.lessons | {LESSON: Rule(points=40)}).dumps())
    course.export()
    assert course.cell("Bob", FIRST)[1] == 1.5
    assert course.cell("Bob", SECOND)[0] == pytest.approx(0.5 * 2 * SCALE)  # ours still stood there, and follows


@pytest.mark.parametrize("item", [FIRST, "lesson"])
def test_points_for_somebody_who_handed_in_nothing_arrive_and_can_be_taken_back(book, course, item):
    with course.opened() as theirs:
        assert "Dee" not in {submission.student.id for submission in theirs.find_assignment(ASSIGNMENT).submissions}
    course.override("Dee", item, 1.0)
    assert course.score("Dee") == (mine(book, "Dee"), 20)
    assert mine(book, "Dee") == pytest.approx(SCALE if item == FIRST else 1.0, abs=0.01)
    course.override("Dee", item, None)
    assert course.score("Dee") == (0, 20)
    assert mine(book, "Dee") == 0


@pytest.mark.parametrize("item", [next(iter(lesson(OTHER).exercises)), "lesson"])
def test_points_for_a_lesson_that_nobody_handed_in_arrive_too(book, course, item):
    course.override("Dee", item, 1.0, OTHER)
    with course.opened() as theirs:
        name = next(found.name for found in theirs.assignments if found.name.startswith(OTHER))
    assert course.score("Dee", name) == (mine(book, "Dee", OTHER), 10)
    assert mine(book, "Dee", OTHER) > 0
    course.override("Dee", item, None, OTHER)
    assert course.score("Dee", name) == (0, 10)


def test_what_was_given_is_taken_back_also_when_nothing_else_is_left(tmp_path):
    book = Gradebook.in_folder(tmp_path / "out")
    book.keep("class", ClassFile((Person("Dee"),), {LESSON: Rule()}).dumps())
    publish.override(book, "Dee", LESSON, "lesson", 2.0, "Spoken.")
    course = Course(book, tmp_path / "course")
    assert course.score("Dee") == (2, lesson(LESSON).max_points)
    course.override("Dee", "lesson", None)
    assert course.score("Dee") == (0, lesson(LESSON).max_points)
    book.close()
