"""Linear layers narrowed in place, and positions checked before they are used."""

import pytest
import torch

from lessons_lib.tasks import layers


def test_a_narrowed_layer_computes_the_chosen_outputs_of_the_chosen_inputs():
    torch.manual_seed(0)
    whole, narrow = torch.nn.Linear(5, 4), torch.nn.Linear(5, 4)
    narrow.load_state_dict(whole.state_dict())
    narrow.weight.requires_grad_(False)
    layers.narrow(narrow, rows=torch.tensor([3, 1]))
    layers.narrow(narrow, columns=torch.tensor([0, 4]))
    inputs = torch.zeros(2, 5)
    inputs[:, [0, 4]] = torch.randn(2, 2)
    assert torch.allclose(narrow(inputs[:, [0, 4]]), whole(inputs)[:, [3, 1]], atol=1e-6)
    assert (narrow.in_features, narrow.out_features) == (2, 2)
    assert not narrow.weight.requires_grad and narrow.bias.requires_grad


@pytest.mark.parametrize("kept", [[], [0.5], torch.tensor([True, False]), [[1]]])
def test_positions_are_a_list_of_whole_numbers(kept):
    with pytest.raises(ValueError, match="given by their positions"):
        layers.positions(kept, 4, "rows")


@pytest.mark.parametrize("kept", [[4], [-1], [1, 1]])
def test_positions_lie_within_and_none_comes_twice(kept):
    with pytest.raises(ValueError, match=r"rows to keep must lie in 0 ... 3, none twice"):
        layers.positions(kept, 4, "rows")
    assert layers.positions([3, 0], 4, "rows").tolist() == [3, 0]


def test_attention_is_written_out_inside_and_as_it_was_after_an_error_too():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        attn_implementation="sdpa",
    )
    model = torch.nn.ModuleDict({"encoder": BertModel(config)})
    with pytest.raises(KeyError), layers.attention_written_out(model):
        assert model["encoder"].config._attn_implementation == "eager"
        raise KeyError
    assert model["encoder"].config._attn_implementation == "sdpa"


def test_evaluating_puts_every_module_back_in_its_own_mode():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2)))
    model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError, match="half way"), layers.evaluating(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("half way")
    assert [module.training for module in model.modules()] == modes
