"""A function called in a process of its own, so that nothing that this one holds or has loaded takes part."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lessons_lib.files import progress

PROGRAM = """
import importlib, json, pathlib, sys
module, name, arguments, answer = json.loads(sys.argv[1])
given = getattr(importlib.import_module(module), name)(*arguments)
pathlib.Path(answer).write_text(json.dumps(given))
"""


def call(
    function: Callable[..., Any], *arguments: Any, environment: dict[str, str] | None = None, steps: int = 0
) -> Any:
    """What a function of a module gives back in a fresh Python process. Arguments and answer are JSON values.

    environment: variables that are set there, beside those of this process. steps: how many lines the function prints
    on its way, one after each step; a progress bar follows them. An interrupt ends the other process, too.

    Raises RuntimeError, with the last line of the other process or its status, when the function fails there.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer, errors = Path(folder) / "answer.json", Path(folder) / "errors.txt"
        asked = json.dumps([function.__module__, function.__name__, arguments, str(answer)])
        with errors.open("w") as written:
            status = _follow(
                [sys.executable, "-u", "-c", PROGRAM, asked], written, os.environ | (environment or {}), steps
            )
        if status:
            # A process that was killed, as when memory runs out, does not say so; a progress bar may be its last line.
            lines = errors.read_text(errors="replace").strip().splitlines() if status > 0 else []
            why = lines[-1] if lines else f"it ended without a word, with status {status}"
            raise RuntimeError(f"{function.__name__} failed in the fresh process: {why}")
        return json.loads(answer.read_text())


def _follow(command: list[str], errors, environment: dict[str, str], steps: int) -> int:
    """Run a command to its end, a bar over the lines that it prints; returns its status."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True) as process:
        try:
            for _ in progress.over(range(steps), "in a fresh process", "step"):
                process.stdout.readline()
            process.stdout.read()  # to the end
        except BaseException:
            process.kill()
            raise
    return process.returncode
