"""What is taken from a notebook, and what is said of one that cannot be taken."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quizzes.grading.intake.submission import Unreadable, parse, read
from tests.quizzes.grading.class_of_tests import cell, data, notebook


def sources(submission, *exercises):
    return [statement.source for statement in submission.program(list(exercises))]


def run(submission, *exercises):
    namespace = {}
    for source in sources(submission, *exercises):
        exec(source, namespace)
    return namespace


def test_imports_definitions_and_literals_are_taken_and_nothing_else():
    found = parse(
        data(
            """
            import torch, math
            from quizzes import lesson
            quiz = lesson("01")
            STEPS, LEVELS = 255, 256
            first, second = measure()
            STEPS = 2**8 - 1
            Pair = tuple[int, float]
            half: float = -0.5
            table = {"a": (1, [2])}
            square = lambda x: x * x
            launch()
            open("/tmp/x", "w").write("y")
            for i in range(3): print(i)
            if True: import os
            try:
                import numpy
            except ImportError:
                numpy = None
            class Layer: pass
            def helper(x): return x
            big = helper(3)
            """
        )
    )
    assert [source.split("\n")[0] for source in sources(found)] == [
        "import torch, math",
        "from quizzes import lesson",
        "STEPS, LEVELS = 255, 256",
        "STEPS = 2**8 - 1",
        "Pair = tuple[int, float]",
        "half: float = -0.5",
        'table = {"a": (1, [2])}',
        "square = lambda x: x * x",
        "try:",
        "class Layer: pass",
        "def helper(x): return x",
    ]
    assert {"quiz", "big", "first", "second", "i"} <= found.left_out
    assert "LEVELS" not in found.left_out


def test_decorators_and_shared_lines_come_whole():
    found = parse(data("import functools; SIZE = 3\n@functools.cache\ndef f():\n    return SIZE\n"))
    assert sources(found) == ["import functools", "SIZE = 3", "@functools.cache\ndef f():\n    return SIZE"]


def test_the_tagged_cell_answers_an_exercise_whatever_comes_later():
    found = parse(data("def f(): return 1", cell("def f(): return 2", "f"), "def f(): return 3"))
    assert run(found, "f")["f"]() == 2


def test_without_a_tag_the_last_definition_answers():
    assert run(parse(data("def f(): return 1", "def f(): return 3")), "f")["f"]() == 3


def test_a_solution_beside_an_untouched_stub_counts():
    found = parse(data(cell("def f(): raise NotImplementedError", "f"), "def f(): return 3"))
    assert found.missing("f") is None
    assert run(found, "f")["f"]() == 3


def test_one_function_under_two_names_answers_what_nothing_else_answers():
    """`soften` is a stub in its cell, so the later name counts; `soft_loss` has a cell of its own, which counts."""
    stub = cell("def soften(): raise NotImplementedError", "soften")
    own = cell("def soft_loss(): return 2", "soft_loss")
    found = run(parse(data(stub, own, "soften = soft_loss = lambda: 1")), "soften", "soft_loss")
    assert (found["soften"](), found["soft_loss"]()) == (1, 2)


def test_a_name_inside_a_lambda_or_a_comprehension_is_no_answer_to_an_exercise():
    pick = "pick = lambda numbers: [plan for plan in numbers]"
    found = run(parse(data(pick, cell("def plan(x): return pick(x)", "plan"))), "plan")
    assert found["plan"]([1, 2]) == [1, 2]
    assert parse(data("big = launch([i for i in range(3)])")).left_out == {"big"}


def test_a_later_import_does_not_replace_an_answer():
    found = parse(data(cell("def sqrt(x): return 'mine'", "sqrt"), "from math import sqrt"))
    assert run(found, "sqrt")["sqrt"](4) == "mine"


@pytest.mark.parametrize(
    "body", ["raise NotImplementedError", "'''What to do.'''\n    raise NotImplementedError('later')", "pass", "..."]
)
def test_a_stub_is_not_attempted(body):
    assert parse(data(cell(f"def f(x):\n    {body}", "f"))).missing("f") == "the stub is unchanged"


def test_an_absent_function_is_not_attempted():
    assert parse(data("x = 1")).missing("f") == "no function of that name"


def test_a_cell_that_cannot_be_parsed_says_where_and_spoils_no_other():
    found = parse(data(cell("def f(x):\n    return (x", "f"), "def g(): return 1"))
    assert "line 2 of its cell" in found.missing("f")
    assert found.missing("g") is None


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\ndef f(): return 1",
        "!pip install x\nfiles = !ls\ndef f(): return 1",
        "%%time\ndef f(): return 1",
        "import os\n?os\nos?\ndef f(): return 1",
        "%pip install \\\n   x\ndef f(): return 1",
        "def f(): return 1\r\n%time f()\r\n",
    ],
)
def test_magics_and_shell_lines_are_tolerated(source):
    assert run(parse(data({**cell(""), "source": source})), "f")["f"]() == 1


def test_cells_in_other_languages_are_passed_over():
    assert sources(parse(data("%%bash\necho x = 1", "%%html\n<b>", "y = 1"))) == ["y = 1"]


def test_answers_are_read_as_literals():
    found = parse(
        data(
            'quiz.ask("1", answer="B"); quiz.ask("2", answer=...)',
            "quiz.ask('3', 'a')",
            'quiz.ask("4", answer=best())',
            '# quiz.ask("5", answer="A")',
            "quiz.ask('1', answer='C')",
            'quiz.ask(answer="D", id="6")',
            "quiz.ask()",
            "ask('7', answer='A')",
        )
    )
    assert found.answers == {"1": "C", "3": "a", "6": "D"}


def test_the_lesson_comes_from_the_metadata_then_from_the_name():
    assert parse(data(lesson="03"), "01_affine.ipynb").lesson == "03"
    assert parse(data(lesson=None), "01_affine.ipynb").lesson == "01"
    assert parse(data(lesson="../3"), "homework.ipynb").lesson is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"PK\x03\x04", "not JSON"),
        (data("x = 1")[:-30], "cut off"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "no cells"),
        (b'{"nbformat": 3, "worksheets": []}', "format 3"),
        (b'{"nbformat": 4, "cells": 7}', "no cells"),
    ],
)
def test_what_is_not_a_notebook_says_why(content, reason):
    with pytest.raises(Unreadable, match=reason):
        parse(content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_other_encodings_are_read(encoding):
    content = json.dumps(notebook("x = 'é'"), ensure_ascii=False).encode(encoding)
    assert sources(parse(content)) == ["x = 'é'"]


def test_links_folders_and_pipes_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(data("x = 1"))
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "secret")
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name, reason in [("link", "is a link"), ("folder", "not a file"), ("pipe", "not a file"), ("gone", "No such")]:
        with pytest.raises(Unreadable, match=reason):
            read(tmp_path / f"{name}.ipynb")


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "huge.ipynb", "wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(Unreadable, match="200 MB"):
        read(tmp_path / "huge.ipynb")


@pytest.mark.parametrize(
    "source",
    ["-" * 100_000 + "1", "(" * 10_000, "x" + ".y" * 100_000, "\0", "x = '\ud800'", "!\n" * 5000, "é" * 300_000],
)
def test_hostile_cells_do_no_harm(source):
    found = parse(data({**cell(""), "source": source}, cell("def g(): return 1", "g")))
    assert found.missing("g") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
some_cells = st.lists(
    st.fixed_dictionaries(
        {"cell_type": st.just("code") | json_values, "source": json_values},
        optional={"metadata": st.fixed_dictionaries({"exercise": json_values}) | json_values},
    )
    | json_values,
    max_size=4,
)


@given(st.binary(max_size=200) | some_cells.map(lambda cells: json.dumps({"nbformat": 4, "cells": cells}).encode()))
def test_no_bytes_crash_the_parser(content):
    try:
        submission = parse(content, "x.ipynb")
    except Unreadable:
        return
    submission.program(["f"])
