"""The class at a glance: points and their spread, mistakes most made, who is missing, what a person must look at."""

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lessons_lib.files import atomic
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.gradebook.grades import Grade, grades, item_name, name_of, the_class
from quizzes.grading.gradebook.tables import Verdict
from quizzes.grading.intake.names import folder_name
from quizzes.grading.reports import feedback, leaderboard

REPORT = "report.html"
BANDS = 10
MOST_MISTAKES = 10
QUIET = ("passed", "wrong", "not attempted")
# Of a lesson that was judged. What an exception was is on the student's page; the other troubles may be the machine's.
JUDGED, USUAL = ("graded", "not attempted"), (*QUIET, "raised")


@dataclass(frozen=True)
class Band:
    """A tenth of the scale: how many students are in it, and how long its bar is, in percent."""

    name: str
    count: int
    width: int


@dataclass(frozen=True)
class ItemView:
    """One exercise or question over the class."""

    name: str
    attempted: int
    right: int
    share: float
    troubles: str


@dataclass(frozen=True)
class MistakeView:
    """A recognised mistake and how many made it."""

    item: str
    text: str
    count: int


@dataclass(frozen=True)
class LessonView:
    """One lesson over the class."""

    number: str
    title: str
    counts: bool
    graded: int
    median: float
    least: float
    most: float
    max_points: float
    bands: list[Band]
    items: list[ItemView]
    mistakes: list[MistakeView]
    missing: list[str]


def page(gradebook: Gradebook) -> str:
    """The page, as HTML."""
    all_grades, group = grades(gradebook), the_class(gradebook)
    numbers = sorted({grade.lesson for grade in all_grades if grade.lesson})
    views = [_lesson(number, [grade for grade in all_grades if grade.lesson == number]) for number in numbers]
    unread = [grade for grade in all_grades if grade.entry is not None and grade.missing and not grade.override]
    on_roster = {person.name for person in group.students}
    overview = {
        "students": len({grade.student for grade in all_grades}),
        "hand_ins": sum(grade.entry is not None for grade in all_grades),
        "unread": len(unread),
        "missing": _missing_in_words(views),
    }
    unknown = sorted({grade.student for grade in all_grades} - on_roster) if on_roster else []
    return (
        feedback.pages()
        .get_template("report.html")
        .render(
            overview=overview,
            lessons=views,
            unread=unread,
            partly=[grade for grade in all_grades if _is_partly_graded(grade)],
            unknown=unknown,
            changed=[(name_of(item.person, group), item) for item in gradebook.overrides()],
            everybody=_everybody(all_grades, numbers),
            boards=leaderboard.boards(gradebook),
        )
    )


def write(gradebook: Gradebook, out: Path) -> Path:
    """Write OUT/report.html."""
    atomic.write_text(out / REPORT, page(gradebook))
    return out / REPORT


def _is_partly_graded(grade: Grade) -> bool:
    """Whether a part of what was handed in was not judged, and nobody has given points in its place yet.

    The place is the exercise's; where the grading failed or a notebook was passed over, the lesson's.
    """
    if grade.missing or grade.override:
        return False
    # The same words stand before a notebook that was passed over, whether beside this one or under another name.
    if not grade.entry.status.startswith(JUDGED) or ", for the same lesson: " in grade.status:
        return True
    return any(item.verdict and item.override is None and _is_trouble(item.verdict, USUAL) for item in grade.items)


def _is_trouble(verdict: Verdict, but: tuple[str, ...]) -> bool:
    """Whether a verdict is none of those; of a model that was measured its status is a tier, and no trouble."""
    return verdict.status not in but and verdict.model is None


def _missing_in_words(views: list[LessonView]) -> str:
    short = [f"{len(view.missing)} in lesson {view.number}" for view in views if view.missing]
    return ", ".join(short) or "nobody that the gradebook knows of"


def _lesson(number: str, lesson_grades: list[Grade]) -> LessonView:
    done = [grade for grade in lesson_grades if not grade.missing or grade.override]
    points = [grade.points for grade in done] or [0.0]
    return LessonView(
        number,
        feedback.title(number),
        lesson_grades[0].counts,
        len(done),
        statistics.median(points),
        min(points),
        max(points),
        max(grade.max_points for grade in lesson_grades),
        _bands(done),
        _items(done),
        _mistakes(done),
        sorted({grade.student for grade in lesson_grades if grade.entry is None and not grade.override}),
    )


def _bands(lesson_grades: list[Grade]) -> list[Band]:
    """Students by tenths of the points; a full score belongs to the last tenth."""
    counts = Counter(min(int(grade.share * BANDS), BANDS - 1) for grade in lesson_grades)
    longest = max(counts.values(), default=1)
    width = 100 // BANDS
    return [
        Band(f"{band * width}–{(band + 1) * width} %", counts[band], round(100 * counts[band] / longest))
        for band in range(BANDS)
    ]


def _items(lesson_grades: list[Grade]) -> list[ItemView]:
    by_name: dict[str, list] = {}
    for grade in lesson_grades:
        for item in grade.items:
            by_name.setdefault(item_name(item.kind, item.name), []).append(item)
    views = []
    for name, items in by_name.items():
        verdicts = [item.verdict for item in items if item.verdict]
        troubles = Counter(verdict.status for verdict in verdicts if _is_trouble(verdict, QUIET))
        views.append(
            ItemView(
                name,
                sum(verdict.status != "not attempted" for verdict in verdicts),
                sum(item.points >= item.max_points for item in items),
                statistics.mean(item.points / item.max_points if item.max_points else 0.0 for item in items),
                ", ".join(f"{status}: {count}" for status, count in troubles.most_common()),
            )
        )
    return views


def _mistakes(lesson_grades: list[Grade]) -> list[MistakeView]:
    counts = Counter(
        (item.name, item.verdict.mistake)
        for grade in lesson_grades
        for item in grade.items
        if item.verdict and item.verdict.mistake
    )
    return [MistakeView(name, text, count) for (name, text), count in counts.most_common(MOST_MISTAKES)]


@dataclass(frozen=True)
class PageCell:
    """One student's points in one lesson, and where their page is."""

    text: str
    href: str = ""


def _everybody(all_grades: list[Grade], numbers: list[str]) -> list[dict]:
    by_student: dict[str, dict[str, Grade]] = {}
    for grade in all_grades:
        by_student.setdefault(grade.student, {})[grade.lesson] = grade
    rows = []
    for student, mine in by_student.items():
        counting = [grade for grade in mine.values() if grade.counts]
        rows.append(
            {
                "student": student,
                "cells": [_cell(mine.get(number)) for number in numbers],
                "total": round(sum(grade.points for grade in counting), 2),
                "most": sum(grade.max_points for grade in counting),
            }
        )
    return rows


def _cell(grade: Grade | None) -> PageCell:
    if grade is None:
        return PageCell("–")
    if grade.entry is None and not grade.items and grade.override is None:
        return PageCell("missing")
    return PageCell(f"{grade.points:g}", f"{feedback.FOLDER}/{quote(folder_name(grade.student))}/{grade.lesson}.html")
