"""One frame: the length of a header, the header as JSON, a body. Messages, packed values and cases are all made of it.

Runs on both sides of the sandbox, needs nothing but the standard library, and reads whatever anybody sends.
"""

import json
import struct
from typing import Any

LENGTH = struct.Struct("<Q")


def join(header: Any, body: bytes = b"") -> bytes:
    """A frame: 8 bytes that say how long the JSON is, the JSON, the body. ValueError for NaN or infinity."""
    text = json.dumps(header, allow_nan=False).encode()
    return LENGTH.pack(len(text)) + text + body


def split(data: bytes) -> tuple[Any, bytes]:
    """Header and body of a frame. Raises ValueError when the bytes are anything else, whatever they are."""
    try:
        (length,) = LENGTH.unpack_from(data)
        start, end = LENGTH.size, LENGTH.size + length
        if end > len(data):
            raise ValueError(f"the JSON is said to have {length} bytes; {len(data) - start} bytes follow")
        return json.loads(data[start:end], parse_constant=_refuse), data[end:]
    except (struct.error, ValueError, RecursionError) as error:  # truncated, not JSON, nested too deep
        raise ValueError(f"malformed message: {error}") from error


def _refuse(constant: str):
    raise ValueError(f"{constant} is not JSON")


def message(header: Any, body: bytes = b"") -> bytes:
    """A frame with its own length before it, as it goes through a stream."""
    frame = join(header, body)
    return LENGTH.pack(len(frame)) + frame


def send(stream, header: Any, body: bytes = b"") -> None:
    """Write one message to a stream, which may take it in pieces."""
    rest = memoryview(message(header, body))
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()


def receive(stream) -> bytes | None:
    """The next message of a stream, a frame; None when the other side has gone."""
    size = _read(stream, LENGTH.size)
    return _read(stream, LENGTH.unpack(size)[0]) if len(size) == LENGTH.size else None


def _read(stream, size: int) -> bytes:
    """This many bytes, fewer when the stream ends; a socket may give them in pieces."""
    data = bytearray()
    while len(data) < size and (piece := stream.read(size - len(data))):
        data += piece
    return bytes(data)
