"""The study of lesson 14: every way prunes as it says, the searches are honoured, the table is this code's."""

import pytest
import torch

from lessons_lib.pruning import schedules, unstructured
from lessons_lib.studies import magnitude as grid
from lessons_lib.tasks import phrase_pairs

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


@pytest.fixture(scope="module")
def untrained():
    """`pruned` with a training of four steps, so that the ways that train can be tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(grid.SETTINGS, "steps", {"classifier": 4, "translator": 4})
        patch.setitem(grid.SETTINGS, "pairs", 64)
        yield grid.pruned


@pytest.mark.parametrize("way", grid.STILL + grid.TRAINED)
def test_every_way_leaves_exactly_the_zeros_it_is_asked_for(untrained, way):
    sparsity = 0.5 if way == "2:4" else 0.6
    weights = schedules.linear_weights(untrained(grid.cell("translator", way, sparsity, 0), sparsity))
    zeros, total = sum(int((w == 0).sum()) for w in weights.values()), sum(w.numel() for w in weights.values())
    if way in ("global", *grid.TRAINED):
        assert zeros == round(sparsity * total)
    elif way == "layer":
        assert zeros == sum(round(sparsity * w.numel()) for w in weights.values())
    else:
        assert all((w == 0).sum(dim=1).eq(round(sparsity * w.shape[1])).all() for w in weights.values())


def test_the_ways_are_different_ways_and_the_last_layer_is_never_touched(untrained):
    dense = grid.dense("translator")
    models = {way: untrained(grid.cell("translator", way, 0.5, 0), 0.5) for way in grid.STILL}
    name = "decoder.2.cross.value.weight"
    seen = {way: tuple((dict(model.named_parameters())[name] == 0).flatten().tolist()) for way, model in models.items()}
    assert len(set(seen.values())) == len(grid.STILL)
    assert all(torch.equal(model.head.weight, dense.head.weight) for model in models.values())


def test_training_moves_the_weights_that_stay_and_sparsity_0_prunes_nothing(untrained):
    model = untrained(grid.cell("translator", "retrained", 0.0, 0), 0.0)
    before, after = (schedules.linear_weights(one) for one in (grid.dense("translator"), model))
    assert unstructured.sparsity(after) < 1e-4
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_wandas_texts_are_not_padded_and_differ_by_seed():
    class Watch(torch.nn.Module):
        def forward(self, source, target):
            seen.append(source)

    drawn = []
    for seed in (0, 0, 1):
        seen = []
        for call in grid.calls("translator", Watch(), seed):
            call()
        assert len(seen) == grid.SETTINGS["texts"] and all((source != 0).all() for source in seen)
        drawn.append([source.tolist() for source in seen])
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="there is no way 'luck'; there is global, layer"):
        grid.still_masks("translator", grid.dense("translator"), "luck", 0.5, 0)


def test_what_draws_or_trains_has_three_seeds(table):
    for model in grid.MODELS:
        for way in grid.SEARCHED:
            sparsities = (grid.TRAINED_SPARSITIES if way in grid.TRAINED else grid.SPARSITIES)[model]
            for sparsity in {*sparsities, grid.FOUND.get((model, way), sparsities[0])}:
                seeds = [row["seed"] for row in grid.rows(table, model, way, sparsity)]
                assert seeds == (list(grid.SEEDS) if way in ("wanda", *grid.TRAINED) else [0])
    assert len(grid.SEEDS) >= 3 and grid.TUNING_SEED not in grid.SEEDS


def test_rates_are_those_that_did_best_on_validation_data(table):
    for (model, way), chosen in grid.CHOSEN.items():
        tried = grid.tuning(table, model, way)
        assert tuple(tried) == grid.RATES[model]
        assert tried[chosen] == max(tried.values())


def test_found_is_what_the_search_found_on_validation_data(table):
    for model in grid.MODELS:
        for way in grid.SEARCHED:
            (row,) = table.where(model=model, way=way, sparsity=None)
            assert row["split"] == "validation" and row["seed"] == grid.TUNING_SEED
            floor, tried = row["unpruned"] - grid.SETTINGS["tolerance"], dict(row["tried"])
            candidates = STUDY.settings["candidates"]["trained" if way in grid.TRAINED else "still"][model]
            found = grid.FOUND.get((model, way))
            assert row["found"] == found
            good = [sparsity for sparsity, quality in tried.items() if quality >= floor]
            assert good == [] if found is None else max(good) == found
            following = candidates[0 if found is None else candidates.index(found) + 1 :][:1]
            assert set(following) <= set(tried)  # the next one up was tried, and fell short


def test_scores_are_those_of_the_answers_kept(table):
    for model in grid.MODELS:
        for row in grid.rows(table, model, "wanda", 0.5):
            assert grid.score(table, [row]).value == pytest.approx(100 * row["quality"], abs=0.01)
        rows = grid.rows(table, model, "wanda", 0.7)
        dense = grid.rows(table, model, "global", 0.0)
        gap = grid.difference(table, rows, dense)
        assert gap.runs == 3
        assert gap.value == pytest.approx(grid.score(table, rows).value - grid.score(table, dense).value, abs=1e-6)


def test_the_table_rests_on_these_texts(table):
    """The models are left out: another kind of processor rounds otherwise, and trains others to the bit."""
    assert table.inputs["pairs"] == phrase_pairs.pairs_sha256()
    assert table.inputs["documents"] == grid.documents()


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
