"""Everything that people read of a gradebook, written into the output folder."""

import difflib
import math
from pathlib import Path

from quizzes import lessons
from quizzes.grading.gradebook.gradebook import Gradebook, text
from quizzes.grading.gradebook.grades import WHOLE, grades, item_worth, name_of, the_class
from quizzes.grading.reports import class_page, export, feedback, leaderboard


def publish(gradebook: Gradebook, out: Path) -> Path:
    """Write grades.csv, a feedback page for each student and lesson, leaderboard.html if models were handed in, and
    report.html. Returns the path of the last."""
    export.write_grades(gradebook, out)
    feedback.write(grades(gradebook), out)
    leaderboard.write(gradebook, out)
    return class_page.write(gradebook, out)


def override(gradebook: Gradebook, student: str, lesson: str, item: str, points: float | None, comment: str) -> None:
    """Give points for an item, or for WHOLE lesson, in the machine's place; points=None takes that back.

    student: a name of grades.csv, or the one from before there was a roster; the last word counts, under either.
    Raises LookupError for an unknown student, lesson or item, ValueError for points that the item is not worth, and
    for a missing comment.
    """
    group = the_class(gradebook)
    names = {entry.student: name_of(entry.person, group) for entry in gradebook.entries()}
    names |= {person.name: person.name for person in group.students}
    if student not in names:
        near = difflib.get_close_matches(student, names, 3, 0.5)
        meant = f"; did you mean {', '.join(near)}?" if near else "; the report lists everybody"
        raise LookupError(f"there is no student {student!r}{meant}")
    if lesson not in lessons.numbers():
        raise LookupError(f"there is no lesson {lesson!r}; there is {', '.join(lessons.numbers())}")
    worth = _lesson_worth(gradebook, names[student], lesson) if item == WHOLE else item_worth(lesson, item)
    if points is not None:
        if not (math.isfinite(points) and 0 <= points <= worth):
            raise ValueError(f"{points:g} points for {item}: it is worth from 0 to {worth:g}")
        if not comment.strip():
            raise ValueError("say why, with --comment; it stands beside the machine's verdict")
    gradebook.override(student, lesson, item, points, comment.strip())
    for held in gradebook.overrides():
        same = (name_of(held.person, group), held.lesson, held.item) == (names[student], lesson, item)
        if same and held.person.name != text(student):
            gradebook.override(held.person.name, lesson, item, None, "")


def _lesson_worth(gradebook: Gradebook, student: str, lesson: str) -> float:
    lesson_grades = [grade for grade in grades(gradebook) if (grade.student, grade.lesson) == (student, lesson)]
    if lesson_grades:
        return lesson_grades[0].max_points
    return the_class(gradebook).rule(lesson).points or float(lessons.lesson(lesson).max_points)
