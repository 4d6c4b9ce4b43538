"""Small notebooks and a small site, so that what the real build must refuse is seen in seconds."""

import nbformat
import pytest

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CARD = "# A title\n\n| | |\n|---|---|\n| Minutes | 5 |"


def executed(*outputs, count=1):
    """A notebook of one code cell as it looks after a run with these outputs."""
    cell = nbformat.v4.new_code_cell("show()", outputs=list(outputs), execution_count=count)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(CARD), cell])


def shown(**data):
    """One output with this data, as in shown(html="<p>") for text/html."""
    names = {
        "html": "text/html",
        "plain": "text/plain",
        "png": "image/png",
        "script": "application/javascript",
        "view": "application/vnd.jupyter.widget-view+json",
    }
    return nbformat.v4.new_output("display_data", {names[name]: value for name, value in data.items()})


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook of these code cells, to be run, and returns its path."""

    def write(*sources, name="00_tiny"):
        cells = [nbformat.v4.new_markdown_cell(CARD), *map(nbformat.v4.new_code_cell, sources)]
        made = nbformat.v4.new_notebook(cells=cells)
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(made, path)
        return path

    return write
