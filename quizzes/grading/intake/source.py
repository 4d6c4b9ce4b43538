"""One code cell as pieces that can be run later: imports, definitions and literal constants, by syntax tree."""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CELL_CHARACTERS = 100_000
MAX_MAGIC_WORK = 200_000
MAGIC = re.compile(r"\s*[%!?]|[^#'\"]*=\s*[%!]|.*\?\s*$")  # %time x, !ls, ?x, files = !ls, x?
BOUND = re.compile(r"[\w\s,]+=(?=\s*[!%])")
OWN_NAMES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)  # they bind for themselves
PYTHON_CELL_MAGICS = ("time", "timeit", "capture", "prun")


@dataclass(frozen=True)
class Statement:
    """One import, definition or literal constant: its source, the names it binds, the exercise its cell is for."""

    source: str
    binds: tuple[str, ...]
    line: int
    exercise: str | None = None
    defines: bool = False  # a function, a class, or a name for one: what an exercise's answer can be
    stub: bool = False  # a function that does nothing yet


@dataclass(frozen=True)
class Cell:
    """What a code cell holds: statements to run, answers to questions, names that only code left out would bind."""

    statements: list[Statement]
    answers: dict[str, str]
    left_out: set[str]


def read_cell(source: str, exercise: str | None = None) -> Cell:
    """The pieces of a cell. Magics and shell lines are passed over.

    Raises SyntaxError for a cell that is not Python, is too long, or nests too deep to be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a learner's literals look like is not the grader's affair
            source = _python(source)
            tree = ast.parse(source)
        # Encoded once: the tree counts in bytes, and a cell may hold thousands of statements.
        lines = [line.encode() for line in source.split("\n")]
        statements = [_statement(lines, node, exercise) for node in tree.body if _is_taken(node)]
        left_out = {name for node in tree.body if not _is_taken(node) for name in _bound(node)}
        return Cell(statements, dict(_answers(tree)), left_out)
    except SyntaxError:
        raise
    except (ValueError, RecursionError, MemoryError, RuntimeError) as error:
        raise SyntaxError(f"it cannot be read ({type(error).__name__})", ("", 1, 0, "")) from error


def _python(source: str) -> str:
    """The cell as plain Python: magics and shell lines become something that the grader leaves out."""
    if len(source) > MAX_CELL_CHARACTERS:
        raise SyntaxError(f"longer than {MAX_CELL_CHARACTERS:,} characters", ("", 1, 0, ""))
    first, _, rest = source.lstrip().partition("\n")
    if first.startswith("%%"):
        return _python(rest) if first[2:].split(" ")[0] in PYTHON_CELL_MAGICS else ""
    if not 0 < magic_work(source) <= MAX_MAGIC_WORK:
        return source
    lines = source.split("\n")
    while True:
        try:
            ast.parse("\n".join(lines))
            return "\n".join(lines)
        except SyntaxError as error:
            # What stands in a string is no magic: only a line that Python itself stumbles over is taken for one.
            number = (error.lineno or 0) - 1
            if not (0 <= number < len(lines) and MAGIC.match(lines[number])):
                raise
            _silence(lines, number)


def _silence(lines: list[str], number: int) -> None:
    """Put something inert in the place of a magic, and of the lines that continue it; a name it binds stays bound."""
    bound = BOUND.match(lines[number])
    indentation = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    continued = lines[number].endswith("\\")
    lines[number] = f"{bound.group()} get_ipython()" if bound else f"{indentation}pass"
    while continued and number + 1 < len(lines):
        number += 1
        continued = lines[number].endswith("\\")
        lines[number] = ""


def magic_work(source: str) -> int:
    """How much there is to do for the magics of a cell: for each of them the whole cell is read again."""
    return len(source) * sum(bool(MAGIC.match(line)) for line in source.split("\n"))


def _is_taken(node: ast.stmt) -> bool:
    """Imports, definitions, literal constants, and `try` around nothing else."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return True
    if isinstance(node, ast.Assign):
        return all(map(_is_name, node.targets)) and _is_literal(node.value)
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and node.value is not None and _is_literal(node.value)
    if isinstance(node, ast.Try):
        blocks = [node.body, node.orelse, node.finalbody, *(handler.body for handler in node.handlers)]
        return all(_is_taken(inner) or isinstance(inner, ast.Pass) for block in blocks for inner in block)
    return False


def _is_name(node: ast.expr) -> bool:
    """A name, or several at once, as in LOW, HIGH = -128, 127."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Tuple | ast.List) and all(map(_is_name, node.elts)))


def _is_literal(node: ast.expr) -> bool:
    """A literal, another name for something, a lambda, a type such as tuple[int, float], or arithmetic on literals."""
    if isinstance(node, ast.Constant | ast.Name | ast.Lambda):
        return True
    if isinstance(node, ast.Attribute):
        return _is_literal(node.value)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return all(_is_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return all(key is not None and _is_literal(key) for key in node.keys) and all(map(_is_literal, node.values))
    if isinstance(node, ast.Subscript):
        return _is_literal(node.value) and _is_literal(node.slice)
    if isinstance(node, ast.UnaryOp):
        return _is_literal(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_literal(node.left) and _is_literal(node.right)
    return False


def _statement(lines: list[bytes], node: ast.stmt, exercise: str | None) -> Statement:
    value = getattr(node, "value", None)
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    defines = function or isinstance(node, ast.ClassDef) or isinstance(value, ast.Lambda | ast.Name | ast.Attribute)
    stub = function and _is_stub(node)
    return Statement(_segment(lines, node), tuple(_bound(node)), node.lineno, exercise, defines, stub)


def _segment(lines: list[bytes], node: ast.stmt) -> str:
    """The node's own source with its decorators, also when it shares its line with another statement."""
    decorators = getattr(node, "decorator_list", [])
    if decorators:
        return b"\n".join(lines[min(item.lineno for item in decorators) - 1 : node.end_lineno]).decode()
    first, last = node.lineno - 1, node.end_lineno - 1
    if first == last:
        return lines[first][node.col_offset : node.end_col_offset].decode()
    inner = lines[first + 1 : last]
    return b"\n".join([lines[first][node.col_offset :], *inner, lines[last][: node.end_col_offset]]).decode()


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement binds at the top level."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.alias):
            yield inner.asname or inner.name.split(".")[0]
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif not isinstance(inner, OWN_NAMES):
            waiting += ast.iter_child_nodes(inner)


def _is_stub(node: ast.FunctionDef) -> bool:
    """A body of nothing but a docstring, `pass`, `...` or `raise NotImplementedError`."""
    return all(_does_nothing(statement) for statement in node.body)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _answers(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Literal answers in quiz.ask("3", answer="B"), in the order of the cell."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "ask"
    ]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        named |= dict(zip(("id", "answer"), call.args, strict=False))
        given = [getattr(named.get(name), "value", None) for name in ("id", "answer")]
        if isinstance(given[0], str | int) and isinstance(given[1], str):
            yield str(given[0]), given[1]
