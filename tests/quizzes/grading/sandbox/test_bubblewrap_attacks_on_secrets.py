"""Functions that take what they should not reach: each finds it in a bare process, and nothing of it in the sandbox.

Every attack answers right only when it got what it is after.
"""

import ctypes
import os
import socket
from pathlib import Path

import psutil
import pytest

import quizzes
from quizzes.grading.intake.submission import parse
from quizzes.grading.judging.grader import Grader
from quizzes.grading.sandbox.bubblewrap import Bubblewrap, Unavailable
from quizzes.grading.sandbox.workers import Warm
from quizzes.inside import wire
from tests.quizzes.grading import naive
from tests.quizzes.grading.attacking import LIMITS, assert_verdict, judged
from tests.quizzes.grading.class_of_tests import cell, data, lesson_of

pytestmark = pytest.mark.needs("bwrap")
SEED = 7
LIBC = "ctypes.CDLL(None)"
CALL = f"ok = {LIBC}.{{call}}; return 2 * x if ok == 0 else None"
ROOT_ONLY = {"mounts", "makes_a_device", "changes_its_root", "sets_the_host_name", "enters_another_namespace"}

READS = {
    "reads_the_bank": "return 2 * x if open({bank!r}).read() else None",
    "lists_the_bank": "return 2 * x if os.listdir({bank_folder!r}) else None",
    "follows_a_link_to_the_bank": (
        "name = '/tmp/course-attack-' + str(os.getpid())\n"
        "    try: os.symlink({bank!r}, name); return 2 * x if open(name).read() else None\n"
        "    finally: os.unlink(name)"
    ),
    "reads_another_submission": "return 2 * x if open({other!r}).read() == 'answer' else None",
    "reads_the_gradebook": "return 2 * x if open({other!r}, 'rb').read(6) else None",
    "reads_the_home": "return 2 * x if os.path.exists({home!r}) and os.listdir({home!r}) is not None else None",
    "reads_the_environment": "return 2 * x if {variable!r} in open('/proc/{grader}/environ').read() else None",
    "reads_the_parents_environment": "return 2 * x if open(f'/proc/{{os.getppid()}}/environ').read() else None",
    "reads_the_graders_memory": (
        "memory = open('/proc/{grader}/mem', 'rb', 0); memory.seek({address});"
        " return 2 * x if memory.read(6) == b'secret' else None"
    ),
    "reads_the_parents_memory": "return 2 * x if open(f'/proc/{{os.getppid()}}/mem', 'rb', 0) else None",
    "reads_its_own_proc": "return 2 * x if open('/proc/self/maps').read() else None",
    "sees_other_processes": "return 2 * x if os.path.exists('/proc/{grader}/stat') else None",
    "calls_loopback": "return socket.create_connection(('127.0.0.1', {port}), 5) and 2 * x",
    "calls_a_local_socket": ("door = socket.socket(socket.AF_UNIX); door.connect('\\0' + {door!r}); return 2 * x"),
    "imports_the_library": "sys.path.insert(0, {root!r}); return importlib.import_module('lessons_lib') and 2 * x",
    "imports_the_bank": (
        "sys.path.insert(0, {root!r}); return importlib.import_module('quizzes.bank.q03_soft_labels') and 2 * x"
    ),
    "imports_a_package": "sys.path.insert(0, {site!r}); return importlib.import_module('rich') and 2 * x",
    "starts_a_program": "return 2 * x if subprocess.run(['/bin/ls']).returncode == 0 else None",
}
ESCAPES = {
    "signals_the_grader": "return os.kill({grader}, 0) or 2 * x",
    "signals_its_parent": "return 2 * x if os.getppid() and os.kill(os.getppid(), 0) is None else None",
    "traces_a_process": (
        "child = os.fork()\n"
        "    if child == 0: time.sleep(60); os._exit(0)\n"
        f"    try: return 2 * x if {LIBC}.ptrace(16, child, 0, 0) == 0 else None\n"
        "    finally: os.kill(child, signal.SIGKILL)"
    ),
    "reads_memory_by_a_call": (
        "here = ctypes.create_string_buffer(6)\n"
        "    part = (ctypes.c_void_p * 2)(ctypes.addressof(here), 6); there = (ctypes.c_void_p * 2)({address}, 6)\n"
        f"    got = {LIBC}.process_vm_readv({{grader}}, part, 1, there, 1, 0); return 2 * x if got == 6 else None"
    ),
    "opens_a_user_namespace": CALL.format(call="unshare(0x10000000)"),
    "clones_a_user_namespace": (
        f"child = {LIBC}.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)\n"
        "    if child == 0: os._exit(0)\n"
        "    return 2 * x if child > 0 else None"
    ),
    "mounts": f"{LIBC}.unshare(0x20000); " + CALL.format(call="mount(b'none', b'/tmp', b'tmpfs', 0, None)"),
    "changes_its_root": CALL.format(call="chroot(b'/')"),
    "enters_another_namespace": CALL.format(call="setns(os.open('/proc/self/ns/uts', os.O_RDONLY), 0)"),
    "makes_a_device": (
        "name = '/tmp/course-attack-' + str(os.getpid()); os.mknod(name, 0o60600, os.makedev(7, 0)); os.unlink(name);"
        " return 2 * x"
    ),
    "sets_the_host_name": CALL.format(call="sethostname(socket.gethostname().encode(), len(socket.gethostname()))"),
    "writes_the_interpreter": "return open(os.__file__, 'a') and 2 * x",
    "writes_the_torch_it_runs": "return open(torch.__file__, 'a') and 2 * x",
    "takes_uncounted_memory": "return os.memfd_create('x') and 2 * x",
    "leaves_shared_memory": f"part = {LIBC}.shmget(0, 4096, 0o1600)\n"
    f"    return 2 * x if part >= 0 and {LIBC}.shmctl(part, 0, None) == 0 else None",
}
ATTACKS = READS | ESCAPES


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """The attacks, told where to find what they are after."""
    folder, secret = tmp_path_factory.mktemp("class"), ctypes.create_string_buffer(b"secret")
    (folder / "other.ipynb").write_text("answer")
    root = Path(quizzes.__file__).parents[1]
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as door:
        door.bind(f"\0course-{os.getpid()}")
        door.listen()
        places = {
            "bank": str(root / "quizzes/bank/__init__.py"),
            "bank_folder": str(root / "quizzes/bank"),
            "other": str(folder / "other.ipynb"),
            "home": os.path.expanduser("~"),
            "root": str(root),
            "variable": Path("/proc/self/environ").read_text().split("=")[0],
            "grader": os.getpid(),
            "address": ctypes.addressof(secret),
            "port": server.getsockname()[1],
            "door": f"course-{os.getpid()}",
            "site": os.path.dirname(os.path.dirname(psutil.__file__)),
        }
        yield {name: body.format(**places) for name, body in ATTACKS.items()}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_is_real(attack, bodies):
    if attack in ROOT_ONLY and os.geteuid() != 0:
        pytest.skip("only root can do this, with or without a sandbox")
    assert naive.beaten(bodies[attack]).startswith("passed")


