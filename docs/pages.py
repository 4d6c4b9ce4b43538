"""The parts of the site that are made from data: lessons, their map, the claims, run times, the library's modules."""

import ast
import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from docs import static_widgets
from quizzes import lesson as bank

# What to teach in a given time. A test holds that each plan has what its lessons build on.
WORKSHOPS = {
    "half a day: eight bits": ["00", "01", "08"],
    "a day: a small model learns from a large one": ["00", "03", "04", "05"],
    "a day: fewer bits": ["00", "01", "02", "08", "09"],
    "two days: a model made small, from FP32 to the capstone": [
        "00",
        "01",
        "02",
        "03",
        "04",
        "08",
        "09",
        "12",
        "14",
        "18",
    ],
}
# The rooms of lessons_lib, each building on those before it; tests/test_house.py holds the order.
ROOMS = (
    "files",
    "measure",
    "show",
    "training",
    "tasks",
    "arithmetic",
    "distillation",
    "int8",
    "four_bits",
    "pruning",
    "inference",
    "serving",
    "capstone",
    "studies",
)
PUNCTUATION = re.compile(r"([\\`*_{}\[\]<>|$#~])")
LOCAL_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#|/)[^)]+\)")
PICTURE = re.compile(r"(!\[[^\]]*\]\()docs/")
LESSON_LINK = re.compile(r' href="(\d\d_\w+)\.ipynb"')
LEADING = re.compile(r"^(\s*)([-+]|\d+[.)])(\s)")


def plain(text: str) -> str:
    """A text as Markdown that shows exactly it, on one line."""
    return LEADING.sub(r"\1\\\2\3", PUNCTUATION.sub(r"\\\1", " ".join(str(text).split())))


def table(columns: list[str], rows: list[list[str]], right: tuple[int, ...] = ()) -> str:
    """A Markdown table of cells that are Markdown; the columns in `right` are aligned to the right."""
    rules = ["---:" if place in right else "---" for place in range(len(columns))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, rules, *rows]) + "\n"


def lesson_page(notebook, entry: dict, seconds: dict[str, float]) -> None:
    """Make an executed notebook a page: its number in the title, a line on this build, widgets in words, and links from
    its outputs to the pages of other lessons. seconds: of every lesson that is built, by name. In place."""
    static_widgets.write_out(notebook)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "text/html" in output.get("data", {}):
            output.data["text/html"] = LESSON_LINK.sub(
                lambda link: f' href="{link[1]}.html"' if link[1] in seconds else "", output.data["text/html"]
            )
    first = notebook.cells[0]
    first.source = first.source.replace("# ", f"# {entry['name'][:2]} ", 1)
    first.source += (
        f"\n\nThis page shows one run of `notebooks/{entry['name']}.ipynb`, {seconds[entry['name']]:.0f} seconds long, "
        "on the machine named under [Claims](../claims.md). Exercises and questions are as you will find them, not "
        "solved: to try them, open the notebook with `make lab`."
    )


def lesson_map(syllabus: list[dict], built: set[str]) -> str:
    """The lessons by part, as tables, with the links that the navigation is made of."""
    parts = []
    for part, members in groupby(syllabus, key=lambda entry: entry["part"]):
        rows = [
            [
                _title(entry, built),
                ", ".join(_number(need, built, syllabus) for need in entry["needs"]) or "–",
                str(entry["minutes"]),
                _points(entry),
                plain("; ".join(entry["objectives"])),
            ]
            for entry in members
        ]
        parts += [f"## {part}\n", table(["Lesson", "Needs", "Minutes", "Points", "You will be able to"], rows, (2, 3))]
    pages = [f"lessons/{entry['name']}" for entry in syllabus if entry["name"] in built]
    return "\n".join([*parts, "```{toctree}", ":hidden:", "", *pages, "```", ""])


def _title(entry: dict, built: set[str]) -> str:
    title = f"{entry['name'][:2]} {plain(entry['title'])}"
    if entry["name"] in built:
        return f"[{title}](lessons/{entry['name']}.ipynb)"
    return f"{title} (coming)" if entry["status"] == "coming" else title


def _number(number: str, built: set[str], syllabus: list[dict]) -> str:
    name = next(entry["name"] for entry in syllabus if entry["name"].startswith(number))
    return f"[{number}](lessons/{name}.ipynb)" if name in built else number


def _points(entry: dict) -> str:
    return f"{bank(entry['name'][:2]).max_points:g}" if entry["status"] == "ready" else "–"


