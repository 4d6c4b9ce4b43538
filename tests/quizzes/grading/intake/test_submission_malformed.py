"""Thousands of malformed notebooks, zips and answers: no crash, no hang, a status each."""

import io
import json
import signal
import struct
import time
import zipfile
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quizzes.grading.intake.archive import Archive
from quizzes.grading.intake.hand_in import hand_ins
from quizzes.grading.intake.layouts import File
from quizzes.grading.intake.names import Place, folder_name, place
from quizzes.grading.intake.submission import Unreadable
from quizzes.inside import wire
from tests.quizzes.grading.class_of_tests import cell, data

SECONDS = 10  # of CPU for one input; far more than any takes
FEW, MANY = 100, 1_000  # inputs of each of eleven kinds: 1,100 and 11,000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = (
    "def soften(logits, T):",
    "\n",
    "\n    ",
    "    ",
    "return",
    "x",
    "1",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "=",
    "lambda",
    "class A:",
    "@a",
    "import torch",
    "from",
    "raise NotImplementedError",
    '"',
    "'",
    '"""',
    "f'",
    "\\",
    "#",
    "%time ",
    "!ls ",
    "%%bash\n",
    "%%time\n",
    "?",
    "quiz.ask('1', answer='B')",
    "quiz.ask(",
    "async ",
    "await ",
    "try:",
    "except:",
    "match x:",
    "case _:",
    "\x00",
    "\x0c",
    "\r",
    "\ud800",
    "\u2028",
    "é",
    "∑",
    "0x",
    "1e999",
    "...",
    "*",
    ":=",
)
sources = st.lists(st.sampled_from(WORDS), max_size=60).map("".join)
repeated = st.tuples(st.sampled_from(WORDS), st.integers(1, 3_000)).map(lambda pair: pair[0] * pair[1])
cells = st.fixed_dictionaries(
    {
        "cell_type": st.sampled_from(["code", "code", "code", "markdown", "raw"]) | json_values,
        "source": sources | st.lists(sources, max_size=3) | json_values,
    },
    optional={
        "metadata": st.fixed_dictionaries({"exercise": st.just("soften") | json_values}) | json_values,
        "outputs": json_values,
        "id": json_values,
    },
)
notebooks = st.fixed_dictionaries(
    {"nbformat": st.just(4) | json_values, "cells": st.lists(cells | json_values, max_size=5) | json_values},
    optional={"metadata": st.fixed_dictionaries({"course": json_values}) | json_values, "nbformat_minor": json_values},
)


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """Bytes with pieces cut out, put in, doubled or turned."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        harm = draw(st.sampled_from(["cut", "put", "double", "turn", "end"]))
        if harm == "cut":
            del content[start:end]
        elif harm == "put":
            content[start:start] = draw(st.binary(max_size=20))
        elif harm == "double":
            content[start:start] = content[start:end]
        elif harm == "turn":
            content[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
        else:
            del content[start:]
    return bytes(content)


def a_zip() -> bytes:
    """A small zip of two hand-ins."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ann_1_2_03_x.ipynb", data("x = 1", lesson="03"))
        archive.writestr("Bob_3_assignsubmission_file_/03_x.ipynb", data("x = 1", lesson="03"))
    return stream.getvalue()


GOOD = data("import torch", cell("def soften(logits, T):\n    return logits", "soften"), lesson="03")
ANSWER = wire.pack_values({"value": torch.ones(3), "n": 3, "nan": float("nan"), "text": "x", "none": None})


