"""The warm process and the workers forked from it, as the grader sees them: start one, ask it, end it."""

import contextlib
import json
import secrets
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict

from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.grading.sandbox.memory_group import MemoryGroup
from quizzes.grading.sandbox.watched_process import CRASHED, EXITED, MALFORMED, MEMORY, Died, Watched

NOTHING_SAID = "it ended without a word"
# What bubblewrap says where ordinary users may not make namespaces, and how a system lets them.
DENIED = ("uid map", "RTM_NEWADDR", "Creating new namespace failed", "No permissions to creat")
ALLOWED_BY = (
    "This system denies namespaces to ordinary users. As root, `sysctl kernel.apparmor_restrict_unprivileged_userns=0` "
    "(Ubuntu) or `sysctl kernel.unprivileged_userns_clone=1` (Debian) allows them until the next start."
)
START_SECONDS = 600  # importing torch on a busy machine
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: Linux tells who sent a message


def _with_mend(message: str) -> str:
    """What a sandbox that did not start said last, and what to do where that is known."""
    return f"{message}. {ALLOWED_BY}" if any(words in message for words in DENIED) else message


class Unavailable(RuntimeError):
    """There is no sandbox on this machine; the message says what is missing and what to do."""


class Worker:
    """One worker and the conversation with it. Every question has an unguessable number that the answer repeats."""

    def __init__(self, watched: Watched, limits: SandboxLimits, end: Callable[[bool], int | None], number: int = 0):
        self.watched, self.limits, self._end, self.number = watched, limits, end, number

    def renew(self) -> None:
        """Begin a new allowance of CPU and wall time: the next exercise's."""
        self.watched.allow(self.limits.cpu_seconds, self.limits.wall)

    def run(self, *sources: str) -> list[dict]:
        """Execute statements of the notebook. A reply for each. Raises Died when the worker does not survive them."""
        return _replies(self.exchange({"run": sources})[0], len(sources))

    def ask(self, function: str, *cases: bytes) -> list[tuple[dict, bytes]]:
        """Call the learner's function with packed cases. A reply and packed values for each. Raises Died.

        A worker that says at the first that there is nothing to call is not asked about the others.
        """
        header, body = self.exchange({"ask": function, "sizes": list(map(len, cases))}, b"".join(cases))
        values, start = [], 0
        for reply in _replies(header, len(cases)):
            size = reply.get("size", 0)
            if not isinstance(size, int) or not 0 <= size <= len(body) - start:
                raise Died(MALFORMED, "the sizes do not fit")
            values.append((reply, body[start : start + size]))
            start += size
        return values

    def exchange(self, request: dict, body: bytes = b"") -> tuple[dict, bytes]:
        """Ask anything that the worker understands: the reply's header and its body. Raises Died."""
        number = secrets.token_hex(16)
        try:
            return self.watched.exchange(request | {"id": number}, body, number)
        except Died as death:
            code = self._finish(death.status == EXITED)
            if death.status == EXITED:
                raise self._ended(code) from death
            raise

    def _ended(self, code: int | None) -> Died:
        """Why the worker ended by itself. code: as subprocess has it; None when it had only closed its pipe."""
        if self.watched.out_of_memory():
            return Died(MEMORY, f"more than {self.limits.memory_bytes / 2**20:.0f} MB")
        if code is None:
            return Died(CRASHED, "it closed its pipe")
        if code < 0:
            with contextlib.suppress(ValueError):
                return Died(CRASHED, signal.Signals(-code).name)
        return Died(EXITED, f"with code {code}")

    def is_clean(self) -> bool:
        """Whether nothing of an exercise is still at work, using up the time of the next."""
        return not self.watched.left_something()

    def _finish(self, by_itself: bool) -> int | None:
        end, self._end = self._end, lambda _: None
        return end(by_itself)

    def close(self) -> None:
        """End the worker and everything that it started."""
        self._finish(False)


def _replies(header: dict, count: int) -> list[dict]:
    """The replies to several requests at once, taken from one message. Raises Died when they are not what was asked."""
    replies = header.get("replies")
    if not isinstance(replies, list) or len(replies) != count:
        raise Died(MALFORMED, "not as many replies as requests")
    if not all(isinstance(reply, dict) and isinstance(reply.get("status"), str) for reply in replies):
        raise Died(MALFORMED, "a reply without a status")
    return replies


