"""A figure: an image that can be read without sight, without colour, on a light or a dark page; labels of points.

matplotlib is imported when the first figure is drawn. pyplot never is: no backend is chosen, no figure stays open.
"""

import base64
import functools
import html
import io
import logging
import textwrap
from collections.abc import Sequence

# Neighbours differ in grey too (colours after Okabe and Ito, 2008); line style, marker and hatch differ as well.
COLOURS = ("#0072B2", "#E69F00", "#000000", "#CC79A7", "#009E73", "#D55E00", "#56B4E9", "#777777")
MARK_COLOURS = ("#0072B2", "#000000", "#D55E00", "#009E73", "#8A4B7A")
FILLS = ("#9CC3DE", "#F3CF80", "#777777", "#E5BCD3")
STYLES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")
WIDTH = 7.2  # inches, shown at 100 CSS pixels an inch
LOOK = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": "black",
    "axes.labelcolor": "black",
    "xtick.color": "black",
    "ytick.color": "black",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,
    "figure.constrained_layout.w_pad": 0.08,
}
# To the right and up from a point, in 1/72 inch: close to it, then one and two lines away. From FAR on a thin line
# leads back.
FAR = 18
PLACES = (
    (5, 5),
    (5, -5),
    (-5, 5),
    (-5, -5),
    (8, 0),
    (-8, 0),
    (0, 7),
    (0, -7),
    *((x, y) for size in (FAR, 30) for y in (size, -size) for x in (8, -8)),
)
MARKER, OVER_THE_EDGE = 5, 14  # what a point takes to each side, and how far words may leave the axes, in 1/72 inch


class Figure:
    """A finished figure: shown in Jupyter as an image with alt text, in a terminal as that text."""

    def __init__(self, figure, alt: str):
        """figure: a matplotlib Figure. alt: what a reader who cannot see it should know. ValueError when empty."""
        self.figure = figure
        self.alt = said(alt, "alt")
        self._png = None

    def png(self) -> bytes:
        """The picture as PNG, drawn once."""
        if self._png is None:
            buffer = io.BytesIO()
            self._draw(buffer)
            self._png = buffer.getvalue()
        return self._png

    def save(self, path) -> None:
        """Write the picture to a PNG file."""
        with open(path, "wb") as file:
            file.write(self.png())

    def _repr_html_(self) -> str:
        source = base64.b64encode(self.png()).decode("ascii")
        width = round(self.figure.get_figwidth() * 100)
        # The white ground belongs to the picture, so that its black text stays readable on a dark page.
        style = f"width:{width}px;max-width:100%;height:auto;background:#fff;padding:4px;border-radius:4px"
        return f'<img alt="{html.escape(self.alt, quote=True)}" style="{style}" src="data:image/png;base64,{source}">'

    def __repr__(self) -> str:
        return f"[figure] {self.alt}"

    def _draw(self, buffer) -> None:
        styled(self.figure.savefig)(buffer, format="png", dpi=144)


def styled(function):
    """Run a drawing function under the course's look, whatever the reader's own matplotlib settings are."""

    @functools.wraps(function)
    def under_look(*args, **kwargs):
        # On its first run on a machine matplotlib logs that it builds its font cache; the reader did not ask for that.
        logging.getLogger("matplotlib.font_manager").addFilter(_not_about_font_cache)
        from matplotlib import rc_context

        with rc_context(LOOK):
            return function(*args, **kwargs)

    return under_look


def _not_about_font_cache(record) -> bool:
    return "font cache" not in record.getMessage()


def canvas(width: float = WIDTH, height: float = 3.6):
    """An empty matplotlib Figure, in inches, that belongs to no window."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def plot(title: str, xlabel: str, ylabel: str, log_x: bool = False, log_y: bool = False, height: float = 3.6):
    """One pair of labelled axes, as (figure, axes). Call it under `styled`."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = canvas(height=height)
    axes = figure.subplots()
    entitle(figure, title)
    axes.set(xlabel=said(xlabel, "xlabel"), ylabel=ylabel)
    for axis, is_log, scale in ((axes.xaxis, log_x, axes.set_xscale), (axes.yaxis, log_y, axes.set_yscale)):
        if is_log:
            scale("log")
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    return figure, axes


def finished(figure, axes, alt: str, points: Sequence[tuple[float, float, str]] = ()) -> Figure:
    """Add the legend, below the plot where it hides nothing, and the alt text; label short log axes more closely.

    points: where words stand beside a point, (x, y, words).
    """
    from matplotlib.ticker import LogLocator

    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if isinstance(axis.get_major_locator(), LogLocator) and high < 100 * low:  # one or two powers of ten
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 4 * low else range(1, 10)))
    handles, names = axes.get_legend_handles_labels()
    entries = [(handle, label) for handle, label in zip(handles, names, strict=True) if label]
    if entries:
        columns = max(1, min(len(entries), 90 // (max(len(label) for _, label in entries) + 8)))
        figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=columns, handlelength=3.2)
    beside(figure, axes, points)
    return Figure(figure, alt)


def entitle(figure, title: str) -> None:
    """Write the title over the whole width of the figure, in as many lines as it needs."""
    lines = textwrap.fill(said(title, "title"), round(10.5 * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=11, fontweight="bold")


def said(text: str, what: str) -> str:
    """The text itself; ValueError when there is none."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{what} is empty: every figure needs a title, axis labels with units, and alt text.")
    return text


def beside(figure, axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write words beside points (x, y, words) of axes whose limits and legend are there already.

    Each takes the first of PLACES where it covers no point of the axes and no words before it, and stays near the axes;
    where there is none, the place where it covers least.
    """
    from matplotlib.transforms import Bbox

    if not points:
        return
    figure.draw_without_rendering()  # so that it is known where everything lies
    pixels = figure.dpi / 72
    allowed = axes.bbox.padded(OVER_THE_EDGE * pixels)
    marks = [axes.transData.transform(spot) for line in axes.lines for spot in line.get_xydata()]
    taken = [Bbox([mark - MARKER * pixels, mark + MARKER * pixels]) for mark in marks]
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": MARKER}
    texts = [
        axes.annotate(words, (x, y), PLACES[0], textcoords="offset points", fontsize=9, arrowprops=line)
        for x, y, words in points
    ]
    for text in texts:
        covered = {place: _covered(_at(text, place), taken, allowed) for place in PLACES}
        taken.append(_at(text, min(covered, key=covered.get)))


def _at(text, place: tuple[int, int]):
    """Move an annotation to a place; returns the box that its words take there, without the line."""
    from matplotlib.text import Text

    x, y = place
    text.set(
        position=place,
        ha="center" if not x else "left" if x > 0 else "right",
        va="center" if not y else "bottom" if y > 0 else "top",
    )
    text.arrow_patch.set_visible(abs(y) >= FAR)
    text.get_window_extent()  # moves words and line
    return Text.get_window_extent(text)


def _covered(box, taken: list, inside) -> int:
    """Square pixels that a box shares with others, and those outside of where it should be."""
    shared = [box.intersection(box, other) for other in taken]
    within = box.intersection(box, inside)
    outside = box.width * box.height - (within.width * within.height if within else 0.0)
    return round(outside + sum(part.width * part.height for part in shared if part))
