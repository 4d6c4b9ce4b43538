"""What an ONNX file may hold: each fault is found without running the model, and said in words."""

import contextlib

import numpy
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quizzes.inside import onnx_check
from quizzes.inside.onnx_check import ModelRefused
from tests.quizzes import onnx_models

FAULTS = {
    "external_data": "keeps 'table' in another file; save the model with all its weights inside",
    "other_domain": "uses the operator 'Gather' of the domain 'com.microsoft'; only standard operators are run",
    "other_domain_in_a_branch": "uses the operator 'Secret' of the domain 'mine'",
    "own_function": "holds functions of its own",
    "training": "holds training information",
    "hundred_gigabytes": "has the tensor 'table' of 100.0 GB; at most 0.5 GB are taken",
    "hundred_gigabytes_in_a_constant": "has the tensor 'large' of 100.0 GB",
    "hundred_gigabytes_sparse": "has the tensor 'thin' of 100.0 GB",
    "negative_shape": "has a negative size in the shape of 'table'",
    "texts": "has the tensor 'words' of type string; only numbers are taken",
    "fewer_bytes_than_its_shape": "has 610,436 bytes for 'table', whose shape needs 610,440",
    "cut_off": "is not an ONNX file, or was cut off on its way",
    "pickle": "is a pickle, which could hold code",
    "zip": "is a zip; hand in the .onnx file that is in it",
    "empty": "is empty",
    "letters": "is not an ONNX file",
    "lfs_pointer": "is a pointer to the file",
    "one_input": "the inputs are 'input_ids'; they must be 'attention_mask', 'input_ids'",
    "float_inputs": "'input_ids' is of type float; it must be int64",
    "fixed_batch": "'input_ids' has the shape (1, any); batch and length must be free",
    "two_outputs": "the outputs are 'logits', 'sums'; they must be 'logits'",
    "double_logits": "'logits' is of type double; it must be float",
    "unknown_operator": "breaks the rules of ONNX: No Op registered for Gathers",
}


def test_a_plain_classifier_is_taken():
    onnx_check.topics(onnx_models.classifier().SerializeToString())


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_and_said(fault):
    with pytest.raises(ModelRefused) as refusal:
        onnx_check.topics(onnx_models.bad(fault))
    assert FAULTS[fault] in str(refusal.value)


def test_what_tools_leave_behind_does_no_harm():
    made = onnx_models.classifier()
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))  # as quantize_dynamic does
    made.metadata_props.add(key="author", value="me")
    made.graph.input.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, [30_522, 5]))  # as before IR 4
    onnx_check.topics(made.SerializeToString())


def test_a_branch_of_standard_operators_is_taken():
    made = onnx_models.classifier()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["sums"], ["x"])],
        "branch",
        [],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
    )
    made.graph.initializer.append(numpy_helper.from_array(numpy.array(True), "yes"))
    made.graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))
    onnx_check.topics(made.SerializeToString())


@pytest.mark.parametrize(("kind", "size"), [(TensorProto.INT4, 5), (TensorProto.UINT4, 6), (TensorProto.INT8, 7)])
def test_packed_codes_have_the_bytes_that_they_need(kind, size):
    made = onnx_models.classifier()
    right = (size + 1) // 2 if kind != TensorProto.INT8 else size
    made.graph.initializer.append(TensorProto(name="codes", data_type=kind, dims=[size], raw_data=bytes(right)))
    made.opset_import[0].version, made.ir_version = 21, 10
    onnx_check.topics(made.SerializeToString())
    made.graph.initializer[-1].raw_data += b"\0"
    with pytest.raises(ModelRefused, match="bytes for 'codes'"):
        onnx_check.topics(made.SerializeToString())


def files(**changes) -> list[bytes]:
    """Encoder and decoder, one of them changed."""
    made = dict(zip(("encoder", "decoder"), onnx_models.translator({"seven": "sept"}), strict=True))
    for name, change in changes.items():
        change(made[name].graph)
    return [part.SerializeToString() for part in made.values()]


def test_a_plain_translator_is_taken():
    onnx_check.translator(*files())


def renamed(ports, old: str, new: str, nodes):
    """Another name for a port, also in the nodes."""
    for port in ports:
        port.name = new if port.name == old else port.name
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("encoder", lambda graph: renamed(graph.input, "source", "ids", graph.node), "inputs of the encoder are 'ids'"),
        ("decoder", lambda graph: renamed(graph.input, "place", "where", graph.node), "'piece' or an output"),
        ("decoder", lambda graph: renamed(graph.output, "next_place", "place_2", graph.node), "outputs of the decoder"),
        (
            "decoder",
            lambda graph: setattr(graph.input[1].type.tensor_type, "elem_type", TensorProto.FLOAT),
            "'text' is of type float; it must be int64",
        ),
        (
            "decoder",
            lambda graph: setattr(graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 4),
            "'piece' has the shape (4, 1)",
        ),
    ],
)
def test_a_decoder_takes_only_what_its_encoder_gives(part, change, words):
    with pytest.raises(ModelRefused) as refusal:
        onnx_check.translator(*files(**{part: change}))
    assert words.replace("'piece' or an output", "each `piece` or an output of the encoder") in str(refusal.value)


def test_names_that_somebody_chose_are_shown_short_and_plain():
    made = onnx_models.classifier()
    made.graph.node[0].op_type = "<script>\n" + 500 * "x"
    made.graph.node[0].domain = "mine"
    with pytest.raises(ModelRefused) as refusal:
        onnx_check.topics(made.SerializeToString())
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


SMALL = onnx_models.model(
    "(int64[b, l] input_ids, int64[b, l] attention_mask) => (float[b, l] logits)", "logits = Cast<to=1>(input_ids)"
).SerializeToString()


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.builds(
        lambda start, stop, put: SMALL[:start] + put + SMALL[stop:],
        st.integers(0, len(SMALL)),
        st.integers(0, len(SMALL)),
        st.binary(max_size=6),
    )
)
def test_malformed_files_are_taken_or_refused_and_nothing_else(data):
    with contextlib.suppress(ModelRefused):
        onnx_check.topics(data)
        assert onnx.load_model_from_string(data).graph.node
