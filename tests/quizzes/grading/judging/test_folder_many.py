"""Many submissions: each kind gets the grade that it must, in bounded time and memory, however many judge."""

import time

import psutil
import pytest

from quizzes import lesson
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.judging import folder
from quizzes.grading.judging.cluster import Cluster
from quizzes.grading.judging.grader import Grader
from quizzes.grading.judging.schedule import Here, Processes
from quizzes.grading.sandbox.bubblewrap import Bubblewrap
from quizzes.grading.sandbox.limits import SandboxLimits
from tests.quizzes.grading import generated

pytestmark = pytest.mark.needs("bwrap")
SEED, MEGABYTE = 11, 2**20
WORDS = {
    "right": "graded",
    "partly": "graded",
    "raises": "raised",
    "exits": "exited",
    "eats": "ran out of memory",
    "loops": "ran out of time",
}


class Peak:
    """What memory this process and all below it had, looked at now and then. Shared pages count once."""

    def __init__(self):
        self.looks: list[float] = []

    def __call__(self, *_) -> None:
        if len(self.looks) % 10 == 9 or not self.looks:
            processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
            self.looks.append(sum(self._own(process) for process in processes) / MEGABYTE)
        else:
            self.looks.append(self.looks[-1])

    def _own(self, process: psutil.Process) -> int:
        try:
            return process.memory_full_info().pss
        except psutil.Error:
            return 0


def graded(submissions, out, judges, report=lambda *_: None) -> dict[str, tuple[float, str]]:
    """Points and status of each student."""
    gradebook = Gradebook.in_folder(out)
    folder.grade(submissions, gradebook, Grader(SEED, None), report, judges)
    rows = {entry.student: (entry.points, entry.status) for entry in gradebook.entries()}
    gradebook.close()
    return rows


def assert_as_generated(rows: dict[str, tuple[float, str]]) -> None:
    """Each kind of submission has its status, costs only one exercise, and nobody is missing."""
    quiz = lesson(generated.LESSON)
    worth = [item.points for item in quiz.exercises.values()]
    for number, (points, status) in enumerate(rows[name] for name in sorted(rows)):
        sort = generated.kind(number)
        assert status.endswith(WORDS[sort]), (number, sort, status)
        lost = worth[number % len(worth)]
        if sort == "right":
            assert points == quiz.max_points
        elif sort == "partly":
            assert quiz.max_points - lost <= points < quiz.max_points
        else:
            assert points == quiz.max_points - lost


def test_forty_of_all_kinds(tmp_path, walls):
    submissions, peak = generated.make(tmp_path / "class", 40), Peak()
    assert {generated.kind(number) for number in range(40)} == set(WORDS)
    limits = SandboxLimits(cpu_seconds=1, memory_bytes=400 * MEGABYTE)
    rows = graded(submissions, tmp_path / "out", Here(Grader(SEED, walls, limits)), peak)
    assert len(rows) == 40
    assert_as_generated(rows)
    assert peak.looks[-1] < peak.looks[10] + 60


@pytest.mark.proof
def test_a_thousand_in_three_minutes_and_three_gigabytes(tmp_path, capsys):
    submissions, peak = generated.make(tmp_path / "class", 1000), Peak()
    begin = time.perf_counter()
    rows = graded(submissions, tmp_path / "two", Processes(Grader(SEED, Bubblewrap()), 2), peak)
    seconds = time.perf_counter() - begin
    with capsys.disabled():
        print(f"\n1,000 submissions, 2 workers: {seconds:.0f} s, peak {max(peak.looks):.0f} MB")
    assert len(rows) == 1000
    assert_as_generated(rows)
    assert seconds <= 180
    assert max(peak.looks) < 3000
    assert peak.looks[-1] < peak.looks[100] + 100


@pytest.mark.proof
def test_the_same_grades_with_one_worker_with_two_and_on_a_cluster(tmp_path):
    from distributed import LocalCluster

    submissions, limits = generated.make(tmp_path / "class", 200), SandboxLimits(cpu_seconds=2)
    one = graded(submissions, tmp_path / "one", Here(Grader(SEED, Bubblewrap(), limits)))
    assert_as_generated(one)
    assert graded(submissions, tmp_path / "two", Processes(Grader(SEED, Bubblewrap(), limits), 2)) == one
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        judges = Cluster(Grader(SEED, Bubblewrap(), limits), cluster.scheduler_address)
        assert graded(submissions, tmp_path / "cluster", judges) == one
        judges.close()
