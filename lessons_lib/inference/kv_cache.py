"""The keys and values of every token so far, row by row: what a decoder need not compute again.

Rows of a batch may hold different numbers of tokens. Each has its own length, and a token is written where its own row
ends; so there is no padding in the cache, and a row can be set back without touching the others. Memory is taken once,
for `capacity` tokens a row. Source: N. Shazeer, Fast Transformer Decoding, 2019, arXiv:1911.02150, section 2.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def cache_bytes(layers: int, kv_heads: int, head_width: int, batch: int, length: int, dtype: torch.dtype) -> int:
    """Bytes of a cache: 2 (keys and values) · layers · heads that have keys · width of a head · batch · length · bytes
    of a number. Raises ValueError unless every number is at least 1, or length is 0."""
    counted = {"layers": layers, "kv_heads": kv_heads, "head_width": head_width, "batch": batch, "length": length}
    for name, number in counted.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < (name != "length"):
            raise ValueError(f"{name} must be a whole number of at least {int(name != 'length')}, not {number!r}")
    return 2 * layers * kv_heads * head_width * batch * length * dtype.itemsize


@dataclass(frozen=True)
class Slots:
    """Where the new tokens of one step go.

    positions: int64 (B, T), the place of each in its row; padding stands behind the row's end. mask: bool
    (B, 1, T, longest), True where a token may look: at its own row, up to itself; None when all may look everywhere.
    longest: tokens of the longest row, these included. rows, columns: of the real tokens in the (B, T) step; None when
    all are real and all rows equally long, so that one slice holds them.
    """

    positions: Tensor
    mask: Tensor | None
    longest: int
    rows: Tensor | None = None
    columns: Tensor | None = None


class KVCache:
    """keys and values (layers, B, heads, capacity, width of a head); lengths int64 (B,), tokens of each row."""

    def __init__(self, layers: int, batch: int, heads: int, capacity: int, width: int, dtype=torch.float32):
        cache_bytes(layers, heads, width, batch, capacity, dtype)  # refuses what is no size
        shape = (layers, batch, heads, capacity, width)
        self.keys, self.values = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
        self.lengths = torch.zeros(batch, dtype=torch.int64)

    @property
    def capacity(self) -> int:
        """Tokens that a row can hold."""
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return self.keys.nbytes + self.values.nbytes

    def reserve(self, counts: Tensor, width: int) -> Slots:
        """Room for a step (B, width) whose row b holds counts[b] real tokens, the first ones; the lengths grow by them.

        counts: int64 (B,), 0 ... width. Raises ValueError for other counts, or when a row would exceed the capacity.
        """
        if counts.dtype != torch.int64 or counts.shape != self.lengths.shape or not 0 <= counts.min() <= width:
            raise ValueError(f"counts must be int64 {tuple(self.lengths.shape)}, each from 0 to {width}")
        after = self.lengths + counts
        longest = int(after.max())
        if counts.max() > width or longest > self.capacity:
            raise ValueError(
                f"a row would hold {longest} tokens, {int(counts.max())} of them in a step {width} wide; "
                f"there is room for {self.capacity}: make the cache larger."
            )
        even = bool((counts == width).all() and (after == longest).all())
        positions = self.lengths[:, None] + torch.arange(width)
        mask = None if even and width == 1 else torch.arange(longest) <= positions[:, None, :, None]
        places = (None, None) if even else (torch.arange(width) < counts[:, None]).nonzero(as_tuple=True)
        self.lengths = after
        return Slots(positions, mask, longest, *places)

    def put(self, layer: int, keys: Tensor, values: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """Writes a step's keys and values, (B, heads, T, width of a head), for the real tokens alone; returns all of
        the layer's so far, (B, heads, longest, width of a head), as views of the cache."""
        rows, columns = slots.rows, slots.columns
        for buffer, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if rows is None:
                buffer[:, :, slots.longest - new.shape[2] : slots.longest] = new
            else:
                buffer.transpose(1, 2)[rows, slots.positions[rows, columns]] = new.transpose(1, 2)[rows, columns]
        return self.keys[layer, :, :, : slots.longest], self.values[layer, :, :, : slots.longest]

    def rewind(self, lengths: Tensor) -> None:
        """Forgets the last tokens of each row: lengths int64 (B,), none above the present ones, or ValueError."""
        if lengths.shape != self.lengths.shape or (lengths > self.lengths).any() or (lengths < 0).any():
            raise ValueError(f"a row can go back to any length from 0 to its own: {self.lengths.tolist()}")
        self.lengths = lengths.clone()
