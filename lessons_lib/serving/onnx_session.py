"""ONNX Runtime: opening a model's file. Needs neither torch nor transformers, and so a server needs neither."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Short: a server that has neither torch nor transformers opens its model with this module alone.
ERRORS_ONLY = 3  # of ONNX Runtime's levels; its warnings tell of optimizations that it left out


def session(path: str | os.PathLike, threads: int = 1) -> "InferenceSession":
    """An ONNX Runtime session on the processor, which computes an operation with so many threads.

    The graph is optimized as it is read: operations are merged, constants are folded. Threads sleep while they wait.
    Raises ValueError when there is no such file, or ONNX Runtime cannot read it.
    """
    import onnxruntime

    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}.")
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}; export a model first, with export.to_onnx(model, path).")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ERRORS_ONLY
    # Without VNNI instructions, unsigned times signed codes can overflow 16 bits: there, take the exact way.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class but this one
        raise ValueError(f"ONNX Runtime cannot read {path}: {str(error).splitlines()[0]}") from error
