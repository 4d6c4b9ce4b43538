"""Who judges what: here and now, or in several processes of this machine. `cluster` does the same on many machines.

Each gives its verdicts to one place, which commits them; a process that dies loses nothing but its current exercise.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import connection

from quizzes.grading.gradebook.tables import Verdict
from quizzes.grading.intake.submission import Submission
from quizzes.grading.judging.grader import Grader, lesson_of
from quizzes.grading.judging.verdicts import verdict_of
from quizzes.grading.sandbox.bubblewrap import Unavailable

ATTEMPTS = 3
LAST_SECONDS = 2.0
DEATHS = 7  # in a row, with nothing said between: then the fault is not a submission's
LOST = "not graded: the grading process ended again and again on it"
FAULT = "not graded: the grader itself failed on it, please report this"


@dataclass(frozen=True)
class Job:
    """A submission to judge: a number to know it by, and the verdicts, (kind, item), that are there already.

    again: an earlier run gave it up.
    """

    number: int
    submission: Submission
    known: frozenset = frozenset()
    again: bool = False


@dataclass(frozen=True)
class Done:
    """The last word on a task; `problem` says why it has no verdicts, when it has none."""

    problem: str = ""


Event = tuple[int, Verdict | Done]


def judged(grader: Grader, task: Job) -> Iterator[Verdict | Done]:
    """The verdicts on one submission, each as it is formed, then Done.

    A fault of the grader's own costs the submission it shows itself on, not the class: Done says what it was. Raises
    Unavailable, since a sandbox that is missing is missing for everybody.
    """
    try:
        for judgement in grader.judge(task.submission, lesson_of(task.submission), task.known):
            yield verdict_of(judgement)
    except Unavailable:
        raise
    except Exception as error:
        yield Done(f"{FAULT} ({type(error).__name__}: {error})")
    else:
        yield Done()


class Here:
    """One submission after the other, in this process."""

    def __init__(self, grader: Grader):
        self.grader = grader

    def run(self, tasks: Iterable[Job]) -> Iterator[Event]:
        """Verdicts on each task as they are formed, and Done after its last."""
        for task in tasks:
            yield from ((task.number, outcome) for outcome in judged(self.grader, task))


@dataclass
class _Process:
    """A process that judges, and what it is at."""

    process: multiprocessing.Process
    pipe: connection.Connection
    task: Job | None = None

    def give(self, task: Job) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # it has died; that is noticed where its answers are read
            self.pipe.send_bytes(pickle.dumps(task))


class Processes:
    """Several processes, each with a sandbox of its own. Verdicts come in the order in which they are formed."""

    def __init__(self, grader: Grader, workers: int):
        if workers < 1:
            raise ValueError(f"{workers} workers cannot grade anything; give at least 1")
        self.grader, self.workers, self.deaths = pickle.dumps(grader), workers, 0

    def run(self, tasks: Iterable[Job]) -> Iterator[Event]:
        """Verdicts on each task as they are formed, and Done after its last. Takes tasks as they can be begun."""
        tasks, ready, attempts = iter(tasks), deque(), {}
        crew = [self._start() for _ in range(self.workers)]
        try:
            while True:
                for member in crew:
                    if member.task is None and (task := ready.popleft() if ready else next(tasks, None)):
                        member.give(task)
                busy = {member.pipe: member for member in crew if member.task}
                if not busy:
                    return
                # Read the next notebook while they work, so that none of them waits for it.
                if not ready and (task := next(tasks, None)):
                    ready.append(task)
                for pipe in connection.wait(list(busy)):
                    yield from self._hear(busy[pipe], crew, ready, attempts)
        finally:
            for member in crew:
                member.pipe.close()  # who waits for work goes; who is at work is ended
            for member in crew:
                member.process.join(timeout=LAST_SECONDS)
                member.process.terminate()
                member.process.join()

    def _hear(self, member: _Process, crew: list, ready: deque, attempts: dict) -> Iterator[Event]:
        """What a process has to say. One that died is replaced, and what it was at given out again, not for ever."""
        task = member.task
        try:
            outcome = pickle.loads(member.pipe.recv_bytes())
        except (EOFError, OSError):
            member.pipe.close()
            member.process.join()
            # What was begun before has a limit of its own, ATTEMPTS; several such may follow each other.
            self.deaths += not (task.known or task.again)
            if self.deaths >= DEATHS:
                raise Unavailable("the grading processes end as soon as they begin; try --workers 1") from None
            crew[crew.index(member)] = self._start()
            attempts[task.number] = attempts.get(task.number, 0) + 1
            if attempts[task.number] < ATTEMPTS:
                ready.append(task)
            else:
                yield task.number, Done(LOST)
            return
        if isinstance(outcome, Unavailable):
            raise outcome
        self.deaths = 0
        known = task.known if isinstance(outcome, Done) else task.known | {(outcome.kind, outcome.item)}
        member.task = None if isinstance(outcome, Done) else replace(task, known=known)
        yield task.number, outcome

    def _start(self) -> _Process:
        context = _context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.grader), daemon=True)
        process.start()
        theirs.close()
        return _Process(process, ours)


def _context():
    """How processes begin: forked from one that has imported everything already, where there is such a thing."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _work(pipe: connection.Connection, pickled: bytes) -> None:
    """A process's life: judge what comes, until nothing comes or the process that started this one has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: connection.wait([parent.sentinel]) and os._exit(1), daemon=True).start()
    import torch

    torch.set_num_threads(1)
    grader = pickle.loads(pickled)
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = pickle.loads(pipe.recv_bytes())
            try:
                for outcome in judged(grader, task):
                    pipe.send_bytes(pickle.dumps(outcome))
            except Unavailable as error:
                pipe.send_bytes(pickle.dumps(error))
    grader.sandbox.close()
