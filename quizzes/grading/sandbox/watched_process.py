"""A conversation with a worker under watch: messages with a size limit, and an allowance of time and memory.

Watching is done from outside, so that nothing inside can switch it off.
"""

import select
import socket
import time

from quizzes.grading.sandbox.usage import Family
from quizzes.inside import frames
from quizzes.inside.frames import LENGTH

LOOK_SECONDS = (0.02, 0.2)  # before the first look at a silent worker, and between two later
PIECE_BYTES = 1 << 20

TIME = "ran out of time"
MEMORY = "ran out of memory"
EXITED = "exited"
CRASHED = "crashed"
MALFORMED = "malformed answer"


class Died(Exception):
    """The worker did not give an answer. `status` is one of the words above, `detail` says more."""

    def __init__(self, status: str, detail: str = ""):
        super().__init__(f"{status}: {detail}" if detail else status)
        self.status, self.detail = status, detail


class Watched:
    """One end of a pair of sockets, and what the process at the other end and all it starts may use together."""

    def __init__(self, channel: socket.socket, message_bytes: int, memory_bytes: int, group=None):
        self.channel, self.message_bytes, self.memory_bytes, self.group = channel, message_bytes, memory_bytes, group
        self.channel.setblocking(False)
        self.waiting = bytearray()  # received, and not yet a whole message
        self.family: Family | None = None
        self.resident_at_rest = self.own_at_rest = self.members_at_rest = 0
        self.kills_before = group.kills() if group else 0
        self.cpu_until = self.wall_until = float("inf")
        self.pause, self.next_look = LOOK_SECONDS[0], 0.0

    def watch(self, pid: int) -> None:
        """From now on, look at this process and all below it; what it needs now is what it needs at rest."""
        self.family = Family(pid)
        self.members_at_rest = self.family.members()
        self.resident_at_rest = 0 if self.group else self.family.resident_bytes()

    def allow(self, cpu_seconds: float, wall_seconds: float) -> None:
        """From now on, this much CPU time and wall time for everything that is asked."""
        self.cpu_until = (self.family.cpu_seconds() if self.family else 0.0) + cpu_seconds
        self.wall_until = time.monotonic() + wall_seconds
        self.next_look = time.monotonic() + LOOK_SECONDS[0]

    def left_something(self) -> bool:
        """Whether processes or threads are at work that were not there at rest."""
        return self.family.members() > self.members_at_rest

    def exchange(self, header: dict, body: bytes, number: str) -> tuple[dict, bytes]:
        """Send a request and wait for the reply that carries its number. Raises Died when there is none in time."""
        self._send(frames.message(header, body))
        try:
            reply, answer = frames.split(self.receive())
            if not isinstance(reply, dict) or reply.get("id") != number or not isinstance(reply.get("status"), str):
                raise ValueError("it is no reply to what was asked")
        except ValueError as error:
            raise Died(MALFORMED, str(error)[:200]) from error
        return reply, answer

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.channel.send(rest) :]
            except BlockingIOError:
                select.select([], [self.channel], [], self.pause)
                self._look()
            except OSError:  # it hung up; what it said before that may still be there
                return

    def receive(self) -> bytes:
        """The next message. Raises Died when there is none within the allowance, or the worker ends."""
        self.pause = LOOK_SECONDS[0]
        while True:
            if len(self.waiting) >= LENGTH.size:
                (length,) = LENGTH.unpack_from(self.waiting)
                if length > self.message_bytes:
                    raise Died(MALFORMED, f"{length:,} bytes; at most {self.message_bytes:,} are taken")
                end = LENGTH.size + length
                if len(self.waiting) >= end:
                    message = bytes(self.waiting[LENGTH.size : end])
                    del self.waiting[:end]
                    return message
            if select.select([self.channel], [], [], self.pause)[0]:
                self.waiting += self._piece()
            self._look()

    def _piece(self) -> bytes:
        try:
            piece = self.channel.recv(PIECE_BYTES)
        except ConnectionError:
            piece = b""
        if not piece:
            raise Died(EXITED)
        return piece

    def _look(self) -> None:
        """Raise Died when the allowance is used up. Looks seldom at a worker that is silent for long."""
        now = time.monotonic()
        if now > self.wall_until:
            raise Died(TIME, "waiting")
        if now < self.next_look or self.family is None:
            return
        if self.family.cpu_seconds() > self.cpu_until:
            raise Died(TIME, "CPU time")
        if self.out_of_memory():
            raise Died(MEMORY, f"more than {self.memory_bytes / 2**20:.0f} MB")
        self.pause = min(2 * self.pause, LOOK_SECONDS[1])
        self.next_look = now + self.pause

    def out_of_memory(self) -> bool:
        """Whether they took more memory than they may; the kernel knows where there is a group for it."""
        if self.group:
            return self.group.kills() > self.kills_before
        if self.family is None or self.family.resident_bytes() - self.resident_at_rest <= self.memory_bytes:
            return False
        return self.family.own_bytes() - self.own_at_rest > self.memory_bytes
