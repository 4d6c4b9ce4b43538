"""The commands of whoever grades: grade, report, export, override, leaderboard, and the bench."""

import importlib
import sys
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quizzes.commands.output import CommandRefused, say
from quizzes.grading.sandbox.limits import LIMITS

ROOT = Path(__file__).resolve().parents[2]
BEGIN_ANEW = "leave out --resume to begin anew, which replaces the grades and pages in --out"

app = typer.Typer()
OUT = typer.Argument(metavar="OUT", help="Folder that course grade wrote.")
DB = typer.Option("--db", help="SQLAlchemy URL of the gradebook, when it is not in OUT.", metavar="URL")
CLASS = typer.Option("--class", help="Class file, TOML or CSV; kept in the gradebook.", metavar="FILE")


class System(StrEnum):
    """Where grades can go."""

    csv = "csv"
    canvas = "canvas"
    moodle = "moodle"
    nbgrader = "nbgrader"


def opened(out: Path, db: str | None, class_file: Path | None):
    """The gradebook that a command works on; with a class file, that is kept in it. Raises GradebookError for none."""
    from quizzes.grading.gradebook import class_file as classfile
    from quizzes.grading.gradebook.gradebook import FILE, Gradebook, GradebookError

    if db is None and not (out / FILE).is_file():
        raise GradebookError(
            f"{out} holds no gradebook; if it was graded with --db, give the same --db here; if "
            f"nothing was graded yet, run course grade first, with --out {out}"
        )
    group = classfile.read(class_file) if class_file else None
    if db is not None and _is_missing(db):
        raise GradebookError(f"there is no database {db}; give the --db of the grading, or run course grade first")
    gradebook = Gradebook.in_folder(out, db)
    if group is not None:
        gradebook.keep("class", group.dumps())
    return gradebook


def _is_missing(db: str) -> bool:
    """Whether a database in a file is not there; to open it would make an empty one."""
    _, is_file, path = db.partition("sqlite:///")
    return bool(is_file) and not Path(path).is_file()


def _check_folder(out: Path, gradebook: Path, db: str | None, resume: bool) -> None:
    """Raises CommandRefused when a gradebook in OUT would be begun over, or is to be gone on with and is not there."""
    if gradebook.exists() and not resume:
        raise CommandRefused(f"{out} already holds a gradebook; add --resume to go on with it, or choose another --out")
    if resume and db is None and not gradebook.exists():
        raise CommandRefused(
            f"{out} holds no gradebook that --resume could go on with; give the --out or the --db of the run "
            f"before, or {BEGIN_ANEW}"
        )


def _check_database(begun: bool, resume: bool) -> None:
    """The same of a database elsewhere; begun: whether it holds hand-ins."""
    if begun and not resume:
        raise CommandRefused(
            "the database already holds a gradebook; add --resume to go on with it, or choose another --db"
        )
    if resume and not begun:
        raise CommandRefused(
            "the database holds nothing that --resume could go on with; give the --db of the run before, or "
            f"{BEGIN_ANEW}"
        )


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="Folder of students' folders, or a zip from Canvas or Moodle.")],
    out: Annotated[Path, typer.Option(help="Folder for grades.csv, feedback, report.html and gradebook.sqlite.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with OUT: grade what is new or changed.")] = False,
    unsafe_no_sandbox: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run submissions as ordinary processes; trust every one.")
    ] = False,
    no_questions: Annotated[bool, typer.Option("--no-questions", help="Let exercises alone count.")] = False,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="CPU time of one exercise; to wait, ten times.")
    ] = LIMITS.cpu_seconds,
    memory: Annotated[
        int, typer.Option(min=256, metavar="MB", help="Memory of one submission, its files in /tmp included.")
    ] = LIMITS.memory_bytes // 2**20,
    workers: Annotated[int, typer.Option(min=1, help="Submissions judged at once, each by a process.")] = 1,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler's, to judge there.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Texts to judge topic models on, TEXTS/<topic>/*.txt; else the honour split.")
    ] = None,
    class_file: Annotated[Path | None, CLASS] = None,
    db: Annotated[str | None, DB] = None,
) -> None:
    """Grade a folder of submissions, SUBMISSIONS/<student>/<notebook>.ipynb or nbgrader's, in a sandbox."""
    from quizzes.grading.gradebook import class_file as classfile
    from quizzes.grading.gradebook.gradebook import FILE, Gradebook
    from quizzes.grading.judging import folder
    from quizzes.grading.reports import export, publish
    from quizzes.grading.sandbox.bubblewrap import Bubblewrap, Plain
    from quizzes.models import held_out

    if not submissions.exists():
        raise CommandRefused(
            f"{submissions} is not a folder; give the folder that holds one folder a student, or a zip"
        )
    if submissions.resolve() in [out.resolve(), *out.resolve().parents]:
        raise CommandRefused(f"--out {out} lies inside the submissions and would be graded; choose another folder")
    _check_folder(out, out / FILE, db, resume)
    sandbox = Plain() if unsafe_no_sandbox else Bubblewrap()
    group = classfile.read(class_file) if class_file else None
    sentences = tuple(held_out.sentences_in(texts)) if texts else ()
    gradebook = Gradebook.in_folder(out, db)
    if db:
        _check_database(bool(gradebook.entries()), resume)
    if group is not None:
        gradebook.keep("class", group.dumps())
    from quizzes.grading.judging.cluster import Cluster
    from quizzes.grading.judging.grader import Grader
    from quizzes.grading.judging.schedule import Here, Processes

    limits = replace(LIMITS, cpu_seconds=seconds, memory_bytes=memory * 2**20)
    grader = Grader(gradebook.seed, sandbox, limits, questions_count=not no_questions, texts=sentences)
    judges = Cluster(grader, dask) if dask else Processes(grader, workers) if workers > 1 else Here(grader)
    begin, graded = time.perf_counter(), 0

    def report(entry, fresh: bool) -> None:
        nonlocal graded
        graded += fresh
        what = f"{entry.student}  {entry.lesson or '--'}  {entry.points:g} of {entry.max_points:g}  {entry.status}"
        say(what if fresh else f"{what}  (as before)")

    try:
        folder.grade(submissions, gradebook, grader, report, judges)
        publish.publish(gradebook, out)
    except KeyboardInterrupt:
        raise CommandRefused(f"interrupted; nothing is lost: the same command with --resume goes on ({out})") from None
    finally:
        written = export.write_grades(gradebook, out)
        gradebook.close()
    say(f"{graded} graded in {time.perf_counter() - begin:.0f} s; grades in {written}")


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="What to measure: grading.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that judge for this course; the others have one.")] = 2,
) -> None:
    """Measure side by side with others, on this machine. They are installed in environments of their own."""
    if what != "grading":
        raise CommandRefused(f"there is no bench {what!r}; there is grading")
    if not (ROOT / "tests" / "bench").is_dir():
        raise CommandRefused(
            "the bench runs from a checkout of the course, which has tests/bench; this is an installation"
        )
    sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.bench.bench").run(workers, say)


