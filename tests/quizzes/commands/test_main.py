"""The command `course`: its help, its one-line errors, its exit codes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from rich.console import Console
from typer.testing import CliRunner

import quizzes
from lessons_lib import prepare
from lessons_lib.show import claims
from lessons_lib.studies import study
from quizzes import lesson, lessons, progress
from quizzes.commands import doctor, main
from quizzes.grading.intake.submission import parse
from quizzes.grading.judging.grader import Grader
from quizzes.grading.sandbox.bubblewrap import Best, Plain
from quizzes.learner import solve

ROOT = Path(quizzes.__file__).parents[1]
COMMANDS = ("doctor", "prepare", "study", "progress", "next", "reset", "check", "grade", "solve", "claims")
run = CliRunner()


def course(*arguments: str) -> subprocess.CompletedProcess:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "quizzes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def said(*arguments: str) -> str:
    """What a command that must succeed prints."""
    result = run.invoke(main.app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(monkeypatch, capsys, *arguments: str) -> str:
    """What a command that must fail says; always one line."""
    monkeypatch.setattr(sys, "argv", ["course", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_help_is_quick_and_loads_no_torch():
    code = "import sys, quizzes.commands.main; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    begin = time.process_time(), os.times().children_user
    assert course("--help").returncode == 0
    assert os.times().children_user - begin[1] < 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    assert "Usage" in said(command, "--help")


def test_the_help_names_every_command():
    assert [command for command in COMMANDS if command not in said("--help")] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grade", "/no/such/folder", "--out", "/tmp/x"], "is not a folder; give the folder"),
        (["solve", "77", "--out", "/no/such/file"], "there is no quiz for lesson '77'"),
        (["study", "nothing"], "there is no study 'nothing'; there is"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(monkeypatch, capsys, arguments, words):
    assert words in refusal(monkeypatch, capsys, *arguments)


def test_grading_refuses_to_mix_and_to_grade_itself(monkeypatch, capsys, tmp_path):
    (tmp_path / "class").mkdir()
    inside = refusal(monkeypatch, capsys, "grade", str(tmp_path / "class"), "--out", str(tmp_path / "class" / "out"))
    assert "lies inside the submissions" in inside
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gradebook.sqlite").touch()
    again = refusal(monkeypatch, capsys, "grade", str(tmp_path / "class"), "--out", str(tmp_path / "out"))
    assert "add --resume" in again


def test_without_bubblewrap_grading_refuses_until_told(monkeypatch, capsys, tmp_path):
    (tmp_path / "class" / "ann").mkdir(parents=True)
    arguments = ["grade", str(tmp_path / "class"), "--out", str(tmp_path / "out")]
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "--unsafe-no-sandbox" in refusal(monkeypatch, capsys, *arguments)
    assert not (tmp_path / "out").exists()
    assert "ann  --  0 of 0  no notebook handed in" in said(*arguments, "--unsafe-no-sandbox")


def test_progress_adds_up():
    progress.record("03", "soften", 1.0)
    last = [line for line in said("progress").splitlines() if "all" in line][-1]
    assert last.split()[1] == "1"
    ready = [path.name[:2] for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")]
    assert last.split()[2] == str(sum(lesson(number).max_points for number in ready))


def test_claims_are_all_there(monkeypatch):
    monkeypatch.setattr(main, "console", Console(width=200))  # so that no claim's first word is broken in two
    shown = said("claims")
    assert all(claim.claim.split()[0] in shown for claim in claims.declared().values())


def test_prepare_and_study_call_the_library(monkeypatch):
    parts = [lambda report, name=name: report(f"{name} is there") for name in ("teacher", "student")]
    monkeypatch.setattr(prepare, "PARTS", parts)
    shown = said("prepare")
    assert "teacher is there" in shown and "student is there" in shown

    class Small:
        path = "data/studies/small.json"

        def compute(self, fresh):
            return [1, 2, 3, 4] if fresh else [1, 2, 3]

    monkeypatch.setattr(study, "load", lambda name: Small())
    assert "Study small: 3 cells, kept in data/studies/small.json" in said("study", "small")
    assert "Study small: 4 cells" in said("study", "small", "--fresh")


def test_the_doctor_names_what_is_amiss_and_the_mend(tmp_path, monkeypatch):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("# why\ntyper==0.0.1   # old\nno-such-package==1.0 --hash=x\nrich>=1\n-e .\n")
    found = list(doctor.packages(wanted))
    assert [finding.ok for finding in found] == [False, False]
    assert "pip install 'typer==0.0.1'" in found[0].detail
    assert "not installed; pip install 'no-such-package==1.0'" in found[1].detail
    assert not next(doctor.packages(tmp_path / "nothing.txt")).ok
    healthy, ill = doctor.Finding("cores", True, "2"), doctor.Finding("memory", False, "1 GB; the lessons need 4 GB")
    for findings, code in (([healthy], 0), ([healthy, ill], 1)):
        monkeypatch.setattr(doctor, "findings", lambda root, findings=findings: iter(findings))
        result = run.invoke(main.app, ["doctor"])
        assert result.exit_code == code
        assert "OK    cores: 2" in result.output
    assert "FAIL  memory: 1 GB; the lessons need 4 GB" in result.output


@pytest.mark.parametrize(("gigabytes", "ok"), [(3.7, True), (3.0, False)])
def test_a_machine_that_is_sold_with_four_gigabytes_has_enough(monkeypatch, gigabytes, ok):
    """The system keeps a part for itself."""
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(total=gigabytes * 2**30))
    memory = next(finding for finding in doctor.findings(ROOT) if finding.what == "memory")
    assert memory.ok == ok


def test_the_doctor_looks_at_everything():
    looked = [finding.what for finding in doctor.findings(ROOT)]
    assert {"Python", "packages", "cores", "memory", "encoder", "sandbox"} <= set(looked) | {"packages"}


def test_solutions_take_the_place_of_stubs_and_nothing_else():
    stub = "@torch.no_grad()\ndef f(x):\n    '''Stub.'''\n    raise NotImplementedError"
    source = f"import torch  # é\n\n{stub}\n\nquiz.check(f)"
    solved = solve.with_solution(source, "f", "def f(x):\n    return x\n")
    assert solved == "import torch  # é\n\ndef f(x):\n    return x\n\nquiz.check(f)"
    with pytest.raises(ValueError, match="does not define it"):
        solve.with_solution("x = 1", "f", "")
    asked = 'é = quiz.ask("1", answer=...); quiz.ask("2", answer=...)'
    assert solve.with_answers(asked, {"1": "B", "2": "A"}) == 'é = quiz.ask("1", answer="B"); quiz.ask("2", answer="A")'


@pytest.mark.parametrize("number", lessons.numbers())
def test_a_solved_lesson_earns_full_marks(number, tmp_path):
    out = tmp_path / "solved.ipynb"
    assert f"Lesson {number}, solved" in said("solve", number, "--out", str(out))
    nbformat.validate(nbformat.read(out, as_version=4))
    quiz = lesson(number)
    judgements = list(Grader(11, Best()).judge(parse(out.read_bytes()), quiz))
    # A model that is to be handed in is made in the lesson, and nothing makes it in the learner's place.
    found = [item for item in judgements if item.item not in quiz.hand_ins]
    assert [(item.item, item.status, item.detail) for item in found if item.points != item.max_points] == []
    most = sum(item.points for item in quiz.exercises.values()) + len(quiz.questions)
    assert sum(item.points for item in judgements) == most


def test_check_passes_only_what_is_all_right(tmp_path, monkeypatch):
    number = "03"
    out = tmp_path / "03_solved.ipynb"
    said("solve", number, "--out", str(out))
    notebook = json.loads(out.read_text())
    name = next(iter(lesson(number).exercises))
    for cell in notebook["cells"]:
        if cell["metadata"].get("exercise") == name:
            cell["source"] = f"def {name}(x, *rest):\n    return x.flop()"
    wrong = tmp_path / "03_wrong.ipynb"
    wrong.write_text(json.dumps(notebook))
    # Without bubblewrap the same judgement comes from a plain process.
    monkeypatch.setattr("quizzes.grading.sandbox.bubblewrap.Best", Plain)
    assert "passed" in said("check", str(out))
    result = run.invoke(main.app, ["check", str(wrong), str(tmp_path / "gone.ipynb")])
    assert result.exit_code == 1
    assert f"Not yet. {name}" in result.output
    assert "AttributeError" in result.output
    assert "cannot be read: No such file" in result.output
