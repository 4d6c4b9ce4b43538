"""The learner's copies: one that is reset is kept, and the next exercise is found where JupyterLab runs."""

import json
import os

import pytest
from typer.testing import CliRunner

from quizzes import lesson, progress
from quizzes.commands import main
from quizzes.learner import workspace

run = CliRunner()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A workspace of one's own, where JupyterLab does not run."""
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "mine"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir()
    return tmp_path / "mine"


def said(*arguments: str) -> str:
    result = run.invoke(main.app, arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_reset_keeps_what_was_there(mine):
    clean = workspace.CLEAN / "01_affine.ipynb"
    assert "is clean" in said("reset", "01")
    copy = mine / clean.name
    assert copy.read_bytes() == clean.read_bytes()
    assert "nothing to do" in said("reset", "1")
    for n in (1, 2):
        copy.write_text(f"my answers {n}")
        assert f"01_affine.old-{n}.ipynb" in said("reset", "01")
        assert (mine / f"01_affine.old-{n}.ipynb").read_text() == f"my answers {n}"
        assert copy.read_bytes() == clean.read_bytes()
    progress.record("01", "quantize", 2.0)
    said("reset", "01")
    assert progress.earned("01") == {"quantize": 2.0}


def test_a_lesson_that_is_not_there_is_refused(mine):
    with pytest.raises(ValueError, match="there is no lesson '77'; there is 00, 01"):
        workspace.reset("77", mine)


def test_next_names_the_exercise_and_how_to_open_it(mine):
    names = list(lesson("00").exercises)
    assert f"Next: {names[0]} (points:" in said("next")
    assert "make lab" in said("next")
    progress.record("00", names[0], lesson("00").exercises[names[0]].points)
    progress.record("00", names[1], 0.5)
    assert f"Next: {names[1]} " in said("next")


def test_next_opens_the_cell_where_jupyterlab_runs(mine, tmp_path, monkeypatch):
    said("reset", "00")
    server = {"url": "http://localhost:8899/", "token": "abc", "root_dir": str(mine), "pid": os.getpid()}
    (tmp_path / "runtime" / "jpserver-1.json").write_text(json.dumps(server))
    gone = server | {"pid": 2**22 + 1, "url": "http://localhost:1/"}
    (tmp_path / "runtime" / "jpserver-0.json").write_text(json.dumps(gone))
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    name = next(iter(lesson("00").exercises))
    cells = json.loads((mine / "00_start_here.ipynb").read_text())["cells"]
    cell = next(cell["id"] for cell in cells if cell["metadata"].get("exercise") == name)
    address = f"http://localhost:8899/lab/tree/00_start_here.ipynb?token=abc#cell-id={cell}"
    assert address in said("next")
    assert opened == [address]
    assert address in said("next", "--no-browser")
    assert opened == [address]


def test_a_question_is_found_as_well(mine):
    said("reset", "00")
    place = workspace.place("00", "question 1", mine)
    assert place.notebook == mine / "00_start_here.ipynb"
    assert place.address is None
