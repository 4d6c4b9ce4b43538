"""Graders that people write: each believes something that it should not. An attack is real when it beats one."""

import contextlib
import faulthandler
import os
import pickle
import select
import signal
import time

import psutil
import torch

IMPORTS = """
import builtins, ctypes, importlib, json, os, pickle, resource, signal, socket, subprocess, sys, threading, time
import numpy, torch
"""
X = torch.arange(12.0).reshape(3, 4) - 5


def function(body: str, name: str = "f"):
    """The attack as a function, defined in this process."""
    namespace = {}
    exec(f"{IMPORTS}\ndef {name}(x):\n    {body}", namespace)
    return namespace[name]


def equal(got, x) -> bool:
    """The comparison most of them use."""
    return bool((got == 2 * x).all())


def beaten(body: str, judge=equal, seconds: float = 20.0) -> str:
    """Call the attack in a bare fork and compare there, as nbgrader and otter do: "passed", "failed" or "hangs".

    What the attack left running is ended afterwards, and reported as "passed, and left processes behind".
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            os.setpgid(0, 0)
            faulthandler.disable()
            os.write(writing, b"passed" if judge(function(body)(X.clone()), X) else b"failed")
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading, "rb") as verdicts:
        ended = select.select([verdicts], [], [], seconds)[0]
        verdict = os.read(verdicts.fileno(), 6).decode() if ended else "hangs"
    left = [process for process in psutil.process_iter() if _is_of(process, child) and process.pid != child]
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)
    return f"{verdict}, and left processes behind" if left else verdict or "failed"


def _is_of(process: psutil.Process, group: int) -> bool:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    return False


def last_line(body: str) -> str:
    """A grader that reads the verdict from what the submission's process prints last."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.dup2(writing, 1)
            os.write(1, b"passed\n" if equal(function(body)(X), X) else b"failed\n")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        lines = said.read().decode().split()
    os.waitpid(child, 0)
    return lines[-1] if lines else ""


def unpickled(body: str):
    """A grader that unpickles what the submission's process wrote, as otter does."""
    return pickle.loads(pickle.dumps(function(body)(X)))


def wait_until(true, seconds: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()
