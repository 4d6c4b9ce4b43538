"""A worker on systems that cannot fork: a process of its own from the start, slow, and little watched."""

import contextlib
import socket
import subprocess
import threading
import time

from quizzes.grading.sandbox.limits import SandboxLimits
from quizzes.grading.sandbox.usage import Family
from quizzes.grading.sandbox.watched_process import Died, Watched
from quizzes.grading.sandbox.workers import START_SECONDS, Unavailable, Worker


def alone(command: list[str], limits: SandboxLimits, **popen) -> Worker:
    """A worker in a process of its own. Raises Unavailable when Python does not start."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen)
    ours, theirs = socket.socketpair()
    for pump in (_requests, _answers):
        threading.Thread(target=pump, args=(theirs, process), daemon=True).start()
    watched = Watched(ours, limits.answer_bytes + 2**20, limits.memory_bytes)

    def end(by_itself: bool) -> int | None:
        code = process.poll()
        if by_itself and code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=1)
        Family(process.pid).kill()
        process.wait()
        ours.close()
        return code

    worker = Worker(watched, limits, end)
    watched.wall_until = time.monotonic() + START_SECONDS
    try:
        watched.receive()
    except Died as death:
        worker.close()
        raise Unavailable(f"Python does not start: {death}") from death
    watched.watch(process.pid)
    return worker


def _requests(theirs: socket.socket, process: subprocess.Popen) -> None:
    with contextlib.suppress(OSError, ValueError), process.stdin as stream:
        while data := theirs.recv(65536):
            stream.write(data)
            stream.flush()


def _answers(theirs: socket.socket, process: subprocess.Popen) -> None:
    with contextlib.suppress(OSError, ValueError), process.stdout as stream:
        while data := stream.read1(65536):
            theirs.sendall(data)
    with contextlib.suppress(OSError):
        theirs.shutdown(socket.SHUT_WR)
