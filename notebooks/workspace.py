"""Copy the lessons into workspace/, where they are solved, and make JupyterLab ready for them.

A copy that is there already is never touched.

    python notebooks/workspace.py [FOLDER]          into FOLDER in place of workspace/
"""

import shutil
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent
WORKSPACE = NOTEBOOKS.parent / "workspace"


def copy_new(source: Path = NOTEBOOKS, target: Path = WORKSPACE) -> list[Path]:
    """Copy every lesson that the target folder lacks; return the new copies."""
    target.mkdir(parents=True, exist_ok=True)
    lessons = sorted(source.glob("[0-9][0-9]_*.ipynb"))
    missing = [(lesson, target / lesson.name) for lesson in lessons if not (target / lesson.name).exists()]
    for lesson, copy in missing:
        shutil.copyfile(lesson, copy)
    return [copy for _, copy in missing]


def ready_jupyterlab(environment: Path = Path(sys.prefix)) -> None:
    """Give the JupyterLab of a virtual environment the course's settings, in place of those that came with it."""
    # The course needs no network, so JupyterLab asks for neither news nor newer versions.
    settings = environment / "share/jupyter/lab/settings"
    settings.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(NOTEBOOKS / "jupyterlab.json", settings / "overrides.json")
    # nbgrader is here as a library, for `course export`; its buttons for instructors stay out of the lessons.
    (environment / "etc/jupyter/jupyter_server_config.d/nbgrader.json").unlink(missing_ok=True)
    shutil.rmtree(environment / "share/jupyter/labextensions/@jupyter/nbgrader", ignore_errors=True)


if __name__ == "__main__":
    if sys.prefix != sys.base_prefix:  # elsewhere it may be everybody's JupyterLab, and stays as it is
        ready_jupyterlab()
    for copy in copy_new(target=Path(sys.argv[1]) if len(sys.argv) > 1 else WORKSPACE):
        print(f"new lesson: {copy.parent.name}/{copy.name}")
