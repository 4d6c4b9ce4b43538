"""The encoder is the packaged one, the teacher knows its topics, students start from what they say."""

import os
import subprocess
import sys

import pytest
import torch

from lessons_lib.distillation import students
from lessons_lib.files import cache, packaged
from lessons_lib.tasks import bbc, topic_classifier


@pytest.fixture(scope="module")
def teacher():
    return topic_classifier.topic_teacher(progress=False)


@pytest.fixture
def tiny_encoder(tmp_path, monkeypatch):
    """A random BERT of three layers in a folder, named by COURSE_ENCODER, with the packaged tokenizer."""
    from transformers import BertConfig, BertModel

    vocabulary = topic_classifier.tokenizer()
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
    dataset = bbc.sentences(split)
    last = sorted(set(dataset["document"]))[:: max(1, len(set(dataset["document"])) // documents)]
    return dataset.filter(lambda document: document in set(last), input_columns="document")


def test_the_encoder_is_the_packaged_one_in_fp32():
    from safetensors.torch import load_file

    encoder = topic_classifier.sentence_encoder()
    published = load_file(packaged.encoder_folder() / "model.safetensors")
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
from lessons_lib.tasks import topic_classifier
topic_classifier.sentence_encoder(), topic_classifier.tokenize(["One sentence."])
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_tokenize_pads_to_the_longest_and_cuts():
    batch = topic_classifier.tokenize(["Short.", "A somewhat longer sentence, by a few words."])
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64
    assert batch["attention_mask"].sum(dim=1).tolist()[1] == batch["input_ids"].shape[1]
    assert topic_classifier.tokenize(["word " * 100], max_length=9)["input_ids"].shape == (1, 9)
    for nothing in ([], [1], [None]):
        with pytest.raises(ValueError, match="non-empty list of strings"):
            topic_classifier.tokenize(nothing)


def test_mean_pool_counts_real_tokens_only():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert topic_classifier.mean_pool(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_predictions_keep_the_order_and_the_mode(teacher):
    texts = list(bbc.sentences("validation")["text"][:10])
    teacher.train()
    together = topic_classifier.predict_logits(teacher, texts, batch_size=3)
    assert teacher.training
    teacher.eval()
    alone = torch.cat([topic_classifier.predict_logits(teacher, [text]) for text in texts])
    assert together.shape == (10, len(bbc.TOPICS))
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_predictions_can_be_the_target_of_a_loss(teacher):
    target = topic_classifier.predict_logits(teacher, ["Shares fell."]).softmax(dim=1)
    student = torch.zeros(1, 5, requires_grad=True)
    torch.nn.functional.kl_div(student.log_softmax(dim=1), target).backward()
    assert student.grad.abs().sum() > 0


def test_what_shapes_the_teacher_does_not_change_with_use(tiny_encoder):
    before = topic_classifier._teacher_shape()
    topic_classifier.tokenize(["One text.", "Another, longer text."], max_length=5)
    assert topic_classifier._teacher_shape() == before


def test_loading_the_teacher_leaves_the_random_state_alone(teacher):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    topic_classifier.topic_teacher()
    assert torch.equal(torch.rand(1), expected)


def test_the_teacher_is_right_on_held_out_documents(teacher):
    held_out = some("test", documents=100)
    right = topic_classifier.predict_logits(teacher, held_out["text"]).argmax(dim=1) == torch.tensor(held_out["topic"])
    assert right.float().mean() >= 0.83 - 2 * (0.83 * 0.17 / 100) ** 0.5  # two standard errors of 100 documents below


def test_the_teacher_is_frozen_and_every_call_gives_a_copy(teacher):
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    other = topic_classifier.topic_teacher()
    assert same(teacher, other)
    other.head.weight.data.zero_()
    assert same(teacher, topic_classifier.topic_teacher())


@pytest.mark.parametrize(("init", "positions"), [("alternate", [2, 5]), ("first", [0, 1])])
def test_students_start_from_the_teachers_layers(teacher, init, positions):
    student = students.topic_student(2, init, seed=1)
    layers = teacher.encoder.encoder.layer
    assert same(student.encoder.embeddings, teacher.encoder.embeddings)
    assert all(same(own, layers[i]) for own, i in zip(student.encoder.encoder.layer, positions, strict=True))
    assert not torch.equal(student.head.weight, teacher.head.weight)
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_student_of_the_encoder_has_seen_no_topics():
    student, encoder = students.topic_student(2, source="encoder"), topic_classifier.sentence_encoder()
    assert same(student.encoder.encoder.layer[1], encoder.encoder.layer[5])


def test_a_student_from_scratch_shares_nothing_with_the_teacher(teacher):
    student = students.topic_student(2, "scratch", seed=1)
    theirs = dict(teacher.named_parameters())
    assert not any(torch.equal(p, theirs[name]) for name, p in student.named_parameters() if p.ndim > 1)


def test_the_seed_draws_the_head_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    heads = [students.topic_student(1, "scratch", seed=seed).head.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_embeddings_can_stay_frozen():
    student = students.topic_student(1, "first", source="encoder", freeze_embeddings=True)
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
        students.topic_student(**settings)


def test_another_encoder_takes_the_place_of_the_packaged_one(tiny_encoder):
    encoder = topic_classifier.sentence_encoder()
    assert encoder.config.hidden_size == 16
    student = students.topic_student(3, "alternate", source="encoder")
    assert topic_classifier.predict_logits(student, ["Any sentence."]).shape == (1, 5)
    assert packaged.verify()[0] == ("encoder", True, f"COURSE_ENCODER={tiny_encoder}, not verified")


def test_prepare_trains_once_and_mends_a_damaged_teacher(tiny_encoder, monkeypatch):
    monkeypatch.setitem(topic_classifier.TEACHER, "steps", 2)
    first, again, mended = [], [], []
    topic_classifier.prepare(first.append)
    topic_classifier.prepare(again.append)
    assert any("training" in line for line in first)
    assert not any("training" in line for line in again)
    folder = cache.stored_folder("topic-teacher", topic_classifier._teacher_shape())
    weights = folder / cache.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    topic_classifier.prepare(mended.append)
    assert any("training" in line for line in mended)
    assert weights.read_bytes() == whole


def test_an_encoder_that_is_not_bert_or_lacks_weights_is_refused(tiny_encoder):
    from safetensors.torch import load_file, save_file

    state = load_file(tiny_encoder / "model.safetensors")
    del state["encoder.layer.0.output.dense.weight"]
    save_file(state, tiny_encoder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(packaged.AssetError, match="lacks weights"):
        topic_classifier.sentence_encoder()
    config = (tiny_encoder / "config.json").read_text().replace('"model_type": "bert"', '"model_type": "electra"')
    (tiny_encoder / "config.json").write_text(config)
    topic_classifier._config.cache_clear()
    with pytest.raises(ValueError, match="must be a BERT model"):
        topic_classifier.sentence_encoder()
    (tiny_encoder / "config.json").unlink()
    topic_classifier._config.cache_clear()
    with pytest.raises(packaged.AssetError, match="cannot be loaded"):
        topic_classifier.sentence_encoder()


def test_a_word_was_seen_when_some_training_sentence_has_it(monkeypatch):
    texts = bbc.sentences("train").select(range(3))
    monkeypatch.setattr(bbc, "sentences", lambda split: texts if split == "train" else None)
    topic_classifier.seen_tokens.cache_clear()
    words = set(topic_classifier.seen_tokens().tolist())
    topic_classifier.seen_tokens.cache_clear()
    assert words == {
        token for text in texts["text"] for token in topic_classifier.tokenize([text])["input_ids"][0].tolist()
    } | {topic_classifier.tokenizer().pad_token_id}
