"""Where a learner's code runs: a process in bubblewrap that sees an interpreter and torch, and nothing else.

`start` gives a `Worker` to ask. `Plain` is the same worker without walls, for one's own work.
"""

import errno
import functools
import importlib.metadata
import json
import os
import secrets
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.requirements import Requirement

from quizzes.grading.process import Died, Watched

HERE = Path(__file__).resolve().parent
INSIDE = ("torch", "numpy", "safetensors")          # these, and what they require
START_SECONDS = {"cpu_seconds": 120, "wall_seconds": 600}         # importing torch on a busy machine


class Unavailable(RuntimeError):
    """There is no sandbox on this machine; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Limits:
    """What one exercise may use. Wall time is for sleepers: ten times the CPU time unless given."""

    cpu_seconds: float = 10.0
    wall_seconds: float | None = None
    memory_bytes: int = 2**30
    processes: int = 32
    file_bytes: int = 16 * 2**20
    folder_bytes: int = 64 * 2**20
    open_files: int = 64
    answer_bytes: int = 32 * 2**20

    @property
    def wall(self) -> float:
        """Wall time in seconds."""
        return 10 * self.cpu_seconds if self.wall_seconds is None else self.wall_seconds


class Bubblewrap:
    """A worker behind walls: no network, no other process, and of the file system an interpreter, torch and /tmp."""

    safe = True

    def __init__(self):
        if sys.platform != "linux" or not shutil.which("bwrap"):
            raise Unavailable(
                "bubblewrap is missing. On Linux install it (Debian, Ubuntu: apt install bubblewrap); elsewhere grade "
                "on Linux, or say --unsafe-no-sandbox if you trust every submission."
            )
        self.filter = _forbidden_calls()
        self.root = os.geteuid() == 0

    def start(self, limits: Limits) -> "Worker":
        """A worker that is ready to be asked. Raises Unavailable when the sandbox does not start."""
        options = {
            "packages": "/packages",
            "recipes": "/course/recipes.py",
            "wire": "/course/wire.py",
            # Nobody's number: processes of it are counted by themselves, whoever else is at work on the machine.
            "limits": asdict(limits) | {"uid": 2_000_000_000 + os.getpid() if self.root else None, "own_users": True},
        }
        command = [*self._walls(limits), "--", "/python/bin/python", "-I", "-S", "/course/worker.py"]
        with tempfile.TemporaryFile() as program:
            program.write(self.filter)
            program.seek(0)
            command[1:1] = ["--seccomp", str(program.fileno())]
            # Nothing of the grader's environment, not even in the memory of the process that builds the walls.
            settings = {"PATH": os.environ.get("PATH", os.defpath)}
            return Worker([*command, json.dumps(options)], limits, env=settings, pass_fds=(program.fileno(),))

    def _walls(self, limits: Limits) -> list[str]:
        walls = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
        walls += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        # Root needs no user namespace to build the walls, and must be able to leave root behind inside them.
        leave_root = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        walls += leave_root if self.root else ["--unshare-user"]
        for folder in ("/python", "/python/bin", "/python/lib", "/packages", "/course", "/dev"):
            walls += ["--perms", "0755", "--dir", folder]
        for source, inside in _visible():
            walls += ["--ro-bind", source, inside]
        for folder in ("site-packages", "dist-packages"):
            if (Path(_standard_library()) / folder).is_dir():
                walls += ["--perms", "0755", "--tmpfs", f"/python/lib/{_version()}/{folder}"]
        for device in ("null", "zero", "urandom", "random"):
            walls += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        walls += ["--proc", "/proc"]
        for folder in ("/tmp", "/home"):
            walls += ["--perms", "1777", "--size", str(limits.folder_bytes), "--tmpfs", folder]
        settings = {"HOME": "/home", "TMPDIR": "/tmp", "LD_LIBRARY_PATH": "/python/lib", "OMP_NUM_THREADS": "1"}
        settings |= {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        for name, value in settings.items():
            walls += ["--setenv", name, value]
        # Last of all the root itself, which is a file system in memory and would take files without limit.
        return [*walls, "--remount-ro", "/", "--chdir", "/tmp"]


class Plain:
    """The same worker as an ordinary process: no walls, only limits. For one's own work, or when told so."""

    safe = False

    def start(self, limits: Limits) -> "Worker":
        """A worker that is ready to be asked. Raises Unavailable when it does not start."""
        options = {
            "packages": str(Path(importlib.metadata.distribution("torch").locate_file("")).resolve()),
            "recipes": str(HERE.parent / "recipes.py"),
            "wire": str(HERE.parent / "wire.py"),
            "limits": asdict(limits) | {"uid": None, "own_users": False},
        }
        settings = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        settings |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-I", "-S", str(HERE / "worker.py"), json.dumps(options)]
        return Worker(command, limits, env=settings, start_new_session=True)


