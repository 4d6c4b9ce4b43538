"""Each way of learning sees its own data and its own loss; what stays is what matters most, by another reckoning."""

import pytest
import torch

from lessons_lib.capstone import compressors
from lessons_lib.capstone.compressors import Training, compressor_of, strongest
from lessons_lib.distillation import students
from lessons_lib.distillation import translation_losses as levels
from lessons_lib.pruning import importance
from lessons_lib.tasks import topic_classifier, translation, translator
from lessons_lib.training import loop


@pytest.fixture
def told(monkeypatch):
    """What the training loop was called with; nothing is trained."""
    seen = []

    def train(model, data, loss, **settings):
        seen.append({"model": model, "data": data, "loss": loss} | settings)

    monkeypatch.setattr(loop, "train", train)
    return seen


def teach(task, learn, model=None):
    return compressor_of(task).teach(model or torch.nn.Linear(1, 1), Training(3, 1e-3, learn), seed=0)


def test_the_classifier_learns_from_logits_or_from_labels_of_the_same_sentences(told):
    teach("classifier", "teacher")
    teach("classifier", "labels")
    first, second = told
    assert torch.equal(first["data"]["input_ids"], second["data"]["input_ids"])
    batch = {name: tensor[:4] for name, tensor in first["data"].items()}
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    losses = [each["loss"](lambda **_: logits, batch).item() for each in told]
    assert losses[1] == pytest.approx(torch.nn.functional.cross_entropy(logits, batch["topic"]).item(), rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.fixture
def quick_teacher(monkeypatch):
    """A translator that takes a moment in place of the teacher."""
    tiny = translator.new_translator(translator.Shape(1, 1, 16, 2, 32, 0.0), seed=0).eval()
    monkeypatch.setattr(translation, "teacher", lambda: tiny)
    compressors._taught_phrases.cache_clear()
    yield tiny
    compressors._taught_phrases.cache_clear()


def test_the_translator_learns_from_the_teacher_or_from_few_or_all_pairs(told, quick_teacher):
    for learn in compressors.LEARN:
        teach("translator", learn, quick_teacher)
    teacher, few, every = told
    assert isinstance(teacher["model"], levels.Direct) and teacher["loss"] is levels.hidden_loss
    assert {"logits", "encoded", "decoded"} <= set(teacher["data"])
    assert (few["model"], few["loss"]) == (quick_teacher, translation.TASK.loss)
    assert len(few["data"]["source"]) < len(teacher["data"]["source"]) < len(every["data"]["source"])


def test_the_settings_reach_the_training_loop(told):
    compressor_of("classifier").teach(torch.nn.Linear(1, 1), Training(7, 0.25), seed=5)
    assert {name: told[0][name] for name in ("steps", "lr", "seed")} == {"steps": 7, "lr": 0.25, "seed": 5}


def test_teaching_moves_what_may_move_and_leaves_the_model_ready_to_answer():
    model = students.topic_student(1, freeze_embeddings=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compressor_of("classifier").teach(model, Training(1, 1e-3), seed=0)
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


@pytest.fixture(scope="module")
def phrases():
    return translator.new_translator(translator.Shape(2, 3, 16, 2, 32, 0.0), seed=0).eval().requires_grad_(False)


@pytest.fixture
def few(monkeypatch):
    """The importance of a classifier's parts over a handful of sentences."""
    monkeypatch.setattr(compressors, "SCORED_SENTENCES", 8)
    return students.topic_student(1)


def test_neurons_of_a_translator_stay_by_what_they_say(phrases):
    layer, squares = phrases.decoder[1].down, torch.zeros(32)

    def add(_, inputs):
        for token in inputs[0].flatten(0, -2):
            squares.add_(token**2)

    handle = layer.register_forward_pre_hook(add)
    for call in translation.TASK.calls(phrases, 64, seed=0):
        call()
    handle.remove()
    said = [squares[j].sqrt().item() * sum(w.item() ** 2 for w in layer.weight[:, j]) ** 0.5 for j in range(32)]
    best = sorted(sorted(range(32), key=lambda j: -said[j])[:8])
    found = strongest(compressor_of("translator").scores(phrases, "neurons"), "neurons", 8)
    assert len(found) == 5 and found[3].tolist() == best


@pytest.mark.parametrize(("part", "count"), [("heads", 4), ("neurons", 100)])
def test_parts_of_a_classifier_stay_by_the_gradients_of_their_gates(few, part, count):
    (block,) = importance.gate_gradients(few, topic_classifier.training_batches(8, seed=0), part)
    best = block.abs().sum(dim=0).topk(count).indices.sort().values
    (found,) = strongest(compressor_of("classifier").scores(few, part), part, count)
    assert torch.equal(found, best)


@pytest.mark.parametrize("count", [0, 33])
def test_more_than_there_are_cannot_stay_nor_can_none(phrases, count):
    with pytest.raises(ValueError, match=f"{count} neurons cannot stay: a block has 32"):
        strongest(compressor_of("translator").scores(phrases, "neurons"), "neurons", count)
