"""Bit widths of a model: rounded in place and put back, packed to the bit, read back from a file exactly."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import mixed
from lessons_lib.measure import model_size
from lessons_lib.tasks import topic_classifier


@pytest.fixture(scope="module")
def model():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    return topic_classifier.TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()


@pytest.fixture
def batch():
    return {"input_ids": torch.arange(2, 26).reshape(3, 8), "attention_mask": torch.ones(3, 8, dtype=torch.long)}


def test_units_hold_every_matrix_of_the_encoder_once(model):
    named = [name for names in mixed.units(model).values() for name in names]
    wanted = {name for name, weight in model.encoder.named_parameters(prefix="encoder") if weight.dim() == 2}
    wanted -= {"encoder.embeddings.position_embeddings.weight", "encoder.embeddings.token_type_embeddings.weight"}
    assert sorted(named) == sorted(wanted)
    assert list(mixed.units(model))[:2] == ["embeddings", "block 0, query, key, value"]


def test_a_width_rounds_its_unit_and_no_other_and_is_taken_back(model, batch):
    before = copy.deepcopy(model.state_dict())
    name, rounder = "encoder.encoder.layer.1.output.dense.weight", mixed.Rounder(model)
    with torch.no_grad():
        exact = model(**batch)
        with rounder.in_bits({"block 1, second feed-forward": 3}):
            rounded = model.state_dict()
            assert [key for key in before if not torch.equal(before[key], rounded[key])] == [name]
            assert max(len(row.unique()) for row in rounded[name]) <= 8
            assert not torch.equal(model(**batch), exact)
        assert torch.equal(model(**batch), exact)
        with pytest.raises(KeyError), rounder.in_bits({"embeddings": 2}):
            raise KeyError
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_codes_are_computed_once_and_from_the_exact_weights(model, monkeypatch):
    calls = []
    original = mixed.quantize
    monkeypatch.setattr(mixed, "quantize", lambda weight, bits: calls.append(bits) or original(weight, bits))
    rounder, widths = mixed.Rounder(model), {"block 0, attention output": 4, "block 1, attention output": 2}
    with rounder.in_bits(widths):
        inside = rounder.packed_state(widths)
    outside = rounder.packed_state(widths)
    assert sorted(calls) == [2, 4]
    assert all(torch.equal(inside[name], outside[name]) for name in outside if name.endswith(".packed"))


def test_more_bits_are_nearer_and_the_step_is_no_worse_than_absmax(model):
    weight = model.get_parameter("encoder.encoder.layer.0.intermediate.dense.weight").detach()
    errors = [(mixed.dequantize(*mixed.quantize(weight, bits)) - weight).square().sum() for bits in (2, 3, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    for bits, error in zip((2, 3, 4, 8), errors, strict=True):
        assert error <= (affine.round_trip(weight, bits, "channel") - weight).square().sum()


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(1, 70), st.integers(0, 2**32))
def test_codes_come_back_from_the_stream(bits, n, seed):
    lowest, highest = affine.code_range(bits, signed=True)
    codes = torch.randint(lowest, highest + 1, (n,), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    packed = mixed.pack(codes, bits)
    assert len(packed) == -(-n * bits // 8)
    assert torch.equal(mixed.unpack(packed, bits, n), codes)
    # the same stream, written with Python's integers
    number = sum((code - lowest) << (place * bits) for place, code in enumerate(codes.tolist()))
    assert bytes(packed.tolist()) == number.to_bytes(len(packed), "little")


def test_a_file_holds_what_was_tried(model, batch, tmp_path):
    from safetensors.torch import load_file, save_file

    widths = dict(zip(mixed.units(model), (2, 3, 4, 5, 6, 7, 8, 2, 3), strict=True))
    path = tmp_path / "model.safetensors"
    rounder = mixed.Rounder(model)
    save_file(rounder.packed_state(widths), path)
    other = mixed.restore(copy.deepcopy(model), load_file(path))
    with torch.no_grad(), rounder.in_bits(widths):
        assert torch.equal(other(**batch), model(**batch))


def test_bytes_follow_the_bits(model):
    rounder = mixed.Rounder(model)
    sizes = [model_size.size_on_disk(rounder.packed_state(dict.fromkeys(rounder.units, bits))) for bits in (2, 4, 8)]
    numbers = sum(model.get_parameter(name).numel() for names in mixed.units(model).values() for name in names)
    assert sizes[1] - sizes[0] == pytest.approx(numbers * 2 / 8, abs=64)
    assert sizes[2] - sizes[1] == pytest.approx(numbers * 4 / 8, abs=64)
    untouched = mixed.Rounder(model).packed_state({"embeddings": 8})
    assert "encoder.embeddings.word_embeddings.weight" not in untouched
    assert "encoder.encoder.layer.0.output.dense.weight" in untouched


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("no unit of this model", lambda model: mixed.Rounder(model).packed_state({"body": 4})),
        ("some do not fit", lambda model: mixed.pack(torch.tensor([4]), 3)),
        ("some do not fit", lambda model: mixed.pack(torch.tensor([4]), 9)),
        ("do not hold 3 codes", lambda model: mixed.unpack(torch.zeros(1, dtype=torch.uint8), 3, 3)),
    ],
)
def test_bad_input_is_refused_with_words(words, call, model):
    with pytest.raises(ValueError, match=words):
        call(model)
