"""The pages that are made from data, and the glossary that is written by hand."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import pytest

from docs import pages
from docs.sphinx_links import terms
from notebooks import generate
from tests.prose import offences

DOCS = Path(__file__).resolve().parents[2] / "docs"
GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
SYLLABUS = generate.lessons()
READY = {entry["name"][:2]: entry["name"] for entry in SYLLABUS if entry["status"] == "ready"}
RUN = {
    "when": "2026-01-01T00:00:00+00:00",
    "machine": {"processor": "A_B*C", "cores": 2},
    "seconds": {"00_start_here": 41.4, "01_affine": 20.2},
    "claims": [
        {"id": "a", "claim": "2*2 | 4", "lesson": "01", "measured": "4 [3, 5]", "verdict": "yes", "why": "It is."},
        {"id": "b", "claim": "b", "lesson": "02, 16", "measured": "–", "verdict": "not measured", "why": ""},
    ],
}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_pages_are_plain(page):
    text = re.sub(r"\{\w+\}`|:::.*|^:.*", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not offences(text)


def test_map_links_what_was_built_and_names_the_rest():
    made = pages.lesson_map(SYLLABUS, {"00_start_here", "01_affine"})
    assert "| [00 Start here](lessons/00_start_here.ipynb) | – |" in made
    assert "| [01 Affine quantization](lessons/01_affine.ipynb) | [00](lessons/00_start_here.ipynb) |" in made
    assert "| 02 Number formats | [01](lessons/01_affine.ipynb) |" in made
    assert made.endswith("```{toctree}\n:hidden:\n\nlessons/00_start_here\nlessons/01_affine\n```\n")
    assert made.count("\n## ") + made.startswith("## ") == len({entry["part"] for entry in SYLLABUS})


def test_a_lesson_to_come_is_marked():
    entry = SYLLABUS[0] | {"status": "coming"}
    assert "00 Start here (coming)" in pages.lesson_map([entry], set())


def test_claims_stand_with_their_figures_and_are_counted():
    made = pages.claims(RUN)
    assert made.startswith("Do they agree? 1 yes, 0 partly, 0 no, 0 open, 1 not measured.")
    assert r"| {lesson}`01` | **a** 2\*2 \| 4 | 4 \[3, 5\] | yes | It is. |" in made
    assert "| {lesson}`02`, {lesson}`16` | **b** b | – | not measured |  |" in made


def test_machine_and_run_times():
    assert r"| processor | A\_B\*C |" in pages.machine(RUN)
    assert "| built (UTC) | 2026-01-01T00:00:00+00:00 |" in pages.machine(RUN)
    made = pages.times(RUN, SYLLABUS)
    budget = sum(entry["seconds"] for entry in SYLLABUS[:2])
    assert f"| {{lesson}}`00` | Start here | 41 | {SYLLABUS[0]['seconds']} |" in made
    assert made.endswith(f"|  | all | 62 | {budget} |\n")


def test_a_lesson_page_has_its_number_and_says_what_it_shows():
    cells = [nbformat.v4.new_markdown_cell("# Start here\n\n| | |"), nbformat.v4.new_code_cell("1")]
    made = nbformat.v4.new_notebook(cells=cells)
    pages.lesson_page(made, SYLLABUS[0], RUN["seconds"])
    assert made.cells[0].source.startswith("# 00 Start here\n\n| | |\n\nThis page shows one run of ")
    assert "41 seconds" in made.cells[0].source


def test_links_of_outputs_lead_to_pages_that_are_built():
    shown = '<a href="01_affine.ipynb">01</a> <a href="02_number_formats.ipynb">02</a>'
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", {"text/html": shown})])
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Start here"), cell])
    pages.lesson_page(made, SYLLABUS[0], RUN["seconds"])
    assert made.cells[1].outputs[0].data["text/html"] == '<a href="01_affine.html">01</a> <a>02</a>'


@pytest.mark.parametrize("plan", pages.WORKSHOPS)
def test_a_workshop_has_what_its_lessons_build_on(plan):
    needs = {entry["name"][:2]: set(entry["needs"]) for entry in SYLLABUS}
    numbers = pages.WORKSHOPS[plan]
    for place, number in enumerate(numbers):
        assert needs[number] <= set(numbers[:place]), f"{number} needs {needs[number]}"


def test_workshop_hours_are_the_cards_minutes():
    minutes = {entry["name"][:2]: entry["minutes"] for entry in SYLLABUS}
    made = pages.workshops(SYLLABUS)
    plan, numbers = next(iter(pages.WORKSHOPS.items()))
    assert re.search(rf"\| {plan} \| .* \| {sum(minutes[n] for n in numbers) / 60:.1f} \|", made)
    assert f"| a term | all, in order | {sum(minutes.values()) / 60:.1f} |" in made
    assert plan not in pages.workshops(SYLLABUS[:1])


def test_each_module_has_a_page():
    library = DOCS.parent / "lessons_lib"
    found = pages.rooms(library)
    there = {
        path.relative_to(library).with_suffix("").as_posix().replace("/", ".") for path in library.rglob("[!_]*.py")
    }
    assert set(pages.module_names(found)) == there
    assert all(told for modules in found.values() for told in modules.values())
    assert "automodule:: lessons_lib.arithmetic.affine\n" in pages.module_page("lessons_lib", "arithmetic.affine")
    made = pages.module_map(found)
    assert "| [affine](api/arithmetic.affine.rst) |" in made
    headings = [line.removeprefix("## ") for line in made.splitlines() if line.startswith("## ")]
    assert headings == [room for room in pages.ROOMS if room in found] + ["beside the rooms"]


def test_pages_of_the_repository_lose_links_that_the_site_has_not():
    text = "[the file](docs/x.py), [a site](https://example.org), ![seen](docs/a.png)"
    assert pages.repository_page(text) == "the file, [a site](https://example.org), ![seen](/a.png)"


def test_the_glossary_has_each_term_once_and_in_order():
    known = [term.lower() for term in terms(GLOSSARY)]
    assert len(known) > 100
    assert [term for term, count in Counter(known).items() if count > 1] == []


def entries() -> list[tuple[list[str], str]]:
    """Each entry of the glossary: its terms, and what it says."""
    body = GLOSSARY.partition(":sorted:")[2].partition(":::")[0]
    found = []
    for block in body.strip().split("\n\n"):
        lines = block.splitlines()
        names = [line for line in lines if not line.startswith(" ")]
        found.append((names, " ".join(line.strip() for line in lines if line.startswith(" "))))
    return found


@cache
def words(number: str) -> str:
    """What a lesson says, in prose and code, in lower case."""
    source = jupytext.read(DOCS.parent / "notebooks" / "source" / f"{READY[number]}.py", fmt="py:percent")
    return " ".join(" ".join(cell.source for cell in source.cells).replace("*", "").split()).lower()


@pytest.mark.parametrize(("names", "told"), entries(), ids=lambda value: value[0] if isinstance(value, list) else "")
def test_each_entry_names_lessons_that_use_its_word(names, told):
    numbers = re.findall(r"\{lesson\}`(\d\d)`", told)
    assert numbers, f"{names} names no lesson"
    for number in numbers:
        if number in READY:
            assert any(name.lower() in words(number) for name in names), f"lesson {number} never says any of {names}"
