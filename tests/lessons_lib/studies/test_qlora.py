"""The study of lesson 13: three methods with equal steps and rates chosen on validation, memory as computed, the table
is this code's."""

import numpy
import pytest
import torch
from torch import nn

from lessons_lib.four_bits import lora, training_memory
from lessons_lib.four_bits.training_memory import BF16, FP32, ModelShape
from lessons_lib.measure import intervals
from lessons_lib.studies import qlora as grid
from lessons_lib.tasks import headlines, language_model

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


def test_every_method_has_at_least_three_seeds_and_one_model_before_training(table):
    assert len(grid.SEEDS) >= 3
    for method in lora.METHODS:
        assert [row["seed"] for row in grid.rows(table, method)] == list(grid.SEEDS)
        assert [row["lr"] for row in grid.rows(table, method, trained=False)] == [0.0]
    assert grid.rows(table, "lora", trained=False) == grid.rows(table, "full", trained=False)


def test_learning_rates_are_those_that_did_best_on_validation_documents(table):
    assert grid.TUNING_SEED not in grid.SEEDS
    for method in lora.METHODS:
        tried = grid.tuning(table, method)
        assert tuple(tried) == grid.RATES[method]
        assert tried[grid.CHOSEN[method]] == min(tried.values()), (method, tried)
        # The best lies inside what was tried: beyond the last rate a better one could hide.
        assert len(tried) == len(grid.RATES["full"]) >= 3
        assert list(tried)[0] < grid.CHOSEN[method] < list(tried)[-1]


def test_what_is_judged_is_never_trained_on():
    trained = set(headlines.documents("train", grid.SETTINGS["examples"]))
    for split in ("validation", "test"):
        assert not trained & set(headlines.documents(split, grid.SETTINGS["judged"]))
        assert len(grid.examples(split)["input_ids"]) == grid.SETTINGS["judged"]


def test_training_helps_every_method_and_packing_costs_before_it(table):
    for method in lora.METHODS:
        gain = grid.difference(table, method, method, other_trained=False)
        assert gain.high < 0, method
        assert gain.runs == 3
    assert grid.loss(table, "qlora", trained=False).value > grid.loss(table, "full", trained=False).value
    assert grid.kept(table, "full") == 1


def test_figures_of_the_table_are_those_of_its_rows(table):
    rows = grid.rows(table, "lora")
    assert grid.loss(table, "lora").value == pytest.approx(numpy.mean([row["loss"] for row in rows]), abs=1e-4)
    expected = intervals.paired_losses(grid.losses(table, "qlora"), grid.losses(table, "lora"))
    assert grid.difference(table, "qlora", "lora") == expected
    assert all(len(row["losses"]) == grid.SETTINGS["judged"] for row in table)


def test_the_memory_of_every_method_was_as_computed_within_15_percent(table):
    shape = ModelShape.of(language_model.language_model().config)
    length = headlines.prompt_tokens() + headlines.HEADLINE_TOKENS
    for method in lora.METHODS:
        first, *others = grid.rows(table, method)
        assert not any("memory" in row.result for row in others)
        for setting, switch in grid.CHECKPOINTING.items():
            measured = first["memory"][setting]
            compute = BF16 if measured["BF16 copies"] else FP32  # of the machine that the table comes from
            parts = training_memory.computed(
                shape,
                method,
                grid.SETTINGS["batch_size"],
                length,
                headlines.HEADLINE_TOKENS,
                grid.SETTINGS["r"],
                switch,
                compute,
            )
            for name, size in measured.items():
                assert size == pytest.approx(parts[name], rel=0.15), (method, setting, name)


def test_the_packed_base_takes_at_most_a_third_of_the_fp32_one(table):
    full, packed = (grid.rows(table, method)[0]["memory"]["all kept"]["weights"] for method in ("full", "qlora"))
    assert packed <= full / 3


class Small(nn.Module):
    """Predicts the next token from the last one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(len(language_model.tokenizer()), 8)

    def forward(self, input_ids, use_cache, logits_to_keep):
        hidden = self.embed(input_ids)[:, -logits_to_keep:]
        return type("Output", (), {"logits": hidden @ self.embed.weight.t()})


def test_fine_tuning_takes_the_steps_of_the_study_and_follows_seed_and_rate():
    made = {}
    for name, lr, seed in (("a", 0.05, 0), ("again", 0.05, 0), ("other seed", 0.05, 1), ("other rate", 0.01, 0)):
        model = Small()
        made[name] = grid.fine_tune(model, lr, seed).losses
    assert len(made["a"]) == grid.SETTINGS["steps"]
    assert made["a"] == made["again"]
    assert made["a"] != made["other seed"]
    assert made["a"] != made["other rate"]
    assert numpy.mean(made["a"][-4:]) < made["a"][0]


def test_a_cell_without_training_measures_no_memory_and_a_first_seed_does(monkeypatch):
    monkeypatch.setattr(lora, "prepared", lambda method, **settings: Small())
    monkeypatch.setattr(grid, "memory", lambda method, checkpointing: {"peak": int(checkpointing)})
    assert "memory" not in grid.run(grid.cell("lora", 0, 0.0))
    assert "memory" not in grid.run(grid.cell("lora", 1))
    assert "memory" not in grid.run(grid.cell("lora", 0, split="validation"))
    assert grid.run(grid.cell("lora", 0))["memory"] == {"all kept": {"peak": 0}, "checkpointing": {"peak": 1}}


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
