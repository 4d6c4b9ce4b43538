"""The bench: everybody gets the same cases, scores are compared, and who cannot be run is said to be missing."""

import subprocess
import sys

import pytest

from quizzes import lesson
from tests.bench import bench, peers, submissions
from tests.bench.submissions import ALL, LESSON, NOBODY, WELL
from tests.quizzes.grading.inprocess import InProcess


@pytest.fixture
def small(monkeypatch):
    """A class that needs no sandbox, graded without one."""
    monkeypatch.setattr(submissions, "SORTS", {"right": 2, "partly right": 1, "raising": 1, "empty": 1})
    monkeypatch.setattr(bench, "Bubblewrap", InProcess)
    monkeypatch.setattr(bench, "COPIES", 2)


class Absent(peers.Peer):
    """A peer that nobody can install."""

    def __init__(self, *_):
        raise peers.Missing("no such package")


class Other(peers.Peer):
    """A peer that gives everybody one point."""

    def __init__(self, *_):
        pass

    def prepare(self):
        pass

    def waiting(self, pattern):
        return 0.0

    def run(self, pattern):
        return peers.Run(1.0 if pattern == NOBODY else 9.0, dict.fromkeys(peers._fitting(pattern), 1.0))


def test_what_is_measured_is_said_and_what_is_missing_too(small):
    said = []
    found = bench.run(1, said.append, {"absent": Absent, "other": Other})
    assert [(item.grader, item.what, item.workers) for item in found] == [
        ("course grade", "well-behaved", 1),
        ("course grade", "all", 1),
        ("other", "well-behaved", 1),
        ("other", "all", 1),
        ("course grade", "well-behaved", 1),
    ]
    points = found[0].points
    assert points["well-right-0"] == sum(item.points for item in lesson(LESSON).exercises.values())
    assert 0 < points["well-partly-right-0"] < points["well-right-0"]
    assert found[1].points["ill-empty-0"] == 0
    assert found[2].work == pytest.approx(8 / 3)
    assert "absent: not measured. no such package" in said
    assert any("OTHER SCORES" in line for line in said)
    assert any("fewer points than here for 4 of 5" in line for line in said)


@pytest.mark.parametrize(
    ("workers", "done", "looped"),
    [
        # Two to warm up, then two copies of three, a second each; the loop takes 10 s of waiting and 2 s of work.
        (1, [1, 2, 3, 4, 5, 6, 7, 8], [20]),
        (2, [1, 1, 2, 2, 3, 3, 4, 4], [16]),
    ],
)
def test_work_is_what_the_copies_took_and_what_the_loop_took_beside_waiting(monkeypatch, workers, done, looped):
    monkeypatch.setattr(bench, "COPIES", 2)
    assert bench._work(done, 2, [], workers, 0) == 3 / workers
    assert bench._work(done, 2, looped, workers, 10) == 3 / workers + 2


def test_a_class_with_two_who_loop_is_refused():
    with pytest.raises(ValueError, match="one submission that loops, not 2"):
        bench._work([1, 2, 3], 1, [13, 14], 1, 20)


def test_patterns_fit_the_class():
    students = list(submissions.submissions())
    assert len(students) == len(set(students)) == 20
    assert peers._fitting(ALL) == students
    assert len(peers._fitting(WELL)) == 12
    assert peers._fitting(NOBODY) == []


def test_the_tests_of_the_others_are_this_graders_cases(tmp_path):
    # What they import runs here as it does there: in a process that finds it by its path.
    (tmp_path / "peer_tests.py").write_text(peers.HELPER)
    (tmp_path / "peer_tests.json").write_text(__import__("json").dumps(peers.tests(7)))
    name, exercise = next(iter(lesson(LESSON).exercises.items()))
    group = exercise.draw(7)[0].group
    code = "\n".join(
        [
            exercise.solution(),
            "from peer_tests import right",
            f"print(right({name}, {name!r}, {group!r}))",
            f"print(right(lambda x, *_: x, {name!r}, {group!r}))",
        ]
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "False"], run.stderr


def test_a_peer_that_cannot_be_installed_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(peers.venv, "create", lambda folder, **_: folder.mkdir(parents=True))
    failed = subprocess.CompletedProcess([], 1, "", "looking\nno matching distribution")
    monkeypatch.setattr(peers.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(peers.Missing, match=r"nbgrader==0.9.6 cannot be installed: no matching distribution"):
        peers.Nbgrader(tmp_path / "home", tmp_path / "work", 7, 1.0)
