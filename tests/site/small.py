"""A site of one small lesson that holds one of each: a formula, a table, a figure with controls, a question, a note."""

import shutil
from pathlib import Path

import nbformat

from docs import build

ROOT = Path(__file__).resolve().parents[2]
LESSON = {
    "name": "00_tiny",
    "part": "One",
    "title": "Tiny",
    "minutes": 5,
    "needs": [],
    "objectives": ["see"],
    "seconds": 5,
    "status": "ready",
}
CARD = "# Tiny\n\n| | |\n|---|---|\n| Minutes | 5 |"
PROSE = r"""## A section

Latency and **throughput**: latency again, a median, `mask`, and $\frac{1}{2}$.

$$\text{scale} = \frac{\text{high} - \text{low}}{2^{\text{bits}} - 1}$$"""
CODE = (
    "from lessons_lib.show import plots, tables, widgets\nfrom quizzes import lesson",
    "tables.table({'a': 1, 'b': 2}, 'Two rows')",
    "def draw(bits=4):\n    said = f'One bar, {bits} bits long.'\n"
    "    return plots.bars({'a': bits}, title='A bar', alt=said, xlabel='bits')\nwidgets.explore(draw, bits=[2, 4, 8])",
    "plots.note(r'Six is $2 \\cdot 3$.')",
    "lesson('00').ask('1', answer=...)",
    "print('a long line ' * 20)",
)


def site(folder: Path) -> build.Site:
    """The lesson, run; its pages are still to be written. One module of the library stands for all."""
    (folder / "notebooks").mkdir()
    room = folder / "lessons_lib" / "show"
    room.mkdir(parents=True)
    for name in ("__init__.py", "tables.py"):
        shutil.copy(ROOT / "lessons_lib" / "show" / name, room)
    cells = [*map(nbformat.v4.new_markdown_cell, (CARD, PROSE)), *map(nbformat.v4.new_code_cell, CODE)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "00_tiny.ipynb")
    made = build.Site(folder / "out", folder / "notebooks", [LESSON], folder / "lessons_lib")
    build.run(made, [], report=lambda _line: None)
    return made
