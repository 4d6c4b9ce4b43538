"""The study of lesson 07: its grid is fair, its settings are the tuned ones, its table is what this code computes."""

import pytest

from lessons_lib.measure import bleu
from lessons_lib.studies import distil_translator as grid
from lessons_lib.tasks import phrase_pairs

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


def test_sequence_level_beats_the_baseline_by_eight_bleu(table):
    gain = grid.difference(grid.usual(table, "sequence"), grid.usual(table, "alone"))
    assert gain.runs >= 3
    assert gain.low >= 8


def test_scores_and_counts_agree(table):
    for row in table:
        counts = bleu.unpack(row["counts"])
        assert len(counts) == len(phrase_pairs.pairs(row["split"]))
        assert float(bleu.from_statistics(counts.sum(axis=0))) / 100 == pytest.approx(row["bleu"], abs=1e-5)


def test_one_cell_again():
    """The cheap cell, recomputed: it lies where one more seed of the table is expected."""
    assert STUDY.live(STUDY.cheap).within
