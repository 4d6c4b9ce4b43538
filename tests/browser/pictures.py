"""Take the pictures in docs/pictures anew: `make pictures`. Look at them before you keep them.

A failed check, a passed check, a question, a slider and the progress panel, as JupyterLab shows them.
"""

import sys
import tempfile
from pathlib import Path

from quizzes import lesson
from tests.browser import answers, running
from tests.browser.jupyterlab import Notebook

PICTURES = running.ROOT / "docs" / "pictures"
MOST_BYTES = 150_000


def take(cell, name: str) -> None:
    """Keep a picture of a cell and of what stands below it. Ends the program when the file is too large for a page."""
    path = PICTURES / f"{name}.png"
    cell.screenshot(path=path, animations="disabled")
    print(f"{path.relative_to(running.ROOT)}: {path.stat().st_size:,} bytes")
    if path.stat().st_size > MOST_BYTES:
        sys.exit(f"{path.name} has more than {MOST_BYTES:,} bytes; show less of the page")


def of_lesson_01(notebook: Notebook) -> None:
    """A check before and after, a question, a slider; of the other cells only those that these need."""
    for text in ("from quizzes import", "quiz = lesson(", "teacher = models.", "tailed = teacher."):
        notebook.run(notebook.holding(text))
    exercise = lesson("01").exercises["quantize"]
    position = notebook.find("exercise", exercise.name)
    stub = notebook.source(position)
    take(notebook.write(position, answers.mistaken(stub, exercise)[0]), "check-failed")
    take(notebook.write(position, answers.right(stub, exercise)), "check-passed")
    cell = notebook.run(notebook.find("question", "1"))
    cell.get_by_role("button", name="B", exact=True).click()
    cell.get_by_role("alert").wait_for()
    take(cell, "question")
    cell = notebook.run(notebook.holding("widgets.explore("))
    notebook.tab_to("[role=slider]")
    take(cell, "slider")


def of_lesson_00(notebook: Notebook) -> None:
    """The progress panel, after some work in lesson 01."""
    for text in ("from quizzes import", "quiz = lesson(", "course_progress()"):
        cell = notebook.run(notebook.holding(text))
    take(cell, "progress")


def main() -> None:
    """All five, through a JupyterLab of their own."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, running.jupyterlab(Path(home)) as lab, running.chromium() as browser:
        for name, pictures in (("01_affine", of_lesson_01), ("00_start_here", of_lesson_00)):
            notebook = Notebook(browser, lab, f"{name}.ipynb", width=1300, height=1500)
            pictures(notebook)
            notebook.close()


if __name__ == "__main__":
    main()
