"""Computed bytes agree with counted ones for every method, with and without checkpointing; the peak is their sum."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lessons_lib.four_bits import lora, training_memory
from lessons_lib.four_bits.training_memory import BF16, FP32, ModelShape
from lessons_lib.tasks import headlines
from lessons_lib.training import loop

CONFIG = LlamaConfig(
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=192,
    vocab_size=1000,
    tie_word_embeddings=True,
)
ROWS, WRITTEN = 3, headlines.HEADLINE_TOKENS


def tiny(method, checkpointing):
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG)
    model = lora.four_bit(model) if method == "qlora" else model
    if method != "full":
        lora.add(model, r=4)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def batch():
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 1000, (ROWS, headlines.prompt_tokens() + WRITTEN), generator=draw)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("compute", [FP32, BF16])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", lora.METHODS)
def test_every_part_is_what_is_counted_within_15_percent(method, checkpointing, compute, monkeypatch):
    monkeypatch.setattr(loop, "fast_bfloat16", lambda *_: compute == BF16)
    counted = training_memory.count(tiny(method, checkpointing), batch())
    parts = training_memory.computed(
        ModelShape.of(CONFIG), method, ROWS, batch()["input_ids"].shape[1], WRITTEN, 4, checkpointing, compute
    )
    assert set(parts) == {*counted, "peak"}
    for name, size in counted.items():
        assert size == pytest.approx(parts[name], rel=0.15), name
    assert (parts["BF16 copies"] > 0) is (compute == BF16)
    assert (parts["a block again"] > 0) is checkpointing


def parts_of(method, **settings):
    return training_memory.computed(ModelShape.of(CONFIG), method, 4, 50, 10, **settings)


def test_each_switch_changes_its_own_part():
    plain = parts_of("lora")
    assert parts_of("lora", optimizer=2)["optimizer"] == plain["optimizer"] / 4
    assert parts_of("lora", r=16)["adapters"] == 2 * plain["adapters"]
    assert parts_of("lora", checkpointing=True)["activations"] < 0.5 * plain["activations"]
    assert parts_of("full")["gradients"] == parts_of("full")["weights"] == plain["weights"]
    assert parts_of("full")["adapters"] == 0
    assert parts_of("qlora")["weights"] < 0.5 * plain["weights"]
    assert {name for name, size in parts_of("qlora").items() if size != plain[name]} == {"weights", "peak"}


def test_the_peak_takes_the_larger_of_gradients_and_what_is_kept():
    parts = {
        "weights": 100,
        "adapters": 10,
        "optimizer": 20,
        "gradients": 5,
        "activations": 50,
        "BF16 copies": 8,
        "a block again": 2,
    }
    assert training_memory.peak(parts, 0) == 100 + 10 + 20 + 60
    assert training_memory.peak(parts, 4) == 100 + 10 + 20 + 66
    assert training_memory.peak(parts | {"gradients": 70}, 4) == 100 + 10 + 20 + 70


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "colour"}, "no method 'colour'; there is full, lora"),
        ({"rows": 0}, "are 0, 50, 10 and 8"),
        ({"compute": 3}, "compute is 3"),
    ],
)
def test_what_cannot_be_computed_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        training_memory.computed(
            **({"shape": ModelShape.of(CONFIG), "method": "lora", "rows": 4, "length": 50, "written": 10} | settings)
        )


def test_checkpointing_changes_no_gradient(monkeypatch):
    monkeypatch.setattr(loop, "fast_bfloat16", lambda *_: False)
    found = []
    for checkpointing in (False, True):
        model = tiny("qlora", checkpointing).train()
        headlines.loss(model, batch()).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(*found)
    assert found[0].abs().max() > 0


@pytest.mark.proof
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", lora.METHODS)
def test_the_language_model_in_a_fresh_process_takes_what_was_computed_within_15_percent(method, checkpointing):
    compute = BF16 if loop.fast_bfloat16() else FP32
    shape = ModelShape(576, 192, 1536, 30, 9, 49152)
    parts = training_memory.computed(
        shape, method, 4, headlines.prompt_tokens() + WRITTEN, WRITTEN, 4, checkpointing, compute
    )
    for name, size in training_memory.measured(method, 4, 4, checkpointing).items():
        assert size == pytest.approx(parts[name], rel=0.15), name
