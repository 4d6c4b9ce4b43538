"""A study: a declared grid of runs, computed once, kept as a table, refused when it is out of date.

One training run shows what happened once. To say that one method beats another takes several seeds of each, minutes of
training that a lesson does not have. So the grid is declared (`Study`), computed once by `course study NAME`, and kept
in data/studies/NAME.json. The lesson draws that table, and runs one cell live to see that the table can be believed.

A study lives in lessons_lib/studies/NAME.py as a module-level STUDY; `load("NAME")` finds it.
"""

import copy
import importlib
import importlib.metadata
import inspect
import json
import os
import pkgutil
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lessons_lib.files import atomic, cache
from lessons_lib.studies import runs
from lessons_lib.studies.runs import Cell, Live, Result, Row, StudyError, Table, digest, words

FOLDER = Path(__file__).resolve().parents[2] / "data" / "studies"
PACKAGES = ("torch", "transformers", "accelerate", "numpy")  # whose versions can change a result


@dataclass(frozen=True)
class Study:
    """A declared grid of runs.

    cells: one dict of JSON values a run, all different; cells that differ in "seed" alone repeat one setting.
    run(cell): does one run and returns JSON values; result[score] is the number, 0 to 1, that `live` compares.
    cheap: the cell that tests recompute. settings: everything else that shapes a result (steps, batch size, data ...);
    the hash covers it, so `run` must take its constants from there. inputs(): fingerprints of what was made on this
    machine (a teacher, a data set), recorded with the table. slack: how far rounding on another processor may move a
    score. Raises ValueError for a grid that contradicts itself.
    """

    name: str
    cells: tuple[Cell, ...]
    run: Callable[[Cell], Result]
    cheap: Cell
    score: str = "accuracy"
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: Callable[[], dict[str, Any]] = dict
    slack: float = 0.01
    folder: Path = FOLDER

    def __post_init__(self):
        object.__setattr__(self, "cells", tuple(self.cells))
        # The declaration is what was declared: a run that is tried with other settings does not change it.
        object.__setattr__(self, "settings", copy.deepcopy(self.settings))
        if not self.cells or len({digest(cell) for cell in self.cells}) != len(self.cells):
            raise ValueError(f"study {self.name!r} needs at least one cell, and no cell twice.")
        self._declared(self.cheap)

    @cached_property
    def declaration_hash(self) -> str:
        """SHA-256 over the name, the cells, the settings and what the score is."""
        return digest({"name": self.name, "cells": self.cells, "settings": self.settings, "score": self.score})

    @property
    def path(self) -> Path:
        """Where the table is kept; under COURSE_SCALE=full the one computed on this machine, in the cache."""
        return (cache.cache_dir() / "studies" if full_scale() else self.folder) / f"{self.name}.json"

    def table(self) -> Table:
        """The finished table. Under COURSE_SCALE=full it is computed here first, or taken up where it was left.

        Raises StudyError when it is missing, damaged, or belongs to another declaration.
        """
        return self.compute() if full_scale() else self._read()

    def compute(self, fresh: bool = False, progress: bool = True) -> Table:
        """Compute what is missing, cell by cell, keep the table, and return it. fresh: forget what was computed before.

        Every finished cell is on disk before the next one starts: an interrupt, even kill -9, costs the running cell.
        """
        if not fresh and self.path.exists():
            try:
                return self._read()
            except StudyError:
                pass  # out of date or damaged: that is what computing it mends
        inputs, versions = self.inputs(), _versions()
        journal = self._journal(inputs, versions)
        if fresh:
            shutil.rmtree(journal, ignore_errors=True)
        journal.mkdir(parents=True, exist_ok=True)
        rows = tuple(self._row(cell, journal) for cell in _progress(self.cells, self.name, progress))
        table = Table(self.name, self.declaration_hash, _machine(), versions, inputs, rows)
        runs.write(table, self.path, settings=self.settings)
        shutil.rmtree(journal)
        return table

    def live(self, cell: Cell) -> Live:
        """Run one declared cell now, beside the table's seeds of the same setting: see `runs.beside`."""
        from lessons_lib.training.loop import watched

        others = self.table().repeats(self._declared(cell))
        with watched():
            row = self._timed(cell)
        return runs.beside(row, self.score, others, self.slack)

    def _declared(self, cell: Cell) -> Cell:
        if cell not in self.cells:
            raise ValueError(f"study {self.name!r} declares no cell {words(cell)}; its cells are in .cells.")
        return cell

    def _timed(self, cell: Cell) -> Row:
        start = time.perf_counter()
        result = self.run(dict(cell))
        return Row(cell, result, round(time.perf_counter() - start, 2))

    def _row(self, cell: Cell, journal: Path) -> Row:
        """The cell's row from the journal; run and written there when it is absent."""
        row_file = journal / f"{digest(cell)[:16]}.json"
        if row_file.exists():
            return Row(**json.loads(row_file.read_text(encoding="utf-8")))
        row = self._timed(cell)
        atomic.write_text(row_file, json.dumps(vars(row), allow_nan=False), durable=True)
        return row

    def _journal(self, inputs: dict, versions: dict) -> Path:
        """Folder of the finished cells. Another teacher, library, processor or `run` has another one: never a mix."""
        shaped_by = {
            "name": self.name,
            "settings": self.settings,
            "inputs": inputs,
            "versions": versions,
            "processor": _machine().get("processor"),
            "run": inspect.getsource(self.run),
        }
        return cache.cache_dir() / "studies" / f"{self.name}-{digest(shaped_by)[:16]}"

    def _read(self) -> Table:
        mend = f"Run `course study {self.name}`."
        if not self.path.exists():
            raise StudyError(f"Study {self.name!r} has no table yet. {mend}")
        try:
            table = runs.read(self.path)
        except StudyError as error:
            raise StudyError(f"{error} {mend}") from None
        if table.declaration_hash != self.declaration_hash or [row.cell for row in table] != list(self.cells):
            raise StudyError(
                f"{self.path} was computed for another declaration of study {self.name!r} "
                f"({table.declaration_hash[:12]}, not {self.declaration_hash[:12]}). {mend}"
            )
        return table


def full_scale() -> bool:
    """Whether COURSE_SCALE=full asks for whole studies on this machine. Unset means the kept tables."""
    scale = os.environ.get("COURSE_SCALE", "")
    if scale not in ("", "full"):
        raise ValueError(f"COURSE_SCALE is {scale!r}; set it to full, or leave it unset.")
    return scale == "full"


def names() -> list[str]:
    """The studies there are: every module of this folder but the two that all of them use."""
    modules = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    return sorted(modules - {"study", "runs"})


def load(name: str) -> Study:
    """The study of this name. Raises ValueError for an unknown one."""
    if name not in names():
        raise ValueError(f"there is no study {name!r}; there is {', '.join(names())}.")
    return importlib.import_module(f"lessons_lib.studies.{name}").STUDY


def _versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in PACKAGES}


def _machine() -> dict[str, Any]:
    """What the cells ran on, without the number of threads: a study taken up again may have run on several."""
    from lessons_lib.measure import benchmark

    return {name: value for name, value in benchmark.machine().items() if name != "threads"}


def _progress(cells: tuple[Cell, ...], name: str, visible: bool):
    from tqdm.auto import tqdm

    return tqdm(cells, desc=f"study {name}", unit="cell", disable=not visible)
