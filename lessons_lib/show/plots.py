"""The pictures of the course: a title that says what is seen, axis labels with units, and alt text, always.

Each function returns a `Figure`, which Jupyter shows as an image. Numbers come as tensors, arrays or lists.
"""

import numpy as np

from lessons_lib.show.figure import (
    COLOURS,
    FILLS,
    HATCHES,
    MARK_COLOURS,
    MARKERS,
    STYLES,
    Figure,
    canvas,
    entitle,
    finished,
    plot,
    styled,
)
from lessons_lib.show.tables import show

__all__ = ["Figure", "bars", "grids", "histogram", "lines", "note", "scatter"]

MOST_GRID_NUMBERS = 400  # more could not be read


@styled
def histogram(
    values,
    marks: dict | None = None,
    bins: int = 80,
    *,
    title: str,
    alt: str,
    xlabel: str,
    ylabel: str = "count",
    log_y: bool = False,
) -> Figure:
    """How often each value occurs.

    values: numbers, or {"name": numbers} to lay several outlines over one another.
    marks: {"name": number or numbers}: up to three numbers are drawn as lines across the plot, more as a row of ticks.
    Raises ValueError for empty values, NaN or infinity, or an empty title, label or alt.
    """
    named = values if isinstance(values, dict) else {"": values}
    named = {name: _numbers(v, f"values {name}".strip()) for name, v in named.items()}
    if not named:
        raise ValueError("There is nothing to draw: give at least one set of values.")
    figure, axes = plot(title, xlabel, ylabel, log_y=log_y)
    ends = min(v.min() for v in named.values()), max(v.max() for v in named.values())
    for position, (name, numbers) in enumerate(named.items()):
        look = {"histtype": "step", "color": COLOURS[position % 8], "linestyle": STYLES[position % 8], "linewidth": 1.6}
        if len(named) == 1:
            look = {"histtype": "stepfilled", "color": FILLS[0]}
        axes.hist(numbers, bins=bins, range=ends, label=name, **look)
    _mark(axes, marks or {}, len(named), log_y)
    return finished(figure, axes, alt)


@styled
def lines(
    series: dict,
    *,
    title: str,
    alt: str,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
    marks: dict | None = None,
) -> Figure:
    """Curves.

    series: {"name": (x, y)} or {"name": (x, y, low, high)}, where low and high bound an interval at each x.
    marks: {"name": x}, vertical lines across the plot.
    """
    figure, axes = plot(title, xlabel, ylabel, log_x, log_y)
    for position, (name, parts) in enumerate(_series(series, (2, 4)).items()):
        x, y, *interval = (_numbers(part, repr(name)) for part in parts)
        colour, few = COLOURS[position % 8], len(x) <= 40
        axes.plot(
            x,
            y,
            label=name,
            color=colour,
            linestyle=STYLES[position % 8],
            linewidth=1.8,
            markersize=5,
            marker=MARKERS[position % 8] if few else None,
        )
        if interval and few:
            axes.errorbar(x, y, yerr=_whiskers(y, *interval, name), fmt="none", ecolor=colour, capsize=3)
        elif interval:
            axes.fill_between(x, *interval, color=colour, alpha=0.2, linewidth=0)
    places = np.unique(np.concatenate([_numbers(parts[0], "x") for parts in series.values()]))
    if log_x and len(places) <= 10:
        axes.set_xticks(places)
    elif not log_x and not (places % 1).any():  # bits, steps and layers come whole
        axes.xaxis.get_major_locator().set_params(integer=True)
    _mark(axes, marks or {}, len(series), log_y)
    return finished(figure, axes, alt)


