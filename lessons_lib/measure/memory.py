"""How much memory a call needs: the peak of this process, and step by step in processes of their own."""

import contextlib
import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from lessons_lib.files import fresh_process


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
    return fresh_process.call(_high_water_by_step, dict(steps), steps=len(steps))


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
