"""What is removed is removed: the same function as with zeros in its place, plain files, fewer bytes, read back."""

import copy
import json

import pytest
import torch
from transformers import BertConfig, BertModel

from lessons_lib import quiet
from lessons_lib.measure import model_size
from lessons_lib.pruning import heads, structured
from lessons_lib.tasks import topic_classifier
from lessons_lib.tasks.translator import Shape, Translator

LAYERS, WIDTH, NEURONS, VOCABULARY = 3, 24, 40, 300


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=NEURONS,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    classifier = topic_classifier.TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()
    for block in classifier.encoder.encoder.layer:  # biases are zero in a new model
        torch.nn.init.normal_(block.intermediate.dense.bias)
    return classifier


@pytest.fixture
def batch():
    ids = torch.tensor([[101, 7, 150, 299, 102], [101, 8, 102, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def some(count, of, seed):
    return torch.randperm(of, generator=torch.Generator().manual_seed(seed))[:count]


def gap(one, other, batch):
    with torch.no_grad():
        return float((one(**batch) - other(**batch)).abs().max())


def test_neurons_that_are_zero_can_be_removed(model, batch):
    keep = [some(13, NEURONS, seed) for seed in range(LAYERS)]
    zeroed = copy.deepcopy(model)
    for (_, second), kept in zip(structured.neuron_layers(zeroed), keep, strict=True):
        second.weight.data[:, [i for i in range(NEURONS) if i not in kept]] = 0
    smaller = structured.prune_neurons(model, keep)
    assert gap(smaller, zeroed, batch) < 1e-5 < 1e-2 < gap(smaller, model, batch)
    assert [tuple(one.weight.shape) for one in structured.neuron_layers(smaller)[0]] == [(13, WIDTH), (WIDTH, 13)]
    assert smaller.encoder.config.intermediate_size == 13
    assert model.encoder.config.intermediate_size == NEURONS  # the model itself is as it was


def test_neurons_of_a_translator_too():
    torch.manual_seed(0)
    whole = Translator(Shape(2, 1, 16, 2, 24, dropout=0.0), 30, 40).eval()
    keep = [some(9, 24, seed) for seed in range(3)]
    smaller, zeroed = structured.prune_neurons(whole, keep), copy.deepcopy(whole)
    for (_, second), kept in zip(structured.neuron_layers(zeroed), keep, strict=True):
        second.weight.data[:, [i for i in range(24) if i not in kept]] = 0
    source, target = torch.randint(1, 30, (2, 5)), torch.randint(1, 40, (2, 4))
    with torch.no_grad():
        assert torch.allclose(smaller(source, target), zeroed(source, target), atol=1e-5)
    again = Translator(smaller.shape, 30, 40)  # the shape says how large it is
    again.load_state_dict(smaller.state_dict())


def test_layers_that_add_nothing_can_be_removed(model, batch):
    """A layer whose two outputs are zero only normalises; with unit norms in a row, a second norm changes nothing."""
    for block in model.encoder.encoder.layer[1:2]:
        for linear in (block.attention.output.dense, block.output.dense):
            torch.nn.init.zeros_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
    smaller = structured.keep_layers(model, [0, 2])
    assert gap(smaller, model, batch) < 1e-5
    assert smaller.encoder.config.num_hidden_layers == 2 == len(smaller.encoder.encoder.layer)
    assert gap(structured.keep_layers(model, [2, 0]), smaller, batch) > 1e-3  # the order is the one asked for


def test_what_is_set_in_the_config_of_the_copy_reaches_its_blocks_and_nobody_elses(model):
    smaller, before = structured.keep_layers(model, [2, 2]), model.encoder.config._attn_implementation
    smaller.encoder.set_attn_implementation("flex_attention" if before == "eager" else "eager")
    for block in smaller.encoder.encoder.layer:
        assert block.attention.self.config is smaller.encoder.config
    assert smaller.encoder.encoder.layer[0] is not smaller.encoder.encoder.layer[1]
    assert model.encoder.config._attn_implementation == before


def test_words_that_are_kept_read_as_before_and_others_as_unknown(model, batch):
    trimmed = structured.trim_vocabulary(model, batch["input_ids"])
    assert gap(trimmed, model, batch) == 0
    special = topic_classifier.tokenizer().all_special_ids
    assert trimmed.tokens.tolist() == sorted({*special, 7, 8, 150, 299})
    assert trimmed.encoder.config.vocab_size == len(trimmed.tokens)
    assert len(trimmed.encoder.get_input_embeddings().weight) == len(trimmed.tokens)
    other, unknown = (
        batch | {"input_ids": batch["input_ids"].where(batch["input_ids"] != 150, instead)}
        for instead in (151, topic_classifier.tokenizer().unk_token_id)
    )
    with torch.no_grad():
        assert torch.equal(trimmed(**other), model(**unknown))
    with pytest.raises(IndexError):
        trimmed(**batch | {"input_ids": batch["input_ids"] + VOCABULARY})


def test_a_trimmed_model_can_be_trimmed_again(model, batch):
    twice = structured.trim_vocabulary(structured.trim_vocabulary(model, torch.arange(250)), torch.tensor([7, 8, 299]))
    assert twice.tokens.tolist() == sorted(
        {*topic_classifier.tokenizer().all_special_ids, 7, 8}
    )  # 299 went the first time
    known = {name: tensor[1:] for name, tensor in batch.items()}
    assert gap(twice, model, known) == 0


def all_of_it(model, batch):
    smaller = structured.trim_vocabulary(structured.keep_layers(model, [0, 2]), batch["input_ids"])
    smaller = structured.prune_neurons(smaller, [some(8, NEURONS, seed) for seed in range(2)])
    return heads.prune_heads(smaller, [[1, 3], []])


def test_everything_removed_is_saved_reloaded_and_smaller(model, batch, tmp_path):
    smaller = all_of_it(model, batch)
    for name, one in (("whole", model), ("smaller", smaller)):
        structured.save(one, tmp_path / name)
        again = structured.load(tmp_path / name)
        assert gap(again, one, batch) == 0 and not again.training
        assert type(again) is type(one)
    assert model_size.size_on_disk(tmp_path / "smaller") < model_size.size_on_disk(tmp_path / "whole") / 3
    # And what was read back can be pruned further.
    last = structured.keep_layers(structured.load(tmp_path / "smaller"), [0])
    structured.save(last, tmp_path / "last")
    assert heads.count(structured.load(tmp_path / "last")) == [2]


def test_layers_neurons_and_words_need_nothing_but_transformers(model, batch, tmp_path):
    smaller = structured.prune_neurons(structured.keep_layers(model, [1]), [some(8, NEURONS, 0)])
    smaller = structured.trim_vocabulary(smaller, batch["input_ids"])
    structured.save(smaller, tmp_path)
    with quiet.loading():
        plain = BertModel.from_pretrained(tmp_path, add_pooling_layer=False)
    new_ids = smaller.new_ids[batch["input_ids"]]
    with torch.no_grad():
        hidden = plain(input_ids=new_ids, attention_mask=batch["attention_mask"]).last_hidden_state
        logits = smaller.head(topic_classifier.mean_pool(hidden, batch["attention_mask"]))
        assert torch.equal(logits, smaller(**batch))
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["num_hidden_layers"], config["intermediate_size"], config["vocab_size"]) == (1, 8, 9)


def test_saving_and_loading_print_nothing(model, tmp_path, capfd):
    structured.save(model, tmp_path)
    structured.load(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_pruned_model_trains_and_one_that_was_frozen_stays_frozen(model, batch):
    smaller = all_of_it(model, batch)
    smaller(**batch).sum().backward()
    assert all(
        parameter.grad is not None
        for name, parameter in smaller.named_parameters()
        if "layer.1.attention.self" not in name
    )  # that layer has no head left
    assert not any(p.requires_grad for p in all_of_it(model.requires_grad_(False), batch).parameters())


@pytest.mark.parametrize("layers", [[], [3], [-1, 0]])
def test_layers_that_are_not_there_are_refused(model, layers):
    with pytest.raises(ValueError, match=r"there are 0 ... 2, and one must stay"):
        structured.keep_layers(model, layers)


def test_neurons_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="for each of the 3 blocks, all of one length"):
        structured.prune_neurons(model, [torch.arange(4)] * 2)
    with pytest.raises(ValueError, match="all of one length; it has 3 lists of 4 or 5 neurons"):
        structured.prune_neurons(model, [torch.arange(4), torch.arange(5), torch.arange(4)])
    with pytest.raises(ValueError, match=r"neurons to keep must lie in 0 ... 39"):
        structured.prune_neurons(model, [torch.tensor([40])] * 3)


@pytest.mark.parametrize(
    "tokens", [torch.empty(0, dtype=torch.int64), torch.tensor([-1]), torch.tensor([300]), torch.tensor([1.0])]
)
def test_words_that_are_not_there_are_refused(model, tokens):
    with pytest.raises(ValueError, match="ids from 0 to 299"):
        structured.trim_vocabulary(model, tokens)


def test_a_folder_without_a_classifier_is_refused(tmp_path):
    with pytest.raises(ValueError, match="give a folder that structured.save wrote"):
        structured.load(tmp_path)
