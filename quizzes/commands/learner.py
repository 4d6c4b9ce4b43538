"""The commands of a learner who is under way: progress, next, reset."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
WORKSPACE = typer.Option("--workspace", envvar="COURSE_WORKSPACE", help="Folder of your notebooks; else workspace/.")


@app.command()
def progress() -> None:
    """Show the points you have earned in each lesson, and the minutes that the rest takes."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from quizzes.learner.standing import standings

    rows = standings()
    table = Table("lesson", title="Your progress", box=box.SIMPLE)
    for heading in ("points", "of", "exercises", "questions", "minutes", "left"):
        table.add_column(heading, justify="right")
    for row in rows:
        solved = (f"{sum(items.values())} of {len(items)}" for items in (row.exercises, row.questions))
        table.add_row(
            f"{row.number} {row.title}",
            f"{row.points:g}",
            str(row.most),
            *solved,
            str(row.minutes),
            str(row.minutes_left),
        )
    table.add_section()
    points, most = sum(row.points for row in rows), sum(row.most for row in rows)
    minutes, left = sum(row.minutes for row in rows), sum(row.minutes_left for row in rows)
    table.add_row("all", f"{points:g}", str(most), "", "", str(minutes), str(left))
    Console().print(table)


@app.command("next")
def next_exercise(
    workspace: Annotated[Path | None, WORKSPACE] = None,
    browser: Annotated[bool, typer.Option(help="Open the lesson in the browser, or only print where it is.")] = True,
) -> None:
    """Say which exercise comes next, and open its lesson where JupyterLab runs."""
    from quizzes import lesson
    from quizzes.learner import workspace as copies
    from quizzes.learner.standing import following, standings

    next_step = following(standings())
    if next_step is None:
        typer.echo("Every exercise and every question is solved.")
        return
    row, item = next_step
    exercise = lesson(row.number).work.get(item)
    worth = f" (points: {exercise.points}, minutes: about {exercise.minutes})" if exercise else ""
    place = copies.place(row.number, item, workspace or copies.FOLDER)
    typer.echo(f"Next: {item}{worth}, in lesson {row.number} {row.title}")
    if place.address is None:
        typer.echo(
            f"It stands in {place.notebook.name}. `make lab` opens the lessons, and so does "
            "`jupyter lab --notebook-dir=workspace`."
        )
    else:
        typer.echo(place.address)
        if browser:
            webbrowser.open(place.address)


@app.command()
def reset(
    number: Annotated[str, typer.Argument(metavar="NN", help="Number of the lesson, for example 01.")],
    workspace: Annotated[Path | None, WORKSPACE] = None,
) -> None:
    """Put a clean notebook in place of yours. Yours is kept beside it, and so are the points you have earned."""
    from quizzes.learner import workspace as copies

    clean, old_copy = copies.reset(number.zfill(2), workspace or copies.FOLDER)
    if old_copy == clean:
        typer.echo(f"{clean} is as clean as it came; nothing to do.")
        return
    typer.echo(f"{clean} is clean.")
    if old_copy is not None:
        typer.echo(
            f"What you had is kept in {old_copy}. If the lesson is open, choose File > Reload Notebook from Disk."
        )
