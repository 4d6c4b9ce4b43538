"""The class that `course bench grading` gives to every grader: twenty submissions of one lesson's four exercises."""

import fnmatch
from functools import cache
from pathlib import Path

import nbformat
from nbformat import v4

from quizzes import lesson

LESSON = "03"
# What stands in the place of one exercise; the other three are right.
BODIES = {
    "partly right": "def {name}(x, *_):\n    return x",
    "raising": "def {name}(*_):\n    raise ValueError('not yet')",
    "exiting": "import os\ndef {name}(*_):\n    os._exit(1)",
    # 4 GB and no more: what grades it may set no limit of its own.
    "memory-eating": "def {name}(*_):\n    hoard = [bytes(2**26) for _ in range(64)]\n    return len(hoard)",
    "looping": "def {name}(*_):\n    while True: pass",
}
SORTS = {"right": 8, "partly right": 4, "raising": 2, "exiting": 2, "memory-eating": 2, "looping": 1, "empty": 1}
WELL_BEHAVED = ("right", "partly right")
ALL, WELL, NOBODY = "*", "well-*", "nobody"  # patterns of students' names


@cache
def _solutions() -> dict[str, str]:
    return {name: item.solution() for name, item in lesson(LESSON).exercises.items()}


def answers(sort: str, number: int) -> dict[str, str]:
    """The source of each exercise's cell in a submission of this sort. number: which exercise goes wrong."""
    sources = dict(_solutions())
    names = list(sources)
    if sort == "empty":
        return {name: stub(name) for name in names}
    if sort != "right":
        name = names[number % len(names)]
        sources[name] = BODIES[sort].format(name=name)
    return sources


def stub(name: str) -> str:
    """The exercise as it is handed out."""
    return f"def {name}(*_):\n    raise NotImplementedError"


def submissions() -> dict[str, dict[str, str]]:
    """Student -> exercise -> source; a student is called after the sort of what they hand in."""
    return {_name(sort, number): answers(sort, number) for sort, count in SORTS.items() for number in range(count)}


def _name(sort: str, number: int) -> str:
    """A student's name; those of the well-behaved alone fit the pattern WELL."""
    return f"{'well' if sort in WELL_BEHAVED else 'ill'}-{sort.replace(' ', '-')}-{number}"


def looping(students: list[str]) -> list[str]:
    """Those of them who hand in a loop."""
    return fnmatch.filter(students, "*-looping-*")


def waiting_tests(students: list[str], groups: dict[str, int]) -> int:
    """How many tests wait for a loop, where an exercise has this many. The loops are in the exercises in turn."""
    names = list(groups)
    return sum(groups[names[int(student[-1]) % len(names)]] for student in looping(students))


def notebook(sources: dict[str, str], comment: str) -> nbformat.NotebookNode:
    """A notebook as the course hands it out, with these answers."""
    cells = [v4.new_code_cell(f"# {comment}")]
    for name, source in sources.items():
        cells.append(v4.new_code_cell(source, metadata={"exercise": name}))
    return v4.new_notebook(cells=cells, metadata={"course": {"lesson": LESSON}})


def write(folder: Path, named: dict[str, str]) -> None:
    """Students' folders as `course grade` reads them. named: name of the folder -> who of the class that is."""
    made = submissions()
    for name, student in named.items():
        (folder / name).mkdir(parents=True)
        nbformat.write(notebook(made[student], name), folder / name / f"{LESSON}.ipynb")


def composition() -> str:
    """The class in words."""
    return ", ".join(f"{count} {sort}" for sort, count in SORTS.items())
