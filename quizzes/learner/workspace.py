"""The learner's own copies of the lessons: where they are, how to open one, how to start one afresh."""

import json
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psutil
from jupyter_core.paths import jupyter_runtime_dir

from quizzes.learner.solve import lesson_notebook
from quizzes.lessons import numbers

CLEAN = Path(__file__).resolve().parents[2] / "notebooks"
FOLDER = CLEAN.parent / "workspace"


@dataclass(frozen=True)
class NotebookPlace:
    """A notebook, and where a running JupyterLab shows it (None when none runs over its folder).

    The address names a cell too; JupyterLab scrolls to it when the notebook is open already.
    """

    notebook: Path
    address: str | None


def reset(number: str, folder: Path) -> tuple[Path, Path | None]:
    """Put a clean notebook in the folder; return its path, and where the old one is now (None when there was none).

    The old one stays beside it as NAME.old-1.ipynb, NAME.old-2.ipynb and so on; nothing is ever overwritten. One that
    was never changed stays as it is, and both paths are the same.
    Raises ValueError for a number that no lesson has.
    """
    if number not in numbers():
        raise ValueError(f"there is no lesson {number!r}; there is {', '.join(numbers())}.")
    clean = lesson_notebook(CLEAN, number)
    mine, old_copy = folder / clean.name, None
    folder.mkdir(parents=True, exist_ok=True)
    if mine.exists():
        if mine.read_bytes() == clean.read_bytes():
            return mine, mine
        old_copy = next(path for n in count(1) if not (path := mine.with_suffix(f".old-{n}.ipynb")).exists())
        mine.rename(old_copy)
    shutil.copyfile(clean, mine)
    return mine, old_copy


def place(number: str, item: str, folder: Path) -> NotebookPlace:
    """Where an exercise, a hand-in or a question ("quantize", "topics_model", "question 3") of a lesson stands."""
    notebook = folder / lesson_notebook(CLEAN, number).name
    key, value = item.split() if item.startswith("question ") else ("exercise", item)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"] if notebook.exists() else []
    cell = next((cell for cell in cells if value in (cell["metadata"].get(key), cell["metadata"].get("hand_in"))), {})
    for server in _servers():
        root = Path(server["root_dir"]).resolve()
        if root in notebook.resolve().parents:
            path = quote(notebook.resolve().relative_to(root).as_posix())
            token = f"?token={server['token']}" if server["token"] else ""
            spot = f"#cell-id={cell['id']}" if "id" in cell else ""
            return NotebookPlace(notebook, f"{server['url']}lab/tree/{path}{token}{spot}")
    return NotebookPlace(notebook, None)


def _servers() -> list[dict]:
    """The Jupyter servers of this user that run now, as they describe themselves."""
    described = [json.loads(file.read_text()) for file in Path(jupyter_runtime_dir()).glob("jpserver-*.json")]
    return [server for server in described if psutil.pid_exists(server["pid"])]
