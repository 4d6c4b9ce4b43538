"""Two tensors beside one another as small coloured tables: what was expected, what came, and where they part.

Colour repeats what the numbers say and is never needed: an entry that differs has a frame and the sign ≠ as well.
"""

import math
from dataclasses import dataclass
from html import escape

import torch

NAMES = ("Expected", "Got")
MOST = 8  # rows and columns shown
NEGATIVE, POSITIVE = (178, 171, 210), (253, 184, 99)  # violet, orange: black text is readable on both
_CELL = "padding:.15em .5em;text-align:right"
_FRAME = ";border:3px solid #c2185b;font-weight:bold"  # seen against the cells, and on a light or dark page


@dataclass(frozen=True)
class Parting:
    """Two tensors that should have agreed.

    path: the name under which they were observed, "value" for what a function returned.
    entries: which entries differ, a boolean tensor shaped like both; None when shape or dtype differ already.
    """

    path: str
    expected: torch.Tensor
    got: torch.Tensor
    entries: torch.Tensor | None


def beside(parting: Parting) -> str:
    """Both tensors as HTML, at most MOST rows and columns each: those around the first entry that differs."""
    apart = parting.entries
    first = [] if apart is None else apart.nonzero()[0].tolist()
    named = "" if parting.path == "value" else f"<p>Of the values observed, <code>{escape(parting.path)}</code>:</p>"
    windows = [_Window(tensor, first) for tensor in (parting.expected, parting.got)]
    sizes = [abs(value) for window in windows for value in window.shown.flatten().tolist() if math.isfinite(value)]
    largest = float(max(sizes, default=0)) or 1.0  # of both, so that equal numbers have equal colours
    tables = "".join(_table(name, window, apart, largest) for name, window in zip(NAMES, windows, strict=True))
    legend = "" if apart is None else "<p>≠ and a frame mark the entries that differ.</p>"
    return f'{named}<div style="display:flex;flex-wrap:wrap;gap:.5em 2em;align-items:flex-start">{tables}</div>{legend}'


class _Window:
    """Of a tensor the matrix that holds the entry `first`, and of a large matrix the part around it."""

    def __init__(self, tensor: torch.Tensor, first: list[int]):
        self.tensor = tensor
        first = first or [0] * tensor.ndim
        self.outer, (row, column) = tuple(first[:-2]), ([0, 0] + first)[-2:]
        matrix = tensor[self.outer] if tensor.ndim > 1 else tensor.reshape(1, -1)
        self.rows, self.columns = _around(row, matrix.shape[0]), _around(column, matrix.shape[1])
        self.shown = matrix[self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def __str__(self) -> str:
        description = f"shape {tuple(self.tensor.shape)}, {self.tensor.dtype}".replace("torch.", "")
        if self.shown.numel() == self.tensor.numel():
            return description
        spans = (self.rows, self.columns)[-self.tensor.ndim :]
        places = [*map(str, self.outer), *(f"{span.start} to {span.stop - 1}" for span in spans)]
        return f"{description}, entries [{', '.join(places)}]"


def _around(place: int, length: int) -> range:
    """MOST positions around a place, or all where there are no more."""
    start = max(0, min(place - MOST // 2, length - MOST))
    return range(start, min(start + MOST, length))


def _table(name: str, window: _Window, apart: torch.Tensor | None, largest: float) -> str:
    deep = window.tensor.ndim > 1
    head = "".join(f'<th scope="col" style="{_CELL}">{place}</th>' for place in window.columns)
    body = ""
    for i, values in zip(window.rows, window.shown.tolist(), strict=True):
        places = [(*window.outer, i, j)[-window.tensor.ndim :] for j in window.columns]
        cells = "".join(
            _cell(value, largest, apart is not None and bool(apart[place]), name)
            for value, place in zip(values, places, strict=True)
        )
        side = f'<th scope="row" style="{_CELL}">{i}</th>' if deep else ""
        body += f"<tr>{side}{cells}</tr>"
    return (
        '<table style="margin:0;border-collapse:collapse"><caption style="text-align:left;white-space:nowrap">'
        f"{name}: {escape(str(window))}</caption><thead><tr>{'<td></td>' if deep else ''}{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _cell(value: float, largest: float, differs: bool, name: str) -> str:
    share = value / largest if math.isfinite(value) else 0.0
    end = POSITIVE if share > 0 else NEGATIVE
    colour = ",".join(str(round(255 + (channel - 255) * abs(share))) for channel in end)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    sign = "≠ " if differs and name == NAMES[1] else ""
    style = f"{_CELL};color:#000;background:rgb({colour}){_FRAME if differs else ''}"
    return f'<td style="{style}">{sign}{text}</td>'
