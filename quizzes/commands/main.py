"""The command `course`. Torch is loaded by the commands that need it, so `course --help` is quick."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from quizzes.commands import grading, learner
from quizzes.commands.output import CommandRefused, console, say

ROOT = Path(__file__).resolve().parents[2]

app = typer.Typer(
    name="course",
    help="Model Compression, Measured: prepare the lessons, follow your progress, check and grade notebooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(grading.app)
app.add_typer(learner.app)


def main() -> None:
    """Run `course`. What a user can mend is said in one line; exit 0 only on success."""
    try:
        app()
    except (RuntimeError, ValueError, OSError, LookupError) as error:
        print(f"course: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    """The message of an error; a file system error names its file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


@app.command()
def doctor() -> None:
    """Check Python, packages, weights, cores, memory and sandbox: a line each, OK or FAIL and the mend."""
    from quizzes.commands.doctor import findings

    healthy = True
    for finding in findings(ROOT):
        healthy &= finding.ok
        say(f"{'OK  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.detail}")
    raise typer.Exit(0 if healthy else 1)


@app.command()
def prepare() -> None:
    """Verify and convert the weights and train the shared teachers once. Safe to interrupt and to repeat."""
    from lessons_lib import prepare as preparation

    begin = time.perf_counter()
    preparation.prepare(report=say)
    say(f"Everything is prepared ({time.perf_counter() - begin:.0f} s).")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of the study, as in data/studies/NAME.json.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what was computed before, and start anew.")] = False,
) -> None:
    """Compute a study, or resume one that was interrupted."""
    from lessons_lib.studies import study as studies

    grid = studies.load(name)
    table = grid.compute(fresh=fresh)
    say(f"Study {name}: {len(table)} cells, kept in {grid.path}.")


@app.command()
def check(notebooks: Annotated[list[Path], typer.Argument(help="Your notebooks.", metavar="NOTEBOOK...")]) -> None:
    """Judge your own notebooks as the grader would. Exit 1 unless everything passes."""
    from quizzes.grading.intake.model_files import beside
    from quizzes.grading.intake.submission import Unreadable, read
    from quizzes.grading.judging.grader import Grader, lesson_of
    from quizzes.grading.sandbox.bubblewrap import Best

    everything = True
    for path in notebooks:
        try:
            submission = read(path)
            lesson = lesson_of(submission)
            submission = beside(submission, path)
        except Unreadable as error:
            say(f"{path}: {error}")
            everything = False
            continue
        # Its own content draws the cases: other ones than the notebook's, and the same whenever it is checked.
        seed = int(hashlib.sha256(submission.sha256.encode()).hexdigest()[:12], 16)
        judgements = list(Grader(seed, Best()).judge(submission, lesson))
        _show_check(path, lesson, judgements)
        everything &= all(item.points == item.max_points for item in judgements)
    raise typer.Exit(0 if everything else 1)


def _show_check(path: Path, lesson, judgements: list) -> None:
    table = Table("", "points", "of", "verdict", title=escape(f"{path.name}: lesson {lesson.number}"))
    for item in judgements:
        name = item.item if item.kind == "exercise" else f"question {item.item}"
        table.add_row(name, f"{item.points:g}", f"{item.max_points:g}", item.status)
    table.add_section()
    table.add_row("all", f"{sum(item.points for item in judgements):g}", f"{lesson.max_points:g}", "")
    console.print(table)
    for item in judgements:
        if item.measured is not None:
            rows = lesson.hand_ins[item.item].figures(item.measured)
            say("\n".join([f"{item.item}: {item.status}", *(f"{label}: {text}" for label, text in rows), ""]))
        elif item.kind == "exercise" and item.status not in ("passed", "not attempted"):
            text = item.result.feedback if item.result else f"{item.item}: {item.status}. {item.detail}"
            say(text)
            say("")


@app.command()
def solve(
    number: Annotated[str, typer.Argument(metavar="NN", help="Number of the lesson, for example 01.")],
    out: Annotated[Path, typer.Option(help="Notebook to write.")],
) -> None:
    """Write a solved copy of a lesson, for the instructor."""
    import nbformat

    from quizzes import lesson
    from quizzes.learner.solve import lesson_notebook, solved

    if out.exists():
        raise CommandRefused(f"{out} exists and may be somebody's work; choose another --out or remove it")
    quiz = lesson(number)
    notebook = nbformat.read(lesson_notebook(ROOT / "notebooks", number), as_version=4)
    nbformat.write(solved(notebook, quiz), out)
    say(f"Lesson {number}, solved: {out}")


@app.command()
def claims(
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write them as JSON too.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write them as a page too.")] = None,
) -> None:
    """Show every claim about compression that the course tests, and what this machine measured or would need."""
    from quizzes.commands import claims as claims_report

    console.print(claims_report.as_table())
    for path, written in ((json, claims_report.as_json), (html, claims_report.as_html)):
        if path is not None:
            path.write_text(written(), encoding="utf-8")
            say(f"Written: {path}")
