"""How a server behaves under load: requests at a given rate, whatever it answers, for a bounded time.

The load is open: the next request is sent when its time has come, not when the last one was answered, as if by people
who do not know of one another. A closed loop, which waits for each answer, slows down together with the server and
never sees the queue. Latency is counted from the planned time. Source: B. Schroeder, A. Wierman, M. Harchol-Balter,
Open Versus Closed: A Cautionary Tale, NSDI 2006.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy

from lessons_lib.measure.benchmark import percentile

MOST = 5_000  # requests in one run
PATIENCE = 10.0  # seconds after the last planned request; what has no answer then counts as failed


@dataclass(frozen=True)
class Load:
    """What came of one run. latencies: ms of those answered with 200, from the planned time to the answer."""

    offered: float  # requests a second that were sent
    seconds: float  # from the start to the last answer, and at least as long as requests were sent
    statuses: dict[int | str, int]  # how many got which status; "failed" where there was no answer
    latencies: tuple[float, ...]
    late: float  # ms, 95th percentile of how late they left: the sender's own fault

    @property
    def answered(self) -> float:
        """Answers with 200 a second."""
        return self.statuses.get(200, 0) / self.seconds

    @property
    def refused(self) -> float:
        """The share of requests that got anything else."""
        return 1 - self.statuses.get(200, 0) / sum(self.statuses.values())

    def p(self, percent: float) -> float:
        """A percentile of the latencies in ms; not a number when nothing was answered."""
        return percentile(self.latencies, percent) if self.latencies else float("nan")


def error_budget(slo: float, total: int, failed: int) -> tuple[float, float]:
    """How many requests may fail under an objective, and the share of that which is spent: (allowed, spent).

    slo: the share of requests that must succeed, 0 to 1. allowed = (1 - slo) * total; spent = failed / allowed, above 1
    when the objective is broken. With nothing allowed, spent is 0.0 when nothing failed, else infinite.
    Raises ValueError for an slo outside 0 ... 1, or counts that do not fit.
    """
    if not 0 <= slo <= 1 or not 0 <= failed <= total:
        raise ValueError(f"slo {slo} lies within 0 ... 1, and failed {failed} within 0 ... total {total}; they do not.")
    allowed = (1 - slo) * total
    if allowed == 0:
        return 0.0, float("inf") if failed else 0.0
    return allowed, failed / allowed


def drive(address: str, texts: Sequence[str], rate: float, seconds: float, seed: int = 0) -> Load:
    """Send `rate` texts a second to a server's /predict, for `seconds`, at random times, and wait for the answers.

    The times are those of a Poisson process: gaps are exponential and independent. Works inside a notebook too.
    Raises ValueError when the run would be longer than MOST requests, or empty.
    """
    count = int(rate * seconds)
    if not 1 <= count <= MOST or not texts:
        raise ValueError(
            f"{rate:g} a second for {seconds:g} s are {count} requests; 1 to {MOST:,} are allowed, and at "
            "least one text is needed."
        )
    gaps = numpy.random.default_rng(seed).exponential(1 / rate, count)
    planned = numpy.cumsum(gaps) * seconds / gaps.sum()  # so that the offered rate is the rate asked for
    results: list[tuple[int | str, float, float]] = []

    def run():
        results.extend(asyncio.run(_send_all(address, texts, planned)))

    sender = threading.Thread(target=run)  # a notebook's own event loop runs in the main thread
    sender.start()
    sender.join()
    statuses, sent, done = zip(*results, strict=True)
    answered = [end for status, end in zip(statuses, done, strict=True) if status != "failed"]
    return Load(
        count / seconds,
        max([seconds, *answered]),
        dict(Counter(statuses)),
        tuple(1000 * (end - plan) for status, end, plan in zip(statuses, done, planned, strict=True) if status == 200),
        1000 * percentile(numpy.subtract(sent, planned), 95),
    )


async def _send_all(address: str, texts: Sequence[str], planned: numpy.ndarray) -> list[tuple[int | str, float, float]]:
    """Status, and seconds from the start at which it was sent and answered, for every request in order."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits, trust_env=False) as client:
        start = time.perf_counter()

        async def one(number: int, moment: float):
            await asyncio.sleep(max(0.0, moment - (time.perf_counter() - start)))
            sent = time.perf_counter() - start
            try:
                status = (await client.post("/predict", json={"text": texts[number % len(texts)]})).status_code
            except httpx.HTTPError:
                status = "failed"
            return status, sent, time.perf_counter() - start

        tasks = [asyncio.create_task(one(number, moment)) for number, moment in enumerate(planned)]
        await asyncio.wait(tasks, timeout=planned[-1] + PATIENCE)
        for task in tasks:
            task.cancel()
        return [
            task.result() if task.done() and not task.cancelled() else ("failed", moment, planned[-1] + PATIENCE)
            for task, moment in zip(tasks, planned, strict=True)
        ]