@pytest.fixture(scope="module")
def found(bodies, walls):
    return judged(bodies, walls)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_gets_nothing(attack, found):
    assert found[attack].status in ("raised", "wrong"), found[attack].detail
    assert found[attack].points == 0


def test_the_network_of_the_machine_is_not_there(walls):
    # A machine may have no way out, so what is compared are the doors: here all, there the closed loopback alone.
    body = "return 2 * x if [name for _, name in socket.if_nameindex()] == ['lo'] else None"
    assert_verdict(judged({"looks": body}, walls)["looks"], "passed")
    body = "socket.create_connection(('192.0.2.1', 80), 60)"
    verdict = judged({"calls_out": body}, walls)["calls_out"]
    assert verdict.status == "raised" and "Network is unreachable" in verdict.detail


def test_without_bubblewrap_there_is_no_sandbox(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="bubblewrap is missing. On Linux install it"):
        Bubblewrap()


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("bwrap: setting up uid map: Permission denied", "As root, `sysctl"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "As root, `sysctl"),  # Ubuntu 24.04
        ("bwrap: Can't find source path", "source path$"),
    ],
)
def test_a_system_that_denies_namespaces_is_told_from_other_faults(said, mend):
    with pytest.raises(Unavailable, match=mend) as refused:
        Warm(lambda _: ["sh", "-c", f'echo "{said}" >&2; exit 1'], [], walls=True)
    assert said in str(refused.value)


CARRIES_OUT = """
frame = sys._getframe()
    while frame:
        SEEN.extend(bytes(item) for item in frame.f_locals.values() if isinstance(item, bytes | bytearray))
        frame = frame.f_back
    return torch.frombuffer(bytearray(b''.join(SEEN)), dtype=torch.uint8)
""".strip()


def test_no_answer_that_is_shown_carries_a_hidden_input_out(walls):
    """All that was ever in the worker's reach goes into the answer to the visible example: the student will read it."""
    bodies = {"first": CARRIES_OUT, "second": CARRIES_OUT}
    lesson = lesson_of(*bodies)
    secrets = [
        case.arguments[0].contiguous().numpy().tobytes()
        for exercise in lesson.exercises.values()
        for case in exercise.draw(SEED)
        if not case.visible
    ]
    source = "\n".join([naive.IMPORTS, "SEEN = []", *(f"def {name}(x):\n    {body}" for name, body in bodies.items())])

    def carried(values: dict) -> bool:
        return any(secret in values["value"].numpy().tobytes() for secret in secrets)

    # It is real: whoever sends all cases together gives the hidden ones away.
    worker = walls.start(LIMITS)
    worker.renew()
    worker.run(source)
    cases = [wire.pack(*case.encode()) for case in lesson.exercises["first"].draw(SEED)]
    assert carried(wire.unpack_values(worker.ask("first", *cases)[0][1]))
    worker.close()

    for judgement in Grader(SEED, walls, LIMITS, False).judge(parse(data(cell(source))), lesson):
        shown = [failure for failure in judgement.result.failures if failure.case.visible]
        assert len(shown) == 1 and not carried(shown[0].answer.values)
