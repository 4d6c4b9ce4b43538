"""Two tensors beside one another: the right window, the right marks, and nothing that colour alone says."""

import re

import pytest
import torch

from quizzes.display.tensors import MOST, Parting, beside


def shown(expected, got, entries, path="value") -> str:
    return beside(Parting(path, expected, got, entries))


def cells(html: str) -> list[str]:
    return re.findall(r"<td style[^>]*>([^<]*)</td>", html)


def test_entries_that_differ_have_a_sign_and_a_frame():
    expected, got = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.5, 1.0, float("nan")])
    html = shown(expected, got, torch.tensor([False, True, True]))
    assert cells(html) == ["0.5", "-1", "2", "0.5", "≠ 1", "≠ nan"]
    assert html.count("border:3px solid") == 4
    assert "Expected: shape (3,), float32" in html
    assert "mark the entries that differ" in html


def test_a_large_tensor_is_shown_around_the_first_difference():
    expected = torch.arange(2 * 40 * 50).reshape(2, 40, 50)
    apart = torch.zeros_like(expected, dtype=torch.bool)
    apart[1, 30, 49] = True
    html = shown(expected, expected, apart)
    assert len(cells(html)) == 2 * MOST * MOST
    assert "entries [1, 26 to 33, 42 to 49]" in html
    assert f"≠ {expected[1, 30, 49]}" in cells(html)
    assert '<th scope="row" style="padding:.15em .5em;text-align:right">30</th>' in html


@pytest.mark.parametrize("place", [0, 3, 99])
def test_a_window_never_leaves_the_tensor(place):
    values = torch.arange(100.0)
    html = shown(values, values, torch.arange(100) == place)
    assert len(cells(html)) == 2 * MOST
    assert f"≠ {place}" in cells(html)


def test_other_shapes_and_types_are_named_and_not_marked():
    html = shown(torch.ones(2, 3), torch.ones(3, dtype=torch.int64), None, path="gradient.0")
    assert "Expected: shape (2, 3), float32" in html
    assert "Got: shape (3,), int64" in html
    assert "≠" not in html
    assert "<code>gradient.0</code>" in html
    assert cells(shown(torch.ones(2), torch.empty(0), None)) == ["1", "1"]
    assert cells(shown(torch.tensor([True, False]), torch.tensor(3), None)) == ["True", "False", "3"]


def test_equal_numbers_have_equal_colours_in_both():
    html = shown(torch.tensor([5.0, 10.0]), torch.tensor([5.0, 100.0]), torch.tensor([False, True]))
    colours = re.findall(r"background:(rgb\([^)]*\))", html)
    assert colours[0] == colours[2] != colours[3]


def test_black_text_is_readable_on_every_colour():
    values = torch.linspace(-1, 1, 8)
    html = shown(values, torch.full((8,), float("inf")), values < 2)
    for colour in re.findall(r"background:rgb\((\d+),(\d+),(\d+)\)", html):
        linear = [(int(part) / 255) ** 2.2 for part in colour]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert (luminance + 0.05) / 0.05 >= 7
