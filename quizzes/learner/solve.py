"""A solved copy of a lesson, for the instructor: right code in every exercise cell, the right letter in every question.

The solutions stand on their own, in torch alone, so a solved notebook also earns full marks in the grader.
"""

import ast
from pathlib import Path

from quizzes.lessons import Lesson


def solved(notebook: dict, lesson: Lesson) -> dict:
    """The notebook, answered in place. Raises ValueError for an exercise cell that does not define its function."""
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        exercise = cell["metadata"].get("exercise")
        if exercise is not None:
            cell["source"] = with_solution(cell["source"], exercise, lesson.exercises[exercise].solution())
        if ".ask(" in cell["source"]:
            cell["source"] = with_answers(cell["source"], {id: item.right for id, item in lesson.questions.items()})
    return notebook


def with_solution(source: str, name: str, solution: str) -> str:
    """A cell with the definition of `name` replaced. Raises ValueError when the cell does not define it."""
    definitions = [node for node in ast.parse(source).body if getattr(node, "name", None) == name]
    if not definitions:
        raise ValueError(f"the cell of exercise {name!r} does not define it; write its stub as `def {name}(...)`.")
    node = definitions[-1]
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    lines = source.split("\n")
    return "\n".join([*lines[: first - 1], *solution.rstrip().split("\n"), *lines[node.end_lineno :]])


def with_answers(source: str, right: dict[str, str]) -> str:
    """A cell with `answer=...` replaced by the right letter of each question that it asks."""
    asked = [
        (keyword.value, right[node.args[0].value])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "ask"
        for keyword in node.keywords
        if keyword.arg == "answer"
    ]
    lines = [line.encode() for line in source.split("\n")]
    # From the end, so that earlier positions (in bytes, as the syntax tree counts) stay what they are.
    for value, letter in sorted(asked, key=lambda pair: (pair[0].lineno, pair[0].col_offset), reverse=True):
        line = lines[value.lineno - 1]
        lines[value.lineno - 1] = line[: value.col_offset] + f'"{letter}"'.encode() + line[value.end_col_offset :]
    return b"\n".join(lines).decode()


def lesson_notebook(folder: Path, number: str) -> Path:
    """The notebook of a lesson. Raises FileNotFoundError when the folder has none."""
    paths = sorted(folder.glob(f"{number}_*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no notebook of lesson {number}; run python notebooks/generate.py")
    return paths[0]
