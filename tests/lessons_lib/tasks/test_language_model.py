"""The language model has the weights of its file and is an ordinary FP32 one; its perplexity is that of its losses."""

import gguf
import pytest
import torch
from torch import nn

from lessons_lib.files import packaged
from lessons_lib.tasks import language_model
from lessons_lib.tasks.layers import linear_layers


@pytest.fixture(scope="module")
def model():
    return language_model.language_model()


def test_weights_are_those_of_the_file(model):
    reader = gguf.GGUFReader(packaged.language_model_file())
    stored = {tensor.name: tensor for tensor in reader.tensors}
    names = {
        "blk.0.ffn_up": "layers.0.mlp.up_proj",
        "blk.29.ffn_down": "layers.29.mlp.down_proj",
        "blk.7.attn_v": "layers.7.self_attn.v_proj",
        "token_embd": "embed_tokens",
    }
    for theirs, ours in names.items():
        tensor = stored[f"{theirs}.weight"]
        expected = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        assert torch.equal(model.model.get_submodule(ours).weight.detach(), expected)
    assert stored["blk.0.ffn_up.weight"].tensor_type == gguf.GGMLQuantizationType.Q4_1
    assert stored["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0


def test_weights_lie_on_a_grid_of_groups_of_32_and_not_of_64(model):
    weight = model.model.layers[0].mlp.up_proj.weight.detach()
    for group, most in ((32, 16), (64, 32)):
        values = [len(part.unique()) for part in weight[:8].reshape(-1, group)]
        assert max(values) <= most
        assert (max(values) > 16) is (group == 64)


def test_it_is_an_ordinary_model_in_fp32(model):
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert not getattr(model, "is_quantized", False)
    assert not hasattr(model, "hf_quantizer")
    assert getattr(model.config, "quantization_config", None) is None
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert len(linear_layers(model, "model.layers")) == 210


def test_it_speaks_english(model):
    ids = language_model.tokenizer()("The capital of France is", return_tensors="pt")["input_ids"]
    losses, _ = language_model.next_token_losses(model, ids)
    swapped = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    assert losses.mean() < language_model.next_token_losses(model, swapped)[0].mean() - 1
    continued = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)
    assert language_model.tokenizer().decode(continued[0, -1:]).strip() == "Paris"


def test_passages_are_long_enough_and_sets_share_none():
    first, second = (language_model.passages("test", 6, 40, start) for start in (0, 1))
    assert first.shape == (6, 40)
    assert not {tuple(row) for row in first.tolist()} & {tuple(row) for row in second.tolist()}
    assert torch.equal(first, language_model.passages("test", 6, 40))
    with pytest.raises(ValueError, match="documents as long, enough for 0 sets"):
        language_model.passages("test", 6, 4000)


class Table(nn.Module):
    """A model that gives the same logits after every token."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids):
        return type("Output", (), {"logits": self.logits.expand(*input_ids.shape, -1)})


def test_losses_against_a_written_case():
    chances = torch.tensor([0.5, 0.25, 0.125, 0.125])
    model = Table(chances.log()).train()
    losses, hits = language_model.next_token_losses(model, torch.tensor([[3, 0, 1], [0, 2, 3]]), batch_size=1)
    assert torch.allclose(losses, -chances.log()[torch.tensor([[0, 1], [2, 3]])])
    assert hits.tolist() == [[True, False], [False, False]]
    assert model.training
    assert language_model.perplexity(losses) == pytest.approx((2 * 4 * 8 * 8) ** 0.25)


def test_prepare_says_that_it_is_ready():
    said = []
    language_model.prepare(said.append)
    assert said[-1] == "language model: ready"
