"""The language model as each method trains it: what is packed, what is trained, what stays."""

import pytest
import torch
from torch import nn

from lessons_lib.arithmetic import nf4
from lessons_lib.four_bits import lora, packed_linear
from lessons_lib.four_bits.packed_linear import Linear4bit
from lessons_lib.measure import model_size


@pytest.fixture(scope="module")
def models():
    return {method: lora.prepared(method, r=4) for method in lora.METHODS}


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_full_trains_all_and_the_others_their_adapters_alone(models):
    assert len(trained(models["full"])) == len(list(models["full"].parameters()))
    for method in ("lora", "qlora"):
        names = set(lora.adapters(models[method]))
        assert len(names) == 210
        assert trained(models[method]) == {f"{name}.{part}" for name in names for part in "ab"}
        assert lora.trainable_fraction(models[method]) == pytest.approx(1_221_120 / (134_515_008 + 1_221_120))


def test_the_packed_base_takes_at_most_a_third_of_fp32_and_what_was_computed(models):
    adapters = 4 * 1_221_120
    base = {method: model_size.state_bytes(models[method]) - adapters for method in ("lora", "qlora")}
    assert base["qlora"] <= base["lora"] / 3
    stored, weights = packed_linear.packed_bytes(models["qlora"])
    assert weights == 106_168_320
    assert stored == pytest.approx(weights * nf4.bits_per_weight() / 8, rel=1e-4)
    assert base["qlora"] == stored + base["lora"] - 4 * weights


def test_layers_of_the_blocks_are_packed_as_they_were_and_nothing_else_is(models):
    own, plain = models["qlora"], models["full"]
    assert all(isinstance(adapter.base, Linear4bit) for adapter in lora.adapters(own).values())
    assert all(type(adapter.base) is nn.Linear for adapter in lora.adapters(models["lora"]).values())
    name = "model.layers.7.self_attn.k_proj"
    expected = nf4.round_trip(plain.get_submodule(name).weight.detach())
    assert torch.equal(own.get_submodule(name).base.weight(), expected)
    assert torch.equal(own.model.embed_tokens.weight, plain.model.embed_tokens.weight)
    assert own.lm_head.weight is own.model.embed_tokens.weight


def test_checkpointing_is_switched_and_unknown_methods_are_refused(models):
    assert not models["qlora"].is_activation_checkpointing
    assert lora.prepared("full", checkpointing=True).is_activation_checkpointing
    with pytest.raises(ValueError, match="no method 'colour'; there is full, lora, qlora"):
        lora.prepared("colour")
