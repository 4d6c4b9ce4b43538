"""From a student's files to hand-ins: one notebook a lesson is graded, and everything else gets a status."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from quizzes import lessons
from quizzes.grading.intake.archive import MAX_OWN_DIRECTORY_BYTES, Archive
from quizzes.grading.intake.layouts import A_LINK, NOTEBOOKS, File, is_notebook, refuse
from quizzes.grading.intake.model_files import ENDING, with_models
from quizzes.grading.intake.submission import Submission, Unreadable, lesson_in_name, parse

NOTHING = "no notebook handed in"
MAX_OWN_BYTES = 200 * 2**20  # out of one student's zip
MAX_NOTEBOOKS = 60  # of one student, so that nobody makes the class wait


@dataclass(frozen=True)
class HandedIn:
    """One student's notebook for one lesson. `problem` says why it cannot be graded, `others` what stands beside it."""

    student: str
    lesson: str
    notebook: str
    submission: Submission | None = None
    problem: str = ""
    others: tuple[str, ...] = ()
    handed_in: datetime | None = None
    late: bool = False  # the system says so, without saying by how much
    canvas_id: str = ""


def hand_ins(student: str, files: list[File]) -> list[HandedIn]:
    """What a student hands in, one notebook a lesson.

    Of several that can be read, one that was worked on counts before an untouched one, then the one with the shortest
    name (a copy made by JupyterLab or a browser has a longer one), then the latest.
    """
    canvas_id = next((file.place.canvas_id for file in files if file.place.canvas_id), "")
    unpacked = list(_unpacked(files))
    notebooks = [item for item in unpacked if isinstance(item, HandedIn) or item.ends(*NOTEBOOKS)]
    models = [item for item in unpacked if isinstance(item, File) and item.ends(ENDING)]
    if not notebooks:
        return [HandedIn(student, "", "", problem=_nothing(files), canvas_id=canvas_id)]
    by_lesson: dict[str, list[HandedIn]] = {}
    for notebook in notebooks[:MAX_NOTEBOOKS]:
        read = notebook if isinstance(notebook, HandedIn) else _read(student, notebook)
        by_lesson.setdefault(read.lesson or read.notebook, []).append(replace(read, student=student))
    chosen = []
    for candidates in by_lesson.values():
        first, *others = sorted(candidates, key=_rank)
        other_notebooks = tuple(sorted(item.notebook for item in others))
        if first.submission is not None:
            first = replace(first, submission=with_models(first.submission, first.notebook, models))
        chosen.append(replace(first, others=other_notebooks, canvas_id=canvas_id))
    if len(notebooks) > MAX_NOTEBOOKS:
        problem = f"{len(notebooks)} notebooks handed in; the first {MAX_NOTEBOOKS} were read"
        chosen.append(HandedIn(student, "", "", problem=problem, canvas_id=canvas_id))
    return sorted(chosen, key=lambda item: (item.lesson, item.notebook))


def _rank(item: HandedIn) -> tuple:
    untouched = item.submission is not None and item.submission.untouched
    latest = -item.handed_in.timestamp() if item.handed_in else 0.0
    return bool(item.problem), untouched, len(item.notebook.rsplit("/", 1)[-1]), latest, item.notebook


def _nothing(files: list[File]) -> str:
    """Why somebody has no notebook: a link in the place of the folder, or other files."""
    for file in files:
        if not file.place.file:
            try:
                file.read()
            except Unreadable as error:
                if str(error) == A_LINK:
                    return A_LINK
    other = sorted(file.name for file in files if file.place.file)[:3]
    return f"{NOTHING}; there is {', '.join(other)}" if other else NOTHING


def _unpacked(files: list[File]) -> Iterator[File | HandedIn]:
    """The files, with what a student's own zip holds in its place, or why it cannot be opened."""
    for file in files:
        if not file.ends(".zip"):
            yield file
            continue
        try:
            archive = Archive(file.read(), MAX_OWN_DIRECTORY_BYTES)
        except Unreadable as error:
            yield HandedIn("", _known_lesson(file.name), file.shown, problem=f"{file.name} {error}")
            continue
        left = MAX_OWN_BYTES
        for member in [item for item in archive if _is_wanted(item.parts[-1])][: MAX_NOTEBOOKS + 1]:
            left -= member.info.file_size
            path = "/".join(member.parts)
            read = member.read if left >= 0 else refuse("comes from a zip that holds more than is read")
            place = replace(file.place, file=path)
            yield File(place, f"{file.shown}/{path}", read, file.changed)


def _is_wanted(name: str) -> bool:
    return is_notebook(name) or name.lower().endswith(ENDING)


def _known_lesson(name: str) -> str:
    """The lesson in the name of a file that cannot be read; none for a number that the course lacks."""
    number = lesson_in_name(name)  # as a lesson, any number would be owed by everybody on the roster
    return number if number in lessons.numbers() else ""


def _read(student: str, file: File) -> HandedIn:
    try:
        submission = parse(file.read(), file.name)
        if submission.lesson is None:  # nothing in the notebook says: then its folder may
            submission.lesson = next(filter(None, map(lesson_in_name, file.place.file.split("/")[:-1])), None)
    except Unreadable as error:
        return HandedIn(
            student,
            _known_lesson(file.name),
            file.shown,
            problem=f"{file.name} {error}",
            handed_in=file.changed,
            late=file.place.late,
        )
    problem = ""
    if submission.lesson is None:
        problem = "names no lesson: neither its metadata nor its file name, which should begin as 01_ does"
    elif submission.lesson not in lessons.numbers():
        problem = f"is for lesson {submission.lesson}, which has no exercises here"
    if problem:
        return HandedIn(student, "", file.shown, None, f"{file.name} {problem}", (), file.changed, file.place.late)
    return HandedIn(student, submission.lesson, file.shown, submission, "", (), file.changed, file.place.late)
