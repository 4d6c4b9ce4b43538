"""The study of lesson 15 on movement: the asked zeros in every layer, equal trainings, rates chosen alike."""

import pytest
import torch

from lessons_lib.pruning import movement, schedules, unstructured
from lessons_lib.studies import magnitude, structure
from lessons_lib.studies import movement as grid
from lessons_lib.tasks import topic_classifier

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


@pytest.mark.parametrize("way", movement.WAYS)
def test_every_layer_has_exactly_the_asked_zeros(way):
    model = grid.fine_tuned(grid.cell(way, 0.7, 0, steps=8))
    for weight in schedules.linear_weights(model).values():
        assert int((weight == 0).sum()) == round(0.7 * weight.numel())
    assert (model.head.weight != 0).all() and not any(parameter.requires_grad for parameter in model.parameters())


def test_without_pruning_no_weight_goes():
    assert unstructured.sparsity(schedules.linear_weights(grid.fine_tuned(grid.cell("dense", 0.0, 0, steps=1)))) < 1e-4


def test_pruning_starts_late_ends_early_and_is_the_cubic_rise():
    shares = [grid.sparsity_at(step, 80, 0.9) for step in (0, 8, 24, 40, 80)]
    assert shares == pytest.approx([0, 0, 0.9 * (1 - 0.5**3), 0.9, 0.9])


def test_sentences_are_cut_and_all_there():
    data = grid.train_data()
    assert data["input_ids"].shape == (grid.SETTINGS["sentences"]["transfer_sentences"], grid.SETTINGS["max_length"])
    assert torch.equal(
        data["input_ids"][:, 0], torch.full_like(data["topic"], topic_classifier.tokenizer().cls_token_id)
    )


def test_three_seeds_for_every_sparsity(table):
    for way in movement.WAYS:
        for sparsity in grid.SPARSITIES:
            assert [row["seed"] for row in grid.rows(table, way, sparsity)] == list(grid.SEEDS)
        assert [row["seed"] for row in grid.rows(table, way, grid.TUNED_AT, grid.LONG)] == list(grid.SEEDS)
    assert [row["seed"] for row in grid.rows(table, "dense", 0.0)] == list(grid.SEEDS)
    assert len(grid.SEEDS) >= 3 and grid.TUNING_SEED not in grid.SEEDS


def test_rates_are_those_that_did_best_on_validation_data(table):
    for way in movement.WAYS:
        tried = grid.tuning(table, way)
        assert tuple(tried) == grid.RATES
        assert tried[grid.CHOSEN[way]] == max(tried.values())


def test_scores_are_those_of_the_answers_kept(table):
    rows = grid.rows(table, "movement", 0.9)
    found = magnitude.difference(table, rows, grid.rows(table, "magnitude", 0.9))
    assert found.runs == 3
    assert magnitude.score(table, rows[:1]).value == pytest.approx(100 * rows[0]["quality"], abs=0.01)


def test_the_table_rests_on_these_sentences(table):
    """The teacher is left out: another kind of processor rounds otherwise, and trains another one to the bit."""
    assert table.inputs | {"teacher": ""} == structure.inputs() | {"teacher": ""}


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
