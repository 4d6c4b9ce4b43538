"""What a process and everything below it uses: CPU time, memory, threads. Quick on Linux, by psutil elsewhere."""

import contextlib
import os
import sys

import psutil

PIECE_BYTES = 2**16
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Family:
    """A process and its descendants, looked at from outside. Those that end while one looks are passed over."""

    def __init__(self, pid: int):
        self.pid = pid

    def pids(self) -> list[int]:
        """All of them, the head first. What was left by a parent that ended counts as the head's in its namespace."""
        if not sys.platform.startswith("linux"):
            with contextlib.suppress(psutil.Error):
                head = psutil.Process(self.pid)
                return [self.pid, *(child.pid for child in head.children(recursive=True))]
            return []
        pids, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    waiting += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
                pids.append(pid)
        return pids

    def cpu_seconds(self) -> float:
        """CPU time of all of them, and of those that ended and were waited for."""
        return sum(map(_cpu_seconds, self.pids()))

    def members(self) -> int:
        """How many threads they have together."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(psutil.Error, OSError):
                linux = sys.platform.startswith("linux")
                total += len(os.listdir(f"/proc/{pid}/task")) if linux else psutil.Process(pid).num_threads()
        return total

    def resident_bytes(self) -> int:
        """Memory of all of them, where what they share counts for each: quick, and never too little."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        return total

    def own_bytes(self) -> int:
        """Memory of all of them; pages that several share count once where the system tells. Slow."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(psutil.Error):
                full = psutil.Process(pid).memory_full_info()
                total += getattr(full, "pss", 0) or full.rss
        return total

    def kill(self) -> None:
        """End all of them, as far as they can be seen from here."""
        for pid in self.pids():
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()


def _read(path: str) -> bytes:
    """A small file of /proc, several times as fast as through `open`: these are read at every question."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, PIECE_BYTES), b""))
    finally:
        os.close(descriptor)


def _cpu_seconds(pid: int) -> float:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name of the program, in brackets, may hold anything; utime, stime, cutime and cstime follow it.
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            return sum(map(int, fields[11:15])) / TICKS
        return 0.0
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system + getattr(times, "children_user", 0)
    return 0.0
