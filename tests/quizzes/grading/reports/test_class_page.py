"""What a person must look at: the report lists it, and nothing that is usual."""

import pytest

from quizzes import lesson
from quizzes.exercises.hand_ins import MeasuredModel
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.judging.grader import Judgement
from quizzes.grading.judging.schedule import FAULT, LOST
from quizzes.grading.reports import class_page, publish
from tests.quizzes.grading.graded_class import LESSON, answered, ended, hand_in, judged, right
from tests.quizzes.grading.reports.test_feedback import Page

FIRST, SECOND, *_ = lesson(LESSON).exercises
HEADING = "Graded in part, to be looked at"


@pytest.fixture
def book(tmp_path):
    gradebook = Gradebook.in_folder(tmp_path)
    yield gradebook
    gradebook.close()


def listed(book) -> str:
    """The words of the list, empty when there is none."""
    _, _, words = Page(class_page.page(book)).text.partition(HEADING)
    return words.partition("Everybody")[0]


def test_what_is_usual_is_not_listed(book):
    hand_in(book, "Ann", [right(FIRST)])
    hand_in(book, "Bob", [judged(FIRST, lambda *arguments: arguments[0].nothing), judged(SECOND, lambda *_: None)])
    hand_in(book, "Cyd", [])
    measured = MeasuredModel(600_000, 0.9, 0.8, 1.0, 1.0, 0.9, 100.0)
    for student, tier in (("Dee", "gold"), ("Eve", "no tier")):
        entry = hand_in(book, student, [Judgement("exercise", FIRST, 1.0, 1.0, tier, measured=measured)])
        assert entry.status == f"graded; {FIRST} {tier}"
    assert HEADING not in Page(class_page.page(book)).text


@pytest.mark.parametrize(
    "status",
    [
        "ran out of time",
        "ran out of memory",
        "exited",
        "crashed",
        "malformed answer",
        "cannot be parsed",
        "refused",
        "cannot be run",
    ],
)
def test_an_exercise_that_was_not_judged_is_listed_until_somebody_gives_points(book, status):
    hand_in(book, "Ann", [right(FIRST)])
    hand_in(book, "Bob", [right(FIRST), ended(SECOND, status)])
    assert listed(book).split("Status ")[1].strip() == f"Bob {LESSON} graded; {SECOND} {status}"
    assert "To be looked at 1 graded in part, listed below" in Page(class_page.page(book)).text
    publish.override(book, "Bob", LESSON, SECOND, 0.5, "Looked at.")
    assert listed(book) == ""


@pytest.mark.parametrize("status", [LOST, f"{FAULT} (IndexError: list index out of range)"], ids=["lost", "fault"])
def test_a_hand_in_that_the_grading_failed_on_is_listed_though_its_questions_have_verdicts(book, status):
    question = next(iter(lesson(LESSON).questions.values()))
    entry = hand_in(book, "Ann", [answered(question.id, question.right)])
    entry.verdicts = [verdict for verdict in entry.verdicts if verdict.kind == "question"]
    book.finish(entry, status, entry.max_points)
    assert f"Ann {LESSON} {status}" in listed(book)
    publish.override(book, "Ann", LESSON, "lesson", 0.5, "Looked at.")
    assert listed(book) == ""


def test_a_notebook_that_was_passed_over_is_listed(book):
    entry = hand_in(book, "Ann", [right(FIRST)])
    book.finish(entry, "graded; not graded, for the same lesson: Ann/03-Copy1.ipynb", entry.max_points)
    assert "Ann/03-Copy1.ipynb" in listed(book)
