"""What a sandbox shows of this machine: an interpreter, a few packages with all they require, files of the course."""

import functools
import importlib.metadata
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

INSIDE = Path(__file__).resolve().parents[2] / "inside"


@dataclass(frozen=True)
class Kind:
    """What a sandbox is for: the packages that it sees, the course's files that run in it, and which of them serves."""

    packages: tuple[str, ...]
    files: tuple[str, ...]
    serves: str


SERVERS = ("fork_server", "confinement", "frames")  # of every kind
CODE = Kind(("torch", "numpy", "safetensors"), ("recipes", "wire"), "code_worker")
MODELS = Kind(("onnxruntime", "onnx", "numpy", "safetensors"), ("onnx_check", "onnx_run"), "model_worker")


def version() -> str:
    """The folder of this Python's standard library."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def standard_library() -> str:
    """Where it lies here, also for a Python in a virtual environment."""
    return sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix})


@functools.cache
def visible(kind: Kind) -> list[tuple[str, str]]:
    """What the sandbox sees, read-only: (path here, path inside). The interpreter may lie under a home: it moves."""
    mounts = [(os.path.realpath(sys.executable), "/python/bin/python")]
    mounts += [(standard_library(), f"/python/lib/{version()}")]
    libraries = Path(sys.base_prefix) / "lib"
    mounts += [(str(path), f"/python/lib/{path.name}") for path in libraries.glob("libpython3*.so*")]
    mounts += [(path, path) for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64") if os.path.isdir(path)]
    mounts += [(path, path) for path in ("/etc/ld.so.cache",) if os.path.isfile(path)]
    mounts += [(str(path), f"/packages/{path.name}") for path in _packages(kind)]
    return mounts + [(path, f"/course/{Path(path).name}") for path in course(kind).values()]


def course(kind: Kind) -> dict[str, str]:
    """The course's own files that run inside, by the name under which they are loaded."""
    return {name: str(INSIDE / f"{name}.py") for name in (*SERVERS, kind.serves, *kind.files)}


def _packages(kind: Kind) -> list[Path]:
    """Files and folders of a sandbox's packages and what they require, wherever they are installed."""
    paths, waiting, seen = {}, list(kind.packages), set()
    while waiting:
        name = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if distribution.name in seen:
            continue
        seen.add(distribution.name)
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        paths |= {top: Path(distribution.locate_file(top)).resolve() for top in tops if not top.endswith(".pth")}
        required = map(Requirement, distribution.requires or ())
        waiting += [item.name for item in required if not item.marker or item.marker.evaluate({"extra": ""})]
    return [path for _, path in sorted(paths.items()) if path.exists()]
