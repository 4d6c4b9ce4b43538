"""A class as large as one likes: most are well-behaved, some raise, crash or eat memory, a few loop."""

from functools import cache
from pathlib import Path

from quizzes import lesson
from tests.quizzes.grading.class_of_tests import cell, write

LESSON = "03"
RAISES = "def {name}(*_):\n    raise ValueError('not yet')"
EXITS = "import os\ndef {name}(*_):\n    os._exit(1)"
EATS = "def {name}(*_):\n    hoard = []\n    while True: hoard.append(bytes(2**26))"
LOOPS = "def {name}(*_):\n    while True: pass"
WRONG = "def {name}(x, *_):\n    return x"


@cache
def _solved() -> list[dict]:
    quiz = lesson(LESSON)
    exercises = [cell(item.solution(), name) for name, item in quiz.exercises.items()]
    return exercises + [cell(f'quiz.ask("{id}", answer="{item.right}")') for id, item in quiz.questions.items()]


def solved() -> list[dict]:
    """Cells that answer everything."""
    return list(_solved())


def with_one(body: str, number: int) -> list[dict]:
    """The same, with one exercise answered by this instead."""
    cells, names = solved(), list(lesson(LESSON).exercises)
    name = names[number % len(names)]
    cells[names.index(name)] = cell(body.format(name=name), name)
    return cells


def kind(number: int) -> str:
    """Of each hundred: 59 right, 30 partly right, 4 raise, 3 exit, 3 eat memory, 1 loops."""
    place = number % 100
    bounds = (("right", 59), ("partly", 89), ("raises", 93), ("exits", 96), ("eats", 99), ("loops", 100))
    # 37 has no common factor with 100, so the kinds come mixed.
    return next(name for name, bound in bounds if place * 37 % 100 < bound)


BODIES = {"partly": WRONG, "raises": RAISES, "exits": EXITS, "eats": EATS, "loops": LOOPS}


def hand_in(folder: Path, number: int, sort: str | None = None) -> None:
    """One student's notebook; a comment makes each a file of its own."""
    sort = sort or kind(number)
    cells = solved() if sort == "right" else with_one(BODIES[sort], number)
    write(folder / f"student{number:04}" / f"{LESSON}_x.ipynb", cell(f"# {number}"), *cells, lesson=LESSON)


def make(folder: Path, count: int) -> Path:
    """A class of this size."""
    for number in range(count):
        hand_in(folder, number)
    return folder
