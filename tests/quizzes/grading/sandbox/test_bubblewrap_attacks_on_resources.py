"""Functions that use up what the machine has, or end their process: each does so in a bare process; here it is held.

Where an attack would harm the machine, what is tried in the bare process is a bounded form of it, well above the limit.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from quizzes.grading.intake.submission import parse
from quizzes.grading.judging.grader import Grader
from quizzes.grading.sandbox import memory_group
from quizzes.grading.sandbox.bubblewrap import Bubblewrap
from tests.quizzes.grading import naive
from tests.quizzes.grading.attacking import LIMITS, assert_verdict, judged
from tests.quizzes.grading.class_of_tests import cell, data, lesson_of

pytestmark = pytest.mark.needs("bwrap")
SLEEPERS = (
    "children = []\n"
    "    for _ in range({count}):\n"
    "        child = os.fork()\n"
    "        if child == 0: time.sleep(60); os._exit(0)\n"
    "        children.append(child)\n"
)
KILL = "    for child in children: os.kill(child, signal.SIGKILL); os.waitpid(child, 0)\n"

# name: (bounded attack, which beats a bare process), its verdict here
BOUNDED = {
    "forks_a_hundred_times": (SLEEPERS.format(count=100) + KILL + "    return 2 * x", "raised"),
    "starts_a_hundred_threads": (
        "go = threading.Event(); threads = [threading.Thread(target=go.wait) for _ in range(100)]\n"
        "    try: [thread.start() for thread in threads]\n"
        "    finally: go.set()\n"
        "    return 2 * x",
        "raised",
    ),
    "takes_600_megabytes": ("return 2 * x if bytes(600 << 20) else None", "ran out of memory"),
    "takes_600_megabytes_in_torch": ("return 2 * x if torch.ones(150 << 20)[0] else None", "ran out of memory"),
    "opens_200_files": ("return 2 * x if [open('/dev/null') for _ in range(200)] else None", "raised"),
    "writes_a_large_file": (
        "name = '/tmp/course-attack-' + str(os.getpid())\n"
        "    try: return open(name, 'wb').write(bytes(20 << 20)) and 2 * x\n"
        "    finally: os.unlink(name)",
        "raised",
    ),
    "fills_the_disk": (
        "names = [f'/tmp/course-attack-{os.getpid()}-{n}' for n in range(6)]\n"
        "    try: return [open(name, 'wb').write(bytes(15 << 20)) for name in names] and 2 * x\n"
        "    finally: [os.unlink(name) for name in names if os.path.exists(name)]",
        "raised",
    ),
    "makes_ten_thousand_files": (
        "names = [f'/tmp/course-attack-{os.getpid()}-{n}' for n in range(10_000)]\n"
        "    try: [open(name, 'w').close() for name in names]; return 2 * x\n"
        "    finally: [os.unlink(name) for name in names if os.path.exists(name)]",
        "raised",
    ),
    "lifts_its_limits": (
        "for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE): resource.setrlimit(limit, (2**50, 2**50))\n"
        "    return 2 * x",
        "raised",
    ),
}
# Without an end: a bare process hangs, or is gone.
ENDLESS = {
    "loops": ("while True: pass", "ran out of time"),
    "prints_without_end": ("while True: print('x' * 10_000)", "ran out of time"),
    "loops_in_c": ("return sum(range(10**15))", "ran out of time"),
    "catches_everything": (
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        "ran out of time",
    ),
    "loops_in_children": (
        "os.fork(); os.fork()\n    while True: pass",
        "ran out of time",
    ),
}
ENDING = {
    "exits": ("os._exit(0)", "exited"),
    "exits_with_a_code": ("os._exit(3)", "exited"),
    "raises_system_exit": ("raise SystemExit", "exited"),
    "crashes": ("ctypes.string_at(0)", "crashed"),
    "aborts": ("os.abort()", "crashed"),
    "recurses": ("f = lambda f: f(f); sys.setrecursionlimit(10**9); return f(f)", "ran out of memory"),
    "closes_its_pipes": ("os.closerange(0, 64); time.sleep(60)", "crashed"),
}
HARMLESS = {
    # Nobody but the kernel can stop or end the first process of a namespace.
    "stops_itself": ("os.kill(os.getpid(), signal.SIGSTOP); return 2 * x", "passed"),
    "kills_itself": ("os.kill(os.getpid(), signal.SIGKILL); return 2 * x", "passed"),
    "kills_all_it_can_see": (
        "try: os.kill(-1, signal.SIGKILL)\n    except ProcessLookupError: return 2 * x",
        "passed",
    ),
    "comes_back_twice": ("os.fork(); return 2 * x", "passed"),
    "leaves_a_thread": ("threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); return 2 * x", "passed"),
    "prints_20_megabytes": ("sys.__stdout__.write('x' * (20 << 20)); return 2 * x", "passed"),
    "honest": ("return 2 * x", "passed"),
}


@pytest.mark.parametrize("attack", BOUNDED)
def test_the_attack_is_real(attack):
    assert naive.beaten(BOUNDED[attack][0]) == "passed"


@pytest.mark.parametrize("attack", ["loops", "prints_without_end"])
def test_what_has_no_end_hangs(attack):
    assert naive.beaten(ENDLESS[attack][0], seconds=1) == "hangs"


@pytest.mark.parametrize("attack", ["exits", "crashes", "closes_its_pipes"])
def test_what_ends_the_process_takes_the_verdict_along(attack):
    assert naive.beaten(ENDING[attack][0], seconds=5).startswith("failed")


@pytest.fixture(scope="module")
def found(walls):
    attacks = BOUNDED | ENDING | HARMLESS | {name: ENDLESS[name] for name in ENDLESS}
    quick = replace(LIMITS, cpu_seconds=0.5)
    return judged({name: body for name, (body, _) in attacks.items()}, walls, quick)


@pytest.mark.parametrize("attack", BOUNDED | ENDLESS | ENDING | HARMLESS)
def test_it_costs_only_its_own_points(attack, found):
    assert_verdict(found[attack], (BOUNDED | ENDLESS | ENDING | HARMLESS)[attack][1])


def test_details_say_how_it_ended(found):
    details = {name: found[name].detail for name in ("exits_with_a_code", "crashes", "loops", "takes_600_megabytes")}
    assert details["exits_with_a_code"] == "with code 3"
    assert details["crashes"] == "SIGSEGV"
    assert details["loops"] == "CPU time"
    assert "MemoryError" in details["takes_600_megabytes"]


def test_a_sleeper_is_woken_by_the_clock(walls):
    begin = time.monotonic()
    limits = replace(LIMITS, wall_seconds=1)
    found = judged({"sleeps": "time.sleep(1000)", "honest": "return 2 * x"}, walls, limits)
    assert time.monotonic() - begin < 20
    assert_verdict(found["sleeps"], "ran out of time")
    assert found["sleeps"].detail == "waiting"


# Memory that many processes take together, files in /tmp included. Each alone stays below its limit.

HOARD = (
    "for _ in range(8):\n"
    "        if os.fork() == 0:\n"
    "            hoard = b'x' * (100 << 20)\n"
    "            time.sleep(60)\n"
    "    time.sleep(60)"
)


def assert_hoarding_ends(sandbox) -> None:
    """The hoarder runs out of memory, the next exercise does not."""
    found = judged({"hoards": HOARD, "honest": "return 2 * x"}, sandbox, replace(LIMITS, cpu_seconds=20))
    assert_verdict(found["hoards"], "ran out of memory")
    assert_verdict(found["honest"], "passed")


def test_memory_counts_together_in_a_control_group(walls):
    if not memory_group.possible():
        pytest.skip("only root, or who has a control group of their own, can make one")
    assert_hoarding_ends(walls)
    assert walls._warm.groups


def test_memory_counts_together_without_one_and_a_warm_process_that_died_is_replaced(monkeypatch):
    sandbox = Bubblewrap()
    with monkeypatch.context() as patched:
        patched.setattr(memory_group, "make", lambda _: None)
        assert_hoarding_ends(sandbox)
        assert not sandbox._warm.groups
    sandbox._warm.process.kill()
    sandbox._warm.process.wait()
    assert judged({"honest": "return 2 * x"}, sandbox)["honest"].status == "passed"
    groups = [group.folder for group in sandbox._warm.groups]
    assert all(folder.is_dir() for folder in groups)
    sandbox.close()
    assert not any(folder.exists() for folder in groups)


# What stays after a submission.

BACKGROUND = "if os.fork() == 0: os.setsid() if {alone} else None; time.sleep(1000)\n    return 2 * x"


def below(sandbox) -> set[psutil.Process]:
    """Every process that a sandbox has running."""
    return set(psutil.Process(sandbox._warm.process.pid).children(recursive=True))


def test_no_process_outlives_its_submission(walls):
    assert naive.beaten(BACKGROUND.format(alone=False)) == "passed, and left processes behind"
    walls.start(LIMITS).close()
    before = below(walls)
    many = SLEEPERS.format(count=8) + "    return 2 * x"
    found = judged({"stays": BACKGROUND.format(alone=True), "many": many}, walls)
    assert [item.status for item in found.values()] == ["passed", "passed"]

    def alive() -> list[psutil.Process]:
        new = below(walls) - before
        return [process for process in new if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    # The worker of the next submission waits already; it is the only one.
    assert naive.wait_until(lambda: len(alive()) == 1)


def test_a_background_process_takes_no_time_from_the_next_exercise(walls):
    burning = "if os.fork() == 0:\n        while True: pass\n    return 2 * x"
    slow = "end = time.process_time() + 0.6\n    while time.process_time() < end: pass\n    return 2 * x"
    found = judged({"burns": burning, "slow": slow}, walls, replace(LIMITS, cpu_seconds=3))
    assert [item.status for item in found.values()] == ["passed", "passed"]


LEAVES = "open('/tmp/course-left', 'w').write('for the next'); return 2 * x"
FINDS = "return 2 * x if os.path.exists('/tmp/course-left') else None"


def test_nothing_is_left_for_the_next_submission(walls):
    try:
        assert naive.beaten(LEAVES) == "passed" and naive.beaten(FINDS) == "passed"
    finally:
        Path("/tmp/course-left").unlink(missing_ok=True)
    assert_verdict(judged({"leaves": LEAVES}, walls)["leaves"], "passed")
    assert_verdict(judged({"finds": FINDS}, walls)["finds"], "wrong")
    assert not os.path.exists("/tmp/course-left")


def test_definitions_that_end_the_process_cost_only_their_own_points(walls):
    source = """
        import os
        def exits(x, size=os._exit(3)):
            return 2 * x
        def loops(x, size=sum(iter(int, 1))):
            return 2 * x
        def grows(x, size=[bytearray(10**6) for _ in iter(int, 1)]):
            return 2 * x
        def honest(x):
            return 2 * x
    """
    judgements = Grader(7, walls, LIMITS, False).judge(
        parse(data(cell(source))), lesson_of("exits", "loops", "grows", "honest")
    )
    statuses = {item.item: item.status for item in judgements}
    assert statuses == {"exits": "exited", "loops": "ran out of time", "grows": "ran out of memory", "honest": "passed"}
