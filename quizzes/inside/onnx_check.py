"""Looks into an ONNX file without running it, and refuses what a hand-in may not hold.

The same file runs in a notebook and in the sandbox, where somebody else's model is read: it needs onnx and the standard
library alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, TensorProto

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
MOST_DENSE_BYTES = 2**29  # of one tensor, unpacked
MOST_STATE = 64  # tensors that a decoder carries along
NAME_CHARACTERS = 60
KINDS = {number: kind for kind, number in TensorProto.DataType.items()}
PACKED = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}  # bits of those that share a byte
# What else is handed in under this name, by its first bytes.
OTHERS = {
    b"PK": "is a zip; hand in the .onnx file that is in it",
    b"\x80": "is a pickle, which could hold code; export the model with torch.onnx.export",
    b"version https://git-lfs": "is a pointer to the file, not the file itself",
}


class ModelRefused(ValueError):
    """The model cannot be judged: what was wrong with the file, what is allowed, what to do."""


@dataclass(frozen=True)
class Port:
    """One input or output as the judge uses it: its element type and how many axes it has, None for any."""

    kind: int | None = None
    axes: int | None = None


IDS = Port(TensorProto.INT64, 2)
TOPICS_INPUTS = {"input_ids": IDS, "attention_mask": IDS}
ENCODER_INPUTS = {"source": IDS}
PIECE = {"piece": IDS}
LOGITS = {"logits": Port(TensorProto.FLOAT)}


def topics(data: bytes) -> None:
    """Look at a classifier: input_ids and attention_mask in, logits out. Raises ModelRefused."""
    inputs, outputs = _ports(data)
    _match(inputs, TOPICS_INPUTS, "inputs")
    _match(outputs, LOGITS, "outputs")


def translator(encoder: bytes, decoder: bytes) -> None:
    """Look at a translator's two files. Raises ModelRefused.

    The encoder takes `source` and gives a state, tensors of any names. The decoder takes `piece` and tensors of that
    state, and gives `logits` and, for every NAME of the state that changes, `next_NAME`.
    """
    inputs, state = _ports(encoder)
    _match(inputs, ENCODER_INPUTS, "inputs of the encoder")
    if not 1 <= len(state) <= MOST_STATE:
        raise ModelRefused(f"the encoder gives {len(state)} outputs; from 1 to {MOST_STATE} are carried to the decoder")
    takes, gives = _ports(decoder)
    carried = {name: Port(state[name].type.tensor_type.elem_type) for name in takes if name in state}
    _match(takes, PIECE | carried, "inputs of the decoder, each `piece` or an output of the encoder,")
    changed = {f"next_{name}": kind for name, kind in carried.items() if f"next_{name}" in gives}
    _match(gives, LOGITS | changed, "outputs of the decoder, each `logits` or next_NAME of an input NAME,")


def _ports(data: bytes) -> tuple[dict, dict]:
    """Inputs and outputs by name, once the rest of the file has been looked at."""
    model = _parsed(data)
    if len(model.functions):
        raise ModelRefused(
            "holds functions of its own; only plain operators are run. Export it with inlining, as "
            "torch.onnx.export does unless told otherwise"
        )
    if len(model.training_info):
        raise ModelRefused("holds training information; hand in a model that only computes")
    for graph in _graphs(model.graph):
        for node in graph.node:
            _look_at(node)
        for tensor in graph.initializer:
            _weigh(tensor)
        for sparse in graph.sparse_initializer:
            _weigh_sparse(sparse)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # it raises several kinds, and those of protobuf
        raise ModelRefused(f"breaks the rules of ONNX: {_first_line(error)}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {port.name: port for port in model.graph.input if port.name not in weights}
    return inputs, {port.name: port for port in model.graph.output}


def _parsed(data: bytes) -> onnx.ModelProto:
    if not data:
        raise ModelRefused("is empty")
    for first, what in OTHERS.items():
        if data.startswith(first):
            raise ModelRefused(what)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise ModelRefused("is not an ONNX file, or was cut off on its way") from error
    standard = any(item.domain in DOMAINS for item in model.opset_import)
    if not (model.ir_version and len(model.graph.node) and standard):
        raise ModelRefused("is not an ONNX file with a model in it, or was cut off on its way")
    return model


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its If, Loop and Scan nodes."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _look_at(node: onnx.NodeProto) -> None:
    if node.domain not in DOMAINS:
        raise ModelRefused(
            f"uses the operator {_name(node.op_type)} of the domain {_name(node.domain)}; only standard operators are "
            "run. Hand in the file as it was exported or quantized, not as ONNX Runtime optimized it"
        )
    for attribute in node.attribute:
        if attribute.ref_attr_name or attribute.type == AttributeProto.UNDEFINED:
            raise ModelRefused(f"has an attribute of {_name(node.op_type)} that says nothing")
        for tensor in [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]:
            _weigh(tensor)
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for tensor in [*sparse, *attribute.sparse_tensors]:
            _weigh_sparse(tensor)


def _weigh(tensor: TensorProto) -> None:
    """Refuse a tensor that lies elsewhere, is too large, or has not the bytes that its shape needs."""
    if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
        raise ModelRefused(f"keeps {_name(tensor.name)} in another file; save the model with all its weights inside")
    bits = _bits(tensor)
    count = _count(tensor.dims, tensor.name, bits)
    if tensor.HasField("raw_data") and len(tensor.raw_data) != math.ceil(count * bits / 8):
        raise ModelRefused(
            f"has {len(tensor.raw_data):,} bytes for {_name(tensor.name)}, whose shape needs "
            f"{math.ceil(count * bits / 8):,}: it was cut off, or is damaged"
        )


def _weigh_sparse(tensor: onnx.SparseTensorProto) -> None:
    _weigh(tensor.values)
    _weigh(tensor.indices)
    _count(tensor.dims, tensor.values.name, _bits(tensor.values))


def _count(dims, name: str, bits: int) -> int:
    """How many numbers a shape holds. Raises ModelRefused when they would not fit."""
    if any(size < 0 for size in dims):
        raise ModelRefused(f"has a negative size in the shape of {_name(name)}")
    count = math.prod(dims)
    if count * bits > 8 * MOST_DENSE_BYTES:
        raise ModelRefused(
            f"has the tensor {_name(name)} of {count * bits / 8 / 1e9:,.1f} GB; at most "
            f"{MOST_DENSE_BYTES / 1e9:.1f} GB are taken"
        )
    return count


def _bits(tensor: TensorProto) -> int:
    """Bits of one number as raw_data holds them. Raises ModelRefused for texts, which no hand-in needs."""
    kind = KINDS.get(tensor.data_type, "unknown")
    if kind in ("unknown", "UNDEFINED", "STRING"):
        raise ModelRefused(f"has the tensor {_name(tensor.name)} of type {kind.lower()}; only numbers are taken")
    return PACKED.get(kind) or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _match(values: dict, wanted: dict[str, Port], what: str) -> None:
    """Refuse unless exactly these are there, of the right type, with free sizes for batch and length."""
    if set(values) != set(wanted):
        raise ModelRefused(f"the {what} are {_names(values)}; they must be {_names(wanted)}")
    for name, port in wanted.items():
        held = values[name].type.tensor_type
        if port.kind is not None and held.elem_type != port.kind:
            kinds = [KINDS.get(kind, "unknown").lower() for kind in (held.elem_type, port.kind)]
            raise ModelRefused(f"{_name(name)} is of type {kinds[0]}; it must be {kinds[1]}")
        if port.axes is None or not held.HasField("shape"):
            continue
        sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in held.shape.dim]
        free = sizes[:1] == [None] and (sizes[1:] == [None] or (name == "piece" and sizes[1:] == [1]))
        if len(sizes) != port.axes or not free:
            shape = ", ".join("any" if size is None else str(size) for size in sizes)
            raise ModelRefused(
                f"{_name(name)} has the shape ({shape}); batch and length must be free, as dynamic_shapes of "
                "torch.onnx.export makes them"
            )


def _name(text: str) -> str:
    """A name that somebody chose, short and without tricks."""
    return repr(text[:NAME_CHARACTERS]) if text else "without a name"


def _names(names) -> str:
    sorted_names = sorted(names)
    return (
        ", ".join(map(_name, sorted_names[:8])) + (", ..." if len(sorted_names) > 8 else "") if sorted_names else "none"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
