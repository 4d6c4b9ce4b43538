"""Values as bytes: JSON beside a safetensors file, never a pickle. Runs on both sides of the sandbox."""

import math
from typing import Any

import safetensors.torch
import torch

try:
    from . import frames
except ImportError:  # in the sandbox, where there is no package
    import frames


def pack(header: Any, tensors: dict[str, torch.Tensor]) -> bytes:
    """JSON and contiguous, unshared tensors as bytes: a frame whose body is a safetensors file.

    Raises ValueError for a number that JSON does not have; `recipes.encode` and `pack_values` write those as text.
    """
    return frames.join(header, safetensors.torch.save(tensors))


def unpack(data: bytes) -> tuple[Any, dict[str, torch.Tensor]]:
    """What `pack` was given. Raises ValueError when the bytes are anything else, whatever they are."""
    header, body = frames.split(data)
    try:
        return header, safetensors.torch.load(body)
    except Exception as error:  # truncated, or no safetensors file: the same here
        raise ValueError(f"malformed message: {error}") from error


def pack_values(values: dict[str, Any]) -> bytes:
    """What `recipes.observe` saw (tensors, numbers, strings, None), as bytes."""
    tensors = {name: item for name, item in values.items() if isinstance(item, torch.Tensor)}
    return pack({name: _as_json(item) for name, item in values.items() if name not in tensors}, tensors)


def _as_json(item):
    return {"float": str(item)} if isinstance(item, float) and not math.isfinite(item) else item


def unpack_values(data: bytes) -> dict[str, Any]:
    """What `pack_values` was given: a flat dict of numbers, strings, None and tensors. Raises ValueError otherwise."""
    header, tensors = unpack(data)
    if not isinstance(header, dict):
        raise ValueError(f"malformed values: a {type(header).__name__} instead of a dict")
    return {name: _from_json(name, item) for name, item in header.items()} | tensors


def _from_json(name: str, item):
    if item is None or isinstance(item, (bool, int, float, str)):
        return item
    if isinstance(item, dict) and item.get("float") in ("nan", "inf", "-inf"):
        return float(item["float"])
    raise ValueError(f"malformed values: {name!r} is neither a number, a string nor None")
