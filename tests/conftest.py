"""For every test: no network, no learner's progress touched, and one clear line where a tool is missing."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """Points earned in a test go to a folder of its own."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "course-data"))


def pytest_runtest_setup(item):
    """@pytest.mark.needs("bwrap"): skipped where the program is missing; in CI its absence is a failure."""
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if shutil.which(program) is None:
                say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
                say(f"needs {program}, which is not installed")
