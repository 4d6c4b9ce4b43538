"""Energy of a call, where the processor counts it and lets us read: Linux, /sys/class/powercap.

The counters are those of the whole processor package: other programs count too, so compare in turns on a quiet machine.
"""

import os
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def counters(folder: Path | None = None) -> list[Path]:
    """The packages' counters that this process may read, each a folder with energy_uj; an empty list where none is.

    A folder's file `name` says what it counts: "package-0", or a part of a package ("core", "dram"), or the whole
    machine with the packages in it ("psys"). Some machines count one package in two folders; it is taken once.
    """
    readable = [
        path
        for path in sorted((folder or POWERCAP).glob("*:[0-9]*"), reverse=True)
        if os.access(path / "energy_uj", os.R_OK) and os.access(path / "name", os.R_OK)
    ]
    by_name = {(path / "name").read_text().strip(): path for path in readable}
    return sorted(path for name, path in by_name.items() if name.startswith("package"))


def joules(function: Callable[[], object], folder: Path | None = None) -> float:
    """Joules that all packages used while the function ran once. A counter that wrapped round is put right.

    Raises ValueError where no counter can be read; ask `counters` first.
    """
    packages = counters(folder)
    if not packages:
        raise ValueError("No energy counter can be read here: Linux has them under powercap, most often for root.")
    before = [_read(path, "energy_uj") for path in packages]
    function()
    spent = [_read(path, "energy_uj") - start for path, start in zip(packages, before, strict=True)]
    wrapped = [
        use if use >= 0 else use + _read(path, "max_energy_range_uj") for path, use in zip(packages, spent, strict=True)
    ]
    return sum(wrapped) / 1e6


def _read(package: Path, name: str) -> int:
    return int((package / name).read_text())
