"""Run the lessons, once and in order, and refuse what did not run, raised, warned or shows a picture without words."""

import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from lessons_lib.measure import benchmark
from lessons_lib.show import claims
from notebooks.outputs import complaints

CELL_SECONDS = 900  # no cell of the course comes near it; a kernel that hangs must end


class Failed(RuntimeError):
    """The site cannot be built; the message says where and why."""


def execute_all(sources: list[Path], target: Path, report=print) -> dict:
    """Run these notebooks into the target folder, and say what was found on the way.

    Returns {"when", "machine", "seconds": {name: seconds}, "claims": rows as in `claims_since`}. Raises Failed at the
    first notebook with a flaw.
    """
    begin = datetime.now(UTC).isoformat(timespec="seconds")
    seconds = {}
    for source in sources:
        seconds[source.stem] = execute(source, target / source.name)
        report(f"{source.stem}: {seconds[source.stem]:.0f} s")
    return {"when": begin, "machine": benchmark.machine(), "seconds": seconds, "claims": claims_since(begin)}


def execute(source: Path, target: Path) -> float:
    """Run one notebook from top to bottom and write it with its outputs. Returns seconds, the kernel's start included.

    The points of whoever builds the site stay as they are: the kernel keeps its own elsewhere.
    Raises Failed when a cell raises, hangs or kills the kernel, and for what `flaws` finds.
    """
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(source.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else each kernel remarks on its local connection
    )
    begin = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as progress:
            client.execute(env=os.environ | {"COURSE_DATA": progress})
    except CellExecutionError as error:
        raise Failed(f"{source.name}: a cell raised {error.ename}: {error.evalue}") from None
    except CellTimeoutError:
        raise Failed(f"{source.name}: a cell took more than {CELL_SECONDS} s") from None
    except DeadKernelError:
        raise Failed(f"{source.name}: the kernel died; was there enough memory?") from None
    seconds = time.perf_counter() - begin
    problems = flaws(notebook)
    if problems:
        raise Failed(f"{source.name}: {'; '.join(problems)}")
    nbformat.write(notebook, target)
    return seconds


def flaws(notebook) -> list[str]:
    """What keeps an executed notebook from becoming a page, as sentences; cells count from 0."""
    problems, n_outputs = [], 0
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        n_outputs += len(cell.outputs)
        if cell.execution_count is None:
            problems.append(f"cell {place} did not run")
        if any(output.output_type == "error" for output in cell.outputs):
            problems.append(f"cell {place} raised an error")
        problems += [f"cell {place}: {complaint}" for complaint in complaints(cell.outputs)]
    return problems if n_outputs else [*problems, "it shows no output at all"]


def claims_since(begin: str) -> list[dict]:
    """Every claim with what was measured since then: {"id", "claim", "lesson", "measured", "verdict", "why"}.

    What the cache still holds of earlier runs is left out, so that a figure of the site is always this build's.
    """
    rows = []
    for row in claims.load_all():
        entry = {"id": row.claim.id, "claim": row.claim.claim}
        if row.when >= begin:
            measurement = row.measured
            entry |= {
                "lesson": row.lesson,
                "measured": measurement.measured,
                "verdict": measurement.verdict,
                "why": measurement.why,
            }
        else:
            verdict = "open" if row.claim.needs else "not measured"
            where = ", ".join(row.claim.lessons)
            entry |= {"lesson": where, "measured": "–", "verdict": verdict, "why": row.claim.needs}
        rows.append(entry)
    return [row for place, row in enumerate(rows) if row not in rows[:place]]
