"""How long it takes, how many bytes it is, how much memory it needs: on this machine, stated with its spread.

Quality with an interval is in `intervals`; the figures of the claims are in `claims`.
"""

import contextlib
import ctypes
import gc
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import psutil
import torch

from lessons_lib import bars, fresh
from lessons_lib.intervals import Interval, of_ratios


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
    for round_number in bars.over(range(warmup + repeats), "measuring", "round"):
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


def state_bytes(state: torch.nn.Module | Mapping[str, torch.Tensor]) -> int:
    """Bytes of the tensors of a state dict, computed: parameters and buffers, a tensor under two names once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct(state).values())


def size_on_disk(item: torch.nn.Module | Mapping[str, torch.Tensor] | torch.Tensor | str | os.PathLike) -> int:
    """Bytes of the file: a module, state dict or tensor is saved with safetensors; a path is read, a folder added up.

    Nothing is computed from a parameter count: packed weights, codebooks, scales and headers are in the file.
    """
    if isinstance(item, (str, os.PathLike)):
        path = Path(item)
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files)
    from safetensors.torch import save_file

    tensors = distinct({"tensor": item} if isinstance(item, torch.Tensor) else item)
    # safetensors refuses tensors that share storage; what remains are different views, which a file holds one by one.
    dense = {name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor) for name, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_file(dense, Path(folder) / "model.safetensors")
        return size_on_disk(folder)


def distinct(state: torch.nn.Module | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a module or state dict, one under several names (same address, size, dtype) only under its first.

    Raises TypeError for anything else, and for tensors of torch.ao's quantized kinds.
    """
    entries = state.state_dict() if isinstance(state, torch.nn.Module) else state
    if not isinstance(entries, Mapping):
        raise TypeError(f"a module, a state dict or a tensor is needed, not {type(entries).__name__}")
    seen, tensors = set(), {}
    for name, tensor in entries.items():
        if not isinstance(tensor, torch.Tensor) or tensor.is_quantized:
            raise TypeError(f"{name} is not a plain tensor: save the model its own way and hand in the file's path")
        place = (tensor.data_ptr(), tensor.numel(), tensor.dtype)
        if place not in seen or not tensor.numel():
            tensors[name] = tensor.detach()
        seen.add(place)
    return tensors


def peak_memory(function: Callable[[], object]) -> int:
    """Bytes by which one call of the function raised this process's resident memory, at the highest moment.

    It counts pages that the call touched for the first time: tensors, code loaded on the way, one-off buffers of the
    kernels. Call the function once before if those should not count. Freed memory is handed back to the system first,
    so that the call cannot hide in it. Linux keeps the exact high-water mark; elsewhere it is sampled every
    millisecond, and a shorter peak is missed. What a whole process needs: `memory_by_step`.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone; elsewhere the allocator decides
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the high-water mark (man 5 proc)
    except OSError:
        return _sampled_peak(function)
    before = _high_water()
    function()
    return _high_water() - before


def memory_by_step(steps: Mapping[str, str]) -> dict[str, int]:
    """Run pieces of code one after the other in a fresh process; the highest resident bytes so far after each.

    steps: name -> Python source; later steps see the names of earlier ones. The whole process counts: interpreter,
    torch (loaded before the first step), weights, activations. Nothing that this process holds can hide a cost.
    """
    return fresh.call(_high_water_by_step, dict(steps), steps=len(steps))


def _high_water_by_step(steps: dict[str, str]) -> dict[str, int]:
    scope, peaks, peak = {}, {}, 0
    for name, source in steps.items():
        exec(source, scope)
        peaks[name] = peak = max(peak, _high_water())
        print(name)  # for the bar in the other process
    return peaks


def _high_water() -> int:
    """Highest resident bytes of this process so far."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except OSError:
        if sys.platform == "win32":
            return psutil.Process().memory_info().peak_wset
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _sampled_peak(function: Callable[[], object]) -> int:
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peaks = [before]

    def watch():
        while not done.wait(0.001):
            peaks.append(max(peaks.pop(), process.memory_info().rss))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        function()
    finally:
        done.set()
        watcher.join()
    return max(peaks[0], process.memory_info().rss) - before