@contextmanager
def in_time():
    """Fails when the body takes long, or never ends."""

    def late(*_):
        raise AssertionError("it hangs")

    before, old = time.process_time(), signal.signal(signal.SIGALRM, late)
    signal.alarm(6 * SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert time.process_time() - before < SECONDS


def read_notebook(content: bytes) -> list[str]:
    """A notebook is taken or says why not; what it takes can be turned into a program."""
    (found,) = hand_ins("ann", [File(Place("ann", "03_x.ipynb"), "ann/03_x.ipynb", lambda: content)])
    if found.submission is None:
        return [found.problem]
    found.submission.program(["soften", "soft_loss"])
    answers = [found.submission.missing(name) or found.submission.answer_to(name) for name in ("soften", "soft_loss")]
    return ["taken"] if all(answers) and found.lesson.isdigit() and not found.problem else [""]


def read_own_zip(content: bytes) -> list[str]:
    """A student's zip gives hand-ins, each with a submission or a reason."""
    found = hand_ins("ann", [File(Place("ann", "work.zip"), "ann/work.zip", lambda: content)])
    return [item.problem or ("taken" if item.submission else "") for item in found]


def read_zip(content: bytes) -> list[str]:
    """Every member of a zip has its bytes or a reason, and a path that leads nowhere else."""
    try:
        members = list(Archive(content))
    except Unreadable as error:
        return [str(error)]
    said = ["a zip"]
    for member in members:
        assert not {"", ".", ".."} & set(member.parts)
        assert member.changed is None or member.changed.year >= 1980
        try:
            said.append(type(member.read()).__name__)
        except Unreadable as error:
            said.append(str(error))
    return said


def read_answer(content: bytes) -> list[str]:
    """An answer is a dict of values, or malformed."""
    try:
        values = wire.unpack_values(content)
    except ValueError as error:
        return [str(error) if str(error).startswith("malformed") else ""]
    return [
        "values",
        *("value" if isinstance(item, torch.Tensor | int | float | str | None) else "" for item in values.values()),
    ]


def read_name(name: str) -> list[str]:
    """Any name gives a student, and a folder that stays where it is put."""
    found = place(tuple(part for part in name.split("/") if part) or ("x",))
    folder = folder_name(found.student if found else name)
    return ["" if "/" in folder or folder in (".", "..") else folder]


def framed(header: bytes, body: bytes) -> bytes:
    """A message whose first part says how long it is."""
    return struct.pack("<Q", len(header)) + header + body


tensor_headers = st.dictionaries(
    st.text(max_size=5),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F64", "I64", "BOOL", "F8_E4M3", "X", ""]) | json_values,
            "shape": st.lists(st.integers(-2, 2**62), max_size=3) | json_values,
            "data_offsets": st.lists(st.integers(-2, 2**62), min_size=2, max_size=2) | json_values,
        }
    )
    | json_values,
    max_size=3,
)
PIECES = ["ann", "_", "1", "LATE", "/", "..", "assignsubmission", "file", ".ipynb"]
as_json = json.JSONEncoder(ensure_ascii=True).encode
KINDS = {
    "bytes as a notebook": (st.binary(max_size=300), read_notebook),
    "JSON as a notebook": (json_values.map(lambda value: as_json(value).encode()), read_notebook),
    "almost a notebook": (notebooks.map(lambda value: as_json(value).encode()), read_notebook),
    "a damaged notebook": (damaged(GOOD), read_notebook),
    "a notebook of no Python": (
        (sources | repeated).map(lambda text: data({**cell(""), "source": text}, lesson="03")),
        read_notebook,
    ),
    "a notebook in another encoding": (
        st.tuples(sources, st.sampled_from(["utf-16", "utf-32", "latin-1", "utf-7", "cp037", "shift_jis"])).map(
            lambda pair: json.dumps({"nbformat": 4, "cells": [cell(pair[0])]}, ensure_ascii=False).encode(
                pair[1], "replace"
            )
        ),
        read_notebook,
    ),
    "a damaged zip": (damaged(a_zip()), read_zip),
    "bytes as a student's zip": (st.binary(max_size=300) | damaged(a_zip()), read_own_zip),
    "a name": (st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join), read_name),
    "a damaged answer": (st.binary(max_size=200) | damaged(ANSWER), read_answer),
    "an answer of lies": (
        st.tuples(json_values, tensor_headers, st.binary(max_size=64)).map(
            lambda three: framed(as_json(three[0]).encode(), framed(as_json(three[1]).encode(), three[2]))
        ),
        read_answer,
    ),
}


def hold(kind: str, examples: int) -> None:
    """Read that many inputs of a kind."""
    strategy, read = KINDS[kind]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def each(made):
        with in_time():
            assert all(read(made))  # a status each

    each()


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_input_is_read_or_refused(kind):
    hold(kind, FEW)


@pytest.mark.proof
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_malformed_inputs_are_read_or_refused(kind):
    hold(kind, MANY)


def test_what_is_not_malformed_is_read():
    # Or all of the above would pass for a parser that refuses everything.
    (found,) = hand_ins("ann", [File(Place("ann", "03_x.ipynb"), "x", lambda: GOOD)])
    assert found.submission.missing("soften") is None
    assert len([member.read() for member in Archive(a_zip())]) == 2
    assert set(wire.unpack_values(ANSWER)) == {"value", "n", "nan", "text", "none"}


def test_json_that_would_be_an_object_of_millions_is_refused_in_time():
    with in_time():
        read_notebook(b'{"cells": [' + b"{}," * 1_000_000 + b"{}]}")
        read_answer(framed(b"[" * 1_000_000, b""))
        read_answer(struct.pack("<Q", 2**63) + b"{}")


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n" * 16_000,
        "x = lambda: 0\n" * 7_000,
        "def f(): 0\n" * 9_000,
        "x = 1; " * 14_000,
        "@a\n" * 30_000 + "def f(): 0",
        "!a\n" + "," * 90_000,
        "!a\n" * 40 + "x = 1\n" * 800,
        " " * 99_000 + "%",
        "=" * 99_000 + "!",
        "%%time\n" * 14_000,
        "x = " + "1 + " * 24_000 + "1",
        "a" + ".b" * 49_000,
        "a < " * 24_000 + "a",
        "!a\n" + "\\\n" * 40_000,
        "x?" * 49_000,
    ],
    ids=lambda source: source[:12],
)
def test_no_cell_takes_long_to_read(source):
    with in_time():
        assert all(read_notebook(data({**cell(""), "source": source}, lesson="03")))