def claims(run: dict) -> str:
    """What was measured in this build, claim by claim, and how many agree."""
    verdicts = [row["verdict"] for row in run["claims"]]
    counts = ", ".join(
        f"{verdicts.count(word)} {word}" for word in dict.fromkeys(["yes", "partly", "no", "open", *verdicts])
    )
    rows = [
        [
            row["lesson"],
            f"**{plain(row['id'])}** {plain(row['claim'])}",
            plain(row["measured"]),
            row["verdict"],
            plain(row["why"]),
        ]
        for row in run["claims"]
    ]
    rows = [[", ".join(f"{{lesson}}`{number}`" for number in row[0].split(", ")), *row[1:]] for row in rows]
    return f"Do they agree? {counts}.\n\n" + table(["Where", "Claim", "Measured here", "Agrees?", "Why"], rows)


def machine(run: dict) -> str:
    """The machine of this build, and when it ran."""
    rows = [[plain(name), plain(value)] for name, value in (run["machine"] | {"built (UTC)": run["when"]}).items()]
    return table(["Machine", "of this build"], rows)


def times(run: dict, syllabus: list[dict]) -> str:
    """Seconds that each lesson took in this build, beside its budget."""
    ran = [entry for entry in syllabus if entry["name"] in run["seconds"]]
    rows = [
        [
            f"{{lesson}}`{entry['name'][:2]}`",
            plain(entry["title"]),
            f"{run['seconds'][entry['name']]:.0f}",
            str(entry["seconds"]),
        ]
        for entry in ran
    ]
    total = [["", "all", f"{sum(run['seconds'].values()):.0f}", str(sum(entry["seconds"] for entry in ran))]]
    return table(["Where", "Lesson", "Seconds", "Budget"], rows + total, (2, 3))


def workshops(syllabus: list[dict]) -> str:
    """The plans for a workshop, with their minutes; the last one is the whole course."""
    minutes = {entry["name"][:2]: entry["minutes"] for entry in syllabus}
    plans = {plan: numbers for plan, numbers in WORKSHOPS.items() if set(numbers) <= set(minutes)}
    rows = [
        [plain(plan), " ".join(f"{{lesson}}`{number}`" for number in numbers), _hours(minutes[n] for n in numbers)]
        for plan, numbers in plans.items()
    ]
    return table(["Plan", "Lessons", "Hours"], [*rows, ["a term", "all, in order", _hours(minutes.values())]], (2,))


def _hours(minutes) -> str:
    return f"{sum(minutes) / 60:.1f}"


def rooms(library: Path) -> dict[str, dict[str, str]]:
    """The modules of a package by room, "" for those beside the rooms, each with the first sentence of its docstring.

    A room's own sentence stands under "". Rooms come in the order in which they build on one another.
    """
    names = [name for name in ROOMS if (library / name).is_dir()]
    names += sorted(path.parent.name for path in library.glob("*/__init__.py") if path.parent.name not in names)
    by_room = {name: _sentences((library / name).glob("*.py")) for name in names}
    return by_room | {"": _sentences(library.glob("[!_]*.py"))}


def _sentences(paths: Iterable[Path]) -> dict[str, str]:
    """The first sentence of each module's docstring, by its name; a package's own under ""."""
    sentences = {}
    for path in sorted(paths):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        sentences[path.stem.replace("__init__", "")] = docstring.partition("\n\n")[0].replace("\n", " ")
    return sentences


def module_page(package: str, name: str) -> str:
    """The page of one module, in reStructuredText, for autodoc to fill. name: with its room, as in "show.tables"."""
    return (
        f"{name}\n{'=' * len(name)}\n\n.. automodule:: {package}.{name}\n   :members:\n"
        "   :member-order: bysource\n   :ignore-module-all:\n"
    )


def module_names(by_room: dict[str, dict[str, str]]) -> list[str]:
    """All modules with their rooms, in the order of the rooms."""
    return [f"{room}.{name}".lstrip(".") for room, modules in by_room.items() for name in modules if name]


def module_map(by_room: dict[str, dict[str, str]]) -> str:
    """The modules as a table for each room, with the links that the navigation is made of."""
    parts = []
    for room, modules in by_room.items():
        rows = [
            [f"[{name}](api/{f'{room}.{name}'.lstrip('.')}.rst)", plain(sentence)]
            for name, sentence in modules.items()
            if name
        ]
        if rows:
            parts += [f"## {room or 'beside the rooms'}\n", f"{plain(modules.get('', ''))}\n"]
            parts.append(table(["Module", "What it is about"], rows))
    pages = [f"api/{name}" for name in module_names(by_room)]
    return "\n".join([*parts, "```{toctree}", ":hidden:", "", *pages, "```", ""])


def repository_page(text: str) -> str:
    """A page of the repository for the site: pictures are found, links to files that it lacks become their names."""
    return LOCAL_LINK.sub(r"\1", PICTURE.sub(r"\1/", text))
