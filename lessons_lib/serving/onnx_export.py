"""From torch to ONNX and to ONNX Runtime's INT8: one file, standard operators, any batch size and length.

ONNX is a file format for a model's graph: its operators, in order, with their weights. Whoever can read the format can
run the model, without the Python class that it came from.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from lessons_lib import quiet
from lessons_lib.serving.onnx_session import session
from lessons_lib.tasks import layers
from lessons_lib.tasks.layers import evaluating

__all__ = ["OnnxModel", "dynamic_int8", "max_abs_difference", "session", "static_int8", "to_onnx", "traced"]

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "logits"
# Said while exporting and quantizing, and of no concern here.
HARMLESS = (
    r"# The axis name: \w+ will not be used",  # both inputs share their axes, as they should
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # inside torch
)
# Texts and tokens of the sample that is traced: sizes of 1 would be taken for constants. Then a batch of another shape
# shows whether the file follows: the exporter may fix a size without a word.
SAMPLE, OTHER = (2, 7), (3, 5)
LARGEST_DIFFERENCE = 1e-4  # of the largest logit; rounding alone makes a hundredth of that


def to_onnx(model: nn.Module, path: str | os.PathLike) -> Path:
    """Write a classifier to one ONNX file, for every batch size and length; returns the path.

    model: called as model(input_ids, attention_mask), int64 (batch, length) each; returns logits (batch, ...). The file
    has run once, on a batch of another shape than was traced.
    Raises ValueError when the model cannot be traced, or the file answers otherwise than the model.
    """
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with _as_traced(model):
        wanted = model(*_batch(*OTHER))
    written = traced(model, path, dict(zip(INPUTS, _batch(*SAMPLE), strict=True)), [OUTPUT], [axes] * len(INPUTS))
    try:
        _compare(written, wanted)
    except ValueError:
        written.unlink()
        raise
    return written


def traced(
    model: nn.Module, path: str | os.PathLike, sample: Mapping[str, Tensor], outputs: list[str], axes: list
) -> Path:
    """Write any module to one ONNX file: it runs once, and the operators that ran are written down; returns the path.

    sample: its inputs by name, in the order of its arguments, with which it runs. outputs: their names.
    axes: for each input the axes whose size may vary, {axis: torch.export.Dim}; for a *args a tuple of these.
    The model runs in eval mode, with attention as plain products and softmax: torch's fused attention becomes a third
    more operators, which guard rows without a token. It is left as it was. The file holds its weights (no second file),
    operators of the standard domain alone, and no line of the code that the model came from.
    Raises ValueError when the model's Python cannot be traced.
    """
    try:
        with quiet.without_warnings(HARMLESS), _as_traced(model):
            program = torch.onnx.export(
                model,
                tuple(sample.values()),
                input_names=list(sample),
                output_names=outputs,
                dynamo=True,
                dynamic_shapes=tuple(axes),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"{type(model).__name__} cannot be exported: {_root(error)} Its forward pass must be "
            "tensor operations throughout, and may not decide by the values in its input."
        ) from error
    return _write(program.model_proto, path)


class OnnxModel(nn.Module):
    """An ONNX file in the clothes of a torch model, so that whatever measures a torch model can measure it.

    Called as model(input_ids, attention_mask), int64 (batch, length); returns FP32 logits (batch, ...).
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None):
        super().__init__()
        self.session = session(path, threads or torch.get_num_threads())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of a batch, from ONNX Runtime."""
        given = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return torch.from_numpy(self.session.run([OUTPUT], given)[0])


def dynamic_int8(path: str | os.PathLike, out: str | os.PathLike) -> Path:
    """Write the model of an ONNX file with 8-bit weights, activations quantized as they come; returns the path.

    Weights of matrix products get signed symmetric codes and a scale for each output channel, embeddings one scale for
    the table. Activations get unsigned codes with a zero point, one range for a whole tensor (lesson 08 has one a row).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet.without_warnings(HARMLESS):
        quantize_dynamic(_existing(path), out, per_channel=True, weight_type=QuantType.QInt8)
    return _rewritten(out)


def static_int8(path: str | os.PathLike, out: str | os.PathLike, batches: Iterable[Mapping[str, Tensor]]) -> Path:
    """Write the model of an ONNX file with 8-bit weights and activation ranges fixed beforehand; returns the path.

    batches: to calibrate with, as topic_classifier.tokenize makes them; an activation's range is the widest seen.
    Codes as in `dynamic_int8`. Products of two activations, inside attention, stay in FP32.
    Raises ValueError when there is no batch.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    feeds = [{name: batch[name].numpy() for name in INPUTS} for batch in batches]
    if not feeds:
        raise ValueError("there is no batch to calibrate with; give some, as topic_classifier.tokenize makes them.")

    class Reader(CalibrationDataReader):
        """Hands over one batch after the other, then None."""

        def __init__(self):
            self.left = iter(feeds)

        def get_next(self):
            return next(self.left, None)

    with quiet.without_warnings(HARMLESS):
        quantize_static(
            _existing(path),
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    return _rewritten(out)


def max_abs_difference(a: Tensor, b: Tensor) -> float:
    """The largest distance of two numbers that stand at the same place: max |a - b|, at least 0.

    a, b: tensors of one shape. Not a number in one of them alone, or in both, makes the answer not a number.
    Raises ValueError when the shapes differ or there is nothing to compare.
    """
    if a.shape != b.shape or not a.numel():
        raise ValueError(
            f"a is {tuple(a.shape)} and b {tuple(b.shape)}; two tensors of one shape are needed, with at "
            "least one number each."
        )
    # max |a - b|, in FP64 so that the difference itself is not rounded
    return (a.double() - b.double()).abs().max().item()


@contextmanager
def _as_traced(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, and attention step by step."""
    with evaluating(model), layers.attention_written_out(model), torch.no_grad():
        yield


def _existing(path: str | os.PathLike) -> str:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}; export a model first, with to_onnx(model, path).")
    return str(path)


def _batch(size: int, length: int) -> tuple[Tensor, Tensor]:
    """Ids 0 and 1, which every vocabulary has, and a mask whose last row ends in padding."""
    ids = torch.arange(size * length).reshape(size, length) % 2
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0
    return ids, mask


def _compare(path: str | os.PathLike, wanted: Tensor) -> None:
    """Raises ValueError when the file's answer to the other batch is not the wanted one."""
    mend = "A size of the traced sample was fixed; write the model without Python loops over its input and fixed sizes."
    try:
        logits = OnnxModel(path, threads=1)(*_batch(*OTHER))
        off = max_abs_difference(logits, wanted) / wanted.abs().max().item()
    except Exception as error:  # ONNX Runtime's exceptions share no base class but this one
        raise ValueError(f"The file does not run on {OTHER[0]} texts of {OTHER[1]} tokens. {mend}") from error
    if not off <= LARGEST_DIFFERENCE:
        raise ValueError(f"The file's logits are off by {off:.1g} of the largest. {mend}")


def _root(error: BaseException) -> str:
    """The first line of what it all began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0]


def _rewritten(path: str | os.PathLike) -> Path:
    import onnx

    return _write(onnx.load(path), path)


def _write(model, path: str | os.PathLike) -> Path:
    """Save a model without what is not needed to run it: notes, shapes of inner tensors, domains without operators.

    The shapes would be in the way, too: after the exporter merged operators some are wrong, and the quantizer refuses.
    """
    import onnx

    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    graph.ClearField("value_info")
    used = {node.domain for node in graph.node}
    domains = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(domains)
    onnx.save(model, path)
    onnx.checker.check_model(str(path))
    return Path(path)
