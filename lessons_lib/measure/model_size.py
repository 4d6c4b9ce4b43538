"""How many bytes a model is: of its weights, each tensor counted once, and of its file on disk."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch


def state_bytes(state: torch.nn.Module | Mapping[str, torch.Tensor]) -> int:
    """Bytes of the tensors of a state dict, computed: parameters and buffers, a tensor under two names once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct(state).values())


def size_on_disk(item: torch.nn.Module | Mapping[str, torch.Tensor] | torch.Tensor | str | os.PathLike) -> int:
    """Bytes of the file: a module, state dict or tensor is saved with safetensors; a path is read, a folder added up.

    Nothing is computed from a parameter count: packed weights, codebooks, scales and headers are in the file.
    """
    if isinstance(item, (str, os.PathLike)):
        path = Path(item)
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files)
    from safetensors.torch import save_file

    tensors = distinct({"tensor": item} if isinstance(item, torch.Tensor) else item)
    # safetensors refuses tensors that share storage; what remains are different views, which a file holds one by one.
    dense = {name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor) for name, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_file(dense, Path(folder) / "model.safetensors")
        return size_on_disk(folder)


def distinct(state: torch.nn.Module | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a module or state dict, one under several names (same address, size, dtype) only under its first.

    Raises TypeError for anything else, and for tensors of torch.ao's quantized kinds.
    """
    entries = state.state_dict() if isinstance(state, torch.nn.Module) else state
    if not isinstance(entries, Mapping):
        raise TypeError(f"a module, a state dict or a tensor is needed, not {type(entries).__name__}")
    seen, tensors = set(), {}
    for name, tensor in entries.items():
        if not isinstance(tensor, torch.Tensor) or tensor.is_quantized:
            raise TypeError(f"{name} is not a plain tensor: save the model its own way and hand in the file's path")
        place = (tensor.data_ptr(), tensor.numel(), tensor.dtype)
        if place not in seen or not tensor.numel():
            tensors[name] = tensor.detach()
        seen.add(place)
    return tensors
