"""nbgrader and otter-grader, run for real: each in an environment of its own, on the same submissions and cases.

Their tests hold the cases that this grader draws, the values that the reference gives, and the same comparison, one
test for each group of cases; so all of them must come to the same scores.
"""

import base64
import csv
import fnmatch
import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import v4

from quizzes import lesson
from quizzes.exercises.judging import AnswerKey
from quizzes.inside import wire
from tests.bench.submissions import LESSON, looping, stub, submissions, waiting_tests

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 10  # limits of an exercise that a whole submission gets where it has none
HELPER = '''"""The tests of the bench: cases, expected values and the comparison."""
import base64, json, pathlib
from quizzes.exercises import judging
from quizzes.inside import recipes, wire
from quizzes.exercises.exercises import Tolerance

TESTS = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())


def right(function, exercise, group):
    """Whether the function answers every case of the group as the reference does."""
    tolerance = Tolerance(*TESTS[exercise]["tolerance"], "")
    for case, expected in TESTS[exercise]["groups"][group]:
        header, tensors = wire.unpack(base64.b64decode(case))
        got = recipes.observe(function, recipes.build(header["arguments"], tensors), header["observe"])
        if judging.compare(wire.unpack_values(base64.b64decode(expected)), got, tolerance) is not None:
            return False
    return True
'''


class Missing(RuntimeError):
    """The other grader cannot be installed or run here; the message says why."""


@dataclass
class Run:
    """What one grader made of some submissions: seconds in all, points by student."""

    seconds: float
    points: dict[str, float]


def tests(seed: int) -> dict:
    """The cases of every exercise by group, and what the reference answers, as JSON."""
    made = {}
    for name, exercise in lesson(LESSON).exercises.items():
        key, groups = AnswerKey(exercise, exercise.draw(seed)), {}
        for case, expected in zip(key.cases, key.expected, strict=True):
            packed = wire.pack(*case.encode()), wire.pack_values(expected)
            groups.setdefault(case.group, []).append([base64.b64encode(item).decode() for item in packed])
        tolerance = exercise.tolerance
        made[name] = {"groups": groups, "tolerance": [tolerance.rtol, tolerance.atol], "points": exercise.points}
    return made


