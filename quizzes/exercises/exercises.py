"""An exercise: a function to write, the cases it is asked about, and the ways in which people get it wrong.

A bank module reads like a lesson: the reference under `@exercise`, then its cases, its tolerance, its known mistakes
and one independent right solution, which is also the one that a learner is shown.
"""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from quizzes.inside import recipes

BANKS: dict[str, dict[str, "Exercise"]] = {}  # bank module -> exercises by name, in the order of the file
NOT_WRITTEN = "    raise NotImplementedError"


@dataclass(frozen=True)
class Case:
    """One call: the group whose points it shares, the arguments, what to observe, whether learners may see it."""

    group: str
    arguments: tuple
    observe: str = "value"
    visible: bool = False

    def encode(self) -> tuple[dict, dict[str, torch.Tensor]]:
        """The case as a JSON header and flat tensors, ready for `wire.pack`. The group and its name stay behind."""
        tree, tensors = recipes.encode(self.arguments)
        return {"arguments": tree, "observe": self.observe}, tensors

    def build(self) -> tuple:
        """Fresh arguments, the same as the sandbox would build them."""
        return recipes.build(*recipes.encode(self.arguments))

    def run(self, function: Callable) -> dict[str, Any]:
        """What the function does with this case, as a flat dict of values. Raises whatever the function raises."""
        return recipes.observe(function, self.build(), self.observe)


def case(group: str, *arguments, observe: str = "value", visible: bool = False) -> Case:
    """A case of the named group. The group earns its share of the points when all of its cases are right.

    observe: one of recipes.OBSERVE. visible: the learner sees this call, what was expected and what came.
    """
    if observe not in recipes.OBSERVE:
        raise ValueError(f"case {group!r} observes {observe!r}; it can observe {', '.join(recipes.OBSERVE)}.")
    return Case(group, arguments, observe, visible)


