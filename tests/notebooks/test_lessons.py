"""What a lesson must hold before it runs: its notebook, its cells, its prose, its exercises."""

import ast
import inspect
import json
import re
import statistics
import tomllib
from functools import cache
from pathlib import Path

import pytest

from notebooks import generate as notebooks
from tests.prose import offences

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted((NOTEBOOKS / "source").glob("[0-9][0-9]_*.py"))
SYLLABUS = tomllib.loads((NOTEBOOKS / "syllabus.toml").read_text(encoding="utf-8"))["lessons"]
MOST_LINES = 25
FIGURES = ("histogram", "lines", "bars", "scatter")
ENDING = ["Try it", "Claimed and measured", "Questions", "What to remember", "Where to read on"]

each_lesson = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@cache
def all_cells(source: Path) -> list:
    return notebooks.with_stubs(source)


def cells(source: Path, kind: str) -> list:
    return [cell for cell in all_cells(source) if cell.cell_type == kind]


def code_lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


def strings_shown(tree: ast.AST) -> list[str]:
    """The literal text of a cell, pieces of f-strings included: titles, alternative texts, notes."""
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def bank(source: Path):
    from quizzes import lesson

    return lesson(source.stem[:2])


def test_syllabus_is_complete():
    assert [lesson["name"][:2] for lesson in SYLLABUS] == [f"{number:02}" for number in range(19)]
    numbers = {lesson["name"][:2] for lesson in SYLLABUS}
    for lesson in SYLLABUS:
        assert set(lesson) == {"name", "part", "title", "minutes", "needs", "objectives", "seconds", "status"}
        assert lesson["status"] in ("ready", "coming")
        assert set(lesson["needs"]) <= numbers
        assert lesson["name"][:2] not in lesson["needs"]
        assert 1 <= len(lesson["objectives"]) <= 4
    assert [lesson["name"] for lesson in SYLLABUS if lesson["status"] == "ready"] == [path.stem for path in SOURCES]


def test_notebooks_agree_with_their_sources(generate):
    stale = [path.name for path in generate.differing()]
    assert not stale, f"{stale} differ from their sources: run `make notebooks`"
    assert [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))] == [path.stem for path in SOURCES]


