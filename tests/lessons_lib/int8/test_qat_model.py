"""Steps of least squared error, layers replaced, and integer layers that give the trained layers' outputs."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from lessons_lib.arithmetic import affine
from lessons_lib.int8 import qat
from lessons_lib.int8.qat import QatLinear
from lessons_lib.measure import model_size
from lessons_lib.tasks.topic_classifier import TopicClassifier


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=30,
        max_position_embeddings=16,
        initializer_range=0.5,
    )
    return TopicClassifier(BertModel(config, add_pooling_layer=False)).eval()


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    mask = torch.ones(8, 12).long()
    mask[::2, 7:] = 0
    return {"input_ids": torch.randint(1, 30, (8, 12), generator=draw), "attention_mask": mask}


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_steps_of_least_squared_error_are_those_of_the_best_clip_of_each_row(bits):
    weight = torch.randn(9, 50, generator=torch.Generator().manual_seed(1))
    weight[3] = 0
    found = qat.least_error_steps(weight, bits)
    for row, step in zip(weight, found, strict=True):
        clip = affine.best_clip(row, bits, steps=qat.CANDIDATES)
        assert step.item() == pytest.approx(affine.choose_qparams(*clip, bits, signed=True, symmetric=True)[0])
    assert found[3] == 1

    def error(step):
        return (affine.fake_quantize(weight, step, torch.zeros(9), bits, signed=True, axis=0) - weight).square().sum()

    widest = qat.absmax_steps(weight, bits)
    assert torch.equal(widest, affine.quantize_per_channel(weight, bits)[1])
    assert error(found) < 0.95 * error(widest) or bits == 8


def test_inputs_are_those_at_real_tokens(model, batch):
    seen = qat.linear_inputs(model, batch)
    layers = {f"encoder.{name}": layer for name, layer in model.encoder.named_modules() if isinstance(layer, nn.Linear)}
    assert list(seen) == list(layers)
    assert all(x.shape == (int(batch["attention_mask"].sum()), layers[name].in_features) for name, x in seen.items())
    other = batch | {"input_ids": batch["input_ids"].where(batch["attention_mask"].bool(), 7)}
    for name, x in qat.linear_inputs(model, other).items():
        assert torch.allclose(x, seen[name], atol=1e-5)


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_a_range_of_least_error_beats_the_widest_where_something_sticks_out(bits):
    x = torch.randn(400, 24, generator=torch.Generator().manual_seed(2))
    x[5, 3] = 40

    def error(start):
        return (x - affine.fake_quantize(x, *qat.input_range(x, bits, start), bits)).square().mean()

    assert qat.input_range(x, bits, "absmax") == affine.choose_qparams(x.min().item(), x.max().item(), bits)
    assert error("least error") < 0.8 * error("absmax")


@pytest.mark.parametrize("start", qat.STARTS)
@pytest.mark.parametrize("input_bits", [None, 4])
def test_prepared_layers_stand_for_every_linear_layer_of_the_encoder(model, batch, start, input_bits):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = qat.prepare(model, 4, input_bits, batch, start)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    layers = [layer for layer in made.encoder.modules() if isinstance(layer, QatLinear)]
    assert len(layers) == 12
    assert type(made.head) is nn.Linear
    assert all((layer.input_codes is None) == (input_bits is None) for layer in layers)
    shared = [len(layer.steps()[0].unique()) == 1 for layer in layers]
    assert all(shared) == (start == "absmax")
    assert torch.equal(layers[0].weight, model.encoder.encoder.layer[0].attention.self.query.weight)


def test_more_bits_come_closer(model, batch):
    exact = model(**batch)
    off = [(qat.prepare(model, bits, bits, batch)(**batch) - exact).norm().item() for bits in (2, 4, 8)]
    assert off[0] > 2 * off[1] > 8 * off[2] > 0
    alone = [(qat.prepare(model, bits)(**batch) - exact).norm().item() for bits in (2, 4, 8)]
    assert alone[0] > 2 * alone[1] > 8 * alone[2] > 0


def trained(model, batch, bits):
    """A prepared model after some steps of training, so that nothing about its steps and weights is special."""
    made = qat.prepare(model, *bits, batch).train()
    optimizer = torch.optim.Adam([parameter for parameter in made.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(5):
        loss = nn.functional.cross_entropy(made(**batch), torch.arange(8) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.eval()


def codes_of(y, like):
    """y as codes of 8 bits over the range of another tensor."""
    return affine.quantize(y, *affine.choose_qparams(like.min().item(), like.max().item(), 8), 8).int()


@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (2, 2), (4, 8)])
def test_a_converted_layer_gives_the_trained_layers_outputs_within_one_code(model, batch, bits):
    made = trained(model, batch, bits)
    converted = qat.convert(made)
    inputs = qat.linear_inputs(model, batch)
    assert len(inputs) == 12
    for name, x in inputs.items():
        layer, integer = made.get_submodule(name), converted.get_submodule(name)
        with torch.no_grad():
            wanted, got = layer(x), integer(x)
            read = (integer.input_codes(x).int() + 128 - layer.input_zero) * layer.steps()[1]
            assert torch.allclose(read, layer.quantized_input(x), atol=1e-5)  # the same codes
            assert torch.allclose(integer.codes * integer.scales[:, None], layer.quantized_weight(), atol=1e-6)
        assert (codes_of(got, wanted) - codes_of(wanted, wanted)).abs().max() <= 1, name
        assert torch.allclose(got, wanted, atol=1e-4 * wanted.abs().max().item()), name


def test_a_converted_model_predicts_as_the_trained_one_from_a_smaller_file(model, batch):
    made = trained(model, batch, (8, 8))
    converted = qat.convert(made)
    with torch.no_grad():
        wanted, got = made(**batch), converted(**batch)
    assert torch.equal(got.argmax(1), wanted.argmax(1))
    assert (got - wanted).norm() < 0.05 * wanted.norm()
    assert model_size.size_on_disk(converted) < 0.6 * model_size.size_on_disk(made)
    moved = qat.prepare(model, 8, 8, batch)(**batch)
    assert (moved - wanted).norm() > 2 * (got - wanted).norm()  # the training counts, not only the start


def test_what_cannot_be_done_is_refused(model, batch):
    with pytest.raises(ValueError, match="start is 'best'; it is one of least error, absmax"):
        qat.prepare(model, 4, start="best")
    with pytest.raises(ValueError, match="give a batch"):
        qat.prepare(model, 4, 4)
    with pytest.raises(ValueError, match="has no QatLinear to convert"):
        qat.convert(model)
    with pytest.raises(ValueError, match="prepare the model with input_bits"):
        qat.convert(qat.prepare(model, 8))
    with pytest.raises(ValueError, match="at most 8 bits"):
        qat.convert(qat.prepare(model, 8, 10, batch))