class Peer:
    """One of the two graders, in its environment below `home`; it works below `work`."""

    requirement = ""

    def __init__(self, home: Path, work: Path, seed: int, seconds: float):
        """seconds: the limit on one cell. Raises Missing when it cannot be installed."""
        self.python = self._environment(home / self.requirement.replace("==", "-"))
        self.work, self.seconds, self.tests = work, seconds, tests(seed)
        work.mkdir(parents=True)
        (work / "peer_tests.py").write_text(HELPER)
        (work / "peer_tests.json").write_text(json.dumps(self.tests))

    def _environment(self, folder: Path) -> Path:
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not (folder / "ready").exists():
            venv.create(folder, with_pip=True, clear=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            install += [self.requirement, "ipykernel"]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if done.returncode:
                said = done.stderr.strip().splitlines() or ["pip ended without a word"]
                raise Missing(f"{self.requirement} cannot be installed: {said[-1]}")
            # Torch and the course are those of this environment; what the peer brings itself comes first.
            (folder / "ready").touch()
        own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        Path(own, "course.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
        return python

    def waiting(self, pattern: str) -> float:
        """Seconds that the limit makes it wait for loops, in all: every test of a looping exercise waits anew."""
        groups = {name: len(told["groups"]) for name, told in self.tests.items()}
        return self.seconds * waiting_tests(_fitting(pattern), groups)

    def command(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess:
        """Run a module of the peer's, with one thread and no more than 8 GB."""
        settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.work), "PYTHONWARNINGS": "ignore"}
        settings["PATH"] = f"{self.python.parent}{os.pathsep}{settings.get('PATH', os.defpath)}"
        limited = ["prlimit", f"--as={8 * 2**30}"] if sys.platform == "linux" else []
        command = [*limited, str(self.python), "-m", *arguments]
        return subprocess.run(
            command, cwd=self.work, env=settings, capture_output=True, text=True, check=False, timeout=timeout
        )


def _fitting(pattern: str) -> list[str]:
    return fnmatch.filter(submissions(), pattern)


def _test_cell(name: str, group: str) -> str:
    return f"from peer_tests import right\nassert right({name}, {name!r}, {group!r})"


class Nbgrader(Peer):
    """`nbgrader autograde`, one student after the other, as it does for a class."""

    requirement = "nbgrader==0.9.6"

    def prepare(self) -> None:
        """An assignment with these tests, and everybody's notebook handed in."""
        (self.work / "nbgrader_config.py").write_text(
            "c = get_config()\nc.CourseDirectory.course_id = 'bench'\n"
            f"c.Execute.timeout = {int(self.seconds)}\nc.Execute.interrupt_on_timeout = True\n"
        )
        stubs = {name: stub(name) for name in self.tests}
        self._write(self.work / "source" / "ps1", stubs)
        made = self.command("nbgrader", "generate_assignment", "ps1", "--create", "--force")
        if made.returncode:
            raise Missing(f"nbgrader does not make its assignment: {made.stderr.strip().splitlines()[-1]}")
        for student, sources in submissions().items():
            self._write(self.work / "submitted" / student / "ps1", sources)

    def _write(self, folder: Path, sources: dict[str, str]) -> None:
        cells = []
        for name, source in sources.items():
            cells.append(self._cell(source, name, solution=True))
            groups = self.tests[name]["groups"]
            for number, group in enumerate(groups):
                points = self.tests[name]["points"] / len(groups)
                cells.append(self._cell(_test_cell(name, group), f"{name}-{number}", points=points))
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        folder.mkdir(parents=True)
        nbformat.write(v4.new_notebook(cells=cells, metadata=kernel), folder / "lesson.ipynb")

    def _cell(self, source: str, name: str, solution: bool = False, points: float | None = None):
        told = {
            "grade_id": name,
            "solution": solution,
            "grade": points is not None,
            "locked": not solution,
            "schema_version": 3,
            "task": False,
            "cell_type": "code",
        }
        told |= {"points": points} if points is not None else {}
        return v4.new_code_cell(source, metadata={"nbgrader": told})

    def run(self, pattern: str) -> Run:
        """Grade the students whose names fit, by one command."""
        begin = time.perf_counter()
        self.command("nbgrader", "autograde", "ps1", "--force", f"--student={pattern}")
        seconds = time.perf_counter() - begin
        self.command("nbgrader", "export", "--to=grades.csv")
        with open(self.work / "grades.csv", newline="") as file:
            points = {row["student_id"]: float(row["score"] or 0) for row in csv.DictReader(file)}
        return Run(seconds, {student: points.get(student, 0.0) for student in _fitting(pattern)})


class Otter(Peer):
    """`otter run`, once for each student: it has no other way without Docker."""

    requirement = "otter-grader==7.0.0"

    def prepare(self) -> None:
        """An autograder with these tests, and everybody's notebook."""
        (self.work / "tests").mkdir()
        for name, told in self.tests.items():
            groups = told["groups"]
            cases = [
                {
                    "code": f">>> from peer_tests import right\n>>> right({name}, {name!r}, {group!r})\nTrue",
                    "hidden": False,
                    "locked": False,
                    "points": told["points"] / len(groups),
                }
                for group in groups
            ]
            suite = {"cases": cases, "scored": True, "setup": "", "teardown": "", "type": "doctest"}
            test = {"name": name, "points": None, "suites": [suite]}
            (self.work / "tests" / f"{name}.py").write_text(f"OK_FORMAT = True\ntest = {test!r}\n")
        made = self.command("otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment")
        if made.returncode:
            raise Missing(f"otter does not make its autograder: {made.stderr.strip().splitlines()[-1]}")
        for student, sources in submissions().items():
            cells = [v4.new_code_cell(source) for source in sources.values()]
            nbformat.write(v4.new_notebook(cells=cells), self.work / f"{student}.ipynb")

    def waiting(self, pattern: str) -> float:
        """It has no limit of its own: a submission is ended after some times that of an exercise."""
        return PATIENCE * self.seconds * len(looping(_fitting(pattern)))

    def run(self, pattern: str) -> Run:
        """Grade the students whose names fit, by a command each."""
        points, begin = {}, time.perf_counter()
        for student in _fitting(pattern):
            out = self.work / "results" / student
            out.mkdir(parents=True, exist_ok=True)
            try:
                self.command(
                    "otter",
                    "run",
                    "-a",
                    "autograder.zip",
                    "-o",
                    str(out),
                    f"{student}.ipynb",
                    timeout=PATIENCE * self.seconds,
                )
                found = json.loads((out / "results.json").read_text())["tests"]
                points[student] = sum(float(test.get("score", 0)) for test in found)
            except (subprocess.TimeoutExpired, OSError, ValueError, KeyError):
                points[student] = 0.0
        return Run(time.perf_counter() - begin, points)