@each_lesson
def test_no_outputs_are_stored(source):
    made = json.loads((NOTEBOOKS / f"{source.stem}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert not [cell["source"] for cell in code if cell["outputs"] or cell["execution_count"] is not None]
    assert made["metadata"]["course"] == {"lesson": source.stem[:2]}


@each_lesson
def test_cells_are_short(source):
    lengths = [code_lines(cell.source) for cell in cells(source, "code")]
    assert statistics.median(lengths) <= 6
    assert sum(length <= MOST_LINES for length in lengths) >= 0.9 * len(lengths), sorted(lengths)


@each_lesson
def test_prose_is_plain(source):
    shown = [cell.source for cell in cells(source, "markdown")]
    shown += [text for cell in cells(source, "code") for text in strings_shown(ast.parse(cell.source))]
    found = {text.strip()[:60]: offences(text) for text in shown if offences(text)}
    assert not found


@each_lesson
def test_card(source):
    """The first cell promises what the syllabus and the bank hold."""
    lesson = next(lesson for lesson in SYLLABUS if lesson["name"] == source.stem)
    first = all_cells(source)[0]
    assert first.cell_type == "markdown"
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", first.source, flags=re.MULTILINE))
    assert {"You will be able to", "You need first", "Minutes", "Points"} <= set(rows)
    assert first.source.startswith("# ")
    assert int(rows["Minutes"]) == lesson["minutes"]
    assert int(rows["Points"]) == bank(source).max_points
    assert all(number in rows["You need first"] for number in lesson["needs"])


@each_lesson
def test_minutes_on_the_card_are_counted(source):
    """By the rule in docs/instructors.md, to five minutes: reading, exercises, questions and the run itself."""
    lesson = next(lesson for lesson in SYLLABUS if lesson["name"] == source.stem)
    quiz = bank(source)
    words = sum(len(re.findall(r"[A-Za-z0-9][\w'.,-]*", cell.source)) for cell in cells(source, "markdown"))
    lines = sum(code_lines(cell.source) for cell in cells(source, "code"))
    exercises = sum(item.minutes for item in quiz.work.values())
    counted = words / 200 + lines / 20 + len(quiz.questions) + exercises + lesson["seconds"] / 60
    assert abs(lesson["minutes"] - counted) <= 5, f"the rule gives {counted:.0f} minutes"


@each_lesson
def test_imports_stand_in_one_tagged_cell(source):
    tagged = [cell for cell in cells(source, "code") if "imports" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for cell in cells(source, "code"):
        imports = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert cell is tagged[0] or not imports, cell.source
        names = {alias.name.split(".")[0] for node in imports if isinstance(node, ast.Import) for alias in node.names}
        names |= {(node.module or "").split(".")[0] for node in imports if isinstance(node, ast.ImportFrom)}
        assert not names & {"matplotlib", "ipywidgets"}, "draw with lessons_lib.show.plots and lessons_lib.show.widgets"


@each_lesson
def test_figures_have_alternative_text(source):
    for cell in cells(source, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "plots" and node.func.attr in FIGURES:
                assert {"alt", "title"} <= {keyword.arg for keyword in node.keywords}, ast.unparse(node)


@each_lesson
def test_exercises_stand_in_cells_of_their_own(source):
    """Every exercise once, as stub and check; nothing else calls the learner's function."""
    quiz = bank(source)
    stubs = [cell for cell in cells(source, "code") if "exercise" in cell.metadata]
    assert sorted(cell.metadata["exercise"] for cell in stubs) == sorted(quiz.exercises)
    for cell in stubs:
        name = cell.metadata["exercise"]
        definition = stub(cell)
        assert definition.name == name
        assert ast.get_docstring(definition)
        assert all(ast.unparse(function.body[-1]) == "raise NotImplementedError" for function in functions(definition))
        assert re.search(rf"^quiz\.check\({name}\)", cell.source, flags=re.MULTILINE)
    for cell in cells(source, "code"):
        own = {cell.metadata.get("exercise")}
        assert not learners_names(ast.parse(cell.source)) & (set(quiz.exercises) - own), cell.source


def stub(cell) -> ast.FunctionDef | ast.ClassDef:
    """What the learner writes: a function, or a class such as an autograd.Function."""
    return next(node for node in ast.parse(cell.source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))


def functions(definition: ast.FunctionDef | ast.ClassDef) -> list[ast.FunctionDef]:
    """The function itself, or the methods of a class."""
    own = [definition] if isinstance(definition, ast.FunctionDef) else definition.body
    return [node for node in own if isinstance(node, ast.FunctionDef)]


def learners_names(tree: ast.AST) -> set[str]:
    """Names read in a cell, but for those handed to quiz.hint, quiz.solution and quiz.check."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("quiz.hint", "quiz.solution", "quiz.check"):
            node.args = []
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@each_lesson
def test_stubs_ask_for_what_the_bank_judges(source):
    """Written from the bank, so once: the same arguments and docstring, and no stub in the source of the notebook."""
    for name, exercise in bank(source).exercises.items():
        cell = next(cell for cell in cells(source, "code") if cell.metadata.get("exercise") == name)
        definition = stub(cell)
        for function in functions(definition):
            reference = getattr(exercise.reference, function.name, exercise.reference)
            arguments = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
            assert arguments == list(inspect.signature(reference).parameters)[: len(arguments)]
        assert ast.get_docstring(definition) == exercise.doc, f"{name}: the stub's docstring is not the bank's"
    assert "raise NotImplementedError" not in source.read_text(encoding="utf-8")


@each_lesson
def test_questions_stand_in_cells_of_their_own(source):
    asked = [cell for cell in cells(source, "code") if "question" in cell.metadata]
    assert [cell.metadata["question"] for cell in asked] == list(bank(source).questions)
    for cell in asked:
        assert cell.source == f'quiz.ask("{cell.metadata["question"]}", answer=...)'


@each_lesson
def test_lesson_ends_as_all_lessons_do(source):
    headings = [
        line.lstrip("# ")
        for cell in cells(source, "markdown")
        for line in cell.source.splitlines()
        if line.startswith("## ")
    ]
    found = [next((heading for heading in headings if heading.startswith(ending)), None) for ending in ENDING]
    assert None not in found, dict(zip(ENDING, found, strict=True))
    code = "\n".join(cell.source for cell in cells(source, "code"))
    assert "widgets.explore(" in code
    assert f'claims.show("{source.stem[:2]}"' in code