class Best:
    """Bubblewrap where it works, else a plain process: for one's own work, which one need not fear."""

    def start(self, limits: Limits) -> "Worker":
        """A worker that is ready to be asked. Raises Unavailable when neither starts."""
        try:
            return Bubblewrap().start(limits)
        except Unavailable:
            return Plain().start(limits)


class Worker:
    """One worker and the conversation with it. Every question has an unguessable number that the answer repeats."""

    def __init__(self, command: list[str], limits: Limits, **popen):
        self.limits = limits
        with tempfile.TemporaryFile() as complaints:
            message_bytes = limits.answer_bytes + 2**20
            self.process = Watched(command, message_bytes, limits.memory_bytes, stderr=complaints, **popen)
            try:
                self.process.receive(**START_SECONDS)
            except Died as death:
                self.close()
                complaints.seek(0)
                said = complaints.read(2000).decode("utf-8", "replace").strip().splitlines()
                raise Unavailable(f"the sandbox does not start: {said[-1] if said else death.detail}") from death
        self.process.rest()

    def renew(self) -> None:
        """Begin a new allowance of CPU and wall time: the next exercise's."""
        self.process.allow(self.limits.cpu_seconds, self.limits.wall)

    def run(self, source: str) -> dict:
        """Execute one statement of the notebook. Raises Died when the worker does not survive it."""
        return self._exchange({"run": source})[0]

    def ask(self, function: str, case: bytes) -> tuple[dict, bytes]:
        """Call the learner's function with a packed case. Returns the reply and the packed values. Raises Died."""
        return self._exchange({"ask": function}, case)

    def _exchange(self, request: dict, body: bytes = b"") -> tuple[dict, bytes]:
        number = secrets.token_hex(16)
        return self.process.exchange(request | {"id": number}, body, number)

    def is_clean(self) -> bool:
        """Whether nothing of an exercise is still at work, using up the time of the next."""
        return not self.process.left_something()

    def close(self) -> None:
        """End the worker and everything that it started."""
        self.process.kill()


def _version() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _standard_library() -> str:
    return sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix})


@functools.cache
def _visible() -> list[tuple[str, str]]:
    """What the sandbox sees, read-only: (path here, path inside). The interpreter may lie under a home: it moves."""
    shown = [(os.path.realpath(sys.executable), "/python/bin/python")]
    shown += [(_standard_library(), f"/python/lib/{_version()}")]
    libraries = Path(sys.base_prefix) / "lib"
    shown += [(str(path), f"/python/lib/{path.name}") for path in libraries.glob("libpython3*.so*")]
    shown += [(path, path) for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64") if os.path.isdir(path)]
    shown += [(path, path) for path in ("/etc/ld.so.cache",) if os.path.isfile(path)]
    shown += [(str(path), f"/packages/{path.name}") for path in _packages()]
    course = (HERE / "worker.py", HERE.parent / "recipes.py", HERE.parent / "wire.py")
    return shown + [(str(path), f"/course/{path.name}") for path in course]


def _packages() -> list[Path]:
    """Files and folders of torch, numpy, safetensors and what they require, wherever they are installed."""
    found, waiting, seen = {}, list(INSIDE), set()
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
        found |= {top: Path(distribution.locate_file(top)).resolve() for top in tops if not top.endswith(".pth")}
        required = map(Requirement, distribution.requires or ())
        waiting += [item.name for item in required if not item.marker or item.marker.evaluate({"extra": ""})]
    return [path for _, path in sorted(found.items()) if path.exists()]


# What a function that computes never needs, and an escape might: other namespaces, mounts, other processes' memory,
# keys, and memory that no limit counts.
_FORBIDDEN = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsmount", "open_tree", "move_mount"),
    *("mount_setattr", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "keyctl", "add_key"),
    *("request_key", "bpf", "userfaultfd", "perf_event_open", "io_uring_setup", "memfd_create", "memfd_secret"),
    *("shmget", "mq_open", "open_by_handle_at", "name_to_handle_at", "kexec_load", "init_module", "finit_module"),
)


@functools.cache
def _forbidden_calls() -> bytes:
    """A seccomp filter, as the program that the kernel loads. Raises Unavailable without libseccomp."""
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable("libseccomp is missing. Install it (Debian, Ubuntu: apt install libseccomp2).") from error
    rules = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    for name in _FORBIDDEN:
        # A library older than the kernel does not know the newest calls' names, nor an old kernel the calls.
        try:
            rules.add_rule(seccomp.ERRNO(errno.EPERM), name)
        except (ValueError, RuntimeError, OSError):
            continue
    new_user_namespace = 0x10000000
    rules.add_rule(
        seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, new_user_namespace, new_user_namespace)
    )
    # clone3 hides its flags in memory, where a filter cannot look; without it the C library uses clone.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    with tempfile.TemporaryFile() as program:
        rules.export_bpf(program)
        program.seek(0)
        return program.read()