class Warm:
    """A process with torch imported, in whatever walls its command builds, that forks a worker at a time.

    While one is at work the next is forked and confined already: it waits behind its walls and has seen nothing.
    """

    def __init__(self, command: Callable[[int], list[str]], groups: list[MemoryGroup], walls: bool, **popen):
        """command: the command line, given the descriptor through which the process is told what to do.

        groups: what its workers join by turns, since one may be leaving, one at work and one waiting; none to watch
        their memory from outside. walls: whether each worker has namespaces of its own. Raises Unavailable.
        """
        self.groups, self.walls, self.begun = groups, walls, 0
        self.ahead: list[Worker] = []
        self.replies: dict[int | None, dict] = {}
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile() as complaints:
            options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": complaints} | popen
            self.process = subprocess.Popen(command(theirs.fileno()), pass_fds=(theirs.fileno(),), **options)
            theirs.close()
            self.close = weakref.finalize(self, _end_all, self.process, self.control, groups, self.ahead)
            if self._reply(None).get("status") != "ready":
                self.close()
                complaints.seek(0)
                lines = complaints.read(2000).decode("utf-8", "replace").strip().splitlines()
                raise Unavailable(f"the sandbox does not start: {_with_mend(lines[-1] if lines else NOTHING_SAID)}")

    def _reply(self, number: int | None) -> dict:
        """What is said about this worker, or at the start; nothing when the warm process has ended."""
        with contextlib.suppress(OSError, ValueError):
            while number not in self.replies and select.select([self.control], [], [], START_SECONDS)[0]:
                reply = json.loads(self.control.recv(65536))
                self.replies[reply.get("number")] = reply
        return self.replies.pop(number, {})

    def alive(self) -> bool:
        """Whether it can fork yet another worker."""
        return self.process.poll() is None

    def start(self, limits: SandboxLimits) -> Worker:
        """A fresh worker. Raises Unavailable when the warm process has ended or the fork cannot be confined."""
        worker = self._ready(self.ahead.pop() if self.ahead else self._begin(limits))
        if worker.limits != limits:
            worker.close()
            worker = self._ready(self._begin(limits))
        self.ahead.append(self._begin(limits))
        return worker

    def _ready(self, worker: Worker) -> Worker:
        """The worker, once it is confined and says so."""
        if self._reply(worker.number).get("status") != "begun":
            worker.watched.channel.close()
            raise Unavailable("the warm process has ended; grade again with --resume")
        try:
            _greet(worker.watched)
        except Died as death:
            worker.close()
            raise Unavailable(f"a submission cannot be confined: {death.detail or death.status}") from death
        return worker

    def _begin(self, limits: SandboxLimits) -> Worker:
        """Ask for a worker, and do not wait for it."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        group = self.groups[self.begun % len(self.groups)] if self.groups else None
        self.begun += 1
        watched, number = Watched(ours, limits.answer_bytes + 2**20, limits.memory_bytes, group), self.begun
        descriptors = [theirs.fileno()]
        if group:
            group.allow(limits.memory_bytes)
            descriptors.append(group.members)
        with theirs:
            request = {"do": "begin", "number": number, "limits": asdict(limits)}
            with contextlib.suppress(OSError):
                socket.send_fds(self.control, [json.dumps(request).encode()], descriptors)
        return Worker(watched, limits, lambda by_itself: self._end(watched, number, by_itself), number)

    def _end(self, watched: Watched, number: int, by_itself: bool) -> int | None:
        # Behind walls the kernel ends a whole namespace with its first process; elsewhere this gets most of them.
        if watched.family and not self.walls:
            watched.family.kill()
        with contextlib.suppress(OSError):
            self.control.send(json.dumps({"do": "end", "number": number, "by_itself": by_itself}).encode())
        code = self._reply(number).get("code")
        watched.channel.close()
        return code


def _greet(watched: Watched) -> None:
    """Wait until the worker says that it is ready, and learn from the kernel which process it is."""
    watched.wall_until = time.monotonic() + START_SECONDS
    if not select.select([watched.channel], [], [], START_SECONDS)[0]:
        raise Died(EXITED, "it does not answer")
    data, ancillary, *_ = watched.channel.recvmsg(65536, socket.CMSG_SPACE(CREDENTIALS.size))
    watched.waiting += data
    reply = watched.receive()
    if b'"failed"' in reply:
        raise Died(EXITED, json.loads(reply[8:])["message"])
    pid = next((CREDENTIALS.unpack(item[:12])[0] for _, kind, item in ancillary if kind == socket.SCM_CREDENTIALS), 0)
    watched.watch(pid)


def _end_all(process: subprocess.Popen, control: socket.socket, groups: list[MemoryGroup], ahead: list[Worker]) -> None:
    """Hang up on the warm process and wait until it and its workers are gone."""
    control.close()
    for worker in ahead:
        worker.watched.channel.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for group in groups:
        group.close()
