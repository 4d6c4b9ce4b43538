"""The command `course`. Torch is loaded by the commands that need it, so `course --help` is quick."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quizzes import class_commands, learner_commands

ROOT = Path(__file__).resolve().parents[1]
BEGIN_ANEW = "leave out --resume to begin anew, which replaces the grades and pages in --out"

app = typer.Typer(
    name="course",
    help="Model Compression, Measured: prepare the lessons, follow your progress, check and grade notebooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(class_commands.app)
app.add_typer(learner_commands.app)
console = Console()


class Refused(RuntimeError):
    """The command cannot do what was asked; the message is one line and says what to do."""


def main() -> None:
    """Run `course`. What a user can mend is said in one line; exit 0 only on success."""
    try:
        app()
    except (RuntimeError, ValueError, OSError, LookupError) as error:
        print(f"course: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _say(line: str) -> None:
    """One line as it is: no markup, no colour, no folding, so that other programs can read it."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _one_line(error: Exception) -> str:
    """The message of an error; a file system error names its file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


@app.command()
def doctor() -> None:
    """Check Python, packages, weights, cores, memory and sandbox: a line each, OK or FAIL and the mend."""
    from quizzes.doctor import findings

    healthy = True
    for finding in findings(ROOT):
        healthy &= finding.ok
        _say(f"{'OK  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.detail}")
    raise typer.Exit(0 if healthy else 1)


@app.command()
def prepare() -> None:
    """Verify and convert the weights and train the shared teachers once. Safe to interrupt and to repeat."""
    from lessons_lib import preparation

    begin = time.perf_counter()
    preparation.prepare(report=_say)
    _say(f"Everything is prepared ({time.perf_counter() - begin:.0f} s).")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of the study, as in data/studies/NAME.json.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what was computed before, and start anew.")] = False,
) -> None:
    """Compute a study, or resume one that was interrupted."""
    from lessons_lib import study as studies

    found = studies.load(name)
    table = found.compute(fresh=fresh)
    _say(f"Study {name}: {len(table)} cells, kept in {found.path}.")


@app.command()
def check(notebooks: Annotated[list[Path], typer.Argument(help="Your notebooks.", metavar="NOTEBOOK...")]) -> None:
    """Judge your own notebooks as the grader would. Exit 1 unless everything passes."""
    from quizzes.grading.grader import Grader, lesson_of
    from quizzes.grading.model_files import beside
    from quizzes.grading.sandbox import Best
    from quizzes.grading.submission import Unreadable, read

    everything = True
    for path in notebooks:
        try:
            submission = read(path)
            lesson = lesson_of(submission)
            submission = beside(submission, path)
        except Unreadable as error:
            _say(f"{path}: {error}")
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
            _say("\n".join([f"{item.item}: {item.status}", *(f"{label}: {text}" for label, text in rows), ""]))
        elif item.kind == "exercise" and item.status not in ("passed", "not attempted"):
            text = item.result.feedback if item.result else f"{item.item}: {item.status}. {item.detail}"
            _say(text)
            _say("")


def _check_folder(out: Path, gradebook: Path, db: str | None, resume: bool) -> None:
    """Raises Refused when a gradebook in OUT would be begun over, or is to be gone on with and is not there."""
    if gradebook.exists() and not resume:
        raise Refused(f"{out} already holds a gradebook; add --resume to go on with it, or choose another --out")
    if resume and db is None and not gradebook.exists():
        raise Refused(
            f"{out} holds no gradebook that --resume could go on with; give the --out or the --db of the run "
            f"before, or {BEGIN_ANEW}"
        )


def _check_database(begun: bool, resume: bool) -> None:
    """The same of a database elsewhere; begun: whether it holds hand-ins."""
    if begun and not resume:
        raise Refused("the database already holds a gradebook; add --resume to go on with it, or choose another --db")
    if resume and not begun:
        raise Refused(
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
    seconds: Annotated[float, typer.Option(min=0.1, help="CPU time of one exercise; to wait, ten times.")] = 10.0,
    workers: Annotated[int, typer.Option(min=1, help="Submissions judged at once, each by a process.")] = 1,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler's, to judge there.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Texts to judge topic models on, TEXTS/<topic>/*.txt; else the honour split.")
    ] = None,
    class_file: Annotated[Path | None, class_commands.CLASS] = None,
    db: Annotated[str | None, class_commands.DB] = None,
) -> None:
    """Grade a folder of submissions, SUBMISSIONS/<student>/<notebook>.ipynb or nbgrader's, in a sandbox."""
    from lessons_lib import held_out
    from quizzes.grading import classfile, export, folder, results
    from quizzes.grading.gradebook import FILE, Gradebook
    from quizzes.grading.sandbox import Bubblewrap, Limits, Plain

    if not submissions.exists():
        raise Refused(f"{submissions} is not a folder; give the folder that holds one folder a student, or a zip")
    if submissions.resolve() in [out.resolve(), *out.resolve().parents]:
        raise Refused(f"--out {out} lies inside the submissions and would be graded; choose another folder")
    _check_folder(out, out / FILE, db, resume)
    sandbox = Plain() if unsafe_no_sandbox else Bubblewrap()
    group = classfile.read(class_file) if class_file else None
    sentences = tuple(held_out.sentences_in(texts)) if texts else ()
    gradebook = Gradebook.in_folder(out, db)
    if db:
        _check_database(bool(gradebook.entries()), resume)
    if group is not None:
        gradebook.keep("class", group.dumps())
    from quizzes.grading.cluster import Cluster
    from quizzes.grading.grader import Grader
    from quizzes.grading.schedule import Here, Processes

    limits = Limits(cpu_seconds=seconds)
    grader = Grader(gradebook.seed, sandbox, limits, questions_count=not no_questions, texts=sentences)
    judges = Cluster(grader, dask) if dask else Processes(grader, workers) if workers > 1 else Here(grader)
    begin, graded = time.perf_counter(), 0

    def report(entry, fresh: bool) -> None:
        nonlocal graded
        graded += fresh
        what = f"{entry.student}  {entry.lesson or '--'}  {entry.points:g} of {entry.max_points:g}  {entry.status}"
        _say(what if fresh else f"{what}  (as before)")

    try:
        folder.grade(submissions, gradebook, grader, report, judges)
        results.publish(gradebook, out)
    except KeyboardInterrupt:
        raise Refused(f"interrupted; nothing is lost: the same command with --resume goes on ({out})") from None
    finally:
        written = export.write_grades(gradebook, out)
        gradebook.close()
    _say(f"{graded} graded in {time.perf_counter() - begin:.0f} s; grades in {written}")


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="What to measure: grading.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that judge for this course; the others have one.")] = 2,
) -> None:
    """Measure side by side with others, on this machine. They are installed in environments of their own."""
    from quizzes.grading import bench as grading

    if what != "grading":
        raise Refused(f"there is no bench {what!r}; there is grading")
    grading.run(workers, _say)


@app.command()
def solve(
    number: Annotated[str, typer.Argument(metavar="NN", help="Number of the lesson, for example 01.")],
    out: Annotated[Path, typer.Option(help="Notebook to write.")],
) -> None:
    """Write a solved copy of a lesson, for the instructor."""
    import nbformat

    from quizzes import lesson
    from quizzes.solve import lesson_notebook, solved

    if out.exists():
        raise Refused(f"{out} exists and may be somebody's work; choose another --out or remove it")
    quiz = lesson(number)
    notebook = nbformat.read(lesson_notebook(ROOT / "notebooks", number), as_version=4)
    nbformat.write(solved(notebook, quiz), out)
    _say(f"Lesson {number}, solved: {out}")


@app.command()
def claims(
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write them as JSON too.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write them as a page too.")] = None,
) -> None:
    """Show every claim about compression that the course tests, and what this machine measured or would need."""
    from quizzes import claims_report

    console.print(claims_report.as_table())
    for path, written in ((json, claims_report.as_json), (html, claims_report.as_html)):
        if path is not None:
            path.write_text(written(), encoding="utf-8")
            _say(f"Written: {path}")
