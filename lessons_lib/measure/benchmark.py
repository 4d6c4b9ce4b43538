"""How long a call takes on this machine: warm-up, percentiles, things compared in turns, ratios with intervals."""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import psutil
import torch

from lessons_lib.files import progress
from lessons_lib.measure.intervals import Interval, of_ratios


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on: processor, instruction set as torch uses it, cores, memory, versions."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory GB": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


@contextlib.contextmanager
def threads(count: int | None):
    """Run the body with so many torch threads, then restore the number; None leaves it as it is."""
    before = torch.get_num_threads()
    if count is not None and count < 1:
        raise ValueError(f"threads must be at least 1, not {count}")
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def percentile(samples: Sequence[float], p: float) -> float:
    """The value that p percent of the samples do not exceed, with linear interpolation between two samples.

    The sorted samples stand at 0, 1, ..., n - 1; the answer is read at position p / 100 * (n - 1).
    """
    values = numpy.asarray(samples, dtype=float)
    if values.ndim != 1 or not len(values) or numpy.isnan(values).any():
        raise ValueError("a percentile needs a list of at least one number, without NaN")
    if not 0 <= p <= 100:
        raise ValueError(f"p must lie between 0 and 100, not {p}")
    return float(numpy.percentile(values, p))


@dataclass(frozen=True)
class Timing:
    """Latencies of repeated calls in milliseconds, in the order of the calls, and the torch threads they ran on."""

    samples: tuple[float, ...]
    threads: int

    p50 = property(lambda self: percentile(self.samples, 50), doc="The median.")
    p95 = property(lambda self: percentile(self.samples, 95), doc="One call in 20 is slower.")
    p99 = property(lambda self: percentile(self.samples, 99), doc="One call in 100 is slower.")

    def __repr__(self) -> str:
        runs = f"{len(self.samples)} calls, {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"p50 {self.p50:.3g} ms, p95 {self.p95:.3g} ms, p99 {self.p99:.3g} ms ({runs})"


@dataclass(frozen=True)
class Comparison:
    """Timings of several functions that took turns: sample i of each belongs to round i."""

    timings: dict[str, Timing]

    def ratio(self, a: str, b: str) -> Interval:
        """Time of a divided by time of b, median over the rounds, with its 95 % interval (`intervals.of_ratios`).

        2 means that a takes twice as long as b, so b is twice as fast. Raises ValueError for fewer than two rounds, and
        for calls that took 0 ms.
        """
        missing = {a, b} - set(self.timings)
        if missing:
            raise ValueError(f"{sorted(missing)} not compared; there are {list(self.timings)}")
        return of_ratios(numpy.divide(self.timings[a].samples, self.timings[b].samples))

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {timing!r}" for name, timing in self.timings.items())


def latency(function: Callable[[], object], repeats: int = 100, warmup: int = 10) -> Timing:
    """Milliseconds of each of `repeats` calls. The `warmup` calls before them fill caches and are not counted."""
    return compare({"function": function}, repeats, warmup).timings["function"]


def compare(functions: Mapping[str, Callable[[], object]], repeats: int = 50, warmup: int = 5) -> Comparison:
    """Time functions in turns, round after round, in an order that is shuffled anew every round.

    A machine that slows down for a while then slows all of them, and nobody always runs after the same neighbour. What
    takes longer than a moment shows a progress bar, which moves between the rounds alone.
    """
    if not functions or repeats < 1 or warmup < 0:
        raise ValueError("compare needs at least one function, repeats >= 1 and warmup >= 0")
    names, samples = list(functions), {name: [] for name in functions}
    order = numpy.random.default_rng(0)
    for round_number in progress.over(range(warmup + repeats), "measuring", "round"):
        for name in order.permutation(names):
            start = time.perf_counter_ns()
            functions[name]()
            elapsed = (time.perf_counter_ns() - start) / 1e6
            if round_number >= warmup:
                samples[name].append(elapsed)
    return Comparison({name: Timing(tuple(samples[name]), torch.get_num_threads()) for name in names})


def throughput(timing: Timing | Sequence[float], batch_size: int) -> float:
    """Items a second: all items divided by all the time. A list holds the milliseconds of each batch."""
    samples = timing.samples if isinstance(timing, Timing) else timing
    if batch_size < 1 or not len(samples) or not all(sample > 0 for sample in samples):
        raise ValueError("throughput needs batch_size >= 1 and at least one latency, each above 0 ms")
    return 1000 * batch_size * len(samples) / sum(samples)
