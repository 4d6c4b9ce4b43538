"""A quiz as a notebook uses it, questions and progress included."""

import pytest

from quizzes import lesson, lessons, progress
from quizzes.exercises.questions import BANKS, question


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))


@pytest.fixture
def quiz():
    return lesson("03")


def right(exercise):
    namespace = {}
    exec(exercise.solution(), namespace)
    return namespace[exercise.name]


def test_an_unknown_lesson_is_refused():
    with pytest.raises(ValueError, match="no quiz for lesson '77'; there is one for 00, 01"):
        lesson("77")


def test_a_right_function_passes_and_is_remembered(quiz):
    exercise = quiz.exercises["soften"]
    assert quiz.check(right(exercise)).passed
    assert progress.earned("03") == {"soften": exercise.points}
    assert f"Lesson 03: {exercise.points:g} of {quiz.max_points}" in repr(quiz.progress())


def test_a_stub_is_not_attempted_and_leaves_no_trace(quiz):
    def soften(logits, T):
        raise NotImplementedError

    result = quiz.check(soften)
    assert result.status == "not attempted"
    assert "not attempted yet" in result.feedback
    assert not progress.progress_file().exists()


def test_a_function_of_another_name_is_refused(quiz):
    with pytest.raises(ValueError, match="no exercise 'print'; it has soften"):
        quiz.check(print)


def test_the_best_points_are_kept(quiz):
    quiz.check(right(quiz.exercises["soften"]))
    quiz.check(type("soften", (), {"__new__": lambda *_: None}))
    assert progress.earned("03")["soften"] == quiz.exercises["soften"].points


def test_the_solution_comes_after_a_pass_or_on_giving_up(quiz):
    with pytest.raises(PermissionError, match="not passed yet"):
        quiz.solution("soften")
    assert "def soften(" in quiz.solution("soften", give_up=True).text
    quiz.check(right(quiz.exercises["soften"]))
    assert "def soften(" in quiz.solution("soften").text


def test_questions_take_a_letter(quiz):
    first = next(iter(quiz.questions.values()))
    wrong = next(letter for letter in first.choices if letter != first.right)
    assert "Answer by putting a letter" in repr(quiz.ask(first.id, answer=...))
    assert f"{wrong} is not right" in repr(quiz.ask(first.id, answer=wrong))
    assert progress.earned("03") == {f"question {first.id}": 0.0}
    assert f"{first.right} is right" in repr(quiz.ask(first.id, answer=first.right.lower()))
    assert progress.earned("03") == {f"question {first.id}": 1.0}
    for bad in ("Z", 3, ""):
        with pytest.raises(ValueError, match="is not a choice"):
            quiz.ask(first.id, answer=bad)
    with pytest.raises(ValueError, match="has no question"):
        quiz.ask("99")


def test_every_lesson_says_what_it_is_worth():
    for number in lessons.numbers():
        quiz = lesson(number)
        work = [*quiz.exercises.values(), *quiz.hand_ins.values()]
        assert quiz.max_points == sum(item.points for item in work) + len(quiz.questions)


def test_a_damaged_progress_file_is_put_aside(quiz):
    progress.progress_file().write_text("{broken")
    assert progress.load() == {}
    progress.record("03", "soften", 1.0)
    assert progress.earned("03") == {"soften": 1.0}
    assert progress.progress_file().with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"A": ("x", "because", True)}, "two or more"),
        ({"A": ("x", "because", True), "C": ("y", "because")}, "in order"),
        ({"A": ("x", "because", True), "B": ("y", "")}, "explains nothing"),
        ({"A": ("x", "because"), "B": ("y", "because")}, "exactly one right"),
    ],
)
def test_a_faulty_question_is_refused(choices, words):
    with pytest.raises(ValueError, match=words):
        question("1", "stem", hint="hint", steps=[], **choices)
    assert not BANKS.pop(__name__, None)
