"""Words beside points cover no other words and no point, and stand close to their point where there is room."""

import itertools

import pytest
from matplotlib.text import Text

from lessons_lib.show import figure as labels
from lessons_lib.show import plots

WORDS = {"title": "Taken", "alt": "Points.", "xlabel": "size (MB)", "ylabel": "accuracy (%)"}


def written(points, **more):
    """The annotations of a figure with these points (x, y, words), and its axes."""
    x, y, words = zip(*points, strict=True)
    figure = plots.scatter({"models": (x, y, words)}, **WORDS | more).figure
    figure.draw_without_rendering()
    return figure.axes[0].texts, figure.axes[0]


def test_where_there_is_room_words_stand_above_right():
    texts, _ = written([(1, 1, "small"), (5, 5, "middle"), (9, 9, "large")])
    assert [text.get_position() for text in texts] == [labels.PLACES[0]] * 3
    assert [text.get_text() for text in texts] == ["small", "middle", "large"]


@pytest.mark.parametrize("log_x", [False, True])
def test_crowded_words_cover_neither_one_another_nor_a_point(log_x):
    points = [
        (90, 86.1, "teacher"),
        (70, 85.9, "vocabulary"),
        (76, 84.7, "neurons"),
        (81, 84.3, "heads"),
        (60, 84.2, "distilled"),
        (76, 82.3, "layers"),
        (40, 83.8, "all"),
        (10, 72.8, "scratch"),
    ]
    texts, axes = written(points, log_x=log_x)
    boxes = [Text.get_window_extent(text) for text in texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for x, y, _ in points:
        assert not any(box.contains(*axes.transData.transform((x, y))) for box in boxes)


def test_words_at_one_spot_are_all_to_be_read():
    texts, _ = written([(1, 1, "first"), (1, 1, "second"), (1, 1, "third")])
    assert len({text.get_position() for text in texts}) == 3
