"""Copy the lessons into workspace/, where they are solved. A copy that is there already is never touched.

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


if __name__ == "__main__":
    for copy in copy_new(target=Path(sys.argv[1]) if len(sys.argv) > 1 else WORKSPACE):
        print(f"new lesson: {copy.parent.name}/{copy.name}")
