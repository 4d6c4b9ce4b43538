"""The study of lesson 10: every method does what its name says, rates are those chosen, the table is this code's."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from lessons_lib.int8.qat import QatLinear
from lessons_lib.studies import qat as grid
from lessons_lib.tasks.topic_classifier import TopicClassifier

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


def student(seed):
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=30,
        max_position_embeddings=8,
        initializer_range=0.5,
    )
    return TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()


@pytest.fixture
def seen(monkeypatch):
    """The students that run() makes, as they are judged: small ones on small data; a full one takes half a minute."""
    draw = torch.Generator().manual_seed(0)
    mask = torch.ones(48, 6).long()
    mask[::2, 4:] = 0
    data = {
        "input_ids": torch.randint(1, 30, (48, 6), generator=draw),
        "attention_mask": mask,
        "topic": torch.arange(48) % 5,
        "teacher_logits": 3 * torch.randn(48, 5, generator=draw),
    }
    judged = []
    monkeypatch.setattr(grid, "_data", lambda: data)
    monkeypatch.setattr(grid, "start", student)
    monkeypatch.setitem(grid.SETTINGS, "steps", 4)
    monkeypatch.setattr(grid.classifier, "judged", lambda model, split: judged.append(model) or {"split": split})
    caches = (grid.trained, grid.calibration)
    for cache in caches:
        cache.cache_clear()
    yield judged
    for cache in caches:
        cache.cache_clear()


def layers(model):
    return [layer for layer in model.encoder.modules() if isinstance(layer, QatLinear)]


def made(seen, *cell, **changes):
    grid.run(grid.cell(*cell, **changes))
    return seen[-1]


def difference(first, second):
    return max((a - b).abs().max().item() for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_every_setting_has_at_least_three_seeds(table):
    assert len(grid.SEEDS) >= 3
    ways = [(grid.FLOAT, "none"), *[(width, way) for width in grid.WIDTHS for way in ("ptq", "qat")], ("W4", "absmax")]
    ways += [(*way, "teacher") for way in ways if way[0] in grid.DISTILLED and way[1] in ("none", "ptq", "qat")]
    for way in ways:
        assert [row["seed"] for row in grid.rows(table, *way)] == list(grid.SEEDS), way


def test_rates_are_those_that_did_best_on_validation_sentences(table):
    chosen = [(width, "none" if width == grid.FLOAT else "ptq", rate) for width, rate in grid.PTQ_RATES.items()]
    chosen += [(width, "qat", grid.QAT_RATES[kind]) for kind, width in grid.TUNED_AT.items()]
    for width, method, rate in chosen:
        tried = grid.tuning(table, width, method)
        assert tuple(tried) == (grid.QAT_TRIED if method == "qat" else grid.PTQ_TRIED)
        assert tried[rate] == max(tried.values()), (width, method, tried)
    assert grid.TUNING_SEED not in grid.SEEDS


def test_widths_are_read_as_they_are_written():
    assert [grid.bits(width) for width in ("W8", "W2", "W4A4")] == [(8, None), (2, None), (4, 4)]
    assert [grid.kind(width) for width in ("W8", "W4A4", grid.FLOAT)] == ["weights", "inputs", "weights"]


def test_not_quantized_means_trained_further_and_no_more(seen):
    model = made(seen, grid.FLOAT, "none", 0)
    assert not layers(model)
    assert difference(model, student(0)) > 1e-4


@pytest.mark.parametrize("width", ["W2", "W4A4"])
def test_quantized_afterwards_is_the_further_student_on_few_values(seen, width):
    model = made(seen, width, "ptq", 0)
    further = made(seen, grid.FLOAT, "none", 0, lr=grid.PTQ_RATES[width])
    assert len(layers(model)) == 12
    assert torch.equal(layers(model)[0].weight, further.encoder.encoder.layer[0].attention.self.query.weight)
    again = grid.prepared(further, width)
    assert difference(model, again) == 0
    assert all(len(row.unique()) <= 2 ** grid.bits(width)[0] for row in layers(model)[0].quantized_weight().detach())
    assert (layers(model)[0].input_codes is None) == (grid.kind(width) == "weights")


def test_the_straw_man_has_one_step_a_matrix(seen):
    assert all(len(layer.steps()[0].unique()) == 1 for layer in layers(made(seen, "W4", "absmax", 0)))
    assert all(len(layer.steps()[0].unique()) > 1 for layer in layers(made(seen, "W4", "ptq", 0)))


@pytest.mark.parametrize("width", ["W2", "W4A4"])
def test_aware_students_start_from_the_same_steps_and_move_weights_and_steps(seen, width):
    model, start = made(seen, width, "qat", 0), grid.prepared(student(0), width)
    for ours, before in zip(layers(model), layers(start), strict=True):
        assert not torch.equal(ours.weight, before.weight)
        for moved, chosen in zip(ours.steps(), before.steps(), strict=True):
            assert (moved is None and chosen is None) or not torch.equal(moved, chosen)


@pytest.mark.parametrize(("width", "method"), [("W2", "qat"), ("W2", "ptq"), (grid.FLOAT, "none")])
def test_soft_labels_change_the_student_and_labels_do_not_read_them(seen, width, method, monkeypatch):
    labels = made(seen, width, method, 0)
    assert difference(made(seen, width, method, 0, objective="teacher"), labels) > 1e-5
    spoiled = grid._data() | {"teacher_logits": -grid._data()["teacher_logits"]}
    monkeypatch.setattr(grid, "_data", lambda: spoiled)
    grid.trained.cache_clear()
    assert difference(made(seen, width, method, 0), labels) == 0


def test_what_is_shared_by_runs_is_not_changed_by_them(seen):
    before = made(seen, grid.FLOAT, "none", 0)
    kept = [parameter.detach().clone() for parameter in before.parameters()]
    for way in (("W2", "ptq"), ("W4A4", "absmax"), ("W2", "qat")):
        made(seen, *way, 0, lr=grid.PTQ_RATES[grid.FLOAT])
    assert all(torch.equal(now, then) for now, then in zip(before.parameters(), kept, strict=True))
    assert isinstance(before.head, nn.Linear)


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
