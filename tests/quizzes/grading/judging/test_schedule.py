"""Several processes and a Dask cluster give the same grades as one, also when some of them die."""

import multiprocessing
import os
import pickle
import signal

import pytest

from quizzes import lesson
from quizzes.grading.gradebook.gradebook import Gradebook
from quizzes.grading.judging import folder, schedule
from quizzes.grading.judging.cluster import Cluster
from quizzes.grading.judging.grader import Grader
from quizzes.grading.judging.schedule import FAULT, LOST, Here, Processes
from quizzes.grading.sandbox.bubblewrap import Unavailable
from tests.quizzes.grading import generated
from tests.quizzes.grading.class_of_tests import cell, write
from tests.quizzes.grading.inprocess import InProcess

SORTS = ("right", "partly", "raises", "right", "partly", "right", "raises", "partly", "right", "right")
SEED = 11


@pytest.fixture(scope="module")
def submissions(tmp_path_factory):
    """Ten students, and one whose notebook cannot be read."""
    place = tmp_path_factory.mktemp("class")
    for number, sort in enumerate(SORTS):
        generated.hand_in(place, number, sort)
    (place / "zoe").mkdir()
    (place / "zoe" / "03_x.ipynb").write_text("Dear teacher")
    return place


def grades(submissions, out, judges, report=lambda *_: None) -> list[tuple]:
    """Everything in the gradebook but the times, whose entries must be there once each."""
    gradebook = Gradebook.in_folder(out)
    folder.grade(submissions, gradebook, Grader(SEED, InProcess()), report, judges)
    found = [
        (
            entry.student,
            entry.lesson,
            entry.points,
            entry.max_points,
            entry.status,
            tuple(
                (item.kind, item.item, item.points, item.status, item.detail, item.call, item.got)
                for item in entry.verdicts
            ),
        )
        for entry in gradebook.entries()
    ]
    gradebook.close()
    for _, _, _, _, status, verdicts in found:
        assert status
        assert len({verdict[:2] for verdict in verdicts}) == len(verdicts)
    return found


@pytest.fixture(scope="module")
def one_by_one(submissions, tmp_path_factory):
    """The grades that one process gives."""
    return grades(submissions, tmp_path_factory.mktemp("out"), Here(Grader(SEED, InProcess())))


def test_one_by_one_everybody_is_graded(one_by_one):
    most = float(lesson(generated.LESSON).max_points)
    right = [points == most for _, _, points, _, _, _ in one_by_one]
    assert right == [sort == "right" for sort in SORTS] + [False]


def test_two_processes_give_the_same_grades_also_when_one_is_killed(submissions, one_by_one, tmp_path):
    killed = []

    def kill_one(entry, fresh):
        children = [item for item in multiprocessing.active_children() if item.is_alive()]
        if children and not killed and not entry.student.startswith("zoe"):
            children[0].kill()
            killed.append(children[0])

    judges = Processes(Grader(SEED, InProcess(0.01)), 2)
    assert grades(submissions, tmp_path, judges, kill_one) == one_by_one
    assert killed


class Faulty(InProcess):
    """Part of a grader with a fault of its own, which the hand-ins that raise bring to light."""

    def start(self, limits):
        talk = super().start(limits)
        run = talk.run

        def stumble(*sources):
            if any("not yet" in source for source in sources):
                raise IndexError("list index out of range")
            return run(*sources)

        talk.run = stumble
        return talk


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_of_the_grader_costs_the_hand_in_and_not_the_class(submissions, one_by_one, tmp_path, workers):
    grader = Grader(SEED, Faulty())
    found = grades(submissions, tmp_path, Processes(grader, workers) if workers else Here(grader))
    assert len(found) == len(one_by_one)
    for row, usual, sort in zip(found, one_by_one, (*SORTS, "unreadable"), strict=True):
        if sort == "raises":
            assert row[4] == f"{FAULT} (IndexError: list index out of range)"
            assert row[2] < usual[3]
        else:
            assert row == usual


