"""Requests that come one by one, computed together: when a batch leaves, to what length it is padded, and a queue that
does both while a server runs.

A model answers sixteen texts in far less than sixteen times the time of one. So a server lets a request wait a moment
for others; how long, and how many, are its two numbers. Source: D. Crankshaw et al., Clipper, 2017, arXiv 1612.03079,
section 4.3.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass


def batch_requests(arrivals: Sequence[float], max_batch: int, max_wait: float) -> tuple[list[list[int]], list[float]]:
    """Which requests go together, and when each batch leaves, by their arrival times alone.

    arrivals: seconds, in order. A request that finds no open batch opens one. The batch leaves as soon as it holds
    max_batch requests, or max_wait seconds after it was opened; who arrives at that very moment still goes along.
    Returns (batches, leaves): positions of the requests in each batch, and the second at which it leaves.
    Raises ValueError for arrivals out of order, max_batch below 1 or max_wait below 0.
    """
    if max_batch < 1 or max_wait < 0 or any(b < a for a, b in zip(arrivals, arrivals[1:], strict=False)):
        raise ValueError(
            f"max_batch is {max_batch} and max_wait {max_wait}; at least 1 and 0 are needed, and arrivals in order."
        )
    batches: list[list[int]] = []
    leaves: list[float] = []
    for position, moment in enumerate(arrivals):
        if not batches or len(batches[-1]) == max_batch or moment > leaves[-1]:
            batches.append([])
            leaves.append(moment + max_wait)
        batches[-1].append(position)
        if len(batches[-1]) == max_batch:
            leaves[-1] = moment
    return batches, leaves


def pad_to_bucket(lengths: Sequence[int], sizes: Sequence[int]) -> tuple[list[int | None], float]:
    """The bucket of each text, and the share of padding among the tokens that are computed.

    lengths: tokens of each text, at least 1. sizes: lengths that the engine was built for, in any order. A text goes to
    the smallest size that holds it, and is padded to it; None where no size does, and such a text is not computed.
    Returns (buckets, padding), padding 0.0 when nothing is computed. Raises ValueError for a length or size below 1.
    """
    if any(number < 1 for number in (*lengths, *sizes)):
        raise ValueError("lengths and sizes are numbers of tokens, at least 1 each.")
    buckets = [min((size for size in sizes if size >= length), default=None) for length in lengths]
    computed = sum(bucket for bucket in buckets if bucket is not None)
    real = sum(length for length, bucket in zip(lengths, buckets, strict=True) if bucket is not None)
    return buckets, 1 - real / computed if computed else 0.0


class Full(Exception):
    """So many requests wait already that one more would only be answered too late."""


class Closed(Exception):
    """The queue takes no more requests: the server is about to stop."""


@dataclass(eq=False)
class _Waiting:
    """A request in the queue, and the promise of its answer."""

    item: object
    answer: asyncio.Future
    since: float


class Batcher:
    """A bounded queue in front of a model. Make it inside a running event loop.

    compute: a list of at most max_batch items to a list of as many answers; called in a thread of its own, one batch at
    a time. max_wait: seconds that the first of a batch waits for others while the model is idle. capacity: how many may
    wait; those being computed no longer wait. on_batch(waited): told of every batch that leaves, with the seconds that
    each of its items was in the queue.
    """

    def __init__(
        self,
        compute: Callable[[list], list],
        max_batch: int,
        max_wait: float,
        capacity: int,
        on_batch: Callable[[list[float]], None] = lambda waited: None,
    ):
        if max_batch < 1 or capacity < 1 or max_wait < 0:
            raise ValueError(
                f"max_batch and capacity are at least 1 and max_wait at least 0, not {max_batch}, "
                f"{capacity} and {max_wait}."
            )
        self.compute, self.max_batch, self.max_wait, self.capacity = compute, max_batch, max_wait, capacity
        self.on_batch = on_batch
        self.waiting: deque[_Waiting] = deque()
        self.closing = False
        self.changed = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.thread = ThreadPoolExecutor(1, "model")
        self.worker = self.loop.create_task(self._work())

    async def submit(self, item: object) -> object:
        """The answer to one item. Raises Full or Closed when it is not taken; whatever compute raises, when it fails.

        When the caller is cancelled while the item waits, its place is free at once and it is never computed.
        """
        if self.closing:
            raise Closed
        if len(self.waiting) >= self.capacity:
            raise Full
        mine = _Waiting(item, self.loop.create_future(), self.loop.time())
        self.waiting.append(mine)
        self.changed.set()
        try:
            return await mine.answer
        except asyncio.CancelledError:
            with suppress(ValueError):  # it is being computed already
                self.waiting.remove(mine)
            raise

    async def close(self) -> None:
        """Take nothing more, answer all that waits, and end the thread."""
        self.closing = True
        self.changed.set()
        await self.worker
        self.thread.shutdown()

    async def _work(self) -> None:
        while True:
            await self._gathered()
            batch = [self.waiting.popleft() for _ in range(min(self.max_batch, len(self.waiting)))]
            if not batch:
                return  # closed, and nobody waits any more
            now = self.loop.time()
            self.on_batch([now - one.since for one in batch])
            await self._answer(batch)

    async def _gathered(self) -> None:
        """Until a batch may leave: it is full, its first has waited long enough, or the queue is closing."""
        while len(self.waiting) < self.max_batch and not self.closing:
            left = self.waiting[0].since + self.max_wait - self.loop.time() if self.waiting else None
            if left is not None and left <= 0:
                return
            self.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), left)

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self.loop.run_in_executor(self.thread, self.compute, [one.item for one in batch])
            if len(answers) != len(batch):
                raise ValueError(f"the model gave {len(answers)} answers to {len(batch)} requests.")
        except Exception as error:  # of the model; the server goes on, and each caller is told
            answers = [error] * len(batch)
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():  # its caller has gone
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
