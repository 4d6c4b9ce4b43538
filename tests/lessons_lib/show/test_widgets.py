"""Controls over a plain function, with and without a notebook."""

import nbformat
import pytest
from nbclient import NotebookClient

from lessons_lib.show import widgets


def told(bits=4, scheme="symmetric"):
    return f"{bits} bits, {scheme}"


def test_without_a_notebook_it_is_a_plain_call():
    assert widgets.explore(told, bits=[2, 4], scheme=["asymmetric", "symmetric"]) == "4 bits, symmetric"


def test_an_argument_without_a_default_starts_at_the_first_value():
    def area(width, height, doubled=True):
        return width * height * (2 if doubled else 1)

    assert widgets.explore(area, width=[3, 5], height=(1.5, 3.0, 0.5), doubled=False) == 9.0


def test_named_choices():
    assert widgets.explore(lambda layer: layer, layer={"the first": 0, "the last": -1}) == 0


@pytest.mark.parametrize(
    ("control", "error", "words"),
    [
        ([], ValueError, "nothing to choose"),
        ((3, 1, 1), ValueError, "low, high, step"),
        ((0, 1, 0), ValueError, "low, high, step"),
        ((0, 1), ValueError, "low, high, step"),
        ("abc", TypeError, "give a list"),
        ([2, 8], ValueError, "starts at 4"),
    ],
)
def test_bad_controls_are_refused(control, error, words):
    with pytest.raises(error, match=words):
        widgets.explore(told, bits=control)


def test_no_control_is_refused():
    with pytest.raises(ValueError, match="at least one control"):
        widgets.explore(told)


def test_steps_reach_the_end():
    assert list(widgets._offers("share", (0.1, 1.0, 0.1)).values())[-1] == 1.0
    assert len(widgets._offers("share", (0.1, 1.0, 0.1))) == 10


def test_a_notebook_gets_labelled_controls_and_a_first_picture_that_follows_them():
    cells = [
        "from lessons_lib.show import widgets\nimport ipywidgets",
        "def told(bits=4, scheme='b', whole_range=False):\n    return f'{bits} {scheme} {whole_range}'\n"
        "widgets.explore(told, bits=[2, 4, 8], scheme=['a', 'b'], whole_range=False)",
        "made = list(ipywidgets.Widget.get_manager_state()['state'].values())\n"
        "states = [m for m in made if 'description' in m['state']]\n"
        "print([m['model_name'] + ':' + m['state']['description'] for m in states])",
        "made = ipywidgets.widgets.widget._instances.values()\n"
        "knobs = [w for w in made if getattr(w, 'description', '') == 'bits']\n"
        "knobs[0].value = 8",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert not [out for cell in notebook.cells for out in cell.outputs if out.get("name") == "stderr"]
    controls, script, picture = notebook.cells[1].outputs
    assert "application/vnd.jupyter.widget-view+json" in controls.data
    assert "aria-label" in script.data["application/javascript"]  # what it does: tests/browser/test_lessons.py
    assert picture.data["text/plain"] == "'8 b False'"  # drawn at 4, drawn anew when the knob turned
    text = notebook.cells[2].outputs[0].text
    for label in ("SelectionSliderModel:bits", "DropdownModel:scheme", "CheckboxModel:whole range"):
        assert label in text


def test_a_function_that_shows_nothing_is_told_so():
    with pytest.raises(TypeError, match="returned None"):
        widgets._parts(None)
