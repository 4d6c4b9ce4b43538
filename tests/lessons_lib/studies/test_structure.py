"""The study of lesson 15 on structure: cells remove what they say, rates are those that did best, the table is ours."""

import pytest
import torch

from lessons_lib.pruning import heads, importance
from lessons_lib.studies import magnitude
from lessons_lib.studies import structure as grid
from lessons_lib.tasks import topic_classifier

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


@pytest.fixture(scope="module", autouse=True)
def few_sentences():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(grid.SETTINGS, "sentences", {"importance": 8, "exact": 4})
        patch.setitem(grid.SETTINGS, "steps", 2)
        grid.scores.cache_clear()
        yield
    grid.scores.cache_clear()


@pytest.mark.parametrize("way", grid.WAYS)
def test_a_cell_removes_as_many_as_it_says_for_real(way):
    model = grid.pruned(grid.cell(way, 0, grid.DEEP))
    assert sum(heads.count(model)) == 72 - grid.DEEP["heads"]
    assert model.encoder.config.intermediate_size == 1536 - grid.DEEP["neurons"]
    shapes = {tuple(block.intermediate.dense.weight.shape) for block in model.encoder.encoder.layer}
    assert shapes == {(1536 - grid.DEEP["neurons"], 384)}


def test_importance_takes_the_least_and_random_takes_what_the_seed_draws():
    kept = grid.pruned(grid.cell("importance", 0, {"heads": 24})).encoder.config.kept_heads
    assert kept == [block.tolist() for block in importance.least(list(grid.scores("heads", 0)), 24)]
    drawn = [grid.pruned(grid.cell("random", seed, {"heads": 24})).encoder.config.kept_heads for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and drawn[0] != kept


def test_drawn_sentences_differ_by_seed_and_are_all_there():
    batches = [topic_classifier.training_batches(70, seed) for seed in (0, 1)]
    assert [sum(len(batch["topic"]) for batch in one) for one in batches] == [70, 70]
    assert not torch.equal(batches[0][0]["input_ids"], batches[1][0]["input_ids"])


def test_recovery_moves_all_but_the_embeddings_and_the_two_kinds_differ():
    trained = {}
    for recovery in grid.CHOSEN:
        model = grid.pruned(grid.cell("random", 0, grid.DEEP))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        grid.recover(model, recovery, 1e-3, seed=0)
        moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert "encoder.encoder.layer.0.output.dense.weight" in moved and "head.weight" in moved
        assert not any(name.startswith("encoder.embeddings") for name in moved)
        trained[recovery] = model.state_dict()["head.weight"]
    assert not torch.equal(*trained.values())


def test_the_comparison_of_measures_holds_what_the_lesson_shows():
    found = grid.compared(seed=0)
    assert len(found["gradient"]) == len(found["exact"]) == len(found["change"]) == 72
    assert set(found["halves"]) == {"exact", "gradient", "signed", "mean"}
    # One sentence in each half or two: the sums of both measures are of one sign, so the orders agree well.
    assert found["quality"] > 0.5


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="go by importance or random, not by 'luck'"):
        grid.pruned(grid.cell("luck", 0, {"heads": 24}))


def test_what_draws_or_trains_has_three_seeds(table):
    settings = [{"heads": count} for count in grid.HEADS] + [{"neurons": grid.NEURONS}, grid.BOTH]
    rows = [grid.rows(table, way, gone) for way in grid.WAYS for gone in settings]
    rows += [grid.rows(table, "importance", grid.DEEP, recovery) for recovery in (None, *grid.CHOSEN)]
    assert all([row["seed"] for row in found] == list(grid.SEEDS) for found in rows)
    assert len(grid.SEEDS) >= 3 and grid.TUNING_SEED not in grid.SEEDS


def test_rates_are_those_that_did_best_on_validation_data(table):
    for recovery, chosen in grid.CHOSEN.items():
        tried = grid.tuning(table, recovery)
        assert tuple(tried) == grid.RATES
        assert tried[chosen] == max(tried.values())
        assert {row["split"] for row in table.where(recovery=recovery, seed=grid.TUNING_SEED)} == {"validation"}


def test_scores_are_those_of_the_answers_kept(table):
    row = grid.rows(table, "importance", {"heads": grid.HEADS[0]})[0]
    assert magnitude.score(table, [row]).value == pytest.approx(100 * row["quality"], abs=0.01)


def test_the_table_rests_on_these_sentences(table):
    """The teacher is left out: another kind of processor rounds otherwise, and trains another one to the bit."""
    assert table.inputs | {"teacher": ""} == grid.inputs() | {"teacher": ""}


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    grid.scores.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(grid.SETTINGS, "sentences", STUDY.settings["sentences"])
        live = STUDY.live(STUDY.cheap)
    grid.scores.cache_clear()
    assert live.within, live
