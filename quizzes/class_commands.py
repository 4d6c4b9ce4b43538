"""The commands for what comes after grading: report, export, override."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
    from quizzes.grading import classfile
    from quizzes.grading.gradebook import FILE, Gradebook, GradebookError

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


@app.command()
def report(
    out: Annotated[Path, OUT],
    class_file: Annotated[Path | None, CLASS] = None,
    db: Annotated[str | None, DB] = None,
) -> None:
    """Write the class at a glance, OUT/report.html; bring grades.csv and the feedback pages up to date."""
    from quizzes.grading.results import publish

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

    from quizzes.grading import leaderboard as standing

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
    from quizzes.grading import export as tables
    from quizzes.grading import to_nbgrader

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
    from quizzes.grading import results

    if undo == (points is not None):
        raise ValueError("give POINTS, or --undo to take them back")
    gradebook = opened(out, db, None)
    try:
        results.override(gradebook, student, lesson, item, points, comment)
        results.publish(gradebook, out)
    finally:
        gradebook.close()
    typer.echo(f"{student}, lesson {lesson}, {item}: " + ("as the machine has it" if undo else f"{points:g} points"))
