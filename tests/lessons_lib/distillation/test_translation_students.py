"""The small translator is the run that lesson 07 declares, trained once and read back as it was."""

import pytest
import torch

from lessons_lib.distillation import translation_students
from lessons_lib.files import cache
from lessons_lib.measure import model_size
from lessons_lib.studies import distil_translator as grid
from lessons_lib.tasks import translation, translator
from lessons_lib.tasks.translator import Shape


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The cells that were trained, in a cache of its own; the training itself takes a minute and is left out."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    cells = []

    def train(cell, progress):
        cells.append(cell)
        return translator.new_translator(Shape(**grid.SETTINGS["small"], dropout=cell["dropout"]), seed=11)

    monkeypatch.setattr(translation_students, "small_student", train)
    return cells


def test_the_student_is_trained_once_and_kept(trained):
    said = []
    translation_students.KEPT.prepare(said.append)
    assert [line.split(",")[0] for line in said] == ["small translator: training", "small translator: ready"]
    first, again = translation_students.student(), translation_students.student()
    translation_students.KEPT.prepare(said.append)
    assert len(said) == 3
    assert trained == [grid.cell("sequence", seed=0)]
    assert torch.equal(first.head.weight, again.head.weight)
    assert torch.equal(first.head.weight, translator.new_translator(first.shape, seed=11).head.weight)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_its_cell_is_one_of_the_study_s():
    assert translation_students.CELL in grid.STUDY.cells


def test_another_teacher_or_setting_makes_another_student(trained, monkeypatch):
    translation_students.student()
    monkeypatch.setitem(grid.SETTINGS, "steps", 1)
    translation_students.student()
    monkeypatch.setattr(translation_students.translation, "teacher_sha256", lambda: "another")
    translation_students.student()
    assert len(trained) == 3


def test_the_few_pairs_are_not_among_the_untranslated_phrases():
    untranslated = set(translation_students.untranslated())
    assert len(untranslated) == grid.SETTINGS["sources"] == len(translation_students.teacher_translations())
    drawn = [set(translation_students.few_pairs(seed)["english"][:]) for seed in grid.SEEDS]
    assert all(len(pairs) == grid.SETTINGS["pairs"] and not pairs & untranslated for pairs in drawn)
    assert drawn[0] != drawn[1]


def test_the_small_student_is_at_least_nine_times_smaller_than_the_teacher():
    student = translator.new_translator(translator.Shape(**grid.SETTINGS["small"]), 0)
    assert model_size.size_on_disk(translation.teacher()) >= 9 * model_size.size_on_disk(student)


@pytest.mark.parametrize("way", ["6-4", "6-2", "6-4-2"])
def test_a_way_goes_through_its_depths_and_shares_its_steps_among_them(way, monkeypatch):
    trained = []

    def taught(student, teacher, data, cell, steps, progress):
        trained.append((len(teacher().encoder), len(student.encoder), len(student.decoder), steps))
        return student

    monkeypatch.setattr(translation_students, "_taught", taught)
    monkeypatch.setattr(translation_students, "student_data", lambda *_: {})
    student = translation_students.shallow_student(grid.cell("sequence+word", 0, way))
    stages = {"6-4": [(6, 4)], "6-2": [(6, 2)], "6-4-2": [(6, 4), (4, 2)]}[way]
    assert trained == [(before, after, after, grid.DEPTH_STEPS // len(stages)) for before, after in stages]
    assert len(student.encoder) == stages[-1][1]


def test_prepare_asks_the_teacher_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(translation_students, "teacher_translations", lambda: said.append("asked"))
    said = []
    translation_students.prepare(said.append)
    assert said[1:] == ["asked", "translations: ready"]
    monkeypatch.setattr(cache, "is_intact", lambda folder: True)
    translation_students.prepare(said.append)
    assert said[3:] == ["translations: ready"]
