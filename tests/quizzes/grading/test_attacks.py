"""Submissions that cheat or break things: each succeeds in a plain process, and fails in the sandbox.

Many attacks share a submission, so that a worker starts once for all of them; where one ends it, the next starts anew,
which is itself under test. Every exercise is to return 2 * x.
"""

import contextlib
import os
import socket
from pathlib import Path

import psutil
import pytest

from quizzes.grading.grader import Grader
from quizzes.grading.sandbox import Bubblewrap, Limits, Plain, Unavailable
from quizzes.grading.submission import parse
from tests.quizzes.grading.class_of_tests import cell, data, lesson_of

pytestmark = pytest.mark.needs("bwrap")
LIMITS = Limits(cpu_seconds=2, wall_seconds=10, memory_bytes=400 * 2**20)


def judged(source: str, attacks: list[str], sandbox, limits: Limits = LIMITS) -> dict:
    """Judgements of a submission of one cell, by exercise."""
    submission = parse(data(cell(source)))
    return {item.item: item for item in Grader(7, sandbox, limits, False).judge(submission, lesson_of(*attacks))}


# Each takes what it should not reach, and answers right only when it got it.
THEFTS = {
    "reads_the_bank": "return 2 * x if open({bank!r}).read() else None",
    "lists_the_bank": "return 2 * x if os.listdir({bank_folder!r}) else None",
    "reads_another_submission": "return 2 * x if open({other!r}).read() == 'answer' else None",
    "reads_the_home": "return 2 * x if os.path.exists({home!r}) and os.listdir({home!r}) is not None else None",
    "reads_the_environment": "return 2 * x if {variable!r} in open(f'/proc/{{os.getppid()}}/environ').read() else None",
    "sees_other_processes": "return 2 * x if os.path.exists('/proc/{grader}/stat') else None",
    "signals_the_grader": "return os.kill({grader}, 0) or 2 * x",
    "calls_out": "return socket.create_connection(('127.0.0.1', {port}), 1) and 2 * x",
    "imports_the_library": "sys.path.insert(0, {root!r}); return importlib.import_module('lessons_lib') and 2 * x",
    "imports_a_package": "sys.path.insert(0, {site!r}); return importlib.import_module('rich') and 2 * x",
    "starts_a_program": "return 2 * x if subprocess.run(['/bin/ls']).returncode == 0 else None",
    "fills_the_disk": (
        "[open(f'/tmp/course-attack-{{n}}', 'wb').write(bytes(15 << 20)) for n in range(8)]; return 2 * x"
    ),
    "writes_a_large_file": "return open('/tmp/course-attack-0', 'wb').write(bytes(20 << 20)) and 2 * x",
    "opens_a_namespace": "return 2 * x if ctypes.CDLL(None).unshare(0x10000000) == 0 else None",
    "takes_uncounted_memory": "return os.memfd_create('x') and 2 * x",
    "reads_process_memory": "return None if ctypes.CDLL(None).process_vm_readv(os.getpid(), 0, 0, 0, 0, 0) else 2 * x",
    "makes_a_device": "return os.mknod('/tmp/course-attack-1', 0o60600, os.makedev(8, 0)) or 2 * x",
    "writes_the_interpreter": "return open(os.__file__, 'a') and 2 * x",
}
IMPORTS = "import os, sys, json, socket, ctypes, importlib, subprocess, signal, time, threading, torch"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the thefts are after."""
    folder = tmp_path_factory.mktemp("class")
    (folder / "other.ipynb").write_text("answer")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__import__("quizzes").__file__)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {
            "bank": f"{root}/quizzes/bank/__init__.py",
            "bank_folder": f"{root}/quizzes/bank",
            "other": str(folder / "other.ipynb"),
            "home": os.path.expanduser("~"),
            "variable": Path(f"/proc/{os.getpid()}/environ").read_text().split("=")[0],
            "grader": os.getpid(),
            "port": server.getsockname()[1],
            "root": root,
            "site": os.path.dirname(os.path.dirname(psutil.__file__)),
        }


def thieves(places: dict) -> str:
    bodies = {name: body.format(**places) for name, body in THEFTS.items()}
    return "\n".join([IMPORTS, *(f"def {name}(x):\n    {body}" for name, body in bodies.items())])


def test_nothing_can_be_stolen(places):
    found = judged(thieves(places), [*THEFTS], Bubblewrap())
    assert {name: item.points for name, item in found.items()} == dict.fromkeys(THEFTS, 0.0)
    assert {item.status for item in found.values()} <= {"raised", "wrong"}


def test_the_thefts_are_real(places):
    # Nothing outside the sandbox forbids these; the rest are forbidden by limits, or need root, here as well.
    everywhere = [
        *("reads_the_bank", "lists_the_bank", "reads_another_submission", "reads_the_home", "reads_the_environment"),
        *("sees_other_processes", "signals_the_grader", "calls_out", "imports_the_library", "imports_a_package"),
        *("starts_a_program", "fills_the_disk", "takes_uncounted_memory", "reads_process_memory"),
    ]
    try:
        found = judged(thieves(places), everywhere, Plain())
    finally:
        for name in os.listdir("/tmp"):
            if name.startswith("course-attack-"):
                os.remove(f"/tmp/{name}")
    assert {name: item.status for name, item in found.items()} == dict.fromkeys(everywhere, "passed")


# Each answers wrongly and tries to be believed all the same. The word is the verdict it gets.
FORGERIES = {
    "finds_what_another_left": ("return 2 * x if os.listdir('/tmp') + os.listdir('/home') else None", "wrong"),
    "claims_success": ("print('passed', 'score: 1.0'); sys.stdout.flush(); os.write(1, b'passed'); return x", "wrong"),
    "patches_comparison": (
        "torch.equal = torch.allclose = lambda *a, **k: True; torch.Tensor.__eq__ = lambda *a: True; return x",
        "wrong",
    ),
    "patches_the_codec": ("json.dumps = json.loads = lambda *a, **k: '{}'; sys.modules['wire'].pack = None; return x",
                          "malformed answer"),
    "equals_everything": ("return type('Any', (float,), {'__eq__': lambda *a: True})(3.0)", "wrong"),
    "is_a_subclass": (
        "return x.as_subclass(type('Right', (torch.Tensor,), {'__eq__': lambda *a: True}))",
        "wrong",
    ),
    "gives_nan": ("return x * float('nan')", "wrong"),
    "gives_another_type": ("return (2 * x).double()", "wrong"),
    "gives_another_shape": ("return (2 * x)[None]", "wrong"),
    "gives_code": ("return type('P', (), {'__reduce__': lambda s: (os.system, ('id',))})()", "raised"),
    "gives_too_much": ("return (2 * x).flatten()[:1].expand(2**40)", "ran out of memory"),
    "gives_a_flood": ("return torch.zeros(9_000_000)", "raised"),
    "raises_a_trap": ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})", "raised"),
    "leaves": ("sys.exit(0)", "exited"),
    "asks_the_library": ("from lessons_lib import affine\n    return affine.twice(x)", "raised"),
    "asks_a_package": ("import sacrebleu\n    return sacrebleu.corpus_bleu(x)", "raised"),
    "finds_the_recipes": ("from quizzes.recipes import flatten\n    return flatten(2 * x)['value']", "passed"),
    # From here on each ends the worker.
    "forges_replies": (
        "reply = json.dumps({'status': 'answered', 'id': '0' * 32}).encode()\n"
        "    frame = (8 + len(reply)).to_bytes(8, 'little') + len(reply).to_bytes(8, 'little') + reply\n"
        "    for pipe in range(3, 20):\n"
        "        try: os.write(pipe, frame * 3)\n"
        "        except OSError: pass\n"
        "    return x",
        "malformed answer",
    ),
    "floods_the_pipe": (
        "for pipe in range(3, 20):\n"
        "        try: os.write(pipe, b'\\xff' * 4096)\n"
        "        except OSError: pass\n"
        "    return x",
        "malformed answer",
    ),
    "exits": ("os._exit(0)", "exited"),
    "crashes": ("ctypes.string_at(0)", "crashed"),
    "loops": ("while True: pass", "ran out of time"),
    "sleeps": ("time.sleep(1000)", "ran out of time"),
    "eats_memory": ("hoard = []\n    while True: hoard.append(bytes(2**26))", "ran out of memory"),
    "eats_memory_together": (
        "for _ in range(8):\n"
        "        if os.fork() == 0:\n"
        "            hoard = b'x' * (100 << 20)\n"
        "            time.sleep(100)\n"
        "    time.sleep(100)",
        "ran out of memory",
    ),
    "forks_without_end": (
        "while True:\n        try:\n            if os.fork() == 0: time.sleep(1000)\n        except OSError: raise",
        "raised",
    ),
    "comes_back_twice": ("os.fork()\n    return 2 * x", "passed"),
    "honest": ("return 2 * x", "passed"),
}


@pytest.fixture(scope="module")
def forged():
    source = "\n".join([IMPORTS, *(f"def {name}(x):\n    {body}" for name, (body, _) in FORGERIES.items())])
    sandbox = Bubblewrap()
    processes, start = set(), sandbox.start

    def noted(limits):
        worker = start(limits)
        kill = worker.process.kill

        def note_and_kill():
            with contextlib.suppress(psutil.Error):
                processes.update(psutil.Process(worker.process.process.pid).children(recursive=True))
            kill()

        worker.process.kill = note_and_kill
        return worker

    sandbox.start = noted
    return judged(source, [*FORGERIES], sandbox), processes


@pytest.mark.parametrize("attack", FORGERIES)
def test_a_forgery_gets_the_verdict_it_deserves(forged, attack):
    verdict = forged[0][attack]
    assert verdict.status == FORGERIES[attack][1], verdict.detail
    if verdict.status != "passed":
        assert verdict.points == 0


def test_no_process_outlives_its_submission(forged):
    _, processes = forged
    assert len(processes) > 30                          # the fork bomb's among them
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []


def test_a_package_that_is_not_there_says_why(forged):
    said = forged[0]["asks_a_package"].detail
    assert "judged with the standard library, numpy and torch alone, without sacrebleu" in said


def test_definitions_that_end_the_process_cost_only_their_own_points():
    source = """
        import os
        def exits(x, size=os._exit(3)):
            return 2 * x
        def loops(x, size=[0 for _ in iter(int, 1)]):
            return 2 * x
        def honest(x):
            return 2 * x
    """
    found = judged(source, ["exits", "loops", "honest"], Bubblewrap())
    statuses = {name: item.status for name, item in found.items()}
    assert statuses == {"exits": "exited", "loops": "ran out of time", "honest": "passed"}


def test_without_bubblewrap_there_is_no_sandbox(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="bubblewrap is missing. On Linux install it"):
        Bubblewrap()
