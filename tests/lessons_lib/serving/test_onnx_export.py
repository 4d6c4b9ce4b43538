"""The exported file against torch for any batch and padding; what is in it; INT8 by ONNX Runtime; what is refused."""

import math

import numpy
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertModel

from lessons_lib.serving import onnx_export, onnx_session
from lessons_lib.tasks import layers, topic_classifier

VOCABULARY = 90


@pytest.fixture(scope="module")
def classifier():
    """A topic classifier of one small layer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        attn_implementation="sdpa",
    )
    return topic_classifier.TopicClassifier(BertModel(config, add_pooling_layer=False)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return onnx_export.to_onnx(classifier, tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="module")
def opened(exported):
    return onnx_export.OnnxModel(exported, threads=1)


def padded(lengths, seed=0):
    """Random ids, each row with a length of its own."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": torch.randint(0, VOCABULARY, mask.shape, generator=generator), "attention_mask": mask}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(0, 2**31))
def test_logits_are_torch_s_for_any_batch_length_and_padding(classifier, opened, lengths, seed):
    batch = padded(lengths, seed)
    wanted, found = classifier(**batch), opened(**batch)
    assert found.dtype == torch.float32
    assert onnx_export.max_abs_difference(found, wanted) <= 1e-5 * wanted.abs().max()


def test_the_file_is_one_of_standard_operators_and_names_nothing_of_this_machine(exported):
    model = onnx.load(exported, load_external_data=False)
    assert [entry.domain for entry in model.opset_import] == [""]
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(node.op_type == "IsNaN" for node in model.graph.node)  # attention is products and softmax alone
    assert not model.functions
    assert not any(weight.data_location == onnx.TensorProto.EXTERNAL for weight in model.graph.initializer)
    assert [part.name for part in exported.parent.iterdir()] == ["model.onnx"]
    content = exported.read_bytes()
    assert b".py" not in content
    assert b"forward" not in content
    for entry in model.graph.input:
        assert [axis.dim_param for axis in entry.type.tensor_type.shape.dim] == ["batch", "length"]


def test_the_model_is_left_as_it_was(exported, classifier):
    assert classifier.encoder.config._attn_implementation == "sdpa"
    assert not classifier.training


