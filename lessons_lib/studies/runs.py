"""Runs that were computed once and are kept: rows, the table they make, its file, and one live run beside them."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from lessons_lib.files import atomic

CONFIDENCE = 0.99  # of the interval in which one more seed should fall

Cell = dict[str, Any]  # JSON values; "seed" is the one that repeats a setting
Result = dict[str, Any]


class StudyError(RuntimeError):
    """The table of a study is missing, damaged, or was computed for another declaration."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys. TypeError for other values, ValueError for NaN."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


@dataclass(frozen=True)
class Row:
    """One finished cell: what was asked, what came, how long it took."""

    cell: Cell
    result: Result
    seconds: float

    def __getitem__(self, name: str) -> Any:
        return self.cell[name] if name in self.cell else self.result[name]


@dataclass(frozen=True)
class Table:
    """The finished grid and where it was computed. Iterates over its rows, in the order of the declaration."""

    name: str
    declaration_hash: str
    machine: dict[str, Any]
    versions: dict[str, str]
    inputs: dict[str, Any]
    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def seconds(self) -> float:
        """What the whole grid cost."""
        return sum(row.seconds for row in self.rows)

    def where(self, **settings: Any) -> list[Row]:
        """Rows whose cells have all of these settings, in the order of the declaration (so paired by seed).

        Raises ValueError when there is none, or when no cell knows such a setting.
        """
        for name in settings:
            if not any(name in row.cell for row in self.rows):
                raise ValueError(f"study {self.name!r} has no setting {name!r}; it has {', '.join(self.rows[0].cell)}.")
        rows = [row for row in self.rows if settings.items() <= row.cell.items()]
        if not rows:
            raise ValueError(f"study {self.name!r} has no cell with {words(settings)}.")
        return rows

    def repeats(self, cell: Cell) -> list[Row]:
        """Rows of the same setting as a cell, one a seed, its own among them. Raises as `where`."""
        return self.where(**{name: value for name, value in cell.items() if name != "seed"})


@dataclass(frozen=True)
class Live:
    """One cell run here and now, beside the seeds of the same setting in the table."""

    row: Row
    score: float
    stored: tuple[float, ...]
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether this run falls where one more seed of the table should fall."""
        return self.low <= self.score <= self.high

    def __str__(self) -> str:
        where = "within" if self.within else "OUTSIDE"
        seeds = ", ".join(f"{score:.1%}" for score in self.stored)
        return (
            f"{self.score:.1%} in {self.row.seconds:.0f} s, {where} {self.low:.1%} to {self.high:.1%}, "
            f"where one more run is expected after the table's {seeds}"
        )

    __repr__ = __str__


def beside(row: Row, score: str, others: list[Row], slack: float) -> Live:
    """A live run beside the stored seeds of its setting.

    low and high: mean ± t s sqrt(1 + 1/n), where one more draw falls (99 %) from the normal that n seeds were drawn
    from; never narrower than the slack, and within the 0 to 1 of a score. Raises ValueError for fewer than two seeds,
    which have no spread.
    """
    scores = numpy.array([other[score] for other in others])
    if len(scores) < 2:
        raise ValueError(f"one seed has no spread; choose a cell with at least two seeds, not {words(row.cell)}.")
    draws = numpy.abs(numpy.random.default_rng(0).standard_t(len(scores) - 1, size=200_000))
    width = float(numpy.quantile(draws, CONFIDENCE)) * float(scores.std(ddof=1)) * math.sqrt(1 + 1 / len(scores))
    mean, width = float(scores.mean()), max(width, slack)
    return Live(row, row[score], tuple(scores.tolist()), max(mean - width, 0.0), min(mean + width, 1.0))


def write(table: Table, path: Path, **more: Any) -> None:
    """Keep a table as JSON, one field and one row a line, with a checksum over the rows. `more` is for its readers."""
    rows = [vars(row) for row in table.rows]
    head = {key: value for key, value in vars(table).items() if key != "rows"} | more | {"checksum": digest(rows)}
    fields = [f"{json.dumps(name)}: {_compact(value)}" for name, value in head.items()]
    text = "{\n" + ",\n".join(fields) + ',\n"rows": [\n' + ",\n".join(map(_compact, rows)) + "\n]}\n"
    atomic.write_text(path, text, durable=True)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def read(path: Path) -> Table:
    """The table of a file. Raises StudyError when it cannot be read, or when its rows are not those written there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in content["rows"])
        table = Table(**{key: content[key] for key in Table.__dataclass_fields__} | {"rows": rows})
        intact = content["checksum"] == digest(content["rows"])
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} cannot be read ({type(error).__name__}: {error}).") from None
    if not intact:
        raise StudyError(f"{path} is damaged: its rows are not the ones that were computed.")
    return table


def words(settings: dict) -> str:
    """Settings as they would be typed."""
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())