@app.command()
def report(
    out: Annotated[Path, OUT],
    class_file: Annotated[Path | None, CLASS] = None,
    db: Annotated[str | None, DB] = None,
) -> None:
    """Write the class at a glance, OUT/report.html; bring grades.csv and the feedback pages up to date."""
    from quizzes.grading.reports.publish import publish

    gradebook = opened(out, db, class_file)
    try:
        typer.echo(publish(gradebook, out))
    finally:
        gradebook.close()


@app.command()
def leaderboard(
    out: Annotated[Path, OUT],
    db: Annotated[str | None, DB] = None,
) -> None:
    """Show the models that were handed in, the best first; OUT/leaderboard.html holds the same."""
    from rich.console import Console
    from rich.table import Table

    from quizzes.grading.reports import leaderboard as standing

    gradebook = opened(out, db, None)
    try:
        boards = standing.boards(gradebook)
        if not boards:
            raise ValueError("no model that could be judged was handed in yet")
        for board in boards:
            table = Table(*standing.HEADINGS, title=board.title)
            for row in board.rows:
                table.add_row(*row.cells)
            Console().print(table)
        typer.echo(standing.write(gradebook, out))
    finally:
        gradebook.close()


@app.command()
def export(
    out: Annotated[Path, OUT],
    to: Annotated[System, typer.Option("--to", help="The system that takes the grades.")],
    class_file: Annotated[Path | None, CLASS] = None,
    db: Annotated[str | None, DB] = None,
) -> None:
    """Hand the grades on: OUT/grades.csv, canvas.csv or moodle.csv to import there, or a course folder for nbgrader."""
    from quizzes.grading.reports import export as tables
    from quizzes.grading.reports import to_nbgrader

    gradebook = opened(out, db, class_file)
    try:
        if to is System.csv:
            written = tables.Exported(tables.write_grades(gradebook, out))
        elif to is System.nbgrader:
            written = tables.Exported(to_nbgrader.write(gradebook, out / "nbgrader"))
        else:
            write = tables.write_canvas if to is System.canvas else tables.write_moodle
            written = write(gradebook, out / f"{to.value}.csv")
    finally:
        gradebook.close()
    if written.left_out:
        typer.echo(f"left out, because {to.value} would not know them: {', '.join(written.left_out)}", err=True)
    typer.echo(written.path)


@app.command()
def override(
    out: Annotated[Path, OUT],
    student: Annotated[str, typer.Argument(help="Name as in grades.csv.")],
    lesson: Annotated[str, typer.Argument(metavar="LESSON", help="Number of the lesson, for example 03.")],
    item: Annotated[str, typer.Argument(help="An exercise, 'question 2', or 'lesson' for all of it.")],
    points: Annotated[float | None, typer.Argument(help="The points that count from now on.")] = None,
    comment: Annotated[str, typer.Option(help="Why; the student reads it.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Let the machine's verdict count again.")] = False,
    db: Annotated[str | None, DB] = None,
) -> None:
    """Give points by hand. The machine's verdict stays beside them, and grading again changes neither."""
    from quizzes.grading.reports import publish

    if undo == (points is not None):
        raise ValueError("give POINTS, or --undo to take them back")
    gradebook = opened(out, db, None)
    try:
        publish.override(gradebook, student, lesson, item, points, comment)
        publish.publish(gradebook, out)
    finally:
        gradebook.close()
    typer.echo(f"{student}, lesson {lesson}, {item}: " + ("as the machine has it" if undo else f"{points:g} points"))
