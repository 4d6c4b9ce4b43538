"""A notebook as the grader sees it: pieces of source and literal answers, by syntax tree. Nothing of it runs here."""

import hashlib
import json
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

from quizzes.grading.intake import source
from quizzes.grading.intake.source import Statement, magic_work, read_cell

MAX_NOTEBOOK_BYTES = 50 * 2**20
MAX_CODE_CHARACTERS = 500_000  # in all cells together, and
MAX_MAGIC_WORK = 1_000_000  # for all their magics: reading a notebook takes seconds at most

NO_FUNCTION = "no function of that name"
STUB = "the stub is unchanged"


class Unreadable(ValueError):
    """A submission that cannot be graded at all; the message says why, in words for the instructor."""


@dataclass
class Submission:
    """What a notebook hands in: the lesson it says it belongs to, statements in order, answers to questions."""

    sha256: str
    lesson: str | None = None
    statements: list[Statement] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # exercise -> why its cell cannot be parsed
    left_out: set[str] = field(default_factory=set)  # names that only code which never runs would bind
    models: dict[str, bytes | str] = field(default_factory=dict)  # a file beside it: its content, or what is wrong

    def answer_to(self, exercise: str) -> Statement | None:
        """The definition that answers an exercise: in its own cell, else the last one; a stub only as a last resort."""
        definitions = [item for item in self.statements if item.defines and exercise in item.binds]
        ranked = sorted(definitions, key=lambda item: (not item.stub, item.exercise == exercise))
        return ranked[-1] if ranked else None

    @property
    def untouched(self) -> bool:
        """Whether nothing was answered: no question, and no definition in an exercise's cell, or none at all."""
        definitions = [item for item in self.statements if item.defines]
        own = [item for item in definitions if item.exercise] or definitions
        return not self.answers and all(item.stub for item in own)

    def with_models(self, models: dict[str, bytes | str]) -> "Submission":
        """The same with these files beside it; another content, unless there are none."""
        if not models:
            return self
        parts = [data if isinstance(data, bytes) else data.encode() for data in models.values()]
        digests = [hashlib.sha256(part).hexdigest() for part in parts]
        content = hashlib.sha256(" ".join([self.sha256, *models, *digests]).encode()).hexdigest()
        return replace(self, sha256=content, models=models)

    def missing(self, exercise: str) -> str | None:
        """Why there is nothing to run for an exercise, None when there is something."""
        answer = self.answer_to(exercise)
        if answer is None:
            return self.broken.get(exercise, NO_FUNCTION)
        if answer.stub:
            return self.broken.get(exercise, STUB)
        return None

    def program(self, exercises: list[str]) -> list[Statement]:
        """The statements to run, in order, such that each exercise's name ends up with the definition that answers it.

        Other definitions of that name are left out; the chosen one is repeated when anything after it takes the name.
        """
        chosen = {name: self.answer_to(name) for name in exercises}
        statements = [
            item
            for item in self.statements
            if not item.defines or all(chosen.get(name, item) is item for name in item.binds)
        ]
        again = []
        # What answers several exercises at once, as in f = g = lambda x: x, goes first: it must not take a name again.
        answers = [(name, answer) for name, answer in chosen.items() if answer is not None]
        for name, answer in sorted(answers, key=lambda pair: -len(pair[1].binds)):
            binders = [item for item in statements + again if name in item.binds]
            if not binders or binders[-1] is not answer:
                again.append(answer)
        return statements + again


def read(path: Path) -> Submission:
    """Read one notebook. Raises Unreadable when it is not a regular file or not a notebook."""
    return parse(load(path), path.name)


