"""A learner in JupyterLab: runs lessons, answers by keyboard, moves a slider, goes wrong and right, restarts."""

import re
from dataclasses import dataclass

import pytest

from quizzes import lesson
from tests.browser import answers
from tests.browser.access import serious_faults
from tests.browser.jupyterlab import Notebook

pytestmark = pytest.mark.needs("chromium")


@dataclass(frozen=True)
class Visit:
    """A lesson, the exercise that the learner tries in the middle of it, and a piece of the cell that trains something,
    if one does."""

    name: str
    exercise: str
    long: str = ""

    @property
    def number(self) -> str:
        return self.name[:2]


SHOWN = "img, table"  # what a slider changes: a figure, in lesson 13 a table


def _visit(name: str, *arguments: str, marks=()):
    return pytest.param(Visit(name, *arguments), id=name, marks=marks)


VISITS = [
    _visit("01_affine", "sqnr_db"),
    _visit("04_distil_a_classifier", "take_layers", "distil_classifier.live("),
    _visit("13_lora_and_qlora", "merge", "studied.fine_tune(", marks=pytest.mark.proof),  # it runs for minutes
]


@pytest.fixture(params=VISITS, scope="module")
def visit(request):
    return request.param


@pytest.fixture(scope="module")
def opened(visit, chromium, lab):
    """The lesson, run; each test goes on with what the one before left, as a learner does."""
    notebook = Notebook(chromium, lab, f"{visit.name}.ipynb")
    notebook.run_many("notebook:run-all-cells")
    yield notebook
    notebook.close()


def said(cell) -> str:
    """The text below a cell, in one line."""
    return re.sub(r"\s+", " ", cell.locator(".jp-Cell-outputArea").inner_text())


def test_the_lesson_runs_without_an_error(opened):
    assert opened.raised() == []
    assert opened.page.get_by_text("Jupyter news").count() == 0  # `make lab` asks nobody on the network


def test_a_slider_moves_by_keyboard_and_the_figure_follows(opened, visit):
    position = opened.holding("widgets.explore(")
    cell = opened.select(position)
    before = cell.locator(SHOWN).first.evaluate("shown => shown.outerHTML")
    opened.tab_to(".course-controls [role=slider]")
    handle = opened.page.locator(":focus")
    assert handle.get_attribute("aria-label")
    told = handle.get_attribute("aria-valuetext")
    at_the_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    opened.page.keyboard.press("ArrowLeft" if at_the_end else "ArrowRight")
    opened.page.wait_for_function(
        "([cell, found, before]) => {const shown = cell.querySelector(found); "
        "return shown && shown.outerHTML !== before}",
        arg=[cell.element_handle(), SHOWN, before],
    )
    assert opened.page.locator(":focus").get_attribute("aria-valuetext") != told


def test_a_question_is_practised_and_answered_by_keyboard(opened, visit, lab):
    question = next(iter(lesson(visit.number).questions.values()))
    wrong = next(letter for letter in question.choices if letter != question.right)
    position = opened.find("question", question.id)
    cell = opened.select(position)
    for letter, key, verdict in ((wrong, "Enter", "is not right"), (question.right, "Space", "is right")):
        opened.select(position)
        opened.tab_to(f"button[title='Practise: answer {letter} to question {question.id}']")
        opened.page.keyboard.press(key)
        cell.get_by_role("alert").get_by_text(f"{letter} {verdict}").wait_for()
    assert f"question {question.id}" not in lab.points(visit.number)
    for letter, verdict, points in ((wrong, "is not right", 0.0), (question.right, "is right", 1.0)):
        cell = opened.write(position, f'quiz.ask("{question.id}", answer="{letter}")')
        cell.get_by_text(f"{letter} {verdict}").wait_for()
        assert lab.points(visit.number)[f"question {question.id}"] == points


def test_a_wrong_solution_is_named_and_the_right_one_earns_its_points(opened, visit, lab):
    exercise = lesson(visit.number).exercises[visit.exercise]
    position = opened.find("exercise", exercise.name)
    stub = opened.source(position)
    wrong, told = answers.mistaken(stub, exercise)
    cell = opened.write(position, wrong)
    cell.get_by_text("Recognised:").wait_for()
    assert told in said(cell)
    assert f"{exercise.name}(" in said(cell)
    opened.tab_to("button[title^='Show the hint']")
    opened.page.keyboard.press("Enter")
    cell.get_by_role("alert").wait_for()
    cell = opened.write(position, answers.right(stub, exercise))
    cell.get_by_text(f"Right. {exercise.name}: {exercise.points} of {exercise.points} points.").wait_for()
    assert lab.points(visit.number)[exercise.name] == exercise.points


@pytest.mark.parametrize("visit", [one for one in VISITS if one.values[0].long], indirect=True, scope="module")
def test_long_work_shows_the_time_left_and_stops_without_harm(opened, visit):
    position = opened.holding(visit.long)
    cell = opened.start(position)
    cell.get_by_text(re.compile(r"\d+/\d+\s*\[\d\d:\d\d<\d\d:\d\d")).wait_for()
    opened.stop(cell)
    opened.do("notebook:clear-cell-output")
    opened.run(position + 1)  # the cell below works with what was there before
    assert opened.raised() == []


def test_after_a_restart_in_the_middle_the_learner_goes_on(opened, visit, lab):
    exercise = lesson(visit.number).exercises[visit.exercise]
    position = opened.find("exercise", visit.exercise)
    opened.write(position, answers.right(opened.source(position), exercise))
    opened.restart()
    opened.select(position)
    opened.run_many("notebook:run-all-above")
    cell = opened.run(position)
    assert f"Right. {visit.exercise}" in said(cell)
    assert opened.raised() == []
    assert lab.points(visit.number)[visit.exercise] == exercise.points


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_no_serious_fault(opened, visit, theme):
    opened.do("apputils:change-theme", theme=theme)
    opened.until(f"document.body.dataset.jpThemeName === '{theme}'")
    question = next(iter(lesson(visit.number).questions))
    places = [("exercise", visit.exercise), ("question", question)]
    for position in [*(opened.find(*place) for place in places), opened.holding("widgets.explore(")]:
        opened.select(position)
        assert serious_faults(opened.page, ".jp-Notebook .jp-Cell-outputArea") == []


def test_the_console_is_quiet(opened):
    assert opened.errors == []
