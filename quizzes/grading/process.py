"""A process under watch: messages with a size limit to and from it, and an allowance of time and memory.

Watching is done from outside, so that nothing inside can switch it off.
"""

import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import threading
import time

import psutil

LENGTH = struct.Struct("<Q")
LOOK_SECONDS = 0.05

TIME = "ran out of time"
MEMORY = "ran out of memory"
EXITED = "exited"
CRASHED = "crashed"
MALFORMED = "malformed answer"


class Died(Exception):
    """The process did not give an answer. `status` is one of the words above, `detail` says more."""

    def __init__(self, status: str, detail: str = ""):
        super().__init__(f"{status}: {detail}" if detail else status)
        self.status, self.detail = status, detail


class Watched:
    """A process, the two pipes to it, and the time and memory that it and all it starts may use together."""

    def __init__(self, command: list[str], message_bytes: int, memory_bytes: int, **popen):
        self.message_bytes, self.memory_bytes = message_bytes, memory_bytes
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen)
        self.group = popen.get("start_new_session", False)
        self.messages: queue.Queue = queue.Queue(maxsize=1)         # a flood waits in the pipe, not in our memory
        self.outgoing: queue.SimpleQueue = queue.SimpleQueue()
        self.resident_at_rest = self.own_at_rest = self.members_at_rest = 0
        self.cpu_until = self.wall_until = float("inf")
        self.killed = False
        for loop in (self._read, self._write):
            threading.Thread(target=loop, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError), self.process.stdout as stream:
            while len(size := stream.read(LENGTH.size)) == LENGTH.size:
                (length,) = LENGTH.unpack(size)
                if length > self.message_bytes:
                    self._hand_over(Died(MALFORMED, f"{length:,} bytes; at most {self.message_bytes:,} are taken"))
                    return
                self._hand_over(stream.read(length))
        self._hand_over(None)

    def _hand_over(self, message: bytes | Died | None) -> None:
        while not self.killed:
            with contextlib.suppress(queue.Full):
                self.messages.put(message, timeout=LOOK_SECONDS)
                return

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError), self.process.stdin as stream:
            while (data := self.outgoing.get()) is not None:
                stream.write(data)
                stream.flush()

    def allow(self, cpu_seconds: float, wall_seconds: float) -> None:
        """From now on, this much CPU time and wall time for everything that is asked."""
        self.cpu_until = self._usage()[0] + cpu_seconds
        self.wall_until = time.monotonic() + wall_seconds

    def rest(self) -> None:
        """Take the memory in use now as what the process needs before any learner's code."""
        self.resident_at_rest = self._usage()[1]
        self.own_at_rest = self._own_memory()
        self.members_at_rest = self._members()

    def left_something(self) -> bool:
        """Whether processes or threads are at work that were not there at rest."""
        return self._members() > self.members_at_rest

    def _members(self) -> int:
        count = 0
        for member in self._family():
            with contextlib.suppress(psutil.Error):
                count += member.num_threads()
        return count

    def exchange(self, header: dict, body: bytes, number: str) -> tuple[dict, bytes]:
        """Send a request and wait for the reply that carries its number. Raises Died when there is none in time."""
        text = json.dumps(header).encode()
        self.outgoing.put(LENGTH.pack(LENGTH.size + len(text) + len(body)) + LENGTH.pack(len(text)) + text + body)
        data = self._wait()
        try:
            (size,) = LENGTH.unpack_from(data)
            reply = json.loads(data[LENGTH.size : LENGTH.size + size])
            if not isinstance(reply, dict) or reply.get("id") != number or not isinstance(reply.get("status"), str):
                raise ValueError("it is no reply to what was asked")
        except (ValueError, struct.error, RecursionError) as error:
            self.kill()
            raise Died(MALFORMED, str(error)[:200]) from error
        return reply, data[LENGTH.size + size :]

    def receive(self, cpu_seconds: float, wall_seconds: float) -> bytes:
        """The next message, within an allowance of its own. Raises Died when there is none in time."""
        self.allow(cpu_seconds, wall_seconds)
        return self._wait()

    def _wait(self) -> bytes:
        while True:
            try:
                message = self.messages.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._look()
                continue
            if isinstance(message, bytes):
                return message
            if isinstance(message, Died):
                self.kill()
                raise message
            raise self._ended()

    def _look(self) -> None:
        """Kill the process when it has used up its allowance, or has ended while something holds its pipe open."""
        cpu, resident = self._usage()
        if resident - self.resident_at_rest > self.memory_bytes and self._own_memory() > self.memory_bytes:
            self.kill()
            raise Died(MEMORY, f"more than {self.memory_bytes / 2**20:.0f} MB")
        if cpu > self.cpu_until:
            self.kill()
            raise Died(TIME, "CPU time")
        if time.monotonic() > self.wall_until:
            self.kill()
            raise Died(TIME, "waiting")
        if self.process.poll() is not None and self.messages.empty():
            raise self._ended()

    def _ended(self) -> Died:
        """Why the process ended, after it did so by itself."""
        try:
            code = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.kill()
            return Died(CRASHED, "it closed its pipe")
        self.kill()
        # A shell's way of saying which signal it was; bubblewrap does the same.
        number = -code if code < 0 else code - 128
        if number <= 0:
            return Died(EXITED, f"with code {code}")
        with contextlib.suppress(ValueError):
            return Died(CRASHED, signal.Signals(number).name)
        return Died(EXITED, f"with code {code}")

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            head = psutil.Process(self.process.pid)
            return [head, *head.children(recursive=True)]
        return []

    def _usage(self) -> tuple[float, int]:
        """CPU seconds and resident bytes of the process and everything below it; the dead children count as well."""
        cpu, resident = 0.0, 0
        for member in self._family():
            with contextlib.suppress(psutil.Error):
                times = member.cpu_times()
                cpu += times.user + times.system + getattr(times, "children_user", 0)
                resident += member.memory_info().rss
        return cpu, resident

    def _own_memory(self) -> int:
        """Bytes beyond what the process needs at rest; pages shared after a fork count once where the system tells."""
        total = 0
        for member in self._family():
            with contextlib.suppress(psutil.Error):
                full = member.memory_full_info()
                total += getattr(full, "pss", 0) or full.rss
        return total - self.own_at_rest

    def kill(self) -> None:
        """End the process and all that it started. Inside bubblewrap the kernel ends the whole namespace with it."""
        if self.process.poll() is None:
            family = self._family()
            self.process.kill()
            for member in family[1:]:
                with contextlib.suppress(psutil.Error):
                    member.kill()
        if self.group and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        # The two threads see this and let go of their pipes; one that waits in a read must not be waited for here.
        self.killed = True
        self.outgoing.put(None)
