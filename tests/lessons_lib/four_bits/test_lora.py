"""LoRA equals peft's, forward and backward; QLoRA equals bitsandbytes with peft; what does not fit changes nothing."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lessons_lib.files import tensor_files
from lessons_lib.files.tensor_files import FileError
from lessons_lib.four_bits import libraries, lora, packed_linear
from lessons_lib.four_bits.lora import LoRA
from lessons_lib.tasks import layers

U32, U16 = 2.0**-24, 2.0**-9  # half a step of FP32 and of BF16, relative


def llama(seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        vocab_size=50,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def ids():
    return torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))


def stirred(model, seed=2):
    """The same model with adapters that do something: b away from zero."""
    draw = torch.Generator().manual_seed(seed)
    for adapter in lora.adapters(model).values():
        adapter.b.data = 0.1 * torch.randn(adapter.b.shape, generator=draw)
    return model


def adapted(model=None, **settings):
    return stirred(lora.add(llama() if model is None else model, **({"r": 4, "alpha": 6} | settings)))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(model):
    model(input_ids=ids()).logits.square().mean().backward()


def test_a_new_adapter_changes_nothing_and_b_alone_has_a_gradient():
    model, base = lora.add(llama(), r=4), llama()
    assert torch.equal(model(input_ids=ids()).logits, base(input_ids=ids()).logits)
    gradients(model)
    for adapter in lora.adapters(model).values():
        assert adapter.b.grad.abs().max() > 0
        assert adapter.a.grad.abs().max() == 0
        assert adapter.a.abs().max() <= adapter.a.shape[1] ** -0.5


def test_forward_and_gradients_are_those_of_peft():
    own = adapted()
    theirs = libraries.peft_like(own, llama())
    assert torch.allclose(own(input_ids=ids()).logits, theirs(input_ids=ids()).logits, rtol=1e-5, atol=1e-5)
    gradients(own)
    gradients(theirs)
    for name, adapter in lora.adapters(own).items():
        layer = theirs.base_model.model.get_submodule(name)
        for mine, other in ((adapter.a, layer.lora_A["default"].weight), (adapter.b, layer.lora_B["default"].weight)):
            assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-6 * other.grad.abs().max().item()), name
    trained = {name for name, parameter in own.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.{part}" for name in lora.adapters(own) for part in "ab"}


def test_the_factor_is_alpha_over_r():
    layer, x = LoRA(nn.Linear(8, 6), 2, 5.0), draw(3, 8)
    layer.b.data = draw(6, 2, seed=1)
    expected = layer.base(x) + 2.5 * x @ (layer.b @ layer.a).t()
    assert torch.allclose(layer(x), expected, atol=1e-5)
    assert not torch.allclose(layer(x), layer.base(x), atol=1e-2)


def allowed(dtype, n, terms, results):
    """How far two ways of summing n products may be apart: each is off by n half steps of FP32 of the sum of their
    magnitudes, and in BF16 every result is rounded to a half step of its own."""
    return 2 * ((n + 12) * U32 * terms + (U16 * results if dtype == torch.bfloat16 else 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_qlora_layer_equals_bitsandbytes_with_peft_within_the_derived_bound(dtype):
    """Both read back the same weight, to the bit. What is left is rounding."""
    torch.manual_seed(0)
    plain = nn.ModuleDict({"up_proj": nn.Linear(128, 64)})
    own = lora.add(nn.ModuleDict({"up_proj": packed_linear.nf4_layer(plain["up_proj"])}), ["up_proj"], r=4, alpha=8)
    stirred(own)
    theirs = nn.ModuleDict({"up_proj": libraries.bitsandbytes_layer(plain["up_proj"])})
    theirs["up_proj"].compute_dtype = dtype
    layer, adapter = libraries.peft_like(own, theirs).base_model.model["up_proj"].train().to(dtype), own["up_proj"]
    x, again = (draw(5, 128, seed=3).to(dtype).requires_grad_() for _ in range(2))
    out, expected = adapter(x), layer(again)
    assert out.dtype == expected.dtype == dtype
    weight, a, b = adapter.base.weight(), adapter.a.detach(), adapter.b.detach()
    size, low = x.detach().float().abs(), adapter.base(x).detach().float()
    terms = size @ weight.abs().t() + plain["up_proj"].bias.abs() + 2 * (size @ a.abs().t()) @ b.abs().t()
    results = 2 * low.abs() + out.detach().float().abs() + 3 * (out.detach().float() - low).abs()
    assert ((out - expected).float().abs() <= allowed(dtype, 128, terms, results)).all()
    assert not torch.allclose(out.float(), low, atol=0.01)
    upstream = draw(5, 64, seed=4).to(dtype)
    out.backward(upstream)
    expected.backward(upstream)
    size = upstream.float().abs()
    through = (2 * (size @ b.abs()) @ a.abs(), size @ weight.abs())
    assert ((x.grad - again.grad).float().abs() <= allowed(dtype, 64, sum(through), 5 * sum(through))).all()
    assert x.grad.abs().max() > 0


def test_qlora_is_lora_over_the_weights_that_four_bits_read_back_as():
    base = llama()
    own = adapted(lora.four_bit(base))
    rounded = llama()
    for name, layer in layers.linear_layers(own, "model.layers").items():
        raise AssertionError(f"{name} is still {layer}")
    for name, adapter in lora.adapters(own).items():
        rounded.get_submodule(name).weight.data = adapter.base.weight()
    assert torch.allclose(own(input_ids=ids()).logits, adapted(rounded)(input_ids=ids()).logits, atol=1e-4)
    assert isinstance(base.model.layers[0].mlp.up_proj, nn.Linear)


@pytest.mark.parametrize("packed", [False, True])
def test_a_merged_model_is_ordinary_and_gives_the_same_outputs(packed):
    own = adapted(lora.four_bit(llama()) if packed else None)
    merged = lora.merged(own)
    assert not lora.adapters(merged)
    assert {type(layer) for layer in merged.modules() if isinstance(layer, (nn.Linear, packed_linear.Linear4bit))} == {
        nn.Linear
    }
    assert torch.allclose(merged(input_ids=ids()).logits, own(input_ids=ids()).logits, rtol=1e-4, atol=1e-4)
    assert len(lora.adapters(own)) == 14
    assert merged.lm_head.weight is merged.model.embed_tokens.weight


def test_unmerging_gives_the_weight_back_but_for_rounding():
    weight, a, b = draw(6, 8), draw(2, 8, seed=1), draw(6, 2, seed=2)
    together = lora.merge(weight, a, b, 3.0, 2)
    assert torch.allclose(together, weight + 1.5 * b @ a, atol=1e-6)
    back = lora.unmerge(together, a, b, 3.0, 2)
    assert ((back - weight).abs() <= 4 * U32 * (weight.abs() + 3 * together.abs())).all()


def test_bias_is_kept_and_merged():
    layer = LoRA(packed_linear.nf4_layer(nn.Linear(64, 32)), 2, 4)
    layer.b.data = draw(32, 2)
    x = draw(3, 64, seed=1)
    assert layer.base.bias is not None
    assert torch.allclose(layer.merged()(x), layer(x), atol=1e-5)


def test_saved_and_loaded_adapters_give_the_same_outputs(tmp_path):
    own, other = adapted(), lora.add(llama(), r=4, alpha=6, seed=5)
    lora.save(own, tmp_path / "adapter")
    assert not torch.equal(own(input_ids=ids()).logits, other(input_ids=ids()).logits)
    assert lora.load(tmp_path / "adapter", other) is other
    assert torch.equal(own(input_ids=ids()).logits, other(input_ids=ids()).logits)
    assert set(load_file(tmp_path / "adapter")) == {f"{name}.{part}" for name in lora.adapters(own) for part in "ab"}


def refused(path, model, words):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FileError, match=words):
        lora.load(path, model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_loads_nothing(tmp_path, share):
    lora.save(adapted(), tmp_path / "adapter")
    whole = (tmp_path / "adapter").read_bytes()
    (tmp_path / "adapter").write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path / "adapter", adapted(), "cut off or damaged")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"r": 2}, "has rank 4 and alpha 6 in the file and rank 2 and alpha 6 in the model"),
        ({"alpha": 8}, "rank 4 and alpha 6 in the file and rank 4 and alpha 8 in the model"),
        ({"targets": ["q_proj"]}, "the model lacks 'model.layers.0.mlp.down_proj.a'"),
    ],
)
def test_an_adapter_of_other_settings_loads_nothing(tmp_path, settings, words):
    lora.save(adapted(), tmp_path / "adapter")
    refused(tmp_path / "adapter", adapted(**settings), words)


def test_an_adapter_for_another_shape_loads_nothing(tmp_path):
    lora.save(adapted(), tmp_path / "adapter")
    config = llama().config
    config.intermediate_size = 96
    refused(tmp_path / "adapter", adapted(LlamaForCausalLM(config)), r"down_proj.a' is torch.float32 \(4, 128\) inst")
    lora.save(adapted(targets=["up_proj"]), tmp_path / "few")
    refused(tmp_path / "few", adapted(), "the file lacks 'model.layers.0.mlp.down_proj.a'")


def test_another_kind_of_file_is_refused(tmp_path):
    tensor_files.write(tmp_path / "other", "something else", {"x": torch.ones(2)}, {})
    refused(tmp_path / "other", adapted(), "'something else', not 'low-rank adapters, 1', as `lora.save` writes it")
    with pytest.raises(ValueError, match="no adapters to save"):
        lora.save(llama(), tmp_path / "none")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"r": 0}, "r is 0; a layer of 64 x 64 allows whole numbers from 1 to 64"),
        ({"r": 33}, "r is 33; a layer of 32 x 64 allows whole numbers from 1 to 32"),
        ({"r": 2.0}, "r is 2.0"),
        ({"alpha": 0}, "alpha is 0; it must be a number above 0"),
        ({"targets": ["colour_proj"]}, "No linear layer is called colour_proj; this model has down_proj, gate_proj"),
        ({"targets": []}, "by any name, for none was given"),
    ],
)
def test_what_cannot_be_added_is_refused_and_changes_nothing(settings, words):
    model = llama()
    with pytest.raises(ValueError, match=words):
        lora.add(model, **({"r": 4} | settings))
    assert not lora.adapters(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_adapters_are_added_once_and_beside_linear_layers():
    with pytest.raises(ValueError, match="has adapters already"):
        lora.add(adapted())
    with pytest.raises(TypeError, match="beside a linear layer, ordinary or Linear4bit, not beside Embedding"):
        LoRA(nn.Embedding(4, 4), 2, 4)


def test_the_seed_draws_a():
    first, same, other = (lora.adapters(lora.add(llama(), r=4, seed=seed)) for seed in (0, 0, 1))
    for name, adapter in first.items():
        assert torch.equal(adapter.a, same[name].a)
        assert not torch.equal(adapter.a, other[name].a)


@pytest.mark.parametrize("shapes", [((3, 8), (6, 2)), ((2, 8), (6, 3)), ((2, 8, 1), (6, 2))])
def test_matrices_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match=r"at rank 2 they must be \(2, n_in\) and \(n_out, 2\)"):
        lora.update(*(torch.ones(shape) for shape in shapes), 4, 2)
    with pytest.raises(ValueError, match=r"The weight has the shape \(6, 7\), its update \(6, 8\)"):
        lora.merge(torch.ones(6, 7), torch.ones(2, 8), torch.ones(6, 2), 4, 2)


@pytest.mark.parametrize("packed", [False, True])
def test_the_trained_share_counts_every_weight_once(packed):
    base = llama()
    weights = sum(parameter.numel() for parameter in base.parameters())
    own = adapted(lora.four_bit(base) if packed else base, targets=["q_proj", "v_proj"])
    trained = 2 * 4 * (64 + 64 + 64 + 32)
    assert lora.trainable_fraction(own) == pytest.approx(trained / (weights + trained))
