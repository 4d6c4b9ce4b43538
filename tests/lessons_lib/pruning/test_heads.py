"""Heads that say nothing can be removed; those that stay stay what they are, in either form of attention."""

import copy

import pytest
import torch
from transformers import BertConfig, BertModel

from lessons_lib.pruning import heads
from lessons_lib.tasks import topic_classifier

KEPT = [[0, 3], [], [2, 1, 0]]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    return topic_classifier.TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()


@pytest.fixture
def batch():
    ids = torch.tensor([[5, 7, 9, 11], [5, 8, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_heads_that_are_zero_can_be_removed(model, batch, attention):
    zeroed = copy.deepcopy(model)
    for block, kept in zip(zeroed.encoder.encoder.layer, KEPT, strict=True):
        said = block.attention.output.dense.weight.data.view(24, 4, 6)
        said[:, [head for head in range(4) if head not in kept]] = 0
    smaller = heads.prune_heads(model, KEPT)
    smaller.encoder.set_attn_implementation(attention)
    with torch.no_grad():
        assert torch.allclose(smaller(**batch), zeroed(**batch), atol=1e-5)
        assert not torch.allclose(smaller(**batch), model(**batch), atol=1e-2)
    assert heads.count(smaller) == [2, 0, 3] and heads.count(model) == [4, 4, 4]
    assert smaller.encoder.encoder.layer[0].attention.self.query.weight.shape == (12, 24)
    assert smaller.encoder.encoder.layer[0].attention.output.dense.weight.shape == (24, 12)


def test_the_config_remembers_which_heads_they_were(model):
    twice = heads.prune_heads(heads.prune_heads(model, KEPT), [[1], [], [0, 2]])
    assert twice.encoder.config.kept_heads == [[3], [], [2, 0]]
    assert not hasattr(model.encoder.config, heads.FIELD)


def test_the_maps_are_still_there_when_asked_for(model, batch):
    smaller = heads.prune_heads(model, [[1, 2]] * 3)
    smaller.encoder.set_attn_implementation("eager")
    maps = smaller.encoder(**batch, output_attentions=True).attentions
    assert [tuple(one.shape) for one in maps] == [(2, 2, 4, 4)] * 3


def test_channels_stand_together():
    assert heads.channels(torch.tensor([2, 0]), 3).tolist() == [6, 7, 8, 0, 1, 2]


def test_heads_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="for each of the 3 layers; it has 2"):
        heads.prune_heads(model, [[0], [1]])
    with pytest.raises(ValueError, match=r"heads to keep must lie in 0 ... 3, none twice"):
        heads.prune_heads(model, [[0], [1], [4]])
    with pytest.raises(ValueError, match="none twice"):
        heads.prune_heads(model, [[0], [1, 1], [2]])
