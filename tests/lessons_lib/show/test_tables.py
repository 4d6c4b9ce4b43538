"""Tables: headers with scope, numbers to the right, text that survives without a browser."""

import xml.etree.ElementTree as ET

import pytest
import torch

from lessons_lib.measure.intervals import Interval
from lessons_lib.show.tables import MISSING, show, table


def parsed(made):
    return ET.fromstring(made._repr_html_())


def test_headers_have_scopes_and_a_caption():
    rows = {"FP32": {"bytes": 400, "file": "a"}, "INT8": {"bytes": 100, "file": "b"}}
    root = parsed(table(rows, "Sizes", name="form"))
    assert root.findtext("caption/strong") == "Sizes"
    assert [cell.get("scope") for cell in root.findall("thead/tr/th")] == ["col"] * 3
    assert [row[0].get("scope") for row in root.findall("tbody/tr")] == ["row", "row"]
    assert [row[0].text for row in root.findall("tbody/tr")] == ["FP32", "INT8"]


def test_a_corner_without_a_name_is_no_header():
    assert parsed(table({"p50": 1.5}, unit="ms")).find("thead/tr")[0].tag == "td"


def test_numbers_stand_right_and_words_left():
    root = parsed(table([{"name": "a", "ms": 1.5, "ok": True}, {"name": "b", "ms": None, "ok": False}]))
    sides = ["right" if "right" in cell.get("style") else "left" for cell in root.findall("tbody/tr")[0]]
    assert sides == ["left", "right", "left"]


def test_text_is_escaped():
    made = table([{"layer": "<script>", "note": "a & b"}], title="x < y")
    assert "<script>" not in made._repr_html_()
    assert parsed(made).find("tbody/tr")[0].text == "<script>"


def test_plain_text_lines_up():
    text = repr(table({"teacher": 1.5, "student": 12.25}, "Latency", unit="ms"))
    assert text.splitlines() == [
        "Latency",
        "           ms",
        "-------  ----",
        "teacher  1.50",
        "student  12.2",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (1234.5, "1,234"),
        (0.123456, "0.123"),
        (0.0, "0.00"),
        (99.96, "100"),
        (1e-7, "1.00e-07"),
        (-2.5, "-2.50"),
        (float("inf"), "inf"),
        (None, MISSING),
        (True, "yes"),
        (False, "no"),
        ("word", "word"),
        (torch.tensor(2.5), "2.50"),
        (torch.tensor(3), "3"),
        (Interval(0.8, 0.7, 0.9), "0.800 [0.700, 0.900]"),
    ],
)
def test_values_read_well(value, text):
    assert show(value) == text


def test_digits_are_significant_digits():
    assert show(3.14159, digits=5) == "3.1416"
    assert table({"pi": 3.14159}, digits=1).cells == [["pi", "3"]]


def test_rows_that_lack_a_column_show_a_dash():
    made = table([{"model": "a", "ms": 1}, {"model": "b", "bytes": 5}])
    assert made.columns == ["model", "ms", "bytes"]
    assert made.cells[1] == ["b", MISSING, "5"]


def test_empty_tables_are_refused():
    for rows in ([], {}, [{}]):
        with pytest.raises(ValueError, match="at least one row"):
            table(rows)
    with pytest.raises(ValueError, match="digits"):
        table({"a": 1}, digits=0)
