"""What a notebook shows of a quiz: the buttons below a question or a failed check, and the course at a glance."""

import pytest
import torch

from quizzes import course_progress, lesson, progress
from quizzes.display import html as display
from quizzes.display import notebook
from quizzes.exercises import judging


@pytest.fixture
def shown(monkeypatch):
    """Everything that is displayed, in order."""
    sent = []
    monkeypatch.setattr("IPython.display.display", lambda what, **options: sent.append(what))
    return sent


def buttons(widget) -> dict:
    row, below, _style = widget.children
    return {button.description: button for button in row.children} | {"below": below}


def test_practice_explains_every_choice_and_records_nothing():
    question = lesson("03").questions["1"]
    parts = buttons(notebook.practice(question))
    assert list(parts) == [*question.choices, "below"]
    for letter in question.choices:
        parts[letter].click()
        assert f"{letter} is {'' if letter == question.right else 'not '}right" in parts["below"].value
        assert 'role="alert"' in parts["below"].value
        assert parts[letter].tooltip == f"Practise: answer {letter} to question 1"
    assert progress.earned("03") == {}


def test_letters_stand_before_the_choices():
    html = display.question_html(lesson("03").questions["1"], None)
    assert "list-style-type:upper-alpha" in html  # JupyterLab's style sheet overrides <ol type="A">


def test_a_failed_check_offers_the_hint_and_the_other_parts(shown):
    exercise = lesson("01").exercises["quantize"]
    cases = exercise.draw(0)
    wrong = judging.judge(exercise, cases, [judging.ask(lambda x, *_: x.to(torch.uint8), case) for case in cases])
    wrong._ipython_display_()
    page, widget = shown
    assert "≠" in page["text/html"]
    assert page["text/plain"] == wrong.feedback
    parts = buttons(widget)
    parts["Hint"].click()
    assert display.rich(exercise.hint) in parts["below"].value
    others = [failure.case.group for failure in wrong.first_of_each_part[1:]]
    assert others
    assert [name for name in parts if name.startswith("Part: ")] == [f"Part: {group}" for group in others]
    parts[f"Part: {others[0]}"].click()
    assert others[0] in parts["below"].value
    assert "quantize(" in parts["below"].value


@pytest.mark.parametrize("answer", ["right", "stub"])
def test_without_a_failure_there_is_no_button(shown, answer):
    exercise = lesson("01").exercises["dequantize"]
    cases = exercise.draw(0)

    def stub(*_):
        raise NotImplementedError

    function = exercise.reference if answer == "right" else stub
    judging.judge(exercise, cases, [judging.ask(function, case) for case in cases])._ipython_display_()
    assert len(shown) == 1


def test_the_course_at_a_glance():
    before = course_progress()
    first = next(iter(lesson("00").exercises))
    assert f"Next: {first} in lesson 00" in repr(before)
    quiz = lesson("00")
    progress.record("00", first, quiz.exercises[first].points)
    progress.record("00", "question 1", 1.0)
    after = course_progress()
    earned = quiz.exercises[first].points + 1
    second = list(quiz.exercises)[1]
    assert f"Next: {second} in lesson 00" in repr(after)
    assert f"{earned} of {quiz.max_points}" in after._repr_html_()
    row = after.rows[0]
    assert row.minutes_left == round(row.minutes * (1 - earned / quiz.max_points))
    assert before.rows[0].minutes_left == row.minutes
    assert f'<progress max="{row.most}" value="{earned}"' in after._repr_html_()
    assert f'<a href="{row.name}.ipynb">' in after._repr_html_()


def test_after_the_exercises_come_the_questions_and_then_nothing(monkeypatch):
    rows = course_progress().rows
    from quizzes.learner.standing import following

    for row in rows:
        row.exercises.update(dict.fromkeys(row.exercises, True))
    assert following(rows) == (rows[0], "question 1")
    for row in rows:
        row.questions.update(dict.fromkeys(row.questions, True))
    assert following(rows) is None
    assert "Every exercise and every question is solved." in repr(notebook.CourseView(rows, None))
