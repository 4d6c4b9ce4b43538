"""The same ONNX file in two other runtimes: OpenVINO, made by Intel for processors, and TensorRT, by NVIDIA for GPUs.

Either may be missing here; `openvino_missing` and `tensorrt_missing` say in one line what is needed.
"""

import os
from importlib.util import find_spec

import torch
from torch import Tensor, nn

SMALLEST, USUAL, LARGEST = (1, 1), (16, 32), (64, 128)  # batch and length that TensorRT is to be ready for


def openvino_missing() -> str | None:
    """What it takes to run OpenVINO here, in one line; None when nothing is missing."""
    return None if find_spec("openvino") else "OpenVINO is not installed: pip install openvino."


def tensorrt_missing() -> str | None:
    """What it takes to run TensorRT here, in one line; None when nothing is missing."""
    missing = [] if torch.cuda.is_available() else ["an NVIDIA GPU with a build of torch that can use it"]
    if not find_spec("tensorrt"):
        missing.append("the package tensorrt (pip install tensorrt)")
    return f"TensorRT cannot run here. Missing: {' and '.join(missing)}." if missing else None


class OpenVinoModel(nn.Module):
    """An ONNX file in OpenVINO: called as onnx_export.OnnxModel is. FP32 stays FP32, even where there is BF16."""

    def __init__(self, path: str | os.PathLike, threads: int | None = None):
        super().__init__()
        import openvino

        self.compiled = openvino.Core().compile_model(
            str(path),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """FP32 logits (batch, ...) of int64 (batch, length) each."""
        outputs = self.compiled({"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()})
        return torch.from_numpy(outputs[0].copy())


class TensorRTModel(nn.Module):
    """An ONNX file in TensorRT: called as onnx_export.OnnxModel is, with tensors on the processor or on the GPU.

    Building tries many kernels and takes a minute. The engine runs on this kind of GPU alone, for batches and lengths
    from SMALLEST to LARGEST, and best at USUAL. It computes in the file's types: FP32, or INT8 where the file has pairs
    of QuantizeLinear and DequantizeLinear, as static_int8 writes them.
    Raises ValueError when TensorRT cannot read or build the file.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        import tensorrt

        log = tensorrt.Logger(tensorrt.Logger.ERROR)
        builder = tensorrt.Builder(log)
        network = builder.create_network()
        parser = tensorrt.OnnxParser(network, log)
        if not parser.parse_from_file(str(path)):
            raise ValueError(f"TensorRT cannot read {path}: {parser.get_error(0)}")
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        for name in ("input_ids", "attention_mask"):
            profile.set_shape(name, SMALLEST, USUAL, LARGEST)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise ValueError(f"TensorRT cannot build an engine from {path}; its log says why.")
        self.runtime = tensorrt.Runtime(log)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        self.context = self.engine.create_execution_context()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """FP32 logits (batch, ...) of int64 (batch, length) each, on the device of input_ids."""
        tensors = {"input_ids": input_ids.cuda().contiguous(), "attention_mask": attention_mask.cuda().contiguous()}
        for name, tensor in tensors.items():
            self.context.set_input_shape(name, tuple(tensor.shape))
        tensors["logits"] = torch.empty(tuple(self.context.get_tensor_shape("logits")), device="cuda")
        for name, tensor in tensors.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream()
        self.context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return tensors["logits"].to(input_ids.device)
