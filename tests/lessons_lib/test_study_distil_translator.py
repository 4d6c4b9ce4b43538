"""The study of lesson 07: its grid is fair, its settings are the tuned ones, its table is what this code computes."""

import pytest

from lessons_lib import assets, bleu, translation, translator
from lessons_lib import study_distil_translator as grid

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


def test_every_reported_setting_has_three_seeds_and_none_of_the_tuning():
    reported = [cell for cell in STUDY.cells if cell["split"] == "test"]
    for cell in reported:
        assert {other["seed"] for other in reported if other | {"seed": 0} == cell | {"seed": 0}} == set(grid.SEEDS)
    assert grid.TUNING_SEED not in grid.SEEDS
    assert all((cell["seed"] == grid.TUNING_SEED) == (cell["split"] == "validation") for cell in STUDY.cells)


def test_methods_and_ways_are_compared_at_equal_steps():
    small = {cell["steps"] for cell in STUDY.cells if cell["way"] == "small"}
    assert small == {grid.SETTINGS["steps"]}
    for way in grid.WAYS:
        assert {cell["steps"] for cell in STUDY.cells if cell["way"] == way} == {grid.DEPTH_STEPS}


@pytest.mark.parametrize(
    ("method", "way"), [("alone", "small"), ("sequence", "small"), ("sequence+word", "6-2"), ("sequence+word", "6-4-2")]
)
def test_what_is_compared_was_tuned_over_the_same_settings_and_uses_the_best(table, method, way):
    tried = grid.tuning(table, method, way)
    assert len(tried) == (len(grid.RATES) * len(grid.DROPOUTS) if way == "small" else len(grid.DEPTH_RATES))
    used = grid.cell(method, 0, way)
    assert tried[used["lr"], used["dropout"]] == max(tried.values())


def test_the_few_pairs_are_not_among_the_untranslated_phrases():
    untranslated = set(grid.untranslated())
    assert len(untranslated) == grid.SETTINGS["sources"] == len(grid.teacher_translations())
    drawn = [set(grid.few_pairs(seed)["english"][:]) for seed in grid.SEEDS]
    assert all(len(pairs) == grid.SETTINGS["pairs"] and not pairs & untranslated for pairs in drawn)
    assert drawn[0] != drawn[1]


def test_the_small_student_is_at_least_nine_times_smaller_than_the_teacher():
    from lessons_lib import measure, translation_teacher

    student = translator.new_translator(translator.Shape(**grid.SETTINGS["small"]), 0)
    assert measure.size_on_disk(translation_teacher.teacher()) >= 9 * measure.size_on_disk(student)


def test_sequence_level_beats_the_baseline_by_eight_bleu(table):
    gain = grid.difference(grid.usual(table, "sequence"), grid.usual(table, "alone"))
    assert gain.runs >= 3
    assert gain.low >= 8


def test_scores_and_counts_agree(table):
    for row in table:
        counts = bleu.unpack(row["counts"])
        assert len(counts) == len(translation.pairs(row["split"]))
        assert float(bleu.from_statistics(counts.sum(axis=0))) / 100 == pytest.approx(row["bleu"], abs=1e-5)


@pytest.mark.parametrize("way", ["6-4", "6-2", "6-4-2"])
def test_a_way_goes_through_its_depths_and_shares_its_steps_among_them(way, monkeypatch):
    trained = []

    def taught(student, teacher, data, cell, steps, progress):
        trained.append((len(teacher().encoder), len(student.encoder), len(student.decoder), steps))
        return student

    monkeypatch.setattr(grid, "_taught", taught)
    monkeypatch.setattr(grid, "student_data", lambda *_: {})
    student = grid.shallow_student(grid.cell("sequence+word", 0, way))
    stages = {"6-4": [(6, 4)], "6-2": [(6, 2)], "6-4-2": [(6, 4), (4, 2)]}[way]
    assert trained == [(before, after, after, grid.DEPTH_STEPS // len(stages)) for before, after in stages]
    assert len(student.encoder) == stages[-1][1]


def test_prepare_asks_the_teacher_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(grid, "teacher_translations", lambda: said.append("asked"))
    said = []
    grid.prepare(said.append)
    assert said[1:] == ["asked", "translations: ready"]
    monkeypatch.setattr(assets, "is_intact", lambda folder: True)
    grid.prepare(said.append)
    assert said[3:] == ["translations: ready"]


def test_one_cell_again():
    """The cheap cell, recomputed: it lies where one more seed of the table is expected."""
    assert STUDY.live(STUDY.cheap).within