@styled
def bars(
    values: dict, *, title: str, alt: str, xlabel: str, ylabel: str = "", log_x: bool = False, marks: dict | None = None
) -> Figure:
    """Horizontal bars, each with its value written beside it; xlabel names what is measured, ylabel the bars.

    values: {"name": v}; v a number, (value, low, high), or anything with .value, .low and .high. For groups of bars,
    let v be a dict of these: {"layer 0": {"per tensor": 30.1, "per channel": 38.5}}.
    marks: {"name": number}, lines across the plot, such as a level to compare with.
    """
    if not values:
        raise ValueError("There is nothing to draw: give at least one bar.")
    groups = {name: v if isinstance(v, dict) else {"": v} for name, v in values.items()}
    kinds = list(dict.fromkeys(kind for group in groups.values() for kind in group))
    step = 1 / (len(kinds) + 0.6) if len(kinds) > 1 else 0.65
    figure, axes = plot(title, xlabel, ylabel, log_x, height=max(2.2, 1.3 + 0.23 * len(groups) * (len(kinds) + 0.6)))
    for row, kind in enumerate(kinds):
        for spot, (name, group) in enumerate(groups.items()):
            if kind not in group:
                continue
            value, low, high = _interval(group[kind], name)
            place = spot + (row - (len(kinds) - 1) / 2) * step
            axes.barh(
                place,
                value,
                height=step * 0.92,
                color=FILLS[row % 4],
                hatch=HATCHES[row % 8],
                linewidth=0.8,
                edgecolor="black",
                label=kind if spot == 0 else "",
            )
            whiskers = _whiskers(np.array([value]), np.array([low]), np.array([high]), name)
            if low < high:
                axes.errorbar(value, place, xerr=whiskers, fmt="none", ecolor="black", capsize=3)
            side = 1 if value >= 0 else -1
            axes.annotate(
                show(value),
                (high if side > 0 else low, place),
                xytext=(4 * side, 0),
                va="center",
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # a mark may pass behind it
    _mark(axes, marks or {}, 0, False)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    return finished(figure, axes, alt)


@styled
def scatter(
    series: dict, *, title: str, alt: str, xlabel: str, ylabel: str, log_x: bool = False, log_y: bool = False
) -> Figure:
    """Points. series: {"name": (x, y)} or {"name": (x, y, labels)}, where each label is written beside its point."""
    figure, axes = plot(title, xlabel, ylabel, log_x, log_y)
    wanted = []
    for position, (name, (x, y, *words)) in enumerate(_series(series, (2, 3)).items()):
        x, y = _numbers(x, repr(name)), _numbers(y, repr(name))
        axes.plot(
            x,
            y,
            linestyle="none",
            marker=MARKERS[position % 8],
            color=COLOURS[position % 8],
            label=name,
            markersize=6 if len(x) <= 100 else 3,
            fillstyle="none" if position % 2 else "full",
        )
        wanted += [(x[spot], y[spot], str(word)) for spot, word in enumerate(words[0] if words else ())]
    axes.margins(0.08)
    return finished(figure, axes, alt, wanted)


@styled
def grids(*tensors, titles: list[str], title: str | None = None, alt: str | None = None) -> Figure:
    """Small tensors beside one another, each number in a coloured cell of one size. The alt text lists the numbers.

    tensors: one or two dimensions, at most MOST_GRID_NUMBERS numbers each. titles: one for each tensor.
    """
    if not tensors or len(titles) != len(tensors):
        raise ValueError(f"Give one title for each tensor: got {len(tensors)} tensors and {len(titles)} titles.")
    tables = [_rows(tensor, name) for tensor, name in zip(tensors, titles, strict=True)]
    heights, widths = [len(rows) for rows in tables], [len(rows[0]) for rows in tables]
    stacked = max(heights) == 1 or sum(widths) > 16
    across = max(widths) if stacked else sum(widths) + 0.6 * (len(tables) - 1)
    down = sum(heights) + len(tables) if stacked else max(heights) + 1
    longest = max(len(_short(value)) for rows in tables for value in rows.flat)
    cell = min(max(0.6, 0.09 * longest + 0.1), 7 / across)  # inches
    figure = canvas(max(across * cell + 0.2, 3), down * max(0.2, cell / 2) + (0.4 if title else 0.1))
    if title:
        entitle(figure, title)
    ratios = {"height_ratios": heights} if stacked else {"width_ratios": widths}
    shape = (len(tables), 1) if stacked else (1, len(tables))
    for axes, rows, name in zip(
        figure.subplots(*shape, squeeze=False, gridspec_kw=ratios).flat, tables, titles, strict=True
    ):
        _draw_grid(axes, rows, name, font=min(10, 105 * cell / (longest + 1)))
        axes.set(**{"xlim": (-0.5, max(widths) - 0.5)} if stacked else {"ylim": (max(heights) - 0.5, -0.5)})
    spoken = [
        f"{name}: " + "; ".join(" ".join(map(_short, row)) for row in rows)
        for rows, name in zip(tables, titles, strict=True)
    ]
    return Figure(figure, alt or f"{title or 'Grids of numbers'}. " + ". ".join(spoken) + ".")


def note(text: str) -> None:
    """Show Markdown that a cell computed, so that no figure in the prose is typed by hand."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    if get_ipython() is None:
        print(text)
    else:
        display(Markdown(text))


def _mark(axes, marks, used, log_y):
    """Lines for up to three places, a row of ticks above the plot for more."""
    rows = 0
    for position, (name, places) in enumerate(marks.items(), start=max(used, 1)):  # a solid line looks like data
        places, colour = _numbers(places, f"the mark {name!r}"), MARK_COLOURS[position % 5]
        if len(places) <= 3:
            for place in places:
                line = axes.axvline(place, color=colour, linestyle=STYLES[position % 8], linewidth=1.8)
            line.set_label(name)
        else:
            axes.plot(
                places,
                [0.96 - 0.07 * rows] * len(places),
                linestyle="none",
                color=colour,
                label=name,
                marker=MARKERS[rows % 8],
                markersize=6,
                fillstyle="none" if rows % 2 else "full",
                transform=axes.get_xaxis_transform(),
            )
            rows += 1
    if rows:  # head room, so that the ticks stand above what is drawn
        (low, high), share = axes.get_ylim(), 0.98 - 0.07 * rows
        axes.set_ylim(low, low * (high / low) ** (1 / share) if log_y else low + (high - low) / share)


def _draw_grid(axes, rows, name, font):
    from matplotlib import colormaps

    largest = np.abs(rows).max() or 1
    colours = colormaps["PuOr_r"](0.5 + 0.42 * rows / largest)  # zero is white, the ends are dark but not black
    axes.imshow(colours, aspect="auto")
    for (i, j), value in np.ndenumerate(rows):
        # Relative luminance; white reads better than black on anything darker than 0.18.
        dark = colours[i, j, :3] ** 2.2 @ (0.2126, 0.7152, 0.0722) < 0.18
        axes.text(j, i, _short(value), ha="center", va="center", fontsize=font, color="white" if dark else "black")
    axes.set_title(name)
    axes.grid(visible=False)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.spines[:].set_visible(False)


def _short(value) -> str:
    return str(value) if isinstance(value, np.integer) else f"{value:.3g}"


def _rows(tensor, name) -> np.ndarray:
    rows = _array(tensor)
    if rows.ndim not in (1, 2) or not 1 <= rows.size <= MOST_GRID_NUMBERS:
        raise ValueError(
            f"{name!r} has the shape {rows.shape}; a grid needs one or two dimensions and 1 to "
            f"{MOST_GRID_NUMBERS} numbers. Draw a slice of it."
        )
    _numbers(rows, name)
    return np.atleast_2d(rows.astype(int) if rows.dtype == bool else rows)


def _series(series, allowed) -> dict:
    if not series:
        raise ValueError("There is nothing to draw: give at least one series.")
    for name, parts in series.items():
        if not isinstance(parts, (tuple, list)) or len(parts) not in allowed:
            raise ValueError(f"{name!r} needs {' or '.join(map(str, allowed))} parts, such as (x, y).")
        if len({len(part) for part in parts}) != 1:
            raise ValueError(f"{name!r} has parts of different lengths: {[len(part) for part in parts]}.")
    return series


def _interval(value, name) -> tuple[float, float, float]:
    if hasattr(value, "low"):
        value = (value.value, value.low, value.high)
    parts = _numbers(value, repr(name))
    if len(parts) not in (1, 3):
        raise ValueError(f"{name!r} needs one number or (value, low, high); it has {len(parts)} numbers.")
    return tuple(parts) if len(parts) == 3 else (parts[0],) * 3


def _whiskers(middle, low, high, name) -> np.ndarray:
    reach = np.stack([middle - low, high - middle])
    if reach.min() < 0:
        raise ValueError(f"An interval of {name!r} does not hold its value: low <= value <= high is needed.")
    return reach


def _numbers(values, what) -> np.ndarray:
    numbers = _array(values).astype(float).ravel()
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"{what}: at least one number is needed, and no NaN or infinity, or nothing can be drawn.")
    return numbers


def _array(values) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach()
        values = (values.float() if values.is_floating_point() else values).cpu().numpy()
    return np.asarray(values)