def test_a_submission_that_ends_every_process_is_given_up_and_the_class_goes_on(tmp_path):
    name = next(iter(lesson(generated.LESSON).exercises))
    # Without a sandbox it takes the grading process along.
    deadly = cell(f"import os\ndef {name}(*_):\n    os._exit(1)", name)
    write(tmp_path / "class/deadly/03_x.ipynb", deadly, lesson="03")
    generated.hand_in(tmp_path / "class", 1, "right")
    judges = Processes(Grader(SEED, InProcess()), 2)
    found = {row[0]: row for row in grades(tmp_path / "class", tmp_path / "out", judges)}
    assert found["deadly"][4] == LOST
    assert found["student0001"][2] == lesson(generated.LESSON).max_points


@pytest.mark.parametrize("cells", [[cell('quiz.ask("1", answer="A")')], []])
def test_several_submissions_that_end_every_process_can_be_tried_again(tmp_path, cells):
    name = next(iter(lesson(generated.LESSON).exercises))
    deadly = cell(f"import os\ndef {name}(*_):\n    os._exit(1)", name)
    for student in ("ann", "bob", "cyd"):
        write(tmp_path / "class" / student / "03_x.ipynb", *cells, deadly, lesson="03")
    generated.hand_in(tmp_path / "class", 1, "right")  # somebody in between, whom the processes survive
    for _ in range(2):
        *found, _ = grades(tmp_path / "class", tmp_path / "out", Processes(Grader(SEED, InProcess()), 1))
        assert [row[4] for row in found] == [LOST] * 3


class NoSandbox:
    """One that does not start."""

    def start(self, limits):
        raise Unavailable("the sandbox does not start: no namespaces")


def test_a_process_without_a_sandbox_says_why(submissions, tmp_path):
    with pytest.raises(Unavailable, match="no namespaces"):
        grades(submissions, tmp_path, Processes(Grader(SEED, NoSandbox()), 1))


def test_processes_that_die_at_once_are_not_started_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "ATTEMPTS", 100)
    name = next(iter(lesson(generated.LESSON).exercises))
    write(tmp_path / "class/deadly/03_x.ipynb", cell(f"import os\ndef {name}(*_):\n    os._exit(1)", name), lesson="03")
    with pytest.raises(Unavailable, match="end as soon as they begin"):
        grades(tmp_path / "class", tmp_path / "out", Silent(Grader(SEED, InProcess()), 1))


class Silent(Processes):
    """Its processes end before they say a word."""

    def _start(self):
        member = super()._start()
        member.process.kill()
        return member


def test_fewer_than_one_process_is_refused():
    with pytest.raises(ValueError, match="give at least 1"):
        Processes(Grader(SEED, InProcess()), 0)


def test_a_grader_goes_to_another_process_as_what_it_was_made_of():
    grader = Grader(SEED, InProcess(), questions_count=False)
    exercise = next(iter(lesson(generated.LESSON).exercises.values()))
    there = pickle.loads(pickle.dumps(grader))
    sent = [[packed for _, packed in side._key(exercise)[1]] for side in (there, grader)]
    assert sent[0] == sent[1]
    assert not there.questions_count


def test_a_cluster_gives_the_same_grades_also_when_a_worker_is_killed(submissions, one_by_one, tmp_path):
    from distributed import LocalCluster

    killed = []

    def kill_one(entry, fresh):
        if not killed and not entry.student.startswith("zoe"):
            killed.append(next(iter(judges.client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        judges = Cluster(Grader(SEED, InProcess(0.05)), cluster.scheduler_address)
        assert grades(submissions, tmp_path, judges, kill_one) == one_by_one
        judges.close()
    assert killed


def test_a_cluster_that_does_not_answer_is_said_so(monkeypatch):
    monkeypatch.setattr("quizzes.grading.judging.cluster.CONNECT_SECONDS", 0.5)
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        Cluster(Grader(SEED, InProcess()), "tcp://127.0.0.1:9")
