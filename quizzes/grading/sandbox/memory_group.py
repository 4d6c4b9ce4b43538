"""A limit on the memory of a whole submission, its files in /tmp included: a control group, version 1 or 2.

Only root, or who was given a group of their own, can make one; `make` then returns None, and limits on each process
and a look at all of them from time to time have to do.
"""

import contextlib
import itertools
import os
from pathlib import Path

PREFIX = "course-grading-"
ROOT = Path("/sys/fs/cgroup")
_numbers = itertools.count()


class MemoryGroup:
    """A control group that submissions join one after the other; the kernel ends them when they take too much."""

    def __init__(self, folder: Path, limit: str, events: str):
        self.folder, self._limit, self._events = folder, folder / limit, folder / events
        self.members = os.open(folder / "cgroup.procs", os.O_WRONLY)

    def allow(self, limit_bytes: int) -> None:
        """Let the members together have this much from now on."""
        self._limit.write_text(str(limit_bytes))

    def kills(self) -> int:
        """How often the kernel ended a member for want of memory."""
        with contextlib.suppress(OSError, ValueError):
            for line in self._events.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0

    def close(self) -> None:
        """Remove the group. Nobody may be left in it."""
        if self.members is not None:
            os.close(self.members)
            self.members = None
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def make(limit_bytes: int) -> MemoryGroup | None:
    """A new group below this process's own, None where there can be none."""
    files = {1: ("memory.limit_in_bytes", "memory.oom_control"), 2: ("memory.max", "memory.events")}
    for version, parent in _own_groups():
        _remove_abandoned(parent)
        folder = parent / f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            group = MemoryGroup(folder, *files[version])
            group.allow(limit_bytes)
            if version == 2:
                (folder / "memory.oom.group").write_text("1")
                with contextlib.suppress(OSError):
                    (folder / "memory.swap.max").write_text("0")
            return group
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return None


def _own_groups() -> list[tuple[int, Path]]:
    """(version, folder) of the groups for memory that this process is in."""
    with contextlib.suppress(OSError):
        groups = []
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                groups += [(2, ROOT / path.lstrip("/")), (2, ROOT / "unified" / path.lstrip("/"))]
            elif "memory" in controllers.split(","):
                groups += [(1, ROOT / "memory" / path.lstrip("/"))]
        return [(version, folder) for version, folder in groups if (folder / "cgroup.procs").exists()]
    return []


def _remove_abandoned(parent: Path) -> None:
    """Groups of graders that were killed. A group that somebody is in cannot be removed."""
    for folder in parent.glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def possible() -> bool:
    """Whether this process can make such a group."""
    group = make(2**30)
    if group is None:
        return False
    group.close()
    return True
