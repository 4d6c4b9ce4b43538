"""Where a learner's code runs: forked from a warm process in bubblewrap that sees an interpreter and torch alone.

`start` gives a `Worker` to ask. `Plain` is the same worker without walls, for one's own work. `models` is a sandbox of
the same sort for the models that learners hand in: it sees ONNX Runtime and no torch.
"""

import base64
import importlib.metadata
import json
import os
import shutil
import sys
import threading
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from quizzes.grading.sandbox import memory_group, visible_files
from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.grading.sandbox.seccomp import forbidden_calls
from quizzes.grading.sandbox.unforked import alone
from quizzes.grading.sandbox.visible_files import Kind
from quizzes.grading.sandbox.workers import Unavailable, Warm, Worker

__all__ = ["Best", "Bubblewrap", "Plain", "Unavailable", "Worker"]
PYTHON_OPTIONS = ("-B", "-P", "-s", "-S")  # nothing but the standard library, and no bytecode written
SETTINGS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Memory in huge pages where the kernel has them: copying the tables of small ones is most of what a fork costs.
SETTINGS |= {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Forking:
    """Starts workers from one warm process, which is made at the first and anew when it has ended."""

    safe = True

    def __init__(self, kind: Kind = visible_files.CODE):
        self.kind = kind
        self._warm: Warm | None = None
        self._lock = threading.Lock()

    def __reduce__(self):
        """Another process makes its own."""
        return type(self), (self.kind,)

    @cached_property
    def models(self) -> "Forking":
        """The same, for models that were handed in; closed with this one."""
        return type(self)(visible_files.MODELS)

    def start(self, limits: SandboxLimits) -> Worker:
        """A worker that is ready to be asked; one at a time. Raises Unavailable when the sandbox does not start."""
        with self._lock:
            if self._warm is None or not self._warm.alive():
                self.close()
                self._warm = self._make(limits)
            return self._warm.start(limits)

    def _make(self, limits: SandboxLimits) -> Warm:
        raise NotImplementedError

    def close(self) -> None:
        """End the warm process. The next `start` makes another."""
        if self._warm is not None:
            self._warm.close()
            self._warm = None
        if "models" in vars(self):
            self.models.close()


class Bubblewrap(Forking):
    """Workers behind walls: no network, no other process, and of the file system an interpreter, torch and /tmp."""

    def __init__(self, kind: Kind = visible_files.CODE):
        super().__init__(kind)
        if sys.platform != "linux" or not shutil.which("bwrap"):
            raise Unavailable(
                "bubblewrap is missing. On Linux install it (Debian, Ubuntu: apt install bubblewrap); elsewhere grade "
                "on Linux, or say --unsafe-no-sandbox if you trust every submission."
            )
        self.filter = forbidden_calls()
        self.root = os.geteuid() == 0

    def _make(self, limits: SandboxLimits) -> Warm:
        options = {"serves": self.kind.serves, "course": "/course", "packages": "/packages"}
        options |= {"walls": True, "forbidden": base64.b64encode(self.filter).decode()}
        # Nobody's number: processes of it are counted by themselves, whoever else is at work on the machine.
        options |= {"uid": 2_000_000_000 + os.getpid() if self.root else None}

        def command(control: int) -> list[str]:
            argument = json.dumps(options | {"control": control})
            return [*self._walls(), "--", "/python/bin/python", *PYTHON_OPTIONS, "/course/fork_server.py", argument]

        # Nothing of the grader's environment, not even in the memory of the process that builds the walls.
        settings = {"PATH": os.environ.get("PATH", os.defpath)}
        groups = [group for group in (memory_group.make(limits.memory_bytes) for _ in range(3)) if group]
        return Warm(command, groups, walls=True, env=settings)

    def _walls(self) -> list[str]:
        walls = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
        walls += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        # Root needs no user namespace to build the walls; the rights are for making and ending a fork's namespaces.
        rights = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL")
        walls += ["--cap-drop", "ALL"] if self.root else ["--unshare-user"]
        walls += [word for right in rights for word in ("--cap-add", right)]
        for folder in ("/python", "/python/bin", "/python/lib", "/packages", "/course", "/dev"):
            walls += ["--perms", "0755", "--dir", folder]
        for source, seen in visible_files.visible(self.kind):
            walls += ["--ro-bind", source, seen]
        for folder in ("site-packages", "dist-packages"):
            if (Path(visible_files.standard_library()) / folder).is_dir():
                walls += ["--perms", "0755", "--tmpfs", f"/python/lib/{visible_files.version()}/{folder}"]
        for device in ("null", "zero", "urandom", "random"):
            walls += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        # For the warm process alone: each fork covers both.
        walls += ["--proc", "/proc", "--perms", "0755", "--size", str(2**20), "--tmpfs", "/tmp"]
        settings = {"HOME": "/tmp", "TMPDIR": "/tmp", "LD_LIBRARY_PATH": "/python/lib", "LANG": "C.UTF-8"}
        for name, value in (settings | SETTINGS).items():
            walls += ["--setenv", name, value]
        # Last of all the root itself, which is a file system in memory and would take files without limit.
        return [*walls, "--remount-ro", "/", "--chdir", "/"]


class Plain(Forking):
    """The same workers as ordinary processes: no walls, only limits. For one's own work, or when told so."""

    safe = False

    def start(self, limits: SandboxLimits) -> Worker:
        """A worker that is ready to be asked. Raises Unavailable when it does not start."""
        limits = replace(limits, processes=None)  # the limit would count everything this person has running
        if sys.platform == "linux":
            return super().start(limits)
        options = json.dumps(self._options() | {"answer_bytes": limits.answer_bytes})
        command = [sys.executable, *PYTHON_OPTIONS, visible_files.course(self.kind)["fork_server"], options]
        return alone(command, limits, env=self._settings())

    def _options(self) -> dict:
        packages = str(Path(importlib.metadata.distribution(self.kind.packages[0]).locate_file("")).resolve())
        options = {"serves": self.kind.serves, "course": str(visible_files.INSIDE), "packages": packages}
        return options | {"walls": False, "uid": None, "forbidden": ""}

    def _settings(self) -> dict[str, str]:
        settings = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        return settings | SETTINGS

    def _make(self, limits: SandboxLimits) -> Warm:
        def command(control: int) -> list[str]:
            argument = json.dumps(self._options() | {"control": control})
            return [sys.executable, *PYTHON_OPTIONS, visible_files.course(self.kind)["fork_server"], argument]

        return Warm(command, [], walls=False, env=self._settings(), start_new_session=True)


class Best:
    """Bubblewrap where it works, else plain processes: for one's own work, which one need not fear."""

    def __init__(self, kind: Kind = visible_files.CODE):
        self.kind = kind
        self._chosen: Forking | None = None

    @cached_property
    def models(self) -> "Best":
        """The same, for models that were handed in."""
        return Best(visible_files.MODELS)

    def start(self, limits: SandboxLimits) -> Worker:
        """A worker that is ready to be asked. Raises Unavailable when neither starts."""
        if self._chosen is None:
            try:
                self._chosen = Bubblewrap(self.kind)
                return self._chosen.start(limits)
            except Unavailable:
                self._chosen = Plain(self.kind)
        return self._chosen.start(limits)
