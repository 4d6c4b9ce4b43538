"""The small translator is the run that lesson 07 declares, trained once and read back as it was."""

import pytest
import torch

from lessons_lib import study_distil_translator as grid
from lessons_lib import translation_student, translator
from lessons_lib.translator import Shape


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The cells that were trained, in a cache of its own; the training itself takes a minute and is left out."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    cells = []

    def train(cell, progress):
        cells.append(cell)
        return translator.new_translator(Shape(**grid.SETTINGS["small"], dropout=cell["dropout"]), seed=11)

    monkeypatch.setattr(grid, "small_student", train)
    return cells


def test_the_student_is_trained_once_and_kept(trained):
    said = []
    translation_student.prepare(said.append)
    assert [line.split(",")[0] for line in said] == ["small translator: training", "small translator: ready"]
    first, again = translation_student.student(), translation_student.student()
    translation_student.prepare(said.append)
    assert len(said) == 3
    assert trained == [grid.cell("sequence", seed=0)]
    assert torch.equal(first.head.weight, again.head.weight)
    assert torch.equal(first.head.weight, translator.new_translator(first.shape, seed=11).head.weight)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_its_cell_is_one_of_the_study_s():
    assert translation_student.CELL in grid.STUDY.cells


def test_another_teacher_or_setting_makes_another_student(trained, monkeypatch):
    translation_student.student()
    monkeypatch.setitem(grid.SETTINGS, "steps", 1)
    translation_student.student()
    monkeypatch.setattr(translation_student.translation_teacher, "teacher_sha256", lambda: "another")
    translation_student.student()
    assert len(trained) == 3
