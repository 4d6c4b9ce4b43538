"""A lesson that did not run, raised, warned or shows a picture without words never becomes a page."""

import nbformat
import pytest

from docs import execute
from lessons_lib.show import claims
from tests.site.conftest import PIXEL, executed, shown


def test_a_notebook_runs_once_and_keeps_its_outputs(notebook, tmp_path):
    log = tmp_path / "log"
    path = notebook(f"open({str(log)!r}, 'a').write('ran '); print('six')")
    seconds = execute.execute(path, tmp_path / "out.ipynb")
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert made.cells[1].outputs[0].text == "six\n"
    assert made.cells[1].execution_count == 1
    assert log.read_text() == "ran "
    assert seconds > 0


def test_a_cell_that_raises_fails_the_build(notebook, tmp_path):
    path = notebook("1 + 1", "1 / 0", "print('never')")
    with pytest.raises(execute.Failed, match="00_tiny.ipynb: a cell raised ZeroDivisionError: division by zero"):
        execute.execute(path, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


def test_a_cell_that_kills_the_kernel_fails_the_build(notebook, tmp_path):
    path = notebook("import os; os._exit(1)")
    with pytest.raises(execute.Failed, match="the kernel died"):
        execute.execute(path, tmp_path / "out.ipynb")


def test_a_cell_that_hangs_fails_the_build(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "CELL_SECONDS", 1)
    with pytest.raises(execute.Failed, match="more than 1 s"):
        execute.execute(notebook("import time; time.sleep(60)"), tmp_path / "out.ipynb")


def test_what_is_in_order_has_no_flaw():
    image = f'<img alt="One grey pixel on white ground." src="data:image/png;base64,{PIXEL}">'
    assert execute.flaws(executed(shown(html=image))) == []


@pytest.mark.parametrize(
    ("made", "flaw"),
    [
        (executed(shown(plain="old"), count=None), "cell 1 did not run"),
        (executed(nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[])), "cell 1 raised an error"),
        (executed(nbformat.v4.new_output("stream", name="stderr", text="a log line")), "error stream: a log line"),
        (executed(nbformat.v4.new_output("stream", text="FutureWarning: old")), "prints a warning"),
        (executed(shown(png=PIXEL)), "a picture without alternative text"),
        (
            executed(shown(html=f'<img alt="" src="data:image/png;base64,{PIXEL}">')),
            "no alternative text worth the name",
        ),
        (executed(), "no output at all"),
    ],
    ids=["not run", "raised", "log line", "warning", "bare picture", "empty alt", "nothing shown"],
)
def test_each_flaw_is_named(made, flaw):
    assert flaw in "; ".join(execute.flaws(made))


def test_claims_are_this_builds_own(tmp_path, monkeypatch):
    """A figure that the cache keeps of an earlier run is not shown as one of this build."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    claims.show("01", {name: claims.Measured(f"figure of {name}", True, "because") for name in claims.of_lesson("01")})
    fresh = {row["id"]: row for row in execute.claims_since("2000-01-01T00:00:00+00:00")}
    stale = {row["id"]: row for row in execute.claims_since("2999-01-01T00:00:00+00:00")}
    assert fresh["affine-example"]["measured"] == "figure of affine-example"
    assert fresh["affine-example"]["verdict"] == "yes"
    assert stale["affine-example"]["measured"] == "–"
    assert stale["affine-example"]["verdict"] == "not measured"
    assert list(stale) == list(claims.declared())
    assert stale["tensorrt"]["verdict"] == "open"
    assert stale["tensorrt"]["why"] == claims.declared()["tensorrt"].needs


def test_a_learners_points_stay_as_they_are(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "mine")
    path = notebook("import os; print(os.environ['COURSE_DATA'])")
    said = []
    found = execute.execute_all([path], tmp_path, said.append)
    made = nbformat.read(tmp_path / path.name, as_version=4)
    assert made.cells[1].outputs[0].text != "mine\n"
    assert set(found) == {"when", "machine", "seconds", "claims"}
    assert said == [f"00_tiny: {found['seconds']['00_tiny']:.0f} s"]
