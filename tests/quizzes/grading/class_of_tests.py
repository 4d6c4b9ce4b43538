"""Notebooks and a lesson for the tests of grading: every exercise of that lesson is to return 2 * x."""

import json
import textwrap
from pathlib import Path

import torch

from quizzes import case, exercise, question
from quizzes.exercises.exercises import BANKS
from quizzes.exercises.questions import BANKS as QUESTIONS
from quizzes.lessons import Lesson


def twice(name: str):
    """An exercise of this name: 2 * x, in three groups of cases; two known mistakes."""

    def reference(x):
        return 2 * x

    reference.__name__ = name
    made = exercise(points=2, minutes=1, hint="Twice.")(reference)

    @made.cases
    def _(draw):
        yield case("an example", torch.tensor([1.0, 2.0, 3.0]), visible=True)
        yield case("a matrix", draw.normal((3, 4)))
        yield case("strides", draw.strided((3, 4)))

    made.exact("doubling rounds nothing")
    made.mistake("You squared.")(lambda x: x * x)
    made.mistake("You halved.")(lambda x: x / 2)
    made.alternative(lambda x: x + x)
    BANKS.pop(__name__)
    return made


def lesson_of(*names: str) -> Lesson:
    """A lesson of such exercises, and two questions, B and A."""
    question("1", "One?", A=("no", "no"), B=("yes", "yes", True), hint="?", steps=[])
    question("2", "Two?", A=("yes", "yes", True), B=("no", "no"), hint="?", steps=[])
    return Lesson("90", {name: twice(name) for name in names}, QUESTIONS.pop(__name__))


def cell(source: str, exercise: str | None = None) -> dict:
    """A code cell."""
    metadata = {"exercise": exercise} if exercise else {}
    text = textwrap.dedent(source).strip("\n")
    return {"cell_type": "code", "metadata": metadata, "source": text, "outputs": [], "execution_count": None}


def notebook(*cells: dict | str, lesson: str | None = "90") -> dict:
    """A notebook of these cells."""
    metadata = {"course": {"lesson": lesson}} if lesson else {}
    made = [item if isinstance(item, dict) else cell(item) for item in cells]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": made}


def data(*cells: dict | str, lesson: str | None = "90") -> bytes:
    """A notebook of these cells, as bytes."""
    return json.dumps(notebook(*cells, lesson=lesson)).encode()


def write(path: Path, *cells: dict | str, lesson: str | None = "90") -> Path:
    """A notebook of these cells, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data(*cells, lesson=lesson))
    return path
