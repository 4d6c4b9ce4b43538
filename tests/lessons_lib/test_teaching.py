"""Each way of learning sees its own data and its own loss, and what is frozen stays."""

import pytest
import torch

from lessons_lib import models, teaching, training, translation_teacher, translator
from lessons_lib import translation_distillation as levels


@pytest.fixture
def told(monkeypatch):
    """What the training loop was called with; nothing is trained."""
    seen = []

    def train(model, data, loss, **settings):
        seen.append({"model": model, "data": data, "loss": loss} | settings)

    monkeypatch.setattr(training, "train", train)
    return seen


def teach(task, learn, model=None):
    return teaching.teach(task, model or torch.nn.Linear(1, 1), teaching.Training(3, 1e-3, learn), seed=0)


def test_the_classifier_learns_from_logits_or_from_labels_of_the_same_sentences(told):
    teach("classifier", "teacher")
    teach("classifier", "labels")
    first, second = told
    assert torch.equal(first["data"]["input_ids"], second["data"]["input_ids"])
    batch = {name: tensor[:4] for name, tensor in first["data"].items()}
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    losses = [each["loss"](lambda *_: logits, batch).item() for each in told]
    assert losses[1] == pytest.approx(torch.nn.functional.cross_entropy(logits, batch["topic"]).item(), rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.fixture
def quick_teacher(monkeypatch):
    """A translator that takes a moment in place of the teacher."""
    tiny = translator.new_translator(translator.Shape(1, 1, 16, 2, 32, 0.0), seed=0).eval()
    monkeypatch.setattr(translation_teacher, "teacher", lambda: tiny)
    teaching.teacher_outputs.cache_clear()
    yield tiny
    teaching.teacher_outputs.cache_clear()


def test_the_translator_learns_from_the_teacher_or_from_few_or_all_pairs(told, quick_teacher):
    for learn in teaching.LEARN:
        teach("translator", learn, quick_teacher)
    teacher, few, every = told
    assert isinstance(teacher["model"], levels.Direct) and teacher["loss"] is levels.hidden_loss
    assert {"logits", "encoded", "decoded"} <= set(teacher["data"])
    assert (few["model"], few["loss"]) == (quick_teacher, translator.translation_loss)
    assert len(few["data"]["source"]) < len(teacher["data"]["source"]) < len(every["data"]["source"])


def test_the_settings_reach_the_training_loop(told):
    teaching.teach("classifier", torch.nn.Linear(1, 1), teaching.Training(7, 0.25), seed=5)
    assert {name: told[0][name] for name in ("steps", "lr", "seed")} == {"steps": 7, "lr": 0.25, "seed": 5}


def test_teaching_moves_what_may_move_and_leaves_the_model_ready_to_answer():
    model = models.topic_student(1, freeze_embeddings=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    teaching.teach("classifier", model, teaching.Training(1, 1e-3), seed=0)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert "head.weight" in moved and not any("embeddings" in name for name in moved)
    assert not model.training


@pytest.mark.parametrize(
    ("task", "learn", "said"),
    [
        ("headlines", "teacher", "no task 'headlines'; there is classifier and translator"),
        ("classifier", "luck", "learns from 'teacher', 'labels', 'all labels', not from 'luck'"),
    ],
)
def test_what_there_is_not_is_refused(task, learn, said):
    with pytest.raises(ValueError, match=said):
        teach(task, learn)
