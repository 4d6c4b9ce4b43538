"""Figures: alt text, labels, no pyplot, and differences that do not hang on colour."""

import base64
import re
import subprocess
import sys

import matplotlib
import pytest
import torch

from lessons_lib.measure.intervals import Interval
from lessons_lib.show import plots

WORDS = {"title": "A title that says something", "alt": "A curve rises.", "xlabel": "bits", "ylabel": "error (dB)"}
X = [1.0, 2.0, 3.0]
DRAWN = {
    "histogram": lambda **words: plots.histogram(torch.randn(500), marks={"ends": [-1.0, 1.0]}, **words),
    "lines": lambda **words: plots.lines({"a": (X, X), "b": (X, X, [0, 1, 2], [2, 3, 4])}, **words),
    "bars": lambda **words: plots.bars({"a": 1.0, "b": Interval(2.0, 1.5, 2.5)}, **words),
    "scatter": lambda **words: plots.scatter({"a": (X, X), "b": (X, X, ["x", "y", "z"])}, **words),
}


def axes_of(figure):
    return figure.figure.axes[0]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_figure_is_an_image_with_alt_text_labels_and_a_title(draw):
    figure = draw(**WORDS)
    page = figure._repr_html_()
    image = r'<img alt="A curve rises\." style="[^"]*max-width:100%[^"]*" src="data:image/png;base64,(.+)">'
    assert base64.b64decode(re.fullmatch(image, page)[1]).startswith(b"\x89PNG")
    assert (axes_of(figure).get_xlabel(), axes_of(figure).get_ylabel()) == ("bits", "error (dB)")
    assert figure.figure.get_suptitle() == WORDS["title"]
    assert "A curve rises." in repr(figure)


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
@pytest.mark.parametrize("missing", ["alt", "title", "xlabel"])
@pytest.mark.parametrize("value", ["", "  ", None])
def test_empty_words_are_refused(draw, missing, value):
    with pytest.raises(ValueError, match=f"{missing} is empty"):
        draw(**WORDS | {missing: value})


def test_alt_text_is_escaped():
    figure = plots.lines({"a": (X, X)}, **WORDS | {"alt": 'less < "more" & $5'})
    assert 'alt="less &lt; &quot;more&quot; &amp; $5"' in figure._repr_html_()


def test_the_ground_is_white_on_every_page():
    figure = plots.lines({"a": (X, X)}, **WORDS)
    assert "background:#fff" in figure._repr_html_()
    assert figure.figure.get_facecolor() == (1, 1, 1, 1)


def test_series_differ_without_colour():
    series = {str(i): (X, X) for i in range(8)}
    drawn = axes_of(plots.lines(series, **WORDS)).lines
    assert len({(str(line._unscaled_dash_pattern), line.get_marker()) for line in drawn}) == 8
    assert len({line.get_linestyle() for line in drawn[:4]}) == 4
    points = axes_of(plots.scatter(series, **WORDS)).lines
    assert len({line.get_marker() for line in points}) == 8
    groups = axes_of(plots.bars({"a": {"x": 1, "y": 2, "z": 3}}, **WORDS)).patches
    assert len({bar.get_hatch() for bar in groups}) == 3


def test_intervals_are_drawn_and_must_hold_their_value():
    figure = plots.bars({"a": (2.0, 1.0, 4.0)}, **WORDS)
    (whisker,) = [line for line in axes_of(figure).collections if hasattr(line, "get_segments")]
    assert whisker.get_segments()[0][:, 0].tolist() == [1.0, 4.0]
    with pytest.raises(ValueError, match="does not hold its value"):
        plots.bars({"a": (2.0, 3.0, 4.0)}, **WORDS)
    with pytest.raises(ValueError, match="does not hold its value"):
        plots.lines({"a": (X, X, X, [0.0, 0.0, 0.0])}, **WORDS)


def test_long_curves_get_a_band():
    x = list(range(100))
    figure = plots.lines({"a": (x, x, x, x)}, **WORDS)
    assert axes_of(figure).collections
    assert axes_of(figure).lines[0].get_marker() == "None"


