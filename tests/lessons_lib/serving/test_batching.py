"""When batches leave, against a clock that ticks; buckets; and the queue: full, cancelled, failing, closing."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessons_lib.serving import batching


def by_a_clock(arrivals, max_batch, max_wait):
    """Tick by tick of one unit: first whoever arrives joins, then a batch that is full or due leaves."""
    batches, leaves, group, due, waiting = [], [], [], None, list(enumerate(arrivals))
    for now in range(int(arrivals[-1] + max_wait) + 2 if arrivals else 0):
        while waiting and waiting[0][1] == now:
            if not group:
                due = now + max_wait
            group.append(waiting.pop(0)[0])
            if len(group) == max_batch:
                batches, leaves, group = [*batches, group], [*leaves, now], []
        if group and now == due:
            batches, leaves, group = [*batches, group], [*leaves, now], []
    return batches, leaves


@given(
    st.lists(st.integers(0, 12), max_size=40).map(lambda gaps: [sum(gaps[: i + 1]) for i in range(len(gaps))]),
    st.integers(1, 6),
    st.integers(0, 15),
)
def test_batches_are_those_of_a_clock(arrivals, max_batch, max_wait):
    assert batching.batch_requests(arrivals, max_batch, max_wait) == by_a_clock(arrivals, max_batch, max_wait)


@pytest.mark.parametrize("wrong", [([1, 0], 2, 1), ([0], 0, 1), ([0], 1, -1)])
def test_wrong_plans_are_refused(wrong):
    with pytest.raises(ValueError, match="max_batch"):
        batching.batch_requests(*wrong)


@given(st.lists(st.integers(1, 99), max_size=20), st.lists(st.integers(1, 80), min_size=1, max_size=6, unique=True))
def test_buckets_hold_their_texts_and_no_smaller_one_would(lengths, sizes):
    buckets, padding = batching.pad_to_bucket(lengths, sizes)
    for length, bucket in zip(lengths, buckets, strict=True):
        fitting = {size for size in sizes if size >= length}
        assert bucket == (min(fitting) if fitting else None)
    rows = [(length, bucket) for length, bucket in zip(lengths, buckets, strict=True) if bucket]
    wasted, computed = sum(bucket - length for length, bucket in rows), sum(bucket for _, bucket in rows)
    assert padding == pytest.approx(wasted / computed if computed else 0.0)


def test_lengths_without_tokens_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        batching.pad_to_bucket([0], [8])


class Model:
    """Doubles its items once it is let to, and remembers the batches."""

    def __init__(self, held=False):
        self.free, self.called, self.batches = threading.Event(), threading.Event(), []
        if not held:
            self.free.set()

    def __call__(self, items):
        self.batches.append(items)
        self.called.set()
        assert self.free.wait(20)
        return [2 * item for item in items]


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


def queue(scenario, compute, **settings):
    """Runs scenario(batcher) in a loop of its own, and closes the batcher."""

    async def run():
        batcher = batching.Batcher(compute, **({"max_batch": 2, "max_wait": 0.0, "capacity": 3} | settings))
        try:
            return await scenario(batcher)
        finally:
            await batcher.close()

    return asyncio.run(run())


def test_those_that_wait_are_computed_together_in_order():
    model, told = Model(held=True), []

    async def scenario(batcher):
        first = asyncio.create_task(batcher.submit(1))
        await until(model.called.is_set)
        rest = [asyncio.create_task(batcher.submit(item)) for item in (2, 3, 4)]
        await until(lambda: len(batcher.waiting) == 3)
        model.free.set()
        return await asyncio.gather(first, *rest)

    assert queue(scenario, model, on_batch=told.append) == [2, 4, 6, 8]
    assert model.batches == [[1], [2, 3], [4]]
    assert [len(waited) for waited in told] == [1, 2, 1]
    assert all(seconds >= 0 for waited in told for seconds in waited)


def test_a_batch_waits_for_others_and_leaves_when_full():
    model = Model()

    async def scenario(batcher):
        return await asyncio.wait_for(asyncio.gather(batcher.submit(1), batcher.submit(2)), 20)

    assert queue(scenario, model, max_wait=1000.0) == [2, 4]
    assert model.batches == [[1, 2]]


def test_a_batch_does_not_wait_for_ever():
    async def scenario(batcher):
        return await asyncio.wait_for(batcher.submit(1), 20)

    assert queue(scenario, Model(), max_wait=0.02) == 2


def test_a_full_queue_takes_nothing_more_and_then_again():
    model = Model(held=True)

    async def scenario(batcher):
        taken = [asyncio.create_task(batcher.submit(0))]
        await until(model.called.is_set)
        taken += [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await until(lambda: len(batcher.waiting) == 3)
        with pytest.raises(batching.Full):
            await batcher.submit(4)
        model.free.set()
        await asyncio.gather(*taken)
        return await batcher.submit(5)

    assert queue(scenario, model) == 10


def test_who_gives_up_frees_the_place_and_is_not_computed():
    model = Model(held=True)

    async def scenario(batcher):
        first = asyncio.create_task(batcher.submit(1))
        await until(model.called.is_set)
        gone = asyncio.create_task(batcher.submit(2))
        await until(lambda: len(batcher.waiting) == 1)
        gone.cancel()
        await until(lambda: not batcher.waiting)
        first.cancel()  # one that is being computed: its answer is thrown away
        last = asyncio.create_task(batcher.submit(3))
        model.free.set()
        return await last

    assert queue(scenario, model) == 6
    assert model.batches == [[1], [3]]


@pytest.mark.parametrize(("wrong", "error"), [(lambda items: 1 / 0, ZeroDivisionError), (lambda items: [], ValueError)])
def test_a_failure_is_told_to_its_callers_and_the_queue_goes_on(wrong, error):
    async def scenario(batcher):
        found = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
        assert all(isinstance(one, error) for one in found)
        batcher.compute = lambda items: items
        return await batcher.submit(3)

    assert queue(scenario, wrong) == 3


def test_closing_answers_all_that_was_accepted_and_takes_nothing_more():
    model, threads = Model(held=True), threading.active_count()

    async def scenario():
        batcher = batching.Batcher(model, max_batch=2, max_wait=1000.0, capacity=9)
        taken = [asyncio.create_task(batcher.submit(item)) for item in range(7)]
        await until(model.called.is_set)
        closing = asyncio.create_task(batcher.close())
        await until(lambda: batcher.closing)
        with pytest.raises(batching.Closed):
            await batcher.submit(8)
        model.free.set()
        await closing
        return await asyncio.gather(*taken)

    assert asyncio.run(scenario()) == [0, 2, 4, 6, 8, 10, 12]
    assert threading.active_count() == threads


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"capacity": 0}, {"max_wait": -1.0}])
def test_a_queue_without_places_is_refused(wrong):
    async def make():
        batching.Batcher(Model(), **({"max_batch": 2, "max_wait": 0.0, "capacity": 3} | wrong))

    with pytest.raises(ValueError, match="at least"):
        asyncio.run(make())
