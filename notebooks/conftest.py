"""What every notebook must hold while it runs, beyond not raising: `make lessons`.

No cell warns or writes to the error stream, every picture has alternative text, and a lesson keeps to its seconds.
"""

import os
import tempfile
import tomllib
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

from notebooks.outputs import complaints

PATIENCE = 2.0  # other work on the same machine may double a run time; beyond that the lesson is too slow

seconds_used = pytest.StashKey[dict[Path, float]]()


def budgets(folder: Path) -> dict[str, int]:
    """Seconds allowed for each lesson, by its name, from the syllabus in this folder."""
    syllabus = tomllib.loads((folder / "syllabus.toml").read_text(encoding="utf-8"))
    return {lesson["name"]: lesson["seconds"] for lesson in syllabus["lessons"]}


def pytest_configure(config):
    config.stash[seconds_used] = {}
    progress = tempfile.TemporaryDirectory()  # the points of whoever runs the tests stay as they are
    config.add_cleanup(progress.cleanup)
    os.environ["COURSE_DATA"] = progress.name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if isinstance(item, IPyNbCell) and call.when == "call":
        used = item.config.stash[seconds_used]
        used[item.path] = used.get(item.path, 0.0) + call.duration
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    result = yield
    if isinstance(item, IPyNbCell):
        problems = complaints(item.test_outputs or [])
        if problems:
            item.raise_cell_error("; ".join(problems))
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """After its last cell, a lesson far beyond its seconds is an error; its kernel has ended already."""
    result = yield
    if not isinstance(item, IPyNbCell) or (nextitem is not None and nextitem.path == item.path):
        return result
    used, allowed = item.config.stash[seconds_used].get(item.path, 0.0), budgets(item.path.parent).get(item.path.stem)
    if allowed is not None and used > PATIENCE * allowed:
        pytest.fail(f"{item.path.stem} took {used:.0f} s; its budget in syllabus.toml is {allowed} s", pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter, config):
    used = config.stash[seconds_used]
    if not used:
        return
    terminalreporter.section("seconds a lesson took, and its budget")
    for path, seconds in sorted(used.items()):
        allowed = budgets(path.parent).get(path.stem)
        verdict = "" if allowed is None or seconds <= allowed else "  over"
        terminalreporter.line(f"{path.stem:<32}{seconds:7.1f} of {allowed}{verdict}")
