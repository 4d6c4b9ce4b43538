"""kill -9 at any moment loses no verdict and records none twice: in the end the gradebook is the undisturbed one."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from quizzes.grading.gradebook.gradebook import FILE, Gradebook
from quizzes.grading.judging import folder
from quizzes.grading.judging.grader import Grader
from tests.quizzes.grading import generated
from tests.quizzes.grading.inprocess import InProcess

SEED = 11
COLUMNS = (
    "kind",
    "item",
    "points",
    "max_points",
    "status",
    "detail",
    "mistake",
    "groups_right",
    "groups",
    "call",
    "expected",
    "got",
)


def contents(out) -> list[tuple]:
    """Every entry and verdict but the times and the order in which they were made."""
    gradebook = Gradebook.in_folder(out)
    found = [
        (
            entry.student,
            entry.lesson,
            entry.notebook,
            entry.points,
            entry.max_points,
            entry.status,
            *sorted(tuple(getattr(verdict, name) for name in COLUMNS) for verdict in entry.verdicts),
        )
        for entry in gradebook.entries()
    ]
    gradebook.close()
    return found


def committed(out) -> list[tuple]:
    """The verdicts that are there, asked without opening a gradebook."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{out / FILE}?mode=ro", uri=True)) as database:
            columns = "submission, kind, item, points, status"
            return database.execute(f"SELECT {columns} FROM verdicts ORDER BY id").fetchall()
    except sqlite3.OperationalError:
        return []


def killed_on_the_way(start, out, kills: int, chance: random.Random) -> int:
    """Start, let some verdicts come, kill at a random moment, start again; at last let it end. Returns the kills."""
    done = 0
    while True:
        before, enough = committed(out), chance.randint(1, 9)
        ended, kill = start()
        while not ended() and (done == kills or len(committed(out)) < len(before) + enough):
            time.sleep(0.002)
        time.sleep(chance.random() * 0.03)
        if ended():
            return done
        kill()
        done += 1
        after = committed(out)
        assert after[: len(before)] == before
        assert len({verdict[:3] for verdict in after}) == len(after)


def in_a_fork(submissions, out):
    """The grader as a fork of this process, without a sandbox."""

    def start():
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                grade(submissions, out, InProcess(0.005))
                os._exit(0)
            os._exit(1)
        status = []

        def ended() -> bool:
            if not status:
                pid, code = os.waitpid(child, os.WNOHANG)
                status.extend([code] if pid else [])
            assert status in ([], [0])
            return bool(status)

        def kill() -> None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

        return ended, kill

    return start


def grade(submissions, out, sandbox) -> None:
    """Grade into a gradebook whose cases are always the same."""
    gradebook = Gradebook.in_folder(out)
    folder.grade(submissions, gradebook, Grader(SEED, sandbox))
    gradebook.close()


def test_a_few_kills_change_nothing(tmp_path):
    for number, sort in enumerate(("right", "partly", "raises", "right", "partly", "right")):
        generated.hand_in(tmp_path / "class", number, sort)
    grade(tmp_path / "class", tmp_path / "calm", InProcess())
    out = tmp_path / "out"
    assert killed_on_the_way(in_a_fork(tmp_path / "class", out), out, 6, random.Random()) == 6
    assert contents(out) == contents(tmp_path / "calm")


@pytest.mark.proof
@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_fifty_kills_of_the_command_change_nothing(tmp_path, workers):
    submissions = tmp_path / "class"
    for number, sort in enumerate(("right", "partly", "raises", "exits", "right", "eats") * 15):
        generated.hand_in(submissions, number, sort)
    for out in ("calm", "out"):
        gradebook = Gradebook.in_folder(tmp_path / out)
        gradebook.keep("seed", str(SEED))
        gradebook.close()

    def command(out):
        options = ["--resume", "--workers", workers, "--out", str(out)]
        command = [sys.executable, "-m", "quizzes", "grade", str(submissions), *options]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def start():
        running = command(tmp_path / "out")

        def ended() -> bool:
            assert running.poll() in (None, 0)
            return running.poll() is not None

        return ended, lambda: (running.kill(), running.wait())

    assert command(tmp_path / "calm").wait() == 0
    kills = killed_on_the_way(start, tmp_path / "out", 50 if workers == "1" else 10, random.Random())
    assert kills == (50 if workers == "1" else 10)
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")
