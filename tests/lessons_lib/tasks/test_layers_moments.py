"""What layers read: means over real tokens alone, the same object where two layers read the same tensor."""

import pytest
import torch
from transformers import BertConfig, BertModel

from lessons_lib.tasks import layers
from lessons_lib.tasks.topic_classifier import TopicClassifier


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=30)
    return TopicClassifier(BertModel(config, add_pooling_layer=False)).train()


def batches():
    draw = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    return [{"input_ids": torch.randint(1, 30, (2, 4), generator=draw), "attention_mask": mask} for _ in range(3)]


def test_moments_are_those_of_the_real_tokens(model):
    name, seen = "encoder.encoder.layer.1.output.dense", []
    found = layers.moments(model, batches(), [name])[name]
    assert model.training  # put back
    hook = model.get_submodule(name).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    model.eval()
    for batch in batches():
        model(**batch)
    model.train()
    hook.remove()
    rows = torch.cat([x[batch["attention_mask"].bool()] for x, batch in zip(seen, batches(), strict=True)])
    assert found.count == len(rows) == 18
    assert torch.allclose(found.second, rows.t() @ rows / 18, atol=1e-6)
    assert torch.allclose(found.size, rows.abs().mean(dim=0), atol=1e-6)


def test_what_stands_at_padding_changes_nothing(model):
    names = list(layers.linear_layers(model, "encoder.encoder"))
    filled = [batch | {"input_ids": batch["input_ids"].where(batch["attention_mask"].bool(), 7)} for batch in batches()]
    one, two = layers.moments(model, batches(), names), layers.moments(model, filled, names)
    assert all(torch.allclose(one[name].second, two[name].second, atol=1e-6) for name in names)


def test_layers_that_read_one_tensor_share_its_moments(model):
    names = list(layers.linear_layers(model, "encoder.encoder"))
    assert len(names) == 12
    found = layers.moments(model, batches(), names)
    query, key, value, out = (
        found[f"encoder.encoder.layer.0.attention.{part}"]
        for part in ("self.query", "self.key", "self.value", "output.dense")
    )
    assert query is key is value
    assert out is not query
    assert len({id(each) for each in found.values()}) == 8
    alone = layers.moments(model, batches(), [names[1]])[names[1]]
    assert torch.allclose(alone.second, key.second)


def test_a_layer_that_saw_nothing_is_named_and_no_hook_stays(model):
    with pytest.raises(ValueError, match="head saw no input"):
        layers.moments(model, [], ["head"])
    assert not any(module._forward_pre_hooks for module in model.modules())
