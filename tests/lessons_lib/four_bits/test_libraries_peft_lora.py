"""peft's adapters get our numbers: the same settings, the same layers, nothing else changed."""

import pytest
import torch
from torch import nn

from lessons_lib.four_bits import libraries, lora


def model():
    torch.manual_seed(0)
    return nn.ModuleDict({"first": nn.Linear(8, 6), "second": nn.Linear(6, 4)})


def test_numbers_rank_alpha_and_places_are_ours():
    own = lora.add(model(), ["second"], r=2, alpha=5)
    own["second"].b.data = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    made = libraries.peft_like(own, model()).base_model.model
    theirs = made["second"]
    assert torch.equal(theirs.lora_A["default"].weight, own["second"].a)
    assert torch.equal(theirs.lora_B["default"].weight, own["second"].b)
    assert theirs.scaling["default"] == 2.5
    assert type(made["first"]) is nn.Linear
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(theirs(x), own["second"](x), atol=1e-6)


def test_without_adapters_there_is_nothing_to_be_like():
    with pytest.raises(ValueError, match="no adapters that peft could have"):
        libraries.peft_like(model(), model())