def test_many_marks_stand_above_the_plot_and_few_cross_it():
    values = torch.randn(1000)
    few = axes_of(plots.histogram(values, marks={"m": [0.0, 1.0]}, **WORDS))
    assert [list(line.get_ydata()) for line in few.lines] == [[0, 1], [0, 1]]
    many = axes_of(plots.histogram(values, marks={"m": torch.linspace(-1, 1, 16)}, log_y=True, **WORDS))
    assert many.lines[0].get_linestyle() == "None"
    tallest = values.histc(80).max().item()
    assert many.get_ylim()[1] > tallest


KINDS = [torch.ones(3, dtype=torch.bfloat16), torch.ones(2, 2, requires_grad=True), [1, 2], 3.0]


@pytest.mark.parametrize("values", KINDS)
def test_numbers_come_in_many_kinds(values):
    assert plots.histogram(values, **WORDS).png()


@pytest.mark.parametrize("bad", [torch.tensor([1.0, float("nan")]), [float("inf")], []])
def test_what_cannot_be_drawn_is_refused(bad):
    with pytest.raises(ValueError, match="at least one number"):
        plots.histogram(bad, **WORDS)
    with pytest.raises(ValueError, match="at least one number"):
        plots.lines({"a": (bad, bad)}, **WORDS)


def test_misshapen_series_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        plots.lines({"a": (X, X[:2])}, **WORDS)
    with pytest.raises(ValueError, match="2 or 4 parts"):
        plots.lines({"a": (X,)}, **WORDS)
    for draw in (plots.lines, plots.bars, plots.scatter):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw({}, **WORDS)


def test_grids_say_their_numbers():
    codes = torch.tensor([3, 255], dtype=torch.uint8)
    figure = plots.grids(torch.tensor([[0.5, -1.25]]), codes, titles=["weights", "codes"])
    assert figure.alt == "Grids of numbers. weights: 0.5 -1.25. codes: 3 255."
    written = [text.get_text() for axes in figure.figure.axes for text in axes.texts]
    assert written == ["0.5", "-1.25", "3", "255"]


def test_grid_numbers_stand_out_from_their_cells():
    figure = plots.grids(torch.linspace(-1, 1, 21).reshape(3, 7), titles=["all shades"])
    axes = figure.figure.axes[0]
    colours = axes.images[0].get_array()
    for text in axes.texts:
        column, row = text.get_position()
        cell = linear_light(colours[row, column])
        ink = linear_light(matplotlib.colors.to_rgb(text.get_color()))
        contrast = (max(cell, ink) + 0.05) / (min(cell, ink) + 0.05)
        assert contrast >= 4.5  # WCAG 2.2, level AA


def linear_light(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in map(float, colour[:3])]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_grids_that_cannot_be_read_are_refused():
    with pytest.raises(ValueError, match="one or two dimensions"):
        plots.grids(torch.zeros(2, 2, 2), titles=["a"])
    with pytest.raises(ValueError, match="Draw a slice"):
        plots.grids(torch.zeros(30, 30), titles=["a"])
    with pytest.raises(ValueError, match="one title for each"):
        plots.grids(torch.zeros(2), titles=[])


def test_dollars_are_no_formula():
    figure = plots.lines({"$a$": (X, X)}, **WORDS | {"title": "from $1 to $2", "ylabel": "cost ($)"}, log_y=True)
    assert figure.png()
    assert figure.figure._suptitle.get_parse_math() is False


def test_titles_break_into_lines():
    figure = plots.lines({"a": (X, X)}, **WORDS | {"title": "word " * 40})
    assert max(map(len, figure.figure.get_suptitle().split("\n"))) <= 80


def test_the_readers_settings_do_not_change_the_look():
    with matplotlib.rc_context({"axes.facecolor": "black", "lines.linewidth": 9, "font.size": 30}):
        figure = plots.lines({"a": (X, X)}, **WORDS)
    assert axes_of(figure).get_facecolor() == (1, 1, 1, 1)


def test_no_window_no_backend_and_nothing_loaded_before_the_first_figure():
    code = (
        "import sys\nfrom lessons_lib.show import plots\nassert 'matplotlib' not in sys.modules\n"
        "figure = plots.lines({'a': ([1, 2], [1, 2])}, title='t', alt='a', xlabel='x', ylabel='y')\nfigure.png()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\nplots.note('2 **dB**')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "2 **dB**\n"
    assert run.stderr == ""


def test_a_saved_figure_is_the_shown_one(tmp_path):
    figure = plots.lines({"a": (X, X)}, **WORDS)
    figure.save(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == figure.png()
