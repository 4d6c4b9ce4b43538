"""Which of the files beside a notebook are the models that its lesson asks for."""

from functools import partial
from pathlib import Path

from quizzes import lessons
from quizzes.grading.intake.layouts import File
from quizzes.grading.intake.names import Place
from quizzes.grading.intake.submission import Submission, Unreadable, load
from quizzes.models import tasks

ENDING = ".onnx"


def with_models(submission: Submission, notebook: str, files: list[File]) -> Submission:
    """The submission with the models that its lesson asks for, read from these files; the same when it asks for none.

    notebook: where it lies, as its File is shown. A file of its own folder counts before one of another, then the one
    with the shortest name (a copy made by a browser has a longer one), then the latest.
    """
    folder = str(Path(notebook).parent)
    ranked = sorted((item for item in files if item.ends(ENDING)), key=lambda item: _rank(item, folder))
    models = {}
    for hand_in in lessons.lesson(submission.lesson).hand_ins.values():
        task = tasks.TASKS[hand_in.task]
        for item in ranked:
            name = tasks.is_of(task, item.name)
            if name and name not in models:
                models[name] = _content(item)
    return submission.with_models(dict(sorted(models.items())))


def beside(submission: Submission, notebook: Path) -> Submission:
    """The same for a notebook of one's own, with the files of its folder."""
    paths = sorted(notebook.parent.glob(f"*{ENDING}"))
    files = [File(Place("", path.name), str(path), partial(load, path)) for path in paths]
    return with_models(submission, str(notebook), files)


def _rank(item: File, folder: str) -> tuple:
    latest = -item.changed.timestamp() if item.changed else 0.0
    return str(Path(item.shown).parent) != folder, len(item.name), latest, item.shown


def _content(item: File) -> bytes | str:
    """A file's bytes, or in words why it cannot be read."""
    try:
        return item.read()
    except Unreadable as error:
        return str(error)
