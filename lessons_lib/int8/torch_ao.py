"""The one door to torch.ao and torchao, the libraries' own INT8: nothing else in the course imports them.

torch.ao swaps modules and is about to leave torch; torchao takes its place, for dynamic INT8 by swapping weights and
for static INT8 by way of torch.export (PT2E).
"""

import copy
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from lessons_lib import quiet
from lessons_lib.int8 import dynamic

Batch = dict[str, Tensor]

# What both say at every use: that something will move. The course knows, and this module is where it will be changed.
HARMLESS = (
    "torch.ao.quantization is deprecated",
    "torch.quantize_per_tensor, torch.quantize_per_channel and other",
    "`torch.jit.script_method` is deprecated",
    "Please use quant_min and quant_max to specify the range for observers",
    "To copy construct from a tensor, it is recommended",  # torch.compile, of its own code
)


def torch_ao_dynamic(model: nn.Module) -> nn.Module:
    """The model by torch.ao: a copy with DynamicQuantizedLinear layers, per-channel weights, a range for each batch."""
    with quiet.without_warnings(HARMLESS):
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

        _choose_engine()
        return quantize_dynamic(model, {nn.Linear: per_channel_dynamic_qconfig}, dtype=torch.qint8)


def _choose_engine() -> None:
    """Switch an engine for quantized layers on where torch has none on, as on macOS."""
    if torch.backends.quantized.engine == "none":
        torch.backends.quantized.engine = next(
            name for name in torch.backends.quantized.supported_engines if name != "none"
        )


def _may_overflow() -> bool:
    cpu = torch.cpu.get_capabilities()
    return cpu.get("architecture") == "x86_64" and not (cpu.get("avx512_vnni") or cpu.get("avx_vnni"))


def torchao_dynamic(model: nn.Module) -> nn.Module:
    """The model by torchao: a copy with 8-bit weights per channel and activations quantized row by row."""
    with quiet.without_warnings(HARMLESS):
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        copied = copy.deepcopy(model)
        quantize_(copied, Int8DynamicActivationInt8WeightConfig())
        return copied


def torch_ao_static(model: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """The model by torch.ao: prepare, calibrate on the batches, convert. A copy in eval mode, FP32 in and out.

    Each linear layer is wrapped by itself, between a step to codes and one back. A qconfig for a whole model would
    convert its layer norms too, which then wait for codes that nobody gives them. Its histogram observer chooses ranges
    of least error for the input and the output, on x86 with 7 bits, so that older processors cannot overflow.
    """
    with quiet.without_warnings(HARMLESS):
        from torch.ao.quantization import QuantWrapper, convert, get_default_qconfig, prepare

        _choose_engine()
        copied = copy.deepcopy(model).eval()
        linears = [name for name, module in copied.named_modules() if isinstance(module, nn.Linear)]
        for name in linears:
            parent, _, own = name.rpartition(".")
            wrapped = QuantWrapper(copied.get_submodule(name))
            wrapped.qconfig = get_default_qconfig(torch.backends.quantized.engine)
            setattr(copied.get_submodule(parent), own, wrapped)
        prepare(copied, inplace=True)
        _run(copied, batches)
        return convert(copied, inplace=True)


def pt2e_static(model: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """The model by torchao's PT2E: export, prepare, calibrate on the batches, convert. Batch and length may vary.

    The result is a graph in which codes are read back to FP32 before each product: right, and slower than FP32 until
    torch.compile fuses the steps (`compiled`). Layers that read one tensor share one step to codes. On x86 processors
    without VNNI instructions, where sums of two products can overflow 16 bits, codes of activations have 7 bits.
    """
    with quiet.without_warnings(HARMLESS), torch.no_grad():
        from torchao.quantization.pt2e import allow_exported_model_train_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
            X86InductorQuantizer,
            get_default_x86_inductor_quantization_config,
        )

        batches = list(batches)
        varying = {name: dict.fromkeys(range(2), torch.export.Dim.AUTO) for name in batches[0]}
        exported = torch.export.export(copy.deepcopy(model).eval(), (), batches[0], dynamic_shapes=varying).module()
        quantizer = X86InductorQuantizer().set_global(
            get_default_x86_inductor_quantization_config(reduce_range=_may_overflow())
        )
        prepared = prepare_pt2e(exported, quantizer)
        _run(prepared, batches)
        converted = convert_pt2e(prepared)
        _drop_unread(converted)
        allow_exported_model_train_eval(converted)
        return converted


def compiled(graph: nn.Module, batch: Batch) -> Callable:
    """A PT2E graph as `dynamic.compiled` makes it, for batches of this size, without what torch.compile says.

    It takes seconds for a layer or two, a minute for a whole encoder.
    """
    program = dynamic.compiled(graph)
    with quiet.without_warnings(HARMLESS):
        program(**batch)
    return program


def torch_ao_qparams(observer: str, batches: Iterable[Tensor], **settings) -> tuple[float, int]:
    """Scale and zero point that one of torch.ao's observers, by name, chooses for unsigned 8-bit codes."""
    with quiet.without_warnings(HARMLESS):
        from torch.ao.quantization import observer as observers

        seen = getattr(observers, observer)(dtype=torch.quint8, qscheme=torch.per_tensor_affine, **settings)
        for batch in batches:
            seen(batch)
        scale, zero_point = seen.calculate_qparams()
        return scale.item(), int(zero_point)


def saved_bytes(model: nn.Module) -> int:
    """Bytes of the file that torch.save writes of a state dict; packed weights of torch.ao fit into no other."""
    with quiet.without_warnings(HARMLESS), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save(model.state_dict(), path)
        return path.stat().st_size


def _run(model: nn.Module, batches: Iterable[Batch]) -> None:
    with torch.inference_mode():
        for batch in batches:
            model(**batch)


def _drop_unread(graph: torch.fx.GraphModule) -> None:
    """Removes the FP32 weights that conversion leaves beside their codes, and that no node reads any more."""
    read = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for name, _ in [*graph.named_parameters(), *graph.named_buffers()]:
        if name not in read:
            parent, _, own = name.rpartition(".")
            delattr(graph.get_submodule(parent), own)
