"""Widgets become words: every choice is named, and the one that the page shows."""

import nbformat
import pytest

from docs import execute, static_widgets
from tests.site.conftest import executed, shown


def box(*children):
    return {"model_name": "VBoxModel", "state": {"children": [f"IPY_MODEL_{child}" for child in children]}}


def choice(name, labels, index, kind="SelectionSliderModel"):
    return {"model_name": kind, "state": {"description": name, "_options_labels": labels, "index": index}}


STATES = {
    "bits": choice("bits", ["2", "4", "8"], 1),
    "scheme": choice("scheme", ["a < b", "none"], 0, "DropdownModel"),
    "signed": {"model_name": "CheckboxModel", "state": {"description": "signed", "value": False}},
    "all": box("bits", "scheme", "signed"),
    "press": {"model_name": "ButtonModel", "state": {"description": "A"}},
    "said": {"model_name": "HTMLModel", "state": {"value": ""}},
    "ring": {"model_name": "HTMLModel", "state": {"value": "<style>p{color:red}</style>"}},
    "buttons": box("press", "said", "ring"),
    "label": {"model_name": "HTMLModel", "state": {"value": "100%"}},
    "bar": {"model_name": "FloatProgressModel", "state": {"value": 1.0}},
    "progress": box("label", "bar"),
    "dial": {"model_name": "DialModel", "state": {}},
}


def test_every_choice_is_named_and_the_one_shown_is_marked():
    page = static_widgets.in_words("all", STATES)
    assert "<li>bits: 2, <strong>4</strong> (shown here), 8</li>" in page
    assert "<li>scheme: <strong>a &lt; b</strong> (shown here), none</li>" in page
    assert "<li>signed: <strong>no</strong> (shown here), yes</li>" in page


@pytest.mark.parametrize("model", ["buttons", "progress", "closed"])
def test_what_says_nothing_without_a_kernel_is_left_out(model):
    assert static_widgets.in_words(model, STATES) == ""


def test_an_unknown_widget_is_refused():
    with pytest.raises(static_widgets.Unknown, match="DialModel has no form in words"):
        static_widgets.in_words("dial", STATES)


def test_outputs_around_a_widget_stay():
    made = executed(
        shown(view={"model_id": "all"}),
        shown(view={"model_id": "buttons"}),
        shown(script="watch()"),
        shown(html="<p>a figure</p>"),
    )
    made.metadata["widgets"] = {static_widgets.STATES: {"state": STATES}}
    static_widgets.write_out(made)
    first, second = (output.data["text/html"] for output in made.cells[1].outputs)
    assert "shown here" in first
    assert second == "<p>a figure</p>"
    assert "widgets" not in made.metadata


def test_a_slider_of_a_lesson(notebook, tmp_path):
    """As widgets.explore makes it, through a real kernel."""
    path = notebook(
        "from lessons_lib.show import widgets",
        "def f(bits=4):\n    return f'{bits} bits'\nwidgets.explore(f, bits=[2, 4, 8])",
    )
    execute.execute(path, tmp_path / "out.ipynb")
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    static_widgets.write_out(made)
    pages = [output.data for output in made.cells[2].outputs]
    assert "bits: 2, <strong>4</strong> (shown here), 8" in pages[0]["text/html"]
    assert pages[1]["text/plain"] == "'4 bits'"
