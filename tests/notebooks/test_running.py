"""The rules of notebooks/conftest.py and notebooks/outputs.py, on small notebooks that keep or break them."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = ROOT / "notebooks" / "conftest.py"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SHOW = "from IPython.display import HTML, Image, display; import base64\n"

CELLS = {
    "quiet": "print('a line')",
    "error_stream": "import sys; print('a log line', file=sys.stderr)",
    "warns": "import warnings; warnings.warn('old')",
    "warns_on_output": "print('FutureWarning: old')",
    "bare_picture": SHOW + f"Image(data=base64.b64decode('{PIXEL}'))",
    "empty_alt": SHOW + f'HTML(\'<img src="data:image/png;base64,{PIXEL}" alt="">\')',
    "described": SHOW + f'HTML(\'<img src="data:image/png;base64,{PIXEL}" alt="One grey pixel on white ground.">\')',
}
EXPECTED = {
    "error_stream": "error stream: a log line",
    "warns": "error stream",
    "warns_on_output": "prints a warning",
    "bare_picture": "picture without alternative text",
    "empty_alt": "no alternative text worth the name",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What pytest says of three notebooks: all the cells above, a quiet and slow one, and the one after it."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    (folder / "syllabus.toml").write_text(
        '[[lessons]]\nname = "cells"\nseconds = 600\n[[lessons]]\nname = "slow"\nseconds = 1\n'
    )
    write(folder / "cells.ipynb", list(CELLS.values()))
    write(folder / "slow.ipynb", ["import time; time.sleep(2.5)"])
    write(folder / "swift.ipynb", ["print('a line')"])
    # A process of its own: this one may be a worker of pytest-xdist, and the kernels must not inherit that.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-rA", "--color=no", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    return run.stdout


def write(path: Path, sources: list[str]) -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(made, path)


@pytest.mark.parametrize("name", [name for name in CELLS if name not in EXPECTED])
def test_a_good_cell_passes(report, name):
    assert f"PASSED cells.ipynb::Cell {list(CELLS).index(name)}\n" in report


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_cell_fails_and_says_why(report, name):
    assert f"FAILED cells.ipynb::Cell {list(CELLS).index(name)} " in report
    assert EXPECTED[name] in report


def test_a_lesson_far_beyond_its_seconds_is_an_error(report):
    assert "ERROR slow.ipynb::Cell 0" in report
    assert "its budget in syllabus.toml is 1 s" in report


def test_a_slow_lesson_costs_the_next_one_nothing(report):
    assert "PASSED swift.ipynb::Cell 0\n" in report


def test_summary_tells_the_seconds_of_each_lesson(report):
    section = report.partition("seconds a lesson took")[2]
    assert "of 600" in section
    assert "of 1  over" in section