class Draw:
    """Random arguments from one seed. Tensors are float32 unless a dtype is given."""

    def __init__(self, seed: int, name: str):
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def tensor(self, shape, low: float = -1.0, high: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Uniform over [low, high)."""
        return (low + (high - low) * torch.rand(shape, generator=self.generator)).to(dtype)

    def normal(self, shape, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
        """Normal with this mean and standard deviation."""
        return mean + std * torch.randn(shape, generator=self.generator)

    def strided(self, shape) -> torch.Tensor:
        """Normal, but not contiguous: every second entry of a transposed, larger tensor. Needs two or more axes."""
        grown = [*shape[:-2], shape[-1] * 2, shape[-2]]
        return self.normal(grown).transpose(-1, -2)[..., ::2]

    def sorted_tensor(self, n: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
        """n uniform numbers in ascending order."""
        return self.tensor((n,), low, high).sort().values

    def integers(self, shape, low: int, high: int) -> torch.Tensor:
        """int64, uniform over low ... high - 1."""
        return torch.randint(low, high, tuple(shape), generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """One integer from low ... high, both included."""
        return int(self.integers((1,), low, high + 1))

    def number(self, low: float, high: float) -> float:
        """One float, uniform over [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def choice(self, items):
        """One of the items."""
        return items[self.integer(0, len(items) - 1)]


@dataclass(frozen=True)
class Tolerance:
    """|got - expected| <= atol + rtol * |expected|, and why that is the right bound."""

    rtol: float
    atol: float
    reason: str


@dataclass(frozen=True)
class Mistake:
    """A whole wrong answer, and what to tell somebody who gave it."""

    text: str
    function: Callable


@dataclass
class Exercise:
    """One exercise; called as a function it is its own reference. Built by `@exercise` and the decorators below."""

    reference: Callable
    name: str
    points: int
    minutes: int
    hint: str
    tolerance: Tolerance | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    right: Callable | None = None
    _cases: Callable[[Draw], Iterator[Case]] | None = None

    def __call__(self, *arguments, **options):
        return self.reference(*arguments, **options)

    @property
    def doc(self) -> str:
        """What the learner is asked for: the reference's docstring."""
        return inspect.getdoc(self.reference) or ""

    def cases(self, function: Callable[[Draw], Iterator[Case]]):
        """Decorator: the generator of cases, the visible examples first."""
        self._cases = function
        return function

    def exact(self, reason: str) -> None:
        """Answers must equal the reference's to the bit, for this reason."""
        self.tolerance = Tolerance(0.0, 0.0, reason)

    def close(self, *, rtol: float = 0.0, atol: float = 0.0, reason: str) -> None:
        """Answers must lie within atol + rtol * |expected|; the reason says where the bound comes from."""
        self.tolerance = Tolerance(rtol, atol, reason)

    def mistake(self, text: str):
        """Decorator: a whole wrong answer that people give, and what to tell them."""

        def keep(function):
            self.mistakes.append(Mistake(text, function))
            return function

        return keep

    def alternative(self, function: Callable):
        """Decorator: a right solution written another way, in torch and the standard library alone."""
        self.right = function
        return function

    def draw(self, seed: int) -> list[Case]:
        """The cases of this seed. Raises ValueError when the exercise has none."""
        drawn = list(self._cases(Draw(seed, self.name))) if self._cases else []
        if not drawn:
            raise ValueError(f"exercise {self.name!r} has no cases; add them under @{self.name}.cases.")
        return drawn

    def stub(self) -> str:
        """What the learner starts from: signature and docstring of the reference, and nothing done.

        Of a class the methods are those of the alternative, since a reference may inherit its own.
        """
        reference, lines = _definition(self.reference)
        docstring = lines[reference.body[0].lineno - 1 : reference.body[0].end_lineno]
        if isinstance(reference, ast.FunctionDef):
            return "\n".join([*lines[reference.lineno - 1 : reference.body[0].lineno - 1], *docstring, NOT_WRITTEN])
        written, lines = _definition(self.right)
        parts = [f"class {self.name}({', '.join(map(ast.unparse, written.bases))}):", *docstring]
        for method in (node for node in written.body if isinstance(node, ast.FunctionDef)):
            first = min([method.lineno, *(decorator.lineno for decorator in method.decorator_list)])
            parts += ["", *lines[first - 1 : method.body[0].lineno - 1], f"    {NOT_WRITTEN}"]
        return "\n".join(parts)

    def solution(self) -> str:
        """Source of a right solution that stands on its own, under the exercise's name and with its docstring."""
        if self.right is None:
            raise ValueError(f"exercise {self.name!r} has no alternative; add one under @{self.name}.alternative.")
        definition, lines = _definition(self.right)
        signature = lines[definition.lineno - 1 : definition.body[0].lineno - 1]
        signature[0] = signature[0].replace(definition.name, self.name, 1)
        docstring = [] if ast.get_docstring(definition) else textwrap.indent(f'"""{self.doc}\n"""', "    ").splitlines()
        needed = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
        body = lines[definition.body[0].lineno - 1 :]
        return "\n".join([*_imports(self.right, needed), *signature, *docstring, *body]) + "\n"


def _definition(function: Callable) -> tuple[ast.FunctionDef | ast.ClassDef, list[str]]:
    """The syntax tree of a function or class, and the lines of its source that the tree counts."""
    source = textwrap.dedent(inspect.getsource(function))
    return ast.parse(source).body[0], source.splitlines()


def _imports(function: Callable, needed: set[str]) -> list[str]:
    """The import lines of the function's module that bring one of the needed names."""
    module = ast.parse(inspect.getsource(inspect.getmodule(function)))
    statements = [node for node in module.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    bound = {alias.asname or alias.name.split(".")[0]: node for node in statements for alias in node.names}
    lines = [ast.unparse(node) for name, node in bound.items() if name in needed]
    return [*dict.fromkeys(lines), "", ""] if lines else []


def exercise(*, points: int, minutes: int, hint: str):
    """Decorator: this function is the reference of an exercise of the same name, in the bank module it stands in.

    points: what it is worth. minutes: how long it takes. hint: the next thing to think of, not the answer.
    Raises ValueError when the module already has an exercise of that name.
    """

    def register(reference: Callable) -> Exercise:
        bank = BANKS.setdefault(reference.__module__, {})
        if reference.__name__ in bank:
            raise ValueError(f"{reference.__module__} has two exercises called {reference.__name__!r}; rename one.")
        entry = Exercise(reference, reference.__name__, points, minutes, hint)
        bank[entry.name] = entry
        return entry

    return register