def load(path: Path) -> bytes:
    """A file's content. Raises Unreadable for links, folders, pipes, and more than MAX_NOTEBOOK_BYTES."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise Unreadable("is a link, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("is not a file")
        if status.st_size > MAX_NOTEBOOK_BYTES:
            raise Unreadable(f"has {status.st_size / 2**20:.0f} MB; at most {MAX_NOTEBOOK_BYTES // 2**20} are read")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error


def parse(data: bytes, name: str = "") -> Submission:
    """What a notebook's bytes hand in. The lesson comes from its metadata, else from a file name such as 01_x.ipynb.

    Raises Unreadable when the bytes are not a notebook of format 4.
    """
    submission = Submission(hashlib.sha256(data).hexdigest())
    notebook = _notebook(data)
    submission.lesson = _lesson(notebook, name)
    code = [cell for cell in notebook["cells"] if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    if sum(len(_source(cell)) for cell in code) > MAX_CODE_CHARACTERS:
        raise Unreadable(f"has more than {MAX_CODE_CHARACTERS:,} characters of code")
    if sum(min(magic_work(_source(cell)), source.MAX_MAGIC_WORK) for cell in code) > MAX_MAGIC_WORK:
        raise Unreadable("has more magics and shell lines than are read")
    if submission.lesson is None:  # the notebook's own quiz = lesson("03") still says it
        asked = (re.search(r"""\blesson\(\s*["']([0-9]{2})["']""", _source(cell)) for cell in code)
        submission.lesson = next((match.group(1) for match in asked if match), None)
    for cell in code:
        _add_cell(submission, _source(cell), _exercise(cell))
    bound = {name for statement in submission.statements for name in statement.binds}
    submission.left_out -= bound
    return submission


def _notebook(data: bytes) -> dict:
    if not data.strip():
        raise Unreadable("is empty")
    try:
        notebook = json.loads(data)
    except UnicodeDecodeError:
        try:
            notebook = json.loads(data.decode("cp1252", "replace"))
        except (ValueError, RecursionError) as error:
            raise Unreadable("is not a notebook: not JSON") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable("is not a notebook: not JSON, perhaps cut off") from error
    if not isinstance(notebook, dict):
        raise Unreadable("is not a notebook: its JSON is not an object")
    version = notebook.get("nbformat", 4)
    if isinstance(version, int) and version != 4:
        raise Unreadable(f"is in notebook format {version}, not 4; open it in JupyterLab and save it again")
    if not isinstance(notebook.get("cells"), list):
        raise Unreadable("is not a notebook: it has no cells")
    return notebook


def _lesson(notebook: dict, name: str) -> str | None:
    metadata = notebook.get("metadata")
    course = metadata.get("course") if isinstance(metadata, dict) else None
    lesson = course.get("lesson") if isinstance(course, dict) else None
    if isinstance(lesson, str) and re.fullmatch(r"[0-9]{2}", lesson):
        return lesson
    return lesson_in_name(name)


def lesson_in_name(name: str) -> str | None:
    """The lesson that a file's name speaks of: 03_x.ipynb, or what Colab makes of it, Copy of 03_x.ipynb."""
    match = re.match(r"([0-9]{2})(?![0-9])", name) or re.search(r"(?<![0-9])([0-9]{2})_[a-z]", name)
    return match.group(1) if match else None


def _source(cell: dict) -> str:
    text = cell.get("source", "")
    text = "".join(line for line in text if isinstance(line, str)) if isinstance(text, list) else text
    return text.replace("\r\n", "\n").replace("\r", "\n") if isinstance(text, str) else ""


def _exercise(cell: dict) -> str | None:
    metadata = cell.get("metadata")
    exercise = metadata.get("exercise") if isinstance(metadata, dict) else None
    return exercise if isinstance(exercise, str) else None


def _add_cell(submission: Submission, text: str, exercise: str | None) -> None:
    try:
        cell = read_cell(text, exercise)
    except SyntaxError as error:
        if exercise:
            submission.broken[exercise] = f"line {error.lineno} of its cell: {error.msg}"
        return
    submission.statements += cell.statements
    submission.answers |= cell.answers
    submission.left_out |= cell.left_out
    # A later copy of the cell that can be parsed replaces one that cannot.
    submission.broken.pop(exercise, None)
