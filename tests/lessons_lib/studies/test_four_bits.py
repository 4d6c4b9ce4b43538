"""The study of lesson 12: every way takes part and does what its own module does, and the table is this code's."""

import numpy
import pytest
import torch
from transformers import BertConfig, BertModel

from lessons_lib.arithmetic import nf4
from lessons_lib.four_bits import awq, gptq, groupwise
from lessons_lib.measure import intervals
from lessons_lib.studies import four_bits as grid
from lessons_lib.tasks import layers, topic_classifier
from lessons_lib.tasks.topic_classifier import TopicClassifier

STUDY = grid.STUDY


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


def test_every_way_stands_at_every_width_where_it_is_defined(table):
    for model, widths in grid.BITS.items():
        assert len(grid.rows(table, model, "none", 32)) == len(grid.rows(table, model, "nf4", 4)) == 1
        for bits in widths:
            assert len(grid.rows(table, model, "rtn", bits)) == 1
            for way in grid.DRAWN:
                assert [row["seed"] for row in grid.rows(table, model, way, bits)] == list(grid.seeds(model, bits))
    assert len(grid.SEEDS) >= 3
    assert grid.seeds("encoder", 4) == grid.SEEDS


def problem():
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(24, 128, generator=draw) * 0.1, torch.randn(600, 128, generator=draw)
    x = x @ (torch.eye(128) + 0.2 * torch.randn(128, 128, generator=draw)) * torch.linspace(0.1, 4, 128)
    return weight, layers.Moments(len(x), x.t() @ x, x.abs().sum(dim=0))


def test_each_way_is_that_of_its_module_and_no_two_are_alike():
    weight, seen = problem()
    expected = {
        "rtn": groupwise.dequantize_groups(groupwise.quantize_groups(weight, 4, 64)),
        "nf4": nf4.round_trip(weight, 64),
        "gptq": groupwise.dequantize_groups(gptq.gptq(weight, seen.second, 4, 64)),
        "awq": awq.dequantize(awq.awq(weight, seen.second, seen.size, 4, 64, grid.SETTINGS["awq_steps"])),
    }
    assert set(expected) == set(grid.WAYS)
    made = {way: grid.approximate(weight, way, 4, seen) for way in grid.WAYS}
    for way, wanted in expected.items():
        assert torch.equal(made[way], wanted)
        assert not any(torch.equal(wanted, other) for name, other in expected.items() if name != way)
    errors = {way: groupwise.output_error(weight, back, seen.second) for way, back in made.items()}
    assert errors["gptq"] < errors["rtn"]
    assert errors["awq"] < errors["rtn"]


@pytest.mark.parametrize(("way", "bits"), [("nf4", 3), ("colour", 4)])
def test_what_is_not_defined_is_refused(way, bits):
    with pytest.raises(ValueError, match=f"no way '{way}' at {bits} bits"):
        grid.approximate(torch.zeros(2, 64), way, bits, None)


@pytest.mark.parametrize("way", grid.WAYS)
def test_linear_layers_change_and_nothing_else(way, monkeypatch):
    torch.manual_seed(0)
    config = BertConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=30)
    model = TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.randint(1, 30, (8, 12), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]
    monkeypatch.setattr(grid, "sentence_batches", lambda split, seed: batches)
    grid.quantize_model(model, "encoder", way, 4, 0)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{name}.weight" for name in layers.linear_layers(model, "encoder.encoder")}


def test_calibration_draws_differ_by_seed_and_never_touch_what_is_judged():
    sets = [
        {tuple(row) for batch in grid.passage_batches(seed) for row in batch["input_ids"].tolist()} for seed in (0, 1)
    ]
    assert len(sets[0]) == grid.SETTINGS["calibration_passages"]
    assert not sets[0] & sets[1]
    assert not sets[0] & {tuple(row) for row in grid.judged_passages().tolist()}
    one, two = ([batch["input_ids"][0].tolist() for batch in grid.sentence_batches("train", seed)] for seed in (0, 1))
    assert one != two


def test_differences_pair_a_way_without_draws_with_every_draw(table):
    rtn, own = (grid.rows(table, "encoder", way, 3) for way in ("rtn", "gptq"))
    gap = grid.difference(table, "gptq", "rtn", 3)
    assert gap.runs == 3
    assert gap.value == pytest.approx(numpy.mean([row["accuracy"] for row in own]) - rtn[0]["accuracy"], abs=1e-4)
    assert grid.difference(table, "nf4", "rtn", 4).runs == 1
    assert not grid.difference(table, "nf4", "rtn", 4).beats
    assert grid.accuracy(table, "rtn", 3).value == pytest.approx(rtn[0]["accuracy"], abs=1e-4)


def test_perplexities_are_those_of_the_losses(table):
    rows = {bits: grid.rows(table, "language model", "rtn", bits)[0] for bits in (4, 3)}
    for bits, row in rows.items():
        assert len(row["losses"]) == grid.SETTINGS["judged_passages"]
        assert row["perplexity"] == pytest.approx(numpy.exp(numpy.mean(row["losses"])), rel=1e-3)
        assert grid.perplexity(table, "rtn", bits) == row["perplexity"]
    added = grid.loss_added(table, "rtn", 3, "rtn", 4)
    expected = numpy.subtract(rows[3]["losses"], rows[4]["losses"])
    assert isinstance(added, intervals.Interval)
    assert added.value == pytest.approx(expected.mean(), rel=1e-6)
    assert added.high - added.value == pytest.approx(2.131 * expected.std(ddof=1) / len(expected) ** 0.5, rel=0.05)


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live


@pytest.mark.proof
def test_on_every_layer_of_the_encoder_the_held_out_output_errs_less_than_with_rounding():
    teacher = topic_classifier.topic_teacher()
    names = list(layers.linear_layers(teacher, "encoder.encoder"))
    seen, judged = (layers.moments(teacher, grid.sentence_batches(split, 0), names) for split in ("train", "test"))
    assert len(names) == 36
    for name in names:
        weight, second = teacher.get_submodule(name).weight.detach(), judged[name].second
        plain = groupwise.output_error(weight, grid.approximate(weight, "rtn", 4, None), second)
        own = groupwise.output_error(weight, grid.approximate(weight, "gptq", 4, seen[name]), second)
        scaled = awq.awq(weight, seen[name].second, seen[name].size, 4)
        assert own < 0.8 * plain, name
        assert groupwise.output_error(weight, awq.dequantize(scaled), second) <= plain, name
