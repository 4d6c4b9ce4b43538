"""Small models for the tests of hand-ins, good and bad, written in ONNX's own text form."""

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from lessons_lib.tasks import phrase_pairs

OPSET = 'ir_version: 8, opset_import: ["" : 17]'
PIECES = 30_522
TOPICS_SIGNATURE = "(int64[batch, length] input_ids, int64[batch, length] attention_mask) => (float[batch, 5] logits)"


def model(signature: str, body: str, domains: str = "", **weights: numpy.ndarray) -> onnx.ModelProto:
    """A graph with this signature and body; weights become its initializers."""
    made = parser.parse_model(f"<{OPSET[:-1]}{domains}]> graph {signature} {{ {body} }}")
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return made


def classifier(table: numpy.ndarray | None = None) -> onnx.ModelProto:
    """The mean of a row of five logits for every real piece."""
    table = numpy.zeros((PIECES, 5), numpy.float32) if table is None else table
    return model(
        TOPICS_SIGNATURE,
        "rows = Gather(table, input_ids) column = Unsqueeze(attention_mask, last) weight = CastLike(column, table)"
        " weighted = Mul(rows, weight) sums = ReduceSum<keepdims=0>(weighted, middle)"
        " counts = ReduceSum<keepdims=0>(weight, middle) logits = Div(sums, counts)",
        table=table.astype(numpy.float32),
        last=numpy.array([2]),
        middle=numpy.array([1]),
    )


def knows(texts: dict[str, int]) -> onnx.ModelProto:
    """A classifier that votes for a topic at every piece of its texts."""
    from lessons_lib.tasks import topic_classifier

    table = numpy.zeros((PIECES, 5), numpy.float32)
    for text, topic in texts.items():
        table[topic_classifier.tokenize([text])["input_ids"][0].numpy(), topic] += 1
    return classifier(table)


def translator(words: dict[str, str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Encoder and decoder of a translator that goes word by word, with the place it has come to as its state."""
    english, french = phrase_pairs.vocabularies()
    table = numpy.full((len(english), len(french)), -1, numpy.float32)
    table[:, phrase_pairs.UNKNOWN] = 0
    for source, target in (words | {"<end>": "<end>"}).items():
        table[english.pieces.index(source), french.pieces.index(target)] = 1
    encoder = model(
        "(int64[batch, length] source) => (int64[batch, any] text, int64[one] place)",
        "text = Identity(source) place = Identity(first)",
        first=numpy.array([1]),
    )
    decoder = model(
        "(int64[batch, 1] piece, int64[batch, length] text, int64[one] place)"
        " => (float[batch, 1, pieces] logits, int64[one] next_place)",
        "now = Gather<axis=1>(text, place) logits = Gather(table, now) next_place = Add(place, step)",
        table=table,
        step=numpy.array([1]),
    )
    return encoder, decoder


def bad(name: str) -> bytes:
    """A classifier's file with one fault; see the function of that name."""
    made = globals()[f"_{name}"](classifier())
    return made if isinstance(made, bytes) else made.SerializeToString()


def _external_data(made):
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return made


def _other_domain(made):
    made.graph.node[0].domain = "com.microsoft"
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


def _other_domain_in_a_branch(made):
    branch = helper.make_graph(
        [helper.make_node("Secret", [], ["x"], domain="mine")],
        "branch",
        [],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
    )
    made.graph.node.append(helper.make_node("If", ["counts"], ["unused"], then_branch=branch, else_branch=branch))
    return made


def _own_function(made):
    made.functions.append(
        helper.make_function(
            "mine", "F", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], [helper.make_opsetid("", 17)]
        )
    )
    return made


def _training(made):
    made.training_info.add()
    return made


def _hundred_gigabytes(made):
    made.graph.initializer[0].dims[:] = [5_000_000, 5_000]
    return made


def _hundred_gigabytes_in_a_constant(made):
    tensor = TensorProto(data_type=TensorProto.FLOAT, name="large", dims=[5_000_000, 5_000])
    made.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))
    return made


def _hundred_gigabytes_sparse(made):
    values, indices = (
        numpy_helper.from_array(numpy.ones(1, kind), name)
        for kind, name in ((numpy.float32, "thin"), (numpy.int64, "where"))
    )
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5_000_000, 5_000]))
    return made


def _negative_shape(made):
    made.graph.initializer[0].dims[0] = -5
    return made


