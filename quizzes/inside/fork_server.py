"""Inside the sandbox: one warm process with torch imported, which forks a worker for each submission.

It never runs a line of a submission, and sees no case: the grader hands it one end of a new pair of sockets, which the
fork keeps for itself. Started by path, with an interpreter that sees the standard library, the packages of its kind and
the files of its folder.
"""

import base64
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys

REQUEST_BYTES = 65536
MOST_DESCRIPTORS = 1024
LAST_SECONDS = 1.0  # between the end of a conversation and the end of the process


class ForkServer:
    """Forks workers and ends them, each known by a number. With `walls` each lives in namespaces of its own."""

    def __init__(self, options: dict, worker, confinement):
        self.worker, self.confinement = worker, confinement
        self.walls, self.uid = options["walls"], options["uid"]
        self.forbidden = base64.b64decode(options["forbidden"])
        self.own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY) if self.walls else None
        self.children: dict[int, int] = {}
        self.leaving: list[int] = []  # killed, and perhaps not gone yet

    def begin(self, number: int, limits: dict, descriptors: list[int]) -> dict:
        """Fork a worker that talks through the first descriptor and joins the group behind the second, if any."""
        # To take namespaces down is mostly waiting, which the next worker need not do; but two at most share a moment.
        while len(self.leaving) > 1:
            os.waitpid(self.leaving.pop(0), 0)
        if self.walls:
            self.confinement.next_child_is_first()
        child = os.fork()
        if child == 0:
            self._live(limits, *descriptors)
        self.children[number] = child
        if self.walls:
            self.confinement.next_child_is_ours(self.own_namespace)
        return {"status": "begun"}

    def _live(self, limits: dict, channel: int, group: int | None = None) -> None:
        """The forked process from its first moment to its last."""
        try:
            stream = os.fdopen(channel, "r+b", buffering=0)
            try:
                self._confine(limits, group)
                # Whatever else this process inherited, it keeps one end of one pair of sockets.
                os.closerange(3, channel)
                os.closerange(channel + 1, MOST_DESCRIPTORS)
            except OSError as error:
                sys.modules["frames"].send(stream, {"status": "failed", "message": str(error)})
                return
            self.worker.serve(stream, stream, limits["answer_bytes"])
        finally:
            os._exit(0)

    def _confine(self, limits: dict, group: int | None) -> None:
        if group is not None:
            os.write(group, b"0")
        at_rest = self.confinement.address_space()
        if not self.walls:
            os.setsid()
            self.confinement.set_limits(limits, at_rest)
            self.confinement.end_with_parent()
            return
        self.confinement.leave_root(self.uid)
        self.confinement.set_limits(limits, at_rest)
        self.confinement.enter_namespaces(limits["folder_bytes"])
        self.confinement.drop_rights(self.forbidden)

    def end(self, number: int, by_itself: bool) -> dict:
        """Kill the worker, and with it everything in its namespace. Says how it ended, if it did so before.

        by_itself: it has closed its socket, as a process does that is about to end.
        """
        child = self.children.pop(number)
        if by_itself:
            descriptor = os.pidfd_open(child)
            ended = select.select([descriptor], [], [], LAST_SECONDS)[0]
            os.close(descriptor)
            if ended:
                if not self.walls:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child, signal.SIGKILL)
                return {"status": "ended", "code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}
        with contextlib.suppress(ProcessLookupError):
            (os.kill if self.walls else os.killpg)(child, signal.SIGKILL)
        self.leaving.append(child)
        return {"status": "ended", "code": None}


def main() -> None:
    """Import everything that is slow to import; then fork and end workers as told, until the grader hangs up.

    Without "control", on a system that cannot fork, it is one worker itself: its requests and answers are its standard
    input and output.
    """
    options = json.loads(sys.argv[1])
    sys.path.append(options["packages"])
    sys.path.insert(0, options["course"])
    if "control" in options:
        control = socket.socket(fileno=options["control"])
    else:
        requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What learners print goes nowhere, so it can neither fill a disk nor pose as an answer.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    worker = importlib.import_module(options["serves"])
    worker.warm()
    if "control" in options:
        fork_as_told(control, options, worker, nothing)
    else:
        os.dup2(nothing, 2)
        worker.serve(requests, answers, options["answer_bytes"])


def fork_as_told(control: socket.socket, options: dict, worker, nothing: int) -> None:
    """Begin and end workers on request. nothing: a descriptor that swallows what is written to it."""
    import confinement

    server = ForkServer(options, worker, confinement)
    gc.collect()
    gc.freeze()
    if options["walls"]:
        confinement.gather_memory()
    control.send(b'{"status": "ready"}')
    os.dup2(nothing, 2)
    os.close(nothing)
    while True:
        message, descriptors, *_ = socket.recv_fds(control, REQUEST_BYTES, 2)
        if not message:
            return
        request = json.loads(message)
        number = request["number"]
        if request["do"] == "begin":
            reply = server.begin(number, request["limits"], descriptors)
        else:
            reply = server.end(number, request["by_itself"])
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(json.dumps(reply | {"number": number}).encode())


if __name__ == "__main__":
    main()
