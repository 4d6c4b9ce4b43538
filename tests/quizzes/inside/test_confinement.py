"""The warm process's memory in large pages: nothing in it changes, and the kernel has no more of them than we say."""

import ast
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are confined on Linux alone")
GATHER = """
import re
from quizzes.inside import confinement

def huge():
    with open("/proc/self/smaps_rollup") as rollup:
        return int(re.search(r"AnonHugePages: +([0-9]+) kB", rollup.read())[1]) * 1024

held = [bytes([number % 251]) * 3_000_000 for number in range(20)]
before = huge()
gathered = confinement.gather_memory()
print((gathered, huge() - before, all(set(part) == {number % 251} for number, part in enumerate(held))))
"""


def test_memory_is_gathered_into_large_pages_where_the_kernel_can():
    said = subprocess.run([sys.executable, "-c", GATHER], capture_output=True, text=True, check=True).stdout
    gathered, grown, intact = ast.literal_eval(said)
    assert intact
    # A page that was large before counts as gathered and does not grow.
    assert 0 <= grown <= gathered * 2**21
    version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    settings = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if version >= (6, 1) and settings.exists():
        assert gathered > 0
        assert grown > 0 or "[always]" in settings.read_text()
