"""The masked language model is BERT's, learns, ignores padding, and its teacher is trained once and kept."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel

from lessons_lib.distillation import masked_language
from lessons_lib.distillation.losses import UNLABELLED
from lessons_lib.files import cache
from lessons_lib.tasks import topic_classifier
from lessons_lib.training import loop

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(topic_classifier.tokenizer()), **SHAPE)
    return masked_language.new_model(BertModel(config, add_pooling_layer=False))


@pytest.fixture
def batch():
    return topic_classifier.tokenize(
        ["The bank raised its rates again.", "A goal.", "Voters went to the polls on Thursday."]
    )


@pytest.fixture
def tiny_encoder(tmp_path, monkeypatch):
    """A random BERT in a folder, named by COURSE_ENCODER, with a cache of its own and two steps of training."""
    BertModel(BertConfig(vocab_size=len(topic_classifier.tokenizer()), **SHAPE)).save_pretrained(tmp_path / "tiny")
    topic_classifier.tokenizer().save_pretrained(tmp_path / "tiny")
    monkeypatch.setenv("COURSE_ENCODER", str(tmp_path / "tiny"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(masked_language.TEACHER, "steps", 2)
    short = {name: tensor[:64] for name, tensor in masked_language.training_tokens().items()}
    monkeypatch.setattr(masked_language, "training_tokens", lambda: short)


def test_it_computes_what_berts_own_class_computes(model, batch):
    theirs = BertForMaskedLM(model.encoder.config).eval()
    theirs.bert.load_state_dict(model.encoder.state_dict())
    head = theirs.cls.predictions
    head.transform.dense.load_state_dict(model.transform.state_dict())
    head.transform.LayerNorm.load_state_dict(model.norm.state_dict())
    with torch.no_grad():
        model.bias.normal_()
        head.bias.copy_(model.bias)
        head.decoder.weight.copy_(model.encoder.embeddings.word_embeddings.weight)
        everywhere = batch["attention_mask"].bool()
        logits, hidden = model(**batch, chosen=everywhere)
        assert torch.allclose(logits, theirs(**batch).logits[everywhere], atol=1e-5)
    assert hidden.shape == (*batch["input_ids"].shape, SHAPE["hidden_size"])


def test_the_output_matrix_is_the_embedding_matrix(model, batch):
    large = [name for name, tensor in model.state_dict().items() if tensor.numel() >= len(model.bias) * 16]
    assert large == ["encoder.embeddings.word_embeddings.weight"]
    chosen = batch["attention_mask"].bool()
    before = model(**batch, chosen=chosen)[0]
    with torch.no_grad():
        unseen = next(token for token in range(2000, 3000) if token not in batch["input_ids"])
        model.encoder.embeddings.word_embeddings.weight[unseen, 0] += 1
    changed = (model(**batch, chosen=chosen)[0] - before).abs().amax(0) > 1e-4
    assert changed.nonzero().tolist() == [[unseen]]


def test_logits_come_for_the_chosen_positions_alone_row_by_row(model, batch):
    every = batch["attention_mask"].bool()
    chosen = every & (torch.arange(every.shape[1]) % 2 == 1)
    assert torch.allclose(model(**batch, chosen=chosen)[0], model(**batch, chosen=every)[0][chosen[every]], atol=1e-6)


def test_what_stands_at_padding_changes_no_guess(model, batch):
    real = batch["attention_mask"].bool()
    other = batch | {"input_ids": batch["input_ids"].where(real, 2000)}
    one, two = (model(**each, chosen=real)[0] for each in (batch, other))
    assert torch.allclose(one, two, atol=1e-6)


def test_the_loss_is_zero_for_who_names_every_token_and_asks_at_chosen_ones(batch, monkeypatch):
    chosen = batch["attention_mask"].bool() & (torch.arange(batch["input_ids"].shape[1]) == 2)
    labels = batch["input_ids"].where(chosen, UNLABELLED)
    monkeypatch.setattr(masked_language, "masked_batch", lambda ids: (ids, labels))

    class Oracle(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, input_ids, attention_mask, chosen):
            wanted = (input_ids[chosen] + self.shift) % len(topic_classifier.tokenizer())
            return 60.0 * nn.functional.one_hot(wanted, len(topic_classifier.tokenizer())), None

    assert masked_language.masked_loss(Oracle(0), batch).item() == pytest.approx(0, abs=1e-6)
    assert masked_language.masked_loss(Oracle(1), batch).item() == pytest.approx(60, abs=0.1)


def test_a_bias_of_frequencies_is_the_unigram_model(model, batch):
    with torch.no_grad():
        model.norm.weight.zero_()  # what is left of the logits is the bias
    masked_language.know_frequencies(model, batch)
    chosen = batch["attention_mask"].bool()
    shares = model(**batch, chosen=chosen)[0][0].softmax(-1)
    tokens, counts = batch["input_ids"][chosen].unique(return_counts=True)
    words = ~torch.isin(tokens, masked_language.special_ids())
    tokens, wanted = tokens[words], counts[words] + 0.1
    assert torch.allclose(shares[tokens] / shares[tokens[0]], wanted / wanted[0])
    assert shares[masked_language.special_ids()].max() < shares[tokens].min()


def test_it_learns_the_text_it_reads(model):
    data = topic_classifier.tokenize(["Rates rose again on Monday."] * 32)
    nn.init.normal_(model.encoder.embeddings.word_embeddings.weight)  # apart enough to be told from one another
    before = model.encoder.embeddings.word_embeddings.weight.clone()
    history = loop.train(model, data, masked_language.masked_loss, steps=60, lr=2e-2, seed=0, progress=False)
    assert sum(history.losses[-5:]) / 5 < 0.5 * history.losses[0]
    assert torch.equal(model.encoder.embeddings.word_embeddings.weight, before), "the embeddings are frozen"


def test_the_held_out_loss_has_fixed_masks(model, monkeypatch):
    texts = {"text": ["The bank raised its rates again.", "Voters went to the polls on Thursday."] * 8}
    monkeypatch.setattr(masked_language.bbc, "sentences", lambda split: texts)
    masked_language._held_out.cache_clear()
    first, again = masked_language.held_out_loss(model, seed=1), masked_language.held_out_loss(model, seed=1)
    assert first == again
    assert first != masked_language.held_out_loss(model, seed=2)
    masked_language._held_out.cache_clear()


def test_the_teacher_is_trained_once_and_kept(tiny_encoder, monkeypatch):
    said = []
    masked_language.KEPT.prepare(said.append)
    assert [line.split(":")[1].split(",")[0].strip() for line in said] == ["training", "ready"]
    monkeypatch.setattr(masked_language, "_train_teacher", lambda *_: pytest.fail("trained again"))
    first, again = masked_language.teacher(), masked_language.teacher()
    assert torch.equal(first.transform.weight, again.transform.weight)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())
    masked_language.KEPT.prepare(said.append)
    assert len(said) == 3
    assert len(masked_language.teacher_sha256()) == 64


def test_a_damaged_teacher_is_trained_again_and_every_setting_shapes_it(tiny_encoder, monkeypatch):
    before = masked_language.teacher().bias
    folder = cache.stored_folder("masked-language-teacher", masked_language._shape())
    (folder / cache.WEIGHTS).write_bytes(b"damaged")
    assert torch.equal(masked_language.teacher().bias, before)
    monkeypatch.setitem(masked_language.TEACHER, "lr", 1.0)
    assert cache.stored_folder("masked-language-teacher", masked_language._shape()) != folder
