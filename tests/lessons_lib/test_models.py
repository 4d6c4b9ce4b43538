"""The encoder is the packaged one, the teacher knows its topics, students start from what they say."""

import os
import subprocess
import sys

import pytest
import torch

from lessons_lib import assets, corpora, kept, models


@pytest.fixture(scope="module")
def teacher():
    return models.topic_teacher(progress=False)


@pytest.fixture
def tiny_encoder(tmp_path, monkeypatch):
    """A random BERT of three layers in a folder, named by COURSE_ENCODER, with the packaged tokenizer."""
    from transformers import BertConfig, BertModel

    vocabulary = models.tokenizer()
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(tmp_path / "tiny")
    vocabulary.save_pretrained(tmp_path / "tiny")
    monkeypatch.setenv("COURSE_ENCODER", str(tmp_path / "tiny"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "tiny"


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def some(split, documents):
    dataset = corpora.sentences(split)
    last = sorted(set(dataset["document"]))[:: max(1, len(set(dataset["document"])) // documents)]
    return dataset.filter(lambda document: document in set(last), input_columns="document")


def test_the_encoder_is_the_packaged_one_in_fp32():
    from safetensors.torch import load_file

    encoder = models.sentence_encoder()
    published = load_file(assets.encoder_folder() / "model.safetensors")
    state = encoder.state_dict()
    assert not encoder.training
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    shared = [name for name in state if name in published]
    assert len(shared) == 101
    assert all(torch.equal(state[name], published[name]) for name in shared if "position_ids" not in name)


def test_loading_prints_nothing_and_needs_no_network():
    code = """
import socket
def refuse(*_, **__): raise SystemExit("the network was asked for")
socket.socket.connect = socket.getaddrinfo = refuse
from lessons_lib import models
models.sentence_encoder(), models.tokenize(["One sentence."])
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_tokenize_pads_to_the_longest_and_cuts():
    batch = models.tokenize(["Short.", "A somewhat longer sentence, by a few words."])
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64
    assert batch["attention_mask"].sum(dim=1).tolist()[1] == batch["input_ids"].shape[1]
    assert models.tokenize(["word " * 100], max_length=9)["input_ids"].shape == (1, 9)
    for nothing in ([], [1], [None]):
        with pytest.raises(ValueError, match="non-empty list of strings"):
            models.tokenize(nothing)


def test_mean_pool_counts_real_tokens_only():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert models.mean_pool(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_predictions_keep_the_order_and_the_mode(teacher):
    texts = list(corpora.sentences("validation")["text"][:10])
    teacher.train()
    together = models.predict_logits(teacher, texts, batch_size=3)
    assert teacher.training
    teacher.eval()
    alone = torch.cat([models.predict_logits(teacher, [text]) for text in texts])
    assert together.shape == (10, len(corpora.TOPICS))
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_predictions_can_be_the_target_of_a_loss(teacher):
    target = models.predict_logits(teacher, ["Shares fell."]).softmax(dim=1)
    student = torch.zeros(1, 5, requires_grad=True)
    torch.nn.functional.kl_div(student.log_softmax(dim=1), target).backward()
    assert student.grad.abs().sum() > 0


def test_what_shapes_the_teacher_does_not_change_with_use(tiny_encoder):
    before = models._teacher_shape()
    models.tokenize(["One text.", "Another, longer text."], max_length=5)
    assert models._teacher_shape() == before


def test_loading_the_teacher_leaves_the_random_state_alone(teacher):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    models.topic_teacher()
    assert torch.equal(torch.rand(1), expected)


def test_the_teacher_is_right_on_held_out_documents(teacher):
    held_out = some("test", documents=100)
    right = models.predict_logits(teacher, held_out["text"]).argmax(dim=1) == torch.tensor(held_out["topic"])
    assert right.float().mean() >= 0.83 - 2 * (0.83 * 0.17 / 100) ** 0.5  # two standard errors of 100 documents below


def test_the_teacher_is_frozen_and_every_call_gives_a_copy(teacher):
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    other = models.topic_teacher()
    assert same(teacher, other)
    other.head.weight.data.zero_()
    assert same(teacher, models.topic_teacher())


@pytest.mark.parametrize(("init", "positions"), [("alternate", [2, 5]), ("first", [0, 1])])
def test_students_start_from_the_teachers_layers(teacher, init, positions):
    student = models.topic_student(2, init, seed=1)
    layers = teacher.encoder.encoder.layer
    assert same(student.encoder.embeddings, teacher.encoder.embeddings)
    assert all(same(own, layers[i]) for own, i in zip(student.encoder.encoder.layer, positions, strict=True))
    assert not torch.equal(student.head.weight, teacher.head.weight)
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_student_of_the_encoder_has_seen_no_topics():
    student, encoder = models.topic_student(2, source="encoder"), models.sentence_encoder()
    assert same(student.encoder.encoder.layer[1], encoder.encoder.layer[5])


def test_a_student_from_scratch_shares_nothing_with_the_teacher(teacher):
    student = models.topic_student(2, "scratch", seed=1)
    theirs = dict(teacher.named_parameters())
    assert not any(torch.equal(p, theirs[name]) for name, p in student.named_parameters() if p.ndim > 1)


def test_the_seed_draws_the_head_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    heads = [models.topic_student(1, "scratch", seed=seed).head.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_embeddings_can_stay_frozen():
    student = models.topic_student(1, "first", source="encoder", freeze_embeddings=True)
    assert not any(parameter.requires_grad for parameter in student.encoder.embeddings.parameters())
    assert all(parameter.requires_grad for parameter in student.encoder.encoder.parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {"n_layers": 0},
        {"n_layers": 7},
        {"n_layers": 2.0},
        {"init": "last"},
        {"source": "student"},
        {"init": "scratch", "freeze_embeddings": True},
    ],
)
def test_students_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match="n_layers|init|source|freeze_embeddings"):
        models.topic_student(**settings)


def test_another_encoder_takes_the_place_of_the_packaged_one(tiny_encoder):
    encoder = models.sentence_encoder()
    assert encoder.config.hidden_size == 16
    student = models.topic_student(3, "alternate", source="encoder")
    assert models.predict_logits(student, ["Any sentence."]).shape == (1, 5)
    assert assets.verify()[0] == ("encoder", True, f"COURSE_ENCODER={tiny_encoder}, not verified")


def test_prepare_trains_once_and_mends_a_damaged_teacher(tiny_encoder, monkeypatch):
    monkeypatch.setitem(models.TEACHER, "steps", 2)
    first, again, mended = [], [], []
    models.prepare(first.append)
    models.prepare(again.append)
    assert any("training" in line for line in first)
    assert not any("training" in line for line in again)
    folder = assets.stored_folder("topic-teacher", models._teacher_shape())
    weights = folder / kept.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    models.prepare(mended.append)
    assert any("training" in line for line in mended)
    assert weights.read_bytes() == whole


def test_an_encoder_that_is_not_bert_or_lacks_weights_is_refused(tiny_encoder):
    from safetensors.torch import load_file, save_file

    state = load_file(tiny_encoder / "model.safetensors")
    del state["encoder.layer.0.output.dense.weight"]
    save_file(state, tiny_encoder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(assets.AssetError, match="lacks weights"):
        models.sentence_encoder()
    config = (tiny_encoder / "config.json").read_text().replace('"model_type": "bert"', '"model_type": "electra"')
    (tiny_encoder / "config.json").write_text(config)
    models._config.cache_clear()
    with pytest.raises(ValueError, match="must be a BERT model"):
        models.sentence_encoder()
    (tiny_encoder / "config.json").unlink()
    models._config.cache_clear()
    with pytest.raises(assets.AssetError, match="cannot be loaded"):
        models.sentence_encoder()
