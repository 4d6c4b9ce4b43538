"""Safetensors files that are written whole, and read and checked whole before anything of them is used."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lessons_lib.files import atomic


class FileError(ValueError):
    """A file is damaged, or does not fit the model; the message says which, and nothing was loaded."""


def write(path: str | os.PathLike, format: str, tensors: dict[str, Tensor], layers: Any) -> None:
    """Write tensors, and JSON values that describe their layers: beside the old file first, so that one is whole."""
    about = {"format": format, "layers": json.dumps(layers)}
    with atomic.replacing(path) as aside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside, about)


def read(path: Path, format: str, writer: str) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a file, and what `write` was told of their layers. writer: what makes such files, for the message.

    Raises FileError when the file is missing, cut off, damaged, or of another format.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} cannot be read: {error}. It is missing, cut off or damaged; write it again.") from None
    if metadata.get("format") != format:
        raise FileError(
            f"{path} is {metadata.get('format', 'an ordinary safetensors file')!r}, not {format!r}, as "
            f"`{writer}` writes it."
        )
    return tensors, json.loads(metadata["layers"])


def check(tensors: dict[str, Tensor], expected: dict[str, Tensor], path: Path, advice: str) -> None:
    """Raise FileError unless the tensors have the names, shapes and dtypes of the expected ones."""
    differ = sorted(set(tensors) ^ set(expected))
    if differ:
        where = "the model" if differ[0] in tensors else "the file"
        raise FileError(f"{path} does not fit the model: {where} lacks {differ[0]!r}. {advice}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise FileError(
                f"{path} does not fit: {name!r} is {tensor.dtype} {tuple(tensor.shape)} instead of "
                f"{expected[name].dtype} {tuple(expected[name].shape)}. {advice}"
            )
