"""What the tests in a browser run: Debian's chromium, and JupyterLab as `make lab` starts it."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.jupyterlab import Lab

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def chromium() -> Iterator:
    """The browser on the PATH, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield browser
        browser.close()


@contextmanager
def jupyterlab(home: Path) -> Iterator[Lab]:
    """`make lab` over a fresh copy of the lessons in home/workspace; nothing of this user's is read or changed.

    --expose-app-in-browser lets a test ask JupyterLab which cells are running; it changes nothing that a learner sees.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), home)
    options = f"--no-browser --expose-app-in-browser --port={port} --ServerApp.port_retries=0"
    # What is installed is what is tested: -o keeps make from installing when a list of packages is newer.
    command = [
        "make",
        "-o",
        ".venv/installed",
        "lab",
        f"WORKSPACE={home / 'workspace'}",
        f"LAB={options} --IdentityProvider.token={lab.token}",
    ]
    log = home / "lab.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | lab.environment(),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(rf"http://\S+:{port}/lab\?token=", log, process)
        yield lab
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def _wait_for(pattern: str, log: Path, process: subprocess.Popen) -> None:
    """Follow a log until a line of it matches. Raises RuntimeError when the process ends before."""
    follow = ["tail", "--follow", "--lines=+1", f"--pid={process.pid}", str(log)]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as lines:
        found = any(re.search(pattern, line) for line in lines.stdout)
        lines.terminate()
    if not found:
        raise RuntimeError(f"make lab ended before JupyterLab ran:\n{log.read_text()}")
