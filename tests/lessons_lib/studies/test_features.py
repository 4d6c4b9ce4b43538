"""The study of lesson 05: every feature loss takes part, none does when switched off, the table is this code's."""

import pytest
import torch
from transformers import BertConfig, BertModel

from lessons_lib.distillation import features, losses
from lessons_lib.studies import features as grid
from lessons_lib.tasks.topic_classifier import TopicClassifier

STUDY = grid.STUDY
NAMES = list(grid.settings())


@pytest.fixture(scope="module")
def table():
    return STUDY.table()


def classifier(layers, seed):
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=30,
        max_position_embeddings=8,
        initializer_range=0.5,
    )
    return TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()


def data(labelled=8):
    draw = torch.Generator().manual_seed(0)
    mask = torch.ones(32, 6).long()
    mask[::2, 4:] = 0
    topic = torch.full((32,), losses.UNLABELLED)
    topic[:labelled] = torch.arange(labelled) % 5
    return {
        "input_ids": torch.randint(1, 30, (32, 6), generator=draw),
        "attention_mask": mask,
        "topic": topic,
        "teacher_logits": torch.randn(32, 5, generator=draw),
    }


def test_every_setting_has_at_least_three_seeds_and_stands_beside_the_output_loss(table):
    assert len(grid.SEEDS) >= 3
    for name in NAMES:
        assert [row["seed"] for row in grid.rows(table, name)] == list(grid.SEEDS), name
    assert {"output", *grid.FEATURES, "all four"} <= set(NAMES)
    assert {f"output + {name}" for name in grid.FEATURES} <= set(NAMES)


def test_weights_are_those_that_did_best_on_validation_sentences(table):
    for name in grid.FEATURES:
        tried = grid.tuning(table, name)
        assert tuple(tried) == grid.WEIGHTS[name]
        assert tried[grid.CHOSEN[name]] == max(tried.values()), (name, tried)
    assert grid.TUNING_SEED not in grid.SEEDS


def gradient(output, weights, batch):
    student, teacher = classifier(2, 0), classifier(4, 1).requires_grad_(False)
    loss = grid.combined(teacher, output, weights)(student, batch)
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in student.parameters()])


@pytest.mark.parametrize("name", grid.FEATURES)
def test_a_feature_loss_moves_the_student_and_with_weight_zero_it_does_not(name):
    off, on = (gradient(True, {name: weight}, data()) for weight in (0.0, grid.CHOSEN[name]))
    plain = gradient(True, {}, data())
    assert torch.allclose(off, plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(on, off, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("name", grid.FEATURES)
def test_a_feature_loss_is_zero_for_the_teacher_itself_and_blind_to_padding(name):
    teacher, batch = classifier(2, 1), data()
    filled = batch | {"input_ids": batch["input_ids"].where(batch["attention_mask"].bool(), 7)}

    def seen(model, one):
        with torch.no_grad():
            return features.look_inside(model, one["input_ids"], one["attention_mask"], attention=True)

    def loss(own):
        return grid.feature_loss(name, own, seen(teacher, batch), batch["attention_mask"]).item()

    assert loss(seen(teacher, batch)) == pytest.approx(0, abs=1e-6)
    student = classifier(2, 0)
    assert loss(seen(student, batch)) > 1e-5
    assert loss(seen(student, filled)) == pytest.approx(loss(seen(student, batch)), rel=1e-5)


def test_without_the_output_loss_the_teachers_logits_do_not_matter():
    wrong = data() | {"teacher_logits": -data()["teacher_logits"]}
    assert torch.equal(gradient(False, {"hint": 1.0}, data()), gradient(False, {"hint": 1.0}, wrong))
    assert not torch.allclose(gradient(True, {"hint": 1.0}, data()), gradient(True, {"hint": 1.0}, wrong), atol=1e-4)


def test_an_unknown_feature_is_refused():
    batch = data()
    seen = features.look_inside(classifier(2, 0), batch["input_ids"], batch["attention_mask"])
    with pytest.raises(ValueError, match="there is no feature loss 'colour'; there is hint, attention"):
        grid.feature_loss("colour", seen, seen, batch["attention_mask"])


def test_training_lowers_the_feature_loss():
    student, teacher = classifier(2, 0), classifier(4, 1).requires_grad_(False)
    history = grid.distil(student, teacher, data(), output=False, weights={"hint": 100.0}, seed=0, steps=30)
    assert sum(history.losses[-5:]) < 0.9 * sum(history.losses[:5])


def test_the_cheap_cell_computed_here_falls_within_the_spread_of_the_table():
    live = STUDY.live(STUDY.cheap)
    assert live.within, live
