"""Answers that are wrong and want to be believed: each beats a grader that people write, and none beats this one."""

import json

import numpy
import pytest
import torch

from quizzes.inside import wire
from tests.quizzes.grading import naive
from tests.quizzes.grading.attacking import assert_verdict, judged

pytestmark = pytest.mark.needs("bwrap")
ANY = "type('Any', (), {'__eq__': lambda *a: True, 'all': lambda s: True, '__bool__': lambda s: True})()"
FRAME = "len(m).to_bytes(8, 'little') + m"

# What a grader in the same process might compare with; nan is not further away than anything.
JUDGES = {
    "equal": naive.equal,
    "assertion": lambda got, x: bool(got == 2 * x),
    "torch.equal": lambda got, x: torch.equal(got, 2 * x),
    "numpy": lambda got, x: numpy.array_equal(got, 2 * x),
    "all": lambda got, x: all(a == b for a, b in zip(got.flatten().tolist(), (2 * x).flatten().tolist(), strict=True)),
    "distance": lambda got, x: not ((got - 2 * x).abs() > 1e-3).any(),
    "doubles": lambda got, x: torch.allclose(got.double(), 2 * x.double()),
    "json": lambda got, x: json.loads(json.dumps(got.tolist())) == (2 * x).tolist(),
    "codec": lambda got, x: wire.unpack_values(wire.pack_values({"value": got})) == {"value": 2 * x},
}
# name: (body, the judge that believes it, the verdict here)
FORGERIES = {
    "patches_torch": ("torch.equal = lambda *a: True; return x", "torch.equal", "wrong"),
    "patches_tensors": ("torch.Tensor.__eq__ = lambda *a: torch.ones(1); return x", "equal", "wrong"),
    "patches_numpy": ("numpy.array_equal = lambda *a: True; return x", "numpy", "wrong"),
    "patches_builtins": ("builtins.all = lambda _: True; return x", "all", "wrong"),
    "patches_json": (f"json.loads = lambda *a, **k: {ANY}; return x", "json", "wrong"),
    "patches_the_codec": (
        "for name in ('wire', 'quizzes.inside.wire'):\n"
        "        if name in sys.modules:\n"
        f"            sys.modules[name].unpack_values = sys.modules[name].unpack = lambda *a: {ANY}\n"
        "            sys.modules[name].pack_values = lambda *a: b''\n"
        "    return x",
        "codec",
        "malformed answer",
    ),
    "equals_everything": (f"return {ANY}", "assertion", "raised"),
    "is_a_subclass": (
        "return x.as_subclass(type('Right', (torch.Tensor,), {'__eq__': lambda *a: torch.ones(1)}))",
        "equal",
        "wrong",
    ),
    "answers_for_its_tensors": (
        "tf = classmethod(lambda c, f, t, a=(), k=None: torch.ones(1));"
        " return x.as_subclass(type('Right', (torch.Tensor,), {'__torch_function__': tf}))",
        "equal",
        "wrong",
    ),
    "gives_nan": ("return x * float('nan')", "distance", "wrong"),
    "gives_another_type": ("return (2 * x).double()", "doubles", "wrong"),
    "gives_another_shape": ("return (2 * x)[None]", "doubles", "wrong"),
    "gives_a_lazy_answer": (
        "return type('Lazy', (), {'__eq__': lambda s, other: other == other})()",
        "equal",
        "raised",
    ),
    "gives_a_float_that_lies": (
        "return type('F', (float,), {'__eq__': lambda *a: torch.ones(1)})(3.0)",
        "equal",
        "wrong",
    ),
    "gives_a_huge_view": ("return (2 * x).flatten()[:1].expand(2**40)", None, "ran out of memory"),
    "gives_a_flood": ("return torch.zeros(9_000_000)", None, "raised"),
    "gives_ten_thousand_things": ("return [0] * 10_001", None, "raised"),
    "gives_a_knot": ("knot = []; knot.append(knot); return knot", None, "raised"),
    "raises_a_trap": ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})", None, "raised"),
    "exits_politely": ("sys.exit(0)", None, "exited"),
    "imports_the_answer": ("from lessons_lib.arithmetic import affine; return affine.twice(x)", None, "raised"),
    "imports_a_package": ("import sacrebleu; return sacrebleu.corpus_bleu(x)", None, "raised"),
    "finds_the_recipes": ("from quizzes.inside.recipes import flatten; return flatten(2 * x)['value']", None, "passed"),
    "replies_for_the_worker": (
        "m = {'status': 'done', 'id': '0' * 32, 'replies': [{'status': 'answered', 'size': 0}] * 3}\n"
        "    m = json.dumps(m).encode()\n"
        f"    m = {FRAME}\n    m = {FRAME}\n"
        "    for pipe in range(3, 64):\n"
        "        try: os.write(pipe, m * 3)\n"
        "        except OSError: pass\n"
        "    return x",
        None,
        "malformed answer",
    ),
    "floods_the_pipe": (
        "for pipe in range(3, 64):\n"
        "        try: os.write(pipe, b'\\xff' * 4096)\n"
        "        except OSError: pass\n"
        "    return x",
        None,
        "malformed answer",
    ),
    "talks_without_end": (
        "while True:\n"
        "        for pipe in range(3, 64):\n"
        "            try: os.write(pipe, (7).to_bytes(8, 'little') + b'nothing')\n"
        "            except OSError: pass",
        None,
        "malformed answer",
    ),
    "promises_a_message": (
        "for pipe in range(3, 64):\n"
        "        try: os.write(pipe, (2**20).to_bytes(8, 'little') + b'the rest comes never')\n"
        "        except OSError: pass\n"
        "    while True: pass",
        None,
        "ran out of time",
    ),
    "honest": ("return 2 * x", "equal", "passed"),
}


@pytest.mark.parametrize("attack", [name for name, (_, judge, _) in FORGERIES.items() if judge])
def test_the_forgery_is_real(attack):
    body, judge, _ = FORGERIES[attack]
    assert naive.beaten(body, JUDGES[judge]) == "passed"


@pytest.fixture(scope="module")
def found(walls):
    return judged({name: body for name, (body, _, _) in FORGERIES.items()}, walls)


@pytest.mark.parametrize("attack", FORGERIES)
def test_a_forgery_gets_the_verdict_it_deserves(found, attack):
    assert_verdict(found[attack], FORGERIES[attack][2])


def test_a_package_that_is_not_there_says_why(found):
    said = found["imports_a_package"].detail
    assert "judged with the standard library, numpy and torch alone, without sacrebleu" in said


def test_the_library_does_have_the_answers():
    # Which is why importing it gives a placeholder.
    body = "from lessons_lib.distillation import losses; return losses.soften(x, 1.0) * 0 + 2 * x"
    assert naive.beaten(body) == "passed"


# A verdict that is read from what the submission's own process says, as text or as a pickle.

SAYS_PASSED = "import atexit; os.write(1, b'failed\\npassed\\n'); os._exit(0)"
PICKLED = "return type('P', (), {{'__reduce__': lambda s: (open, ({path!r}, 'w'))}})()"


def test_printing_the_verdict_beats_who_reads_it(walls):
    assert naive.last_line(SAYS_PASSED) == "passed"
    assert_verdict(judged({"says": SAYS_PASSED}, walls)["says"], "exited")


def test_a_pickle_runs_code_where_it_is_read(walls, tmp_path):
    body = PICKLED.format(path=str(tmp_path / "ran"))
    naive.unpickled(body).close()
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    assert_verdict(judged({"pickled": body}, walls)["pickled"], "raised")
    assert not (tmp_path / "ran").exists()
