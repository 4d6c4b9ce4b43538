"""The same work on a Dask cluster: each of its workers keeps a grader, and so a sandbox, for every thread it has."""

import pickle
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator

from quizzes.grading.gradebook.tables import Verdict
from quizzes.grading.judging.grader import Grader
from quizzes.grading.judging.schedule import LOST, Done, Event, Job, judged

AHEAD = 2  # tasks on their way for each thread of the cluster
CONNECT_SECONDS = 30
_own = threading.local()


class Cluster:
    """The workers behind the address of a Dask scheduler. They need this course installed, and bubblewrap."""

    def __init__(self, grader: Grader, address: str):
        """Raises ConnectionError when no scheduler answers there."""
        from distributed import Client

        self.grader = pickle.dumps(grader)
        try:
            self.client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no Dask scheduler answers at {address}; start one with `dask scheduler`") from error

    def run(self, tasks: Iterable[Job]) -> Iterator[Event]:
        """Verdicts on each task, all at once when the last is formed, and Done after them.

        A task whose worker is lost is done again by another; its verdicts arrive once.
        """
        from distributed import KilledWorker, as_completed

        tasks, numbers, run = iter(tasks), {}, uuid.uuid4().hex
        coming = as_completed(loop=self.client.loop)
        while True:
            while len(numbers) < AHEAD * max(1, sum(self.client.nthreads().values())) and (task := next(tasks, None)):
                key = f"course-grade-{run}-{task.number}"
                numbers[key] = task.number
                coming.add(self._submit(key, task))
            if not numbers:
                return
            future = next(coming)
            number = numbers.pop(future.key)
            try:
                events = future.result()
            except KilledWorker:
                yield number, Done(LOST)
                continue
            yield from ((number, event) for event in events)

    def _submit(self, key: str, task: Job):
        with warnings.catch_warnings():  # a model goes along with its notebook: some 10 MB, once
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.client.submit(judged_there, self.grader, task, key=key, pure=False)

    def close(self) -> None:
        """Let go of the cluster; it goes on without us."""
        self.client.close()


def judged_there(pickled: bytes, task: Job) -> list[Verdict | Done]:
    """All verdicts on one submission and Done, in whatever process and thread this is called."""
    if getattr(_own, "pickled", None) != pickled:
        import torch

        torch.set_num_threads(1)
        _own.pickled, _own.grader = pickled, pickle.loads(pickled)
    return list(judged(_own.grader, task))