def _texts(made):
    made.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"a"]))
    return made


def _fewer_bytes_than_its_shape(made):
    made.graph.initializer[0].raw_data = made.graph.initializer[0].raw_data[:-4]
    return made


def _cut_off(made):
    return made.SerializeToString()[: -len(made.graph.initializer[0].raw_data) // 2]


def _pickle(made):
    import pickle

    return pickle.dumps(made.SerializeToString())


def _zip(made):
    import io
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("18_topics.onnx", bytes(2**26))
    return stream.getvalue()


def _empty(made):
    return b""


def _letters(made):
    return b"Dear teacher, the file did not fit into the mail."


def _lfs_pointer(made):
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


def _one_input(made):
    return model("(int64[batch, length] input_ids) => (float[batch, length] logits)", "logits = Cast<to=1>(input_ids)")


def _float_inputs(made):
    for port in made.graph.input:
        port.type.tensor_type.elem_type = TensorProto.FLOAT
    made.graph.node[0].input[1] = "ids"
    made.graph.node.insert(0, helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT64))
    return made


def _fixed_batch(made):
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return made


def _two_outputs(made):
    made.graph.output.append(helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", 5]))
    return made


def _double_logits(made):
    return model(TOPICS_SIGNATURE.replace("float", "double"), "x = Cast<to=11>(input_ids) logits = Identity(x)")


def _unknown_operator(made):
    made.graph.node[0].op_type = "Gathers"
    return made


# What can be told only by running it.


def _three_topics(made):
    return model(
        TOPICS_SIGNATURE.replace("5]", "any]"),
        "x = Cast<to=1>(input_ids) logits = Slice(x, zero, three, one)",
        zero=numpy.array([0]),
        three=numpy.array([3]),
        one=numpy.array([1]),
    )


def _not_numbers(made):
    return classifier(numpy.full((PIECES, 5), numpy.nan))


def _not_numbers_for_rare_words(made):
    table = numpy.zeros((PIECES, 5), numpy.float32)
    table[[5, 2_000, *range(3_000, PIECES)]] = numpy.inf
    return classifier(table)


def _one_row(made):
    return model(
        TOPICS_SIGNATURE.replace("batch, 5]", "any, 5]"),
        "x = Cast<to=1>(input_ids) y = ReduceMean<axes=[0, 1], keepdims=1>(x) logits = Expand(y, shape)",
        shape=numpy.array([1, 5]),
    )


def _wrong_place(made):
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(numpy.zeros((1, 5), numpy.float32), "table"))
    return made


def _small_vocabulary_for_rare_words(made):
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(numpy.zeros((7_000, 5), numpy.float32), "table"))
    return made


def endless() -> bytes:
    """A classifier whose Loop never ends. Its result is used, or it would be taken out as idle."""
    made = classifier()
    body = parser.parse_graph(
        "body (int64 turn, bool go, int64 sum) => (bool go_on, int64 more)"
        " { go_on = Identity(go) more = Add(sum, turn) }"
    )
    made.graph.node[-1].output[0] = "quotient"
    made.graph.node.extend(
        [
            helper.make_node("Loop", ["", "forever", "start"], ["count"], body=body),
            helper.make_node("CastLike", ["count", "quotient"], ["number"]),
            helper.make_node("Add", ["quotient", "number"], ["logits"]),
        ]
    )
    made.graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in (("forever", numpy.array(True)), ("start", numpy.array(0)))
    )
    return made.SerializeToString()


def hungry(megabytes: int) -> bytes:
    """A classifier that asks for twice this memory as it runs: the shape is computed, so nobody sees it before."""
    made = classifier()
    made.graph.node[-1].output[0] = "quotient"
    text = model(
        "(int64[batch, length] input_ids, float[batch, 5] quotient) => (float[batch, 5] logits)",
        "n = ReduceMax<keepdims=1>(input_ids) one = Div(n, n) shape = Mul(one, cells)"
        " flat = Reshape(shape, minus) large = ConstantOfShape(flat) wave = Cos(large)"
        " total = ReduceSum<keepdims=0>(wave) logits = Add(quotient, total)",
        cells=numpy.array([megabytes * 2**18]),
        minus=numpy.array([-1]),
    )
    made.graph.node.extend(text.graph.node)
    made.graph.initializer.extend(text.graph.initializer)
    return made.SerializeToString()