class Tiny(nn.Module):
    """The smallest classifier: a table, a mean, a layer."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, 4), nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None].float()
        return self.head((self.table(input_ids) * mask).sum(1) / mask.sum(1))


class Loop(nn.Module):
    """Unrolled while it is traced: the length is fixed, and nobody says so."""

    def forward(self, input_ids, attention_mask):
        return sum(input_ids[:, i].float() * attention_mask[:, i] for i in range(input_ids.shape[1]))


class Decision(nn.Module):
    """Python that looks at values."""

    def forward(self, input_ids, attention_mask):
        return input_ids.float() if input_ids.sum() > 3 else attention_mask.float()


class Forgetful(Tiny):
    """Right while it is traced, another formula otherwise: a stand-in for whatever a file may get wrong."""

    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask) * (1 if torch.compiler.is_exporting() else 1.01)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Loop, "does not run on 3 texts of 5 tokens"),
        (Decision, "may not decide by the values"),
        (Forgetful, "off by 0.01 of the largest"),
    ],
)
def test_a_file_that_would_answer_otherwise_is_refused(module, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        onnx_export.to_onnx(module(), tmp_path / "wrong.onnx")
    assert not (tmp_path / "wrong.onnx").exists()


def test_exporting_and_quantizing_print_nothing(tmp_path, capfd, recwarn):
    tiny = Tiny().train()
    fresh = onnx_export.to_onnx(tiny, tmp_path / "tiny.onnx")
    assert tiny.training
    onnx_export.dynamic_int8(fresh, tmp_path / "dynamic.onnx")
    onnx_export.static_int8(fresh, tmp_path / "static.onnx", [padded([3, 2])])
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="module")
def batches():
    return [padded([12, 30, 7], 1), padded([60, 5], 2)]


@pytest.fixture(scope="module")
def quantized(exported, batches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    return {
        "dynamic": onnx_export.dynamic_int8(exported, folder / "dynamic.onnx"),
        "static": onnx_export.static_int8(exported, folder / "static.onnx", batches),
    }


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_int8_is_near_smaller_and_standard(kind, quantized, exported, classifier):
    path = quantized[kind]
    found = onnx.load(path)
    assert [entry.domain for entry in found.opset_import] == [""]
    floats = [
        weight
        for weight in found.graph.initializer
        if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) == 2 and numpy.prod(weight.dims) > 500
    ]
    assert not floats  # no matrix of weights was left in FP32
    assert path.stat().st_size < 0.7 * exported.stat().st_size
    batch = padded([12, 30, 7, 50], 3)
    wanted, answer = classifier(**batch), onnx_export.OnnxModel(path, threads=1)(**batch)
    assert 0 < onnx_export.max_abs_difference(answer, wanted) < 0.1 * wanted.abs().max()


def test_dynamic_products_are_of_integers_and_static_ones_have_ranges(quantized, classifier):
    linear = len(layers.linear_layers(classifier))
    dynamic, static = operators(quantized["dynamic"]), operators(quantized["static"])
    assert dynamic.count("MatMulInteger") == linear
    assert "DynamicQuantizeLinear" in dynamic
    assert "DynamicQuantizeLinear" not in static
    assert static.count("QuantizeLinear") >= linear
    # Products inside attention, of two activations: two a block, FP32 in both.
    assert dynamic.count("MatMul") == 2 * len(classifier.encoder.encoder.layer)


def test_static_ranges_are_the_widest_seen(quantized, classifier, batches):
    """The scale of the input of each feed-forward layer, from hooks in torch."""
    model = onnx.load(quantized["static"])
    values = {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
    scales = numpy.array(
        [
            values[node.input[1]]
            for node in model.graph.node
            if node.op_type == "QuantizeLinear" and values[node.input[1]].ndim == 0
        ]
    )
    for block in classifier.encoder.encoder.layer:
        seen = []
        hook = block.output.dense.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        for batch in batches:
            classifier(**batch)
        hook.remove()
        low, high = (min(x.min().item() for x in seen), max(x.max().item() for x in seen))
        assert numpy.isclose(scales, (high - low) / 255, rtol=1e-4).any()


def test_weights_have_a_scale_for_each_output(quantized):
    model = onnx.load(quantized["dynamic"])
    scales = [weight for weight in model.graph.initializer if weight.name.endswith("_scale") and len(weight.dims) == 1]
    assert {dim for weight in scales for dim in weight.dims} >= {32, 64}


def test_what_is_missing_is_said(tmp_path, exported):
    with pytest.raises(ValueError, match="no file"):
        onnx_export.dynamic_int8(tmp_path / "none.onnx", tmp_path / "out.onnx")
    with pytest.raises(ValueError, match="no batch to calibrate"):
        onnx_export.static_int8(exported, tmp_path / "out.onnx", [])
    with pytest.raises(ValueError, match="no file"):
        onnx_session.session(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"this is no graph")
    with pytest.raises(ValueError, match="cannot read"):
        onnx_session.session(tmp_path / "broken.onnx")
    with pytest.raises(ValueError, match="at least 1"):
        onnx_session.session(exported, threads=0)


def test_threads_are_those_asked_for(exported):
    assert onnx_session.session(exported, 2).get_session_options().intra_op_num_threads == 2


def test_products_of_codes_never_overflow(exported):
    """Where a processor lacks VNNI, ONNX Runtime is told to take the exact way."""
    options = onnx_session.session(exported).get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


def test_the_largest_difference():
    assert onnx_export.max_abs_difference(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0])) == 3.0
    assert (
        onnx_export.max_abs_difference(torch.tensor([3], dtype=torch.uint8), torch.tensor([5], dtype=torch.uint8))
        == 2.0
    )
    assert math.isnan(onnx_export.max_abs_difference(torch.tensor([1.0, math.nan]), torch.zeros(2)))
    for wrong in (torch.zeros(3, 1), torch.zeros(0)):
        with pytest.raises(ValueError, match="one shape"):
            onnx_export.max_abs_difference(wrong, torch.zeros(wrong.numel()))
