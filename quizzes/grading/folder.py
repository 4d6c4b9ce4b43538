"""A folder of submissions: who handed in what, graded one after the other into a gradebook."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from quizzes import lessons
from quizzes.grading.gradebook import Entry, Gradebook, Verdict, text
from quizzes.grading.grader import Grader, Judgement, lesson_of, status_of
from quizzes.grading.submission import Submission, Unreadable, read

NOTHING = "no notebook handed in"
A_LINK = "is a link, not a folder"


@dataclass(frozen=True)
class HandIn:
    """One student's notebook for one lesson. `problem` says why it cannot be graded, `others` what stands beside it."""

    student: str
    lesson: str
    notebook: str
    submission: Submission | None = None
    problem: str = ""
    others: tuple[str, ...] = ()


def students(folder: Path) -> list[tuple[str, list[Path]]]:
    """Every student's folder and the notebooks in it, at <student>/*.ipynb or <student>/<assignment>/*.ipynb.

    nbgrader's layout is understood, whether `folder` is its course folder or the `submitted` folder in it.
    Raises NotADirectoryError when `folder` is none.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; give the folder that holds one folder a student")
    root = folder / "submitted" if (folder / "submitted").is_dir() else folder
    return [(entry.name, _notebooks(Path(entry.path))) for entry in _folders(root, links=True)]


def _folders(parent: Path, links: bool = False) -> list[os.DirEntry]:
    """The folders in a folder by name, without hidden ones; with `links` also what only points to a folder."""
    try:
        found = [entry for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=links)]
    except OSError:
        return []
    return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _notebooks(student: Path) -> list[Path]:
    if student.is_symlink():
        return []
    places = [student, *(Path(entry.path) for entry in _folders(student))]
    found = []
    for place in places:
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        found += [place / name for name in names if name.endswith(".ipynb") and not name.startswith(".")]
    return found


def hand_ins(student: str, notebooks: list[Path], root: Path) -> list[HandIn]:
    """What a student hands in, one notebook a lesson.

    Of several that can be read, the one with the shortest name counts: a copy made by JupyterLab has a longer one.
    """
    if not notebooks:
        linked = any((place / student).is_symlink() for place in (root, root / "submitted"))
        return [HandIn(student, "", "", problem=A_LINK if linked else NOTHING)]
    by_lesson: dict[str, list[HandIn]] = {}
    for path in sorted(notebooks, key=lambda path: (len(path.name), str(path))):
        found = _hand_in(student, path, str(path.relative_to(root)))
        by_lesson.setdefault(found.lesson or found.notebook, []).append(found)
    chosen = []
    for found in by_lesson.values():
        first = next((item for item in found if not item.problem), found[0])
        others = tuple(item.notebook for item in found if item is not first)
        chosen.append(replace(first, others=others))
    return chosen


def _hand_in(student: str, path: Path, name: str) -> HandIn:
    try:
        submission = read(path)
        return HandIn(student, lesson_of(submission).number, name, submission)
    except Unreadable as error:
        lesson = path.name[:2] if path.name[:2] in lessons.numbers() else ""
        return HandIn(student, lesson, name, problem=f"{path.name} {error}")


def grade(
    folder: Path, gradebook: Gradebook, grader: Grader, report: Callable[[Entry, bool], None] = lambda *_: None
) -> None:
    """Grade every hand-in of a folder. What the gradebook already holds, with the same content, is not graded again.

    report: called after each hand-in with its entry, and whether it was graded just now.
    """
    seen = set()
    for student, notebooks in students(folder):
        for hand_in in hand_ins(student, notebooks, folder):
            seen.add((hand_in.student, hand_in.notebook))
            entry = _entry(hand_in, gradebook, grader)
            fresh = not entry.status
            if fresh:
                _grade_one(hand_in, entry, gradebook, grader)
            report(entry, fresh)
    gradebook.keep_only(seen)


def _entry(hand_in: HandIn, gradebook: Gradebook, grader: Grader) -> Entry:
    sha256 = hand_in.submission.sha256 if hand_in.submission else hand_in.problem
    return gradebook.open(hand_in.student, hand_in.lesson, hand_in.notebook, text(sha256), grader.questions_count)


def _grade_one(hand_in: HandIn, entry: Entry, gradebook: Gradebook, grader: Grader) -> None:
    if hand_in.submission is None:
        gradebook.finish(entry, hand_in.problem, _worth(hand_in.lesson, grader))
        return
    lesson = lesson_of(hand_in.submission)
    known = {(verdict.kind, verdict.item) for verdict in entry.verdicts}
    for judgement in grader.judge(hand_in.submission, lesson, known):
        gradebook.add(entry, _verdict(judgement))
    status = status_of([(verdict.kind, verdict.item, verdict.status) for verdict in entry.verdicts])
    others = f"; not graded, for the same lesson: {', '.join(hand_in.others)}" if hand_in.others else ""
    gradebook.finish(entry, status + others, grader.max_points(lesson))


def _worth(lesson: str, grader: Grader) -> float:
    """Points of a lesson that may not exist."""
    try:
        return grader.max_points(lesson_of(Submission("", lesson=lesson)))
    except Unreadable:
        return 0.0


def _verdict(judgement: Judgement) -> Verdict:
    result = judgement.result
    return Verdict(
        kind=judgement.kind,
        item=judgement.item,
        points=judgement.points,
        max_points=judgement.max_points,
        status=judgement.status,
        detail=judgement.detail,
        mistake=(result.mistake or "") if result else "",
        groups_right=sum(result.groups.values()) if result else 0,
        groups=len(result.groups) if result else 0,
        seconds=judgement.seconds,
    )
