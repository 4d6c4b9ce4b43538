"""Small tables for lessons: HTML that a screen reader can walk through, and plain text where there is no browser."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Integral, Real

from lessons_lib.measure.intervals import Interval

MISSING = "–"


class TableView:
    """Header cells with their scope, numbers to the right, a caption. Displays itself; `rows` holds the raw values."""

    def __init__(self, rows: Sequence[Mapping[str, object]], title: str | None = None, digits: int = 3):
        rows = [dict(row) for row in rows]
        if not rows or not rows[0]:
            raise ValueError("a table needs at least one row with at least one column")
        if digits < 1:
            raise ValueError(f"digits counts significant digits and must be at least 1, not {digits}")
        self.rows, self.title = rows, title
        self.columns = list(dict.fromkeys(column for row in rows for column in row))
        columns = [[_plain(row.get(column)) for row in rows] for column in self.columns]
        self.cells = [[show(value, digits) for value in row] for row in zip(*columns, strict=True)]
        self.numeric = [_is_numeric(column) for column in columns]

    def _repr_html_(self) -> str:
        caption = f"<caption style='text-align: left'><strong>{escape(self.title or '')}</strong></caption>"
        # A corner without a name is no header: a screen reader would announce an empty one.
        tags = ["th scope='col'" if column else "td" for column in self.columns]
        head = "".join(map(_cell, tags, self.columns, self.numeric))
        body = "".join(f"<tr>{self._row(cells)}</tr>" for cells in self.cells)
        return f"<table>{caption if self.title else ''}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _row(self, cells: list[str]) -> str:
        tags = ["th scope='row'"] + ["td"] * (len(cells) - 1)
        return "".join(map(_cell, tags, cells, self.numeric))

    def __repr__(self) -> str:
        lines = [self.columns, *self.cells]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        lines.insert(1, ["-" * width for width in widths])
        text = "\n".join("  ".join(map(_pad, line, widths, self.numeric)).rstrip() for line in lines)
        return f"{self.title}\n{text}" if self.title else text


def table(
    rows: Sequence[Mapping[str, object]] | Mapping[str, object],
    title: str | None = None,
    digits: int = 3,
    unit: str = "value",
    name: str = "",
) -> TableView:
    """A table of rows.

    rows: a list of dicts, column -> value, whose first column names the row; or a dict, row -> dict of columns; or a
    dict, row -> value, shown as one column headed `unit`. `name` heads the column of row names of the dict forms.
    digits: significant digits of numbers that are not whole. None is shown as a dash, an Interval with its two ends.
    """
    if isinstance(rows, Mapping):
        columns = (value if isinstance(value, Mapping) else {unit: value} for value in rows.values())
        rows = [{name: key} | dict(values) for key, values in zip(rows, columns, strict=True)]
    return TableView(rows, title, digits)


def show(value: object, digits: int = 3) -> str:
    """One value as text: thousands separated, `digits` significant digits, yes and no for truth."""
    value = _plain(value)
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Interval):
        low, high = show(value.low, digits), show(value.high, digits)
        return f"{show(value.value, digits)} [{low}, {high}]"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return _real(float(value), digits)
    return str(value)


def _real(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    rounded = abs(float(f"{value:.{digits - 1}e}"))  # 99.96 has three digits before the point once rounded
    before_point = math.floor(math.log10(rounded)) + 1 if rounded else 1
    return f"{value:,.{max(0, digits - before_point)}f}"


def _plain(value: object) -> object:
    """A tensor or array of one number as that number."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _is_numeric(values: list[object]) -> bool:
    present = [value for value in values if value is not None]
    numbers = [isinstance(value, (Real, Interval)) and not isinstance(value, bool) for value in present]
    return bool(present) and all(numbers)


def _cell(tag: str, text: str, right: bool) -> str:
    side = "right" if right else "left"
    return f"<{tag} style='text-align: {side}; vertical-align: top'>{escape(text)}</{tag.split()[0]}>"


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
