"""Static INT8 layers against fake quantization in floats; what calibration sees; smoothing; what is refused."""

import copy

import pytest
import torch
from torch import nn

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import observers, static
from lessons_lib.int8.static import StaticLinear
from lessons_lib.measure import model_size
from lessons_lib.tasks import layers


class Tagger(nn.Module):
    """Embedding, two layers with a nonlinearity between, a mean over real tokens, a head."""

    def __init__(self):
        super().__init__()
        self.table, self.inner, self.outer = nn.Embedding(40, 64), nn.Linear(64, 128), nn.Linear(128, 64, bias=False)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(64, 5)

    def forward(self, input_ids, attention_mask):
        hidden = self.outer(nn.functional.gelu(self.inner(self.dropout(self.table(input_ids)))))
        mask = attention_mask[..., None].float()
        return self.head((hidden * mask).sum(1) / mask.sum(1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Tagger().eval()


def batch(rows=6, width=9, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, width + 1, (rows, 1), generator=draw)
    mask = (torch.arange(width) < lengths).long()
    return {"input_ids": torch.randint(1, 40, (rows, width), generator=draw) * mask, "attention_mask": mask}


def extremes(model, batches):
    return {name: seen.range() for name, seen in static.calibrate(model, batches, observers.MinMax).items()}


@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize(("bits", "weight_bits"), [(8, 8), (8, 4), (6, 8), (4, 4), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_what_fake_quantization_computes(per, bits, weight_bits, bias):
    torch.manual_seed(bits)
    layer, x, (low, high) = nn.Linear(96, 33, bias=bias), torch.randn(4, 70, 96) + 0.3, (-1.5, 3.2)
    scale, zero_point = affine.choose_qparams(low, high, bits)
    read = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, 2**bits - 1)
    wanted = nn.functional.linear(read, affine.round_trip(layer.weight, weight_bits, per), layer.bias)
    out = StaticLinear(layer, low, high, bits, weight_bits, per)(x)
    assert out.shape == (4, 70, 33)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=2e-5)


def test_codes_are_those_of_affine_and_pieces_leave_no_seam(monkeypatch):
    x = 3 * torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    layer = StaticLinear(nn.Linear(64, 2), -2.0, 5.0, bits=6)
    wanted = affine.quantize(x, *affine.choose_qparams(-2.0, 5.0, 6, signed=True), 6, signed=True)
    assert torch.equal(layer.quantize(x), wanted)
    monkeypatch.setattr(static.dynamic, "PIECE", 1000)
    assert torch.equal(layer.quantize(x), wanted)


def test_calibration_sees_every_input_and_no_padding(model):
    batches = [batch(seed=1), batch(rows=3, width=5, seed=2)]
    padding = model.table.weight.data[0]
    padding += 100  # id 0 stands at padding alone
    real = torch.cat([model.table(one["input_ids"])[one["attention_mask"].bool()] for one in batches])
    seen = extremes(model, batches)
    assert seen["inner"] == (real.min().item(), real.max().item())
    hidden = nn.functional.gelu(model.inner(real))
    assert seen["outer"] == pytest.approx((hidden.min().item(), hidden.max().item()), rel=1e-5)
    assert list(seen) == ["inner", "outer", "head"]


def test_calibration_leaves_the_model_as_it_was(model):
    model.train()
    before = copy.deepcopy(model.state_dict())
    first = extremes(model, [batch()])
    assert first == extremes(model, [batch()])  # eval mode meanwhile: no dropout
    assert model.training
    assert not any(layer._forward_pre_hooks for layer in layers.linear_layers(model).values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="no batch to calibrate with"):
        extremes(model, [])


def test_a_quantized_model_is_near_and_smaller_and_the_original_untouched(model):
    inputs = batch(rows=32)
    found = extremes(model, [inputs])
    before = copy.deepcopy(model.state_dict())
    quantized = static.quantize_static(model, found)
    assert all(isinstance(getattr(quantized, name), StaticLinear) for name in found)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    off = {
        bits: (static.quantize_static(model, found, bits)(**inputs) - model(**inputs)).norm().item()
        for bits in (8, 6, 4)
    }
    assert off[8] < 0.02 * model(**inputs).norm()
    assert off[8] < off[6] < off[4]
    assert model_size.size_on_disk(quantized) < 0.5 * model_size.size_on_disk(model)


def test_other_ranges_and_bits_can_be_fixed(model):
    inputs = batch(rows=32)
    found = extremes(model, [inputs])
    first = static.quantize_static(model, dict.fromkeys(found, (-0.1, 0.2)), 8)
    again = static.fix_ranges(first, found, 5)
    assert again is first
    assert torch.equal(again(**inputs), static.quantize_static(model, found, 5)(**inputs))


def test_layers_without_a_range_stay(model):
    found = extremes(model, [batch()])
    del found["head"]
    assert type(static.quantize_static(model, found).head) is nn.Linear


def test_a_saved_model_comes_back(model, tmp_path):
    from safetensors.torch import load_model, save_model

    found = extremes(model, [batch()])
    first = static.quantize_static(model, found)
    other = static.quantize_static(Tagger(), dict.fromkeys(found, (-9.0, 1.0)))
    assert not torch.equal(first(**batch()), other(**batch()))
    save_model(first, str(tmp_path / "model.safetensors"))
    load_model(other, tmp_path / "model.safetensors")
    assert torch.equal(first(**batch()), other(**batch()))


def test_layer_errors_are_relative_to_the_float_layers(model):
    inputs, found = batch(), extremes(model, [batch()])
    quantized = static.quantize_static(model, found, bits=4)
    errors = static.layer_errors(model, quantized, inputs)
    x = model.table(inputs["input_ids"])[inputs["attention_mask"].bool()]
    exact = model.inner(x)
    assert errors["inner"] == pytest.approx(((quantized.inner(x) - exact).norm() / exact.norm()).item(), rel=1e-5)
    assert static.layer_errors(model, copy.deepcopy(model), inputs) == dict.fromkeys(found, 0)


def ridden(model):
    """The same function, with one channel of the inner layer's input a hundred times as large as the others."""
    ridden = copy.deepcopy(model)
    ridden.table.weight.data[:, 3] *= 100
    ridden.inner.weight.data[:, 3] /= 100
    return ridden


def channels(model, batches):
    seen = static.calibrate(model, batches, lambda: observers.MinMax(axis=-1))
    return {name: observer.range() for name, observer in seen.items()}


def test_smoothing_keeps_the_function_and_recovers_an_outlier_ridden_layer(model):
    inputs, outlying = batch(), ridden(model)
    smoothed = static.smooth(outlying, {"inner": channels(outlying, [inputs])["inner"]})
    torch.testing.assert_close(smoothed(**inputs), outlying(**inputs), rtol=1e-4, atol=1e-5)
    assert torch.equal(outlying.inner.weight, ridden(model).inner.weight)

    def error(float_model, name):
        quantized = static.quantize_static(float_model, extremes(float_model, [inputs]))
        return static.layer_errors(float_model, quantized, inputs)[name]

    plain, spoiled, mended = error(model, "inner"), error(outlying, "inner"), error(smoothed, "inner.linear")
    assert spoiled > 10 * plain
    assert mended < 2 * plain


def test_alpha_divides_the_difficulty():
    draw = torch.Generator().manual_seed(0)
    act, weight = torch.rand(16, generator=draw) + 0.1, torch.rand(16, generator=draw) + 0.1
    half = static.smooth_scales(act, weight, 0.5)
    torch.testing.assert_close(act / half, weight * half)  # they meet halfway
    torch.testing.assert_close(act / static.smooth_scales(act, weight, 1.0), torch.ones(16))
    torch.testing.assert_close(weight * static.smooth_scales(act, weight, 0.0), torch.ones(16))
    silent = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0])
    assert torch.equal(static.smooth_scales(*silent), torch.ones(2))


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("one number for each input channel", lambda: static.smooth_scales(torch.ones(3), torch.ones(4))),
        ("to lie in 0 ... 1", lambda: static.smooth_scales(torch.ones(3), torch.ones(3), alpha=1.5)),
        ("never negative", lambda: static.smooth_scales(-torch.ones(3), torch.ones(3))),
        ("per is 'group'", lambda: StaticLinear(nn.Linear(2, 2), -1, 1, per="group")),
        ("codes of 2 to 8 bits", lambda: StaticLinear(nn.Linear(2, 2), -1, 1, bits=9)),
        ("'body' is no linear layer", lambda: static.quantize_static(Tagger(), {"body": (-1, 1)})),
        ("must be finite", lambda: static.quantize_static(Tagger(), {"head": (float("nan"), 1)})),
    ],
)
def test_bad_input_is_refused_with_words(words, call):
    with pytest.raises(ValueError, match=words):
        call()
