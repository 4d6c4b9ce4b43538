"""What `course doctor` looks at: one finding a line, with the mend when something is amiss."""

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import InvalidRequirement, Requirement

PYTHON = (3, 11)
CORES = 2
MEMORY_GB = 4


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, whether it is as it should be, and the figure or the mend."""

    what: str
    ok: bool
    detail: str


def findings(root: Path) -> Iterator[Finding]:
    """Everything that the course needs, quick checks first. `root` is the folder of the repository."""
    yield _python()
    yield from packages(root / "requirements.txt")
    yield _cores()
    yield _memory()
    yield from _weights()
    yield _sandbox()


def _python() -> Finding:
    here = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, PYTHON))
    ok = sys.version_info[:2] >= PYTHON
    return Finding("Python", ok, here if ok else f"{here}; install Python {needed} and set up .venv again")


def packages(requirements: Path) -> Iterator[Finding]:
    """One finding when every package is there as pinned, else one for each that is not."""
    if not requirements.is_file():
        yield Finding("packages", False, f"{requirements} is missing; run `course` from a clone of the course")
        return
    pins = list(_pins(requirements.read_text(encoding="utf-8")))
    installed = [(pin, _installed(pin.name)) for pin in pins]
    amiss = [(pin, version) for pin, version in installed if not pin.specifier.contains(version, prereleases=True)]
    for pin, version in amiss:
        mend = f"{version or 'not installed'}; pip install '{pin.name}{pin.specifier}'"
        yield Finding(f"package {pin.name}", False, mend)
    if not amiss:
        yield Finding("packages", True, f"{len(pins)} as pinned in {requirements.name}")


def _pins(text: str) -> Iterator[Requirement]:
    for line in text.splitlines():
        try:
            pin = Requirement(line.split(" #")[0].split(" --")[0].strip())
        except InvalidRequirement:  # a comment, an option, an empty line
            continue
        if pin.marker is None or pin.marker.evaluate():
            yield pin


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ok = usable >= CORES
    return Finding("cores", ok, f"{usable}" if ok else f"{usable}; lessons take longer than they say with fewer than 2")


def _memory() -> Finding:
    total = psutil.virtual_memory().total / 2**30
    ok = total >= 0.9 * MEMORY_GB  # the system keeps a part of what a machine is sold with
    return Finding("memory", ok, f"{total:.0f} GB" if ok else f"{total:.1f} GB; the lessons need {MEMORY_GB} GB")


def _weights() -> Iterator[Finding]:
    from lessons_lib.files import packaged

    for what, ok, detail in packaged.verify():
        yield Finding(what, ok, detail)


def _sandbox() -> Finding:
    from quizzes.grading.sandbox.bubblewrap import Bubblewrap, Unavailable
    from quizzes.grading.sandbox.limits import SandboxLimits

    if sys.platform != "linux":
        return Finding("sandbox", True, "none on this system; `course grade` needs Linux, everything else does not")
    try:
        Bubblewrap().start(SandboxLimits()).close()
        return Finding("sandbox", True, "bubblewrap")
    except Unavailable as error:
        return Finding("sandbox", False, f"{error} Only `course grade` needs it.")
