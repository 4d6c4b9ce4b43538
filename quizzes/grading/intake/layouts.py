"""Where a class's files lie: student folders, nbgrader's layout, the downloads of Canvas and Moodle, zipped or not.

Files are listed by name and read later, one student at a time, so memory stays flat.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from quizzes.grading.intake import names
from quizzes.grading.intake.archive import Archive
from quizzes.grading.intake.names import Place
from quizzes.grading.intake.submission import Unreadable, load

A_LINK = "is a link, not a folder"
NOTEBOOKS = (".ipynb", ".ipynb.json", ".ipynb.txt")  # some browsers add an ending of their own
MAX_DEPTH = 6
MAX_FILES = 2_000  # looked at for one student, folders included


@dataclass(frozen=True)
class File:
    """One file that somebody handed in: where it lies, how to get its bytes, when it was changed."""

    place: Place
    shown: str
    read: Callable[[], bytes]
    changed: datetime | None = None

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return self.place.file.rsplit("/", 1)[-1]

    def ends(self, *endings: str) -> bool:
        """Whether the name has one of these endings, in any case."""
        return self.name.lower().endswith(endings)


def students(root: Path, who: Callable[[Place], str] = lambda place: place.student) -> dict[str, list[File]]:
    """Every student under `root`, a folder or a zip, and the files found for each, in order of names.

    who: the name under which a student is kept; two places of one name are one student. A folder counts as a file
    without a name, so that a student who left it empty is there all the same.
    Raises NotADirectoryError when `root` is neither a folder nor a zip, and Unreadable when it is a broken zip.
    """
    if not root.is_dir() and not root.is_file():
        raise NotADirectoryError(f"{root} is not a folder; give the folder that holds one folder a student, or a zip")
    by_student: dict[str, list[File]] = {}
    for item in _folder(root) if root.is_dir() else _archive(root):
        by_student.setdefault(names.clean(who(item.place)), []).append(item)
    return dict(sorted(by_student.items()))


def _apart(files: list[File]) -> list[File]:
    """Moodle numbers people anew in each assignment, so their number is used only for two who share a name there."""
    numbers: dict[str, set[str]] = {}
    for file in files:
        numbers.setdefault(file.place.student, set()).add(file.place.moodle_id)
    shared = {name for name, ids in numbers.items() if len(ids - {""}) > 1}
    return [
        replace(file, place=replace(file.place, student=f"{file.place.student} ({file.place.moodle_id})"))
        if file.place.student in shared and file.place.moodle_id
        else file
        for file in files
    ]


def _folder(root: Path) -> list[File]:
    root = root / "submitted" if (root / "submitted").is_dir() else root
    own, archived = [], []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        path, is_place = Path(entry.path), names.place((entry.name,)) is not None
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir(follow_symlinks=False):
            place = names.place((entry.name, "x"))
            folder = replace(place, file="") if place else Place(names.clean(entry.name), "")
            own.append(File(folder, entry.name, partial(load, path)))
            own += [_listed(parts, path, root) for parts, path in _walk(path)]
        elif entry.is_symlink() and entry.is_dir():
            own.append(File(Place(names.clean(entry.name), ""), entry.name, refuse(A_LINK)))
        elif entry.name.lower().endswith(".zip") and not is_place and _is_of_a_class(path):
            archived += _archive(path)
        elif is_place or entry.name.lower().endswith((*NOTEBOOKS, ".zip")):
            own.append(_listed((entry.name,), path, root))
    return _apart(own) + archived


def _walk(student: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Files in a student's folder, outer ones first, and folders in the place of a notebook. No link is followed."""
    waiting, looked = deque([(student, (student.name,))]), 0
    while waiting:
        folder, above = waiting.popleft()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            looked += 1
            if looked > MAX_FILES:
                return
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            parts, is_folder = (*above, entry.name), entry.is_dir(follow_symlinks=False)
            if not is_folder or is_notebook(entry.name):
                yield parts, Path(entry.path)
            if is_folder and len(parts) < MAX_DEPTH:
                waiting.append((Path(entry.path), parts))


def _listed(parts: tuple[str, ...], path: Path, root: Path) -> File:
    place = _place(parts)
    # Elsewhere than in nbgrader's layout, and in folders inside an assignment, such a file would be the student's own.
    is_collected = root.name == "submitted" and len(parts) > 2
    stamp = _time_stamp(root.joinpath(*parts[:2])) if is_collected else None
    changed = None if place.canvas else stamp or _changed(path)
    return File(place, str(path.relative_to(root)), partial(load, path), changed)


def _place(parts: tuple[str, ...]) -> Place:
    """Whose file this is: as Canvas or Moodle say, else by the first folder, else by the file's own name."""
    stem = parts[0].split(".")[0]
    return names.place(parts) or Place(names.clean(parts[0] if parts[1:] else stem), "/".join(parts[1:]) or parts[0])


def _changed(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return None


def _time_stamp(folder: Path) -> datetime | None:
    """When nbgrader collected the folder, by its timestamp.txt; None for what is no time, or none that UTC has."""
    try:
        text = (folder / "timestamp.txt").read_text(encoding="utf-8")[:40].strip()
        stamp = datetime.fromisoformat(text.removesuffix(" UTC"))
        return stamp.astimezone(UTC) if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    except (OSError, OverflowError, ValueError):
        return None


def _is_of_a_class(path: Path) -> bool:
    """Whether a zip is a bulk download, rather than what one student packed."""
    try:
        return any(names.place(member.parts) for member in Archive(path))
    except Unreadable:
        return False


def _archive(path: Path) -> list[File]:
    """The files in the zip of a class. Raises Unreadable when it cannot be opened."""
    try:
        members = list(Archive(path))
    except Unreadable as error:
        raise Unreadable(f"{path} {error}") from error
    top, files = _top([member.parts for member in members]), []
    for member in members:
        parts = member.parts[len(top) :]
        if member.parts[: len(top)] != top or not parts:
            continue
        # A file beside the students' folders is nobody's, unless it is a notebook or named as Canvas or Moodle do.
        if len(parts) > 1 or names.place(parts) or parts[0].lower().endswith((*NOTEBOOKS, ".zip")):
            place = _place(parts)
            changed = None if place.canvas else member.changed
            files.append(File(place, f"{path.name}/{'/'.join(member.parts)}", member.read, changed))
    return _apart(files)


def _top(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders above the students' own: those that every hand-in shares, and nbgrader's `submitted`."""
    work = [parts for parts in paths if parts[-1].lower().endswith((*NOTEBOOKS, ".zip"))]
    top: tuple[str, ...] = ()
    while work and all(len(parts) > 1 for parts in work):
        heads = {parts[0] for parts in work}
        if "submitted" in heads:
            return (*top, "submitted")
        if len(heads) > 1 or not all(len(parts) > 2 or names.place(parts[1:]) for parts in work):
            break
        if any(names.place(parts) for parts in work):
            break
        top, work = (*top, *heads), [parts[1:] for parts in work]
    return top


def is_notebook(name: str) -> bool:
    """Whether a file is a notebook by its name."""
    return name.lower().endswith(NOTEBOOKS)


def refuse(why: str) -> Callable[[], bytes]:
    """A way to read what cannot be read: it says why."""

    def read() -> bytes:
        raise Unreadable(why)

    return read
