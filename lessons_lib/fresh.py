"""A function called in a process of its own, so that nothing that this one holds or has loaded takes part."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any


def call(function: Callable[..., Any], *arguments: Any, environment: dict[str, str] | None = None) -> Any:
    """What a function of a module gives back in a fresh Python process. Arguments and answer are JSON values.

    environment: variables that are set there, beside those of this process.

    Raises RuntimeError, with the last line of the other process or its status, when the function fails there.
    """
    asked = json.dumps([function.__module__, function.__name__, arguments])
    program = (
        "import importlib, json\n"
        f"module, name, arguments = json.loads({json.dumps(asked)})\n"
        "answer = getattr(importlib.import_module(module), name)(*arguments)\n"
        "print('\\n' + json.dumps(answer))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          env=os.environ | (environment or {}))
    if done.returncode:
        # A process that was killed, as when memory runs out, says nothing.
        why = (done.stderr.strip().splitlines() or [f"it ended without a word, with status {done.returncode}"])[-1]
        raise RuntimeError(f"{function.__name__} failed in the fresh process: {why}")
    return json.loads(done.stdout.splitlines()[-1])
