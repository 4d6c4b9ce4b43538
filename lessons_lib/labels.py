"""Words beside the points of a figure, each where it covers nothing else."""

from collections.abc import Sequence

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
