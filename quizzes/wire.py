"""Values as bytes: JSON beside a safetensors file, never a pickle. Runs on both sides of the sandbox."""

import json
import math
import struct
from typing import Any

import safetensors.torch
import torch

_LENGTH = struct.Struct("<Q")


def pack(header, tensors: dict[str, torch.Tensor]) -> bytes:
    """JSON and contiguous, unshared tensors as bytes: length of the JSON (8 bytes), the JSON, a safetensors file.

    Raises ValueError for a number that JSON does not have; `recipes.encode` and `pack_values` write those as text.
    """
    text = json.dumps(header, allow_nan=False).encode()
    return _LENGTH.pack(len(text)) + text + safetensors.torch.save(tensors)


def unpack(data: bytes) -> tuple[Any, dict[str, torch.Tensor]]:
    """What `pack` was given. Raises ValueError when the bytes are anything else, whatever they are."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        start, end = _LENGTH.size, _LENGTH.size + length
        if end > len(data):
            raise ValueError(f"the JSON is said to have {length} bytes; {len(data) - start} bytes follow")
        return json.loads(data[start:end], parse_constant=_refuse), safetensors.torch.load(data[end:])
    except Exception as error:  # truncated, not JSON, not safetensors, nested too deep: all the same here
        raise ValueError(f"malformed message: {error}") from error


def _refuse(constant: str):
    raise ValueError(f"{constant} is not JSON")


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
