"""The study of lesson 06: its grid is fair, its parts do what they say, its table is what this code computes."""

from collections import Counter

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from lessons_lib.distillation import masked_language
from lessons_lib.measure import intervals
from lessons_lib.studies import distilbert as grid
from lessons_lib.tasks import topic_classifier

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


def test_every_reported_setting_has_three_seeds_and_every_depth_both_ways():
    reported = [cell for cell in STUDY.cells if cell["split"] == "test"]
    settings = Counter(tuple((name, value) for name, value in cell.items() if name != "seed") for cell in reported)
    assert min(settings.values()) >= 3
    shapes = {(cell["n_layers"], cell["general"]) for cell in reported}
    assert shapes >= {(depth, way) for depth in (1, 2, 3, 4) for way in ("none", "triple")}
    long = {
        (cell["n_layers"], cell["general"])
        for cell in reported
        if cell["topic_steps"] == topic_classifier.TEACHER["steps"]
    }
    assert long == {(3, "none")}, "three layers taught as long as their teacher"


def test_both_ways_share_all_but_their_rates():
    pairs = [(grid.cell(depth, "none", 0), grid.cell(depth, "triple", 0)) for depth in grid.DEPTHS]
    for alone, distilled in pairs:
        assert {name for name in alone if alone[name] != distilled[name]} <= {"general", "general_lr", "lr"}
    for way in grid.WAYS:
        assert grid.RATES[way][1] in grid.TUNED["lr"]
        assert way == "none" or grid.RATES[way][0] in grid.TUNED["general_lr"]


def test_learning_rates_are_those_that_did_best_on_validation_sentences(table):
    """The same rates tried for every way, each of its two rates with the other at its best, and the best one taken."""
    for way in grid.WAYS:
        for name, rates in grid.TUNED.items():
            if way == "none" and name == "general_lr":
                continue
            used = grid.cell(grid.TUNED_DEPTH, way, 0)[name]
            tried = {
                rate: grid.rows(table, grid.TUNED_DEPTH, way, split="validation", **{name: rate})[0]["accuracy"]
                for rate in rates
            }
            assert tried[used] == max(tried.values()), (way, name, tried)
    assert grid.TUNING_SEED not in {cell["seed"] for cell in STUDY.cells if cell["split"] == "test"}


@pytest.fixture
def small(monkeypatch):
    """A teacher of four narrow layers, few tokens, one step of everything."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(topic_classifier.tokenizer()),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    teacher = masked_language.new_model(BertModel(config, add_pooling_layer=False)).requires_grad_(False)
    nn.init.normal_(teacher.encoder.embeddings.word_embeddings.weight)
    data = topic_classifier.tokenize(["The bank raised its rates again.", "A goal."] * 16)
    monkeypatch.setattr(grid, "teacher", lambda: teacher)
    monkeypatch.setattr(grid, "tokens", lambda: data | {"topic": torch.tensor([0, 3] * 16)})
    monkeypatch.setitem(grid.SETTINGS, "general_steps", 2)
    return teacher


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_student_that_is_not_distilled_is_cut_out_and_nothing_else(small):
    plain = grid.general_student(2, "none", 0.0, seed=0)
    assert torch.equal(weights(plain), weights(grid.general_student(2, "none", 0.0, seed=1)))
    for ours, theirs in ((0, 1), (1, 3)):
        assert torch.equal(weights(plain.encoder.encoder.layer[ours]), weights(small.encoder.encoder.layer[theirs]))
    assert torch.equal(weights(grid.general_student(4, "none", 0.0, seed=0)), weights(small))


def test_a_distilled_student_is_another_one_and_depends_on_the_seed(small):
    first, other = (weights(grid.general_student(2, "triple", 1e-2, seed)) for seed in (0, 1))
    assert not torch.equal(first, weights(grid.general_student(2, "none", 0.0, 0)))
    assert not torch.equal(first, other)
    assert torch.equal(first, weights(grid.general_student(2, "triple", 1e-2, 0)))


def test_general_distillation_never_sees_a_topic(small, monkeypatch):
    before = weights(grid.general_student(2, "triple", 1e-2, 0))
    data = grid.tokens()
    monkeypatch.setattr(grid, "tokens", lambda: data | {"topic": data["topic"] + 1})
    assert torch.equal(before, weights(grid.general_student(2, "triple", 1e-2, 0)))


def test_teaching_changes_the_layers_and_leaves_the_embeddings(small):
    student = grid.general_student(2, "none", 0.0, 0)
    layers, embeddings = weights(student.encoder.encoder), weights(student.encoder.embeddings)
    classifier = grid.taught(student, steps=2, lr=1e-2, seed=0)
    assert not torch.equal(layers, weights(classifier.encoder.encoder))
    assert torch.equal(embeddings, weights(classifier.encoder.embeddings))
    assert classifier(**{name: grid.tokens()[name] for name in ("input_ids", "attention_mask")}).shape == (32, 5)


def test_a_student_that_answers_as_the_teacher_keeps_all(table):
    row = grid.rows(table, 3, "triple")[0]
    same = type(row)(row.cell, row.result | {"correct": table.inputs["correct"]}, row.seconds)
    copied = type(table)(table.name, table.declaration_hash, table.machine, table.versions, table.inputs, (same,) * 3)
    kept = grid.retention(copied, 3, "triple")
    assert (kept.value, kept.low, kept.high) == pytest.approx((1, 1, 1))


def test_the_rows_say_what_the_lesson_reads(table):
    for depth in grid.DEPTHS:
        assert grid.gain(table, depth).runs == 3
        assert 0.5 < grid.retention(table, depth, "triple").value < 1.1
        assert isinstance(grid.masked_loss(table, depth, "none"), intervals.Interval)
    sizes = [grid.rows(table, depth, "none")[0]["bytes"] for depth in grid.DEPTHS]
    assert sizes == sorted(set(sizes)), "every layer weighs something"


def test_distilling_lowers_the_loss_of_guesses_at_every_depth(table):
    for depth in grid.DEPTHS:
        assert grid.masked_loss(table, depth, "triple").high < grid.masked_loss(table, depth, "none").low


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
