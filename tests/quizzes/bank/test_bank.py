"""What every exercise and question of every bank must hold. A new bank module is covered as soon as it exists."""

import ast
import copy
import doctest
import importlib
import re

import pytest
import torch

from lessons_lib.arithmetic import nf4
from quizzes import lessons
from quizzes.exercises import exercises, judging, questions
from quizzes.inside import recipes

NUMBERS = lessons.numbers()
for module in NUMBERS.values():
    importlib.import_module(module)
EXERCISES = [
    pytest.param(exercise, id=f"{module.split('.')[-1][:3]}-{name}")
    for module, found in exercises.BANKS.items()
    if module in NUMBERS.values()
    for name, exercise in found.items()
]
QUESTIONS = [
    pytest.param(question, id=f"{module.split('.')[-1][:3]}-{id}")
    for module, found in questions.BANKS.items()
    if module in NUMBERS.values()
    for id, question in found.items()
]
SEEDS = (lessons.PUBLIC_SEED, 1, 2)


def verdict(exercise, function, seed):
    cases = exercise.draw(seed)
    return judging.judge(exercise, cases, [judging.ask(function, case) for case in cases])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_has_enough_exercises_and_questions(number):
    quiz = lessons.lesson(number)
    assert len(quiz.exercises) >= 3
    assert len(quiz.questions) >= 5


@pytest.mark.parametrize("exercise", EXERCISES)
def test_an_exercise_is_complete(exercise):
    assert len(exercise.hint) > 20
    assert exercise.points >= 1
    assert exercise.minutes >= 1
    assert len(exercise.tolerance.reason) > 20
    assert len(exercise.mistakes) >= 2
    assert len(exercise.doc) > 60
    cases = exercise.draw(lessons.PUBLIC_SEED)
    assert cases[0].visible
    assert not all(case.visible for case in cases)
    assert len({case.group for case in cases}) >= 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_reference_scores_full(exercise, seed):
    result = verdict(exercise, exercise.reference, seed)
    assert result.passed, result.feedback


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_scores_zero(exercise):
    def stub(*arguments):
        raise NotImplementedError

    result = verdict(exercise, stub, lessons.PUBLIC_SEED)
    assert result.score == 0
    assert result.status == judging.NOT_ATTEMPTED


def zeroed(value):
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value)
    if isinstance(value, (list, tuple)):
        return type(value)(zeroed(item) for item in value)
    if isinstance(value, dict):
        return {key: zeroed(item) for key, item in value.items()}
    return type(value)() if isinstance(value, (bool, int, float, str)) else value


def lazy_answers(exercise):
    call = exercise.reference.apply if hasattr(exercise.reference, "apply") else exercise.reference
    yield "None", lambda *arguments: None
    yield "zeros", lambda *arguments: zeroed(call(*arguments))
    for place in range(len(exercise.draw(0)[0].arguments)):
        yield f"argument {place}", lambda *arguments, place=place: arguments[place]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_lazy_answers_score_zero(exercise):
    for seed in SEEDS:
        for name, function in lazy_answers(exercise):
            result = verdict(exercise, function, seed)
            assert result.score == 0, f"{name} passes {[group for group, ok in result.groups.items() if ok]}"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_mistake_is_named_as_itself(exercise):
    for mistake in exercise.mistakes:
        for seed in SEEDS:
            result = verdict(exercise, mistake.function, seed)
            assert not result.passed, f"scores full: {mistake.text}"
            assert result.mistake == mistake.text


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_right_solution_that_stands_on_its_own_scores_full(exercise):
    """The published solution: its source alone, in a fresh namespace, with neither lessons_lib nor quizzes in reach."""
    source = exercise.solution()
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert not {name.split(".")[0] for name in imported} & {"lessons_lib", "quizzes", "transformers"}
    namespace = {}
    exec(compile(source, exercise.name, "exec"), namespace)
    for seed in SEEDS:
        result = verdict(exercise, namespace[exercise.name], seed)
        assert result.passed, result.feedback


@pytest.mark.parametrize("exercise", EXERCISES)
def test_cases_are_the_same_on_both_sides(exercise):
    """What the sandbox would build gives the reference's values again, and building twice shares nothing."""
    for case in exercise.draw(1):
        first, second = case.run(exercise.reference), case.run(exercise.reference)
        assert judging.compare(first, copy.deepcopy(second), exercises.Tolerance(0, 0, "")) is None


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_complete(question):
    assert len(question.choices) >= 3
    assert all(len(choice.explanation) > 15 for choice in question.choices.values())
    assert len(question.hint) > 15
    assert question.steps
    texts = [choice.text for choice in question.choices.values()]
    assert len(set(texts)) == len(texts)


def test_right_choices_are_spread_over_the_letters():
    letters = [param.values[0].right for param in QUESTIONS]
    assert max(letters.count(letter) for letter in set(letters)) <= 0.5 * len(letters)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_docstring_shows_an_example(exercise):
    assert re.search(r">>>|->|→|=>|Example", exercise.doc), "fix every convention with one printed example"


# What examples take for granted, or say in words.
GIVEN = {
    "torch": torch,
    "codebook": nf4.nf4_codebook(),
    "ids": torch.zeros(3, 7, dtype=torch.int64),
    "mask": torch.ones(3, 7, dtype=torch.int64),
    "model": recipes.build(*recipes.encode(recipes.tiny_encoder(0))),
}


class Alike(doctest.OutputChecker):
    """Takes numbers that agree to six digits, and tuples with names and line breaks for plain ones."""

    def check_output(self, want, got, optionflags):
        """Whether the two say the same."""
        return self.plain(want) == self.plain(got)

    def plain(self, text):
        """Without names of tuples and of their parts, and without white space."""
        text = re.sub(r"\b(?:[A-Z]\w+(?=\()|(?!dtype)\w+=)", "", text)
        text = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.6g}", text)
        return "".join(text.split())


@pytest.mark.parametrize("exercise", EXERCISES)
def test_what_the_docstring_prints_is_true(exercise):
    names = GIVEN | {exercise.name: exercise.reference}
    example = doctest.DocTestParser().get_doctest(exercise.doc, names, exercise.name, None, 0)
    said = []
    result = doctest.DocTestRunner(checker=Alike(), verbose=False).run(example, out=said.append)
    assert result.failed == 0, "".join(said)
